package zones

import (
	"bytes"
	"encoding/binary"
	"net/netip"
)

// aplItems are the items of APL (RFC 3123).
var aplItems = kind{read: readPrefixes, end: prefixesEnd, optional: true}

// Address families of APL, and the octets of an address of each.
const (
	familyIPv4 = 1
	familyIPv6 = 2
)

var familySizes = map[uint16]int{familyIPv4: 4, familyIPv6: 16}

// negated is the bit of an item that takes its prefix out.
const negated = 0x80

// readPrefixes reads items such as 1:192.0.2.0/24 and !2:2001:db8::/32.
func readPrefixes(r *rdata, name string) error {
	for len(r.words) > 0 {
		word := r.word()
		item, not := bytes.CutPrefix(word, []byte("!"))
		family, text, _ := bytes.Cut(item, []byte(":"))
		number, ok := decimal(family, 65535)
		address, length, _ := bytes.Cut(text, []byte("/"))
		a, err := netip.ParseAddr(string(address))
		all := a.AsSlice()
		bits, fine := decimal(length, uint64(8*len(all)))
		if !ok || !fine || err != nil || a.Zone() != "" || len(all) != familySizes[uint16(number)] {
			return no(word, name, "write 1:ADDRESS/LENGTH for IPv4 or 2:ADDRESS/LENGTH for IPv6, with ! before it if it is taken out")
		}
		octets := bytes.TrimRight(all, "\x00")
		size := byte(len(octets))
		if not {
			size |= negated
		}
		r.wire = binary.BigEndian.AppendUint16(r.wire, uint16(number))
		r.wire = append(append(r.wire, byte(bits), size), octets...)
	}
	return nil
}

func prefixesEnd(wire []byte, at int) int {
	for at < len(wire) {
		if len(wire) < at+4 {
			return -1
		}
		size, length := familySizes[binary.BigEndian.Uint16(wire[at:])], int(wire[at+3]&^negated)
		end := at + 4 + length
		if size == 0 || int(wire[at+2]) > 8*size || length > size || end > len(wire) || length > 0 && wire[end-1] == 0 {
			return -1
		}
		at = end
	}
	return at
}
