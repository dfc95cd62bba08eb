package dnsserver

import "encoding/binary"

// clientSubnet is the EDNS Client Subnet option of a query (RFC 7871, 6).
type clientSubnet struct {
	present bool
	family  uint16
	source  uint8 // SOURCE PREFIX-LENGTH
	octets  uint8 // of the address that were sent: as many as source needs
	hi, lo  uint64
}

// parse reads the option's data. It returns false where RFC 7871 asks for
// FORMERR: unknown family, too long a prefix, too few or too many octets of
// address, bits set after the prefix, a scope in a query.
func (e *clientSubnet) parse(data []byte) bool {
	if len(data) < 4 {
		return false
	}
	e.present = true
	e.family = binary.BigEndian.Uint16(data)
	e.source = data[2]
	var longest uint8
	switch e.family {
	case 0: // "no address": sent by dig +subnet=0 and by BIND
	case 1:
		longest = 32
	case 2:
		longest = 128
	default:
		return false
	}
	address := data[4:]
	if e.source > longest || data[3] != 0 || len(address) != (int(e.source)+7)/8 {
		return false
	}
	e.octets = uint8(len(address))
	half := min(len(address), 8)
	e.hi, e.lo = upper(address[:half]), upper(address[half:])
	if beyond := e.source % 8; beyond != 0 && address[len(address)-1]<<beyond != 0 {
		return false
	}
	return true
}

// upper makes a word of up to 8 octets: they are its upper ones.
func upper(octets []byte) (w uint64) {
	for i, c := range octets {
		w |= uint64(c) << (56 - 8*i)
	}
	return w
}

// client returns the address as sent, with zero bits after the prefix, or none
// where SOURCE PREFIX-LENGTH is 0: then the client asks not to be placed by its
// subnet (RFC 7871, 7.1.2).
func (e *clientSubnet) client() client {
	return client{hi: e.hi, lo: e.lo, known: e.source > 0, is4: e.family == 1}
}

// append writes the option for the response: as it came, with the scope.
func (e *clientSubnet) append(b []byte, scope int) []byte {
	b = binary.BigEndian.AppendUint16(b, optionECS)
	b = binary.BigEndian.AppendUint16(b, 4+uint16(e.octets))
	b = binary.BigEndian.AppendUint16(b, e.family)
	b = append(b, e.source, byte(scope))
	var address [16]byte
	binary.BigEndian.PutUint64(address[:], e.hi)
	binary.BigEndian.PutUint64(address[8:], e.lo)
	return append(b, address[:e.octets]...)
}

// wireSize returns the octets that append writes.
func (e *clientSubnet) wireSize() int {
	if !e.present {
		return 0
	}
	return 8 + int(e.octets)
}
