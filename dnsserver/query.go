package dnsserver

import (
	"encoding/binary"
	"net/netip"
)

// Sizes of a message and its parts in octets (RFC 1035, 2.3.4 and 4.1.1).
const (
	headerSize  = 12
	maxName     = 255
	maxLabel    = 63
	questionFix = 4 // QTYPE and QCLASS
	recordFix   = 10
	optSize     = 11 // an OPT record without options (RFC 6891, 6.1.2)
)

// Types and classes the path itself must know.
const (
	typeCNAME = 5
	typeOPT   = 41
	typeDS    = 43
	typeIXFR  = 251
	typeAXFR  = 252

	classIN  = 1
	classANY = 255
)

// Response codes (RFC 1035, 4.1.1; RFC 2136; RFC 6891).
const (
	rcodeNoError  = 0
	rcodeFormErr  = 1
	rcodeServFail = 2
	rcodeNXDomain = 3
	rcodeNotImp   = 4
	rcodeRefused  = 5
	rcodeYXDomain = 6
	rcodeBadVers  = 16
)

// Flags of the header's third and fourth octets.
const (
	flagQR     = 0x80
	flagAA     = 0x04
	flagTC     = 0x02
	flagRD     = 0x01
	flagCD     = 0x10 // in the fourth octet
	maskOpcode = 0x78
)

// query is what a message asks.
type query struct {
	nameBuf [maxName]byte
	nameLen int
	qtype   uint16
	qclass  uint16
	end     int // offset of the octet after the question

	opt
}

// opt is the OPT record of a query; the zero value means that it had none.
type opt struct {
	edns    bool
	version byte
	do      bool   // DNSSEC OK (RFC 3225): copied to the response
	size    uint16 // UDP payload that the requester takes
	ecs     clientSubnet
}

// name returns the name asked for in wire form, in lower case.
func (q *query) name() []byte { return q.nameBuf[:q.nameLen] }

// parse reads the one question and the OPT record of msg, which has a whole
// header with QDCOUNT 1. q.end and q.opt are zero before. It returns false for a
// message that is malformed; q.end is then 0 if not even the question could be
// read.
func (q *query) parse(msg []byte) bool {
	at := headerSize
	n, ok := lowerName(q.nameBuf[:], msg[at:])
	if !ok || at+n+questionFix > len(msg) {
		return false
	}
	q.nameLen = n
	at += n
	q.qtype = binary.BigEndian.Uint16(msg[at:])
	q.qclass = binary.BigEndian.Uint16(msg[at+2:])
	q.end = at + questionFix

	answers := binary.BigEndian.Uint16(msg[6:])
	authority := binary.BigEndian.Uint16(msg[8:])
	additional := binary.BigEndian.Uint16(msg[10:])
	// A query brings no records but its additional ones; IXFR brings the
	// client's SOA in the authority section (RFC 1995, 3).
	if answers != 0 || authority != 0 && (q.qtype != typeIXFR || authority != 1) {
		return false
	}
	at = q.end
	for range authority {
		if _, at, ok = skipRecord(msg, at); !ok {
			return false
		}
	}
	for range additional {
		start := at
		var fixed int
		if fixed, at, ok = skipRecord(msg, start); !ok {
			return false
		}
		if binary.BigEndian.Uint16(msg[fixed:]) != typeOPT {
			continue
		}
		// There is one at most, and the root owns it (RFC 6891, 6.1.1 and 6.1.2).
		if q.edns || msg[start] != 0 || !q.parseOPT(msg[fixed:at]) {
			return false
		}
	}
	return true
}

// parseOPT reads an OPT record from its TYPE on (RFC 6891, 6.1.2).
func (q *query) parseOPT(record []byte) bool {
	q.edns = true
	q.size = binary.BigEndian.Uint16(record[2:])
	q.version = record[5]
	q.do = record[6]&0x80 != 0
	if q.version != 0 {
		return true // BADVERS follows: the options of another version mean nothing to us
	}
	for options := record[recordFix:]; len(options) > 0; {
		if len(options) < 4 {
			return false
		}
		code := binary.BigEndian.Uint16(options)
		n := int(binary.BigEndian.Uint16(options[2:]))
		if len(options) < 4+n {
			return false
		}
		if code == optionECS && (q.ecs.present || !q.ecs.parse(options[4:4+n])) {
			return false
		}
		options = options[4+n:]
	}
	return true
}

// lowerName copies the uncompressed name at the start of wire to dst in lower
// case (RFC 4343) and returns its length. A compression pointer, which nothing
// before a question could be the target of, is refused.
func lowerName(dst, wire []byte) (n int, ok bool) {
	for n < len(wire) {
		label := int(wire[n])
		if label > maxLabel || n+1+label > len(wire) || n+1+label > maxName {
			return 0, false
		}
		dst[n] = byte(label)
		if label == 0 {
			return n + 1, true
		}
		for i, c := range wire[n+1 : n+1+label] {
			if c-'A' < 26 {
				c += 'a' - 'A'
			}
			dst[n+1+i] = c
		}
		n += 1 + label
	}
	return 0, false
}

// skipRecord returns the offsets of the TYPE of the resource record at offset at
// and of what follows the record.
func skipRecord(msg []byte, at int) (fixed, end int, ok bool) {
	for {
		if at >= len(msg) {
			return 0, 0, false
		}
		label := int(msg[at])
		switch {
		case label == 0:
			at++
		case label&0xC0 == 0xC0:
			at += 2
		case label <= maxLabel:
			at += 1 + label
			continue
		default:
			return 0, 0, false
		}
		break
	}
	if at+recordFix > len(msg) {
		return 0, 0, false
	}
	end = at + recordFix + int(binary.BigEndian.Uint16(msg[at+8:]))
	return at, end, end <= len(msg)
}

const optionECS = 8

// clientSubnet is the EDNS Client Subnet option of a query (RFC 7871, 6).
type clientSubnet struct {
	present bool
	family  uint16
	source  uint8 // SOURCE PREFIX-LENGTH
	octets  uint8 // of the address that were sent: as many as source needs
	address [16]byte
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
	e.octets = uint8(copy(e.address[:], address))
	if beyond := e.source % 8; beyond != 0 && address[len(address)-1]<<beyond != 0 {
		return false
	}
	return true
}

// addr returns the address as sent, with zero bits after the prefix, or an
// invalid one where SOURCE PREFIX-LENGTH is 0: then the client asks not to be
// placed by its subnet (RFC 7871, 7.1.2).
func (e *clientSubnet) addr() netip.Addr {
	switch {
	case e.source == 0:
		return netip.Addr{}
	case e.family == 1:
		return netip.AddrFrom4([4]byte(e.address[:4]))
	default:
		return netip.AddrFrom16(e.address)
	}
}

// append writes the option for the response: as it came, with the scope.
func (e *clientSubnet) append(b []byte, scope int) []byte {
	b = binary.BigEndian.AppendUint16(b, optionECS)
	b = binary.BigEndian.AppendUint16(b, 4+uint16(e.octets))
	b = binary.BigEndian.AppendUint16(b, e.family)
	b = append(b, e.source, byte(scope))
	return append(b, e.address[:e.octets]...)
}

// wireSize returns the octets that append writes.
func (e *clientSubnet) wireSize() int {
	if !e.present {
		return 0
	}
	return 8 + int(e.octets)
}
