package zones

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

// PointerReach is how many octets of an RRset's records a pointer may lead to
// that was made when the zone was compiled. A pointer holds offsets up to 16383
// (RFC 1035 section 4.1.4); what is left is more than stands before the records
// in any response: a question and the longest chain.
const PointerReach = 7 << 10

// header and question are the octets of a response that stand before and behind
// the name asked for, when the records follow at once.
const (
	header   = 12
	question = 4
	pointer  = 0xC000 // the two bits that make an offset a pointer
)

// Names tells where in the RDATA of a type the names are that are compressed:
// so many, one behind the other, so many octets in. RFC 3597 section 4: only
// types of RFC 1035 may have them compressed.
func Names(typ uint16) (skip, count int) {
	switch typ {
	case dns.TypeNS, dns.TypeCNAME, dns.TypePTR, dns.TypeMB, dns.TypeMD, dns.TypeMF, dns.TypeMG, dns.TypeMR:
		return 0, 1
	case dns.TypeMX:
		return 2, 1 // behind the preference
	case dns.TypeSOA, dns.TypeMINFO:
		return 0, 2
	}
	return 0, 0
}

// appendFolded appends RDATA with its names in lower case: in their letters alone
// records do not differ (RFC 4034 section 6.2).
func appendFolded(dst []byte, typ uint16, rdata []byte) []byte {
	skip, names := namesIn(typ, rdata)
	if skip < 0 || skip > len(rdata) {
		names, skip = 0, 0
	}
	start := len(dst)
	dst = append(dst, rdata...)
	for rest := dst[start+skip:]; names > 0; names-- {
		n := nameLength(rest)
		for i, c := range rest[:n] {
			rest[i] = lower(c) // no length octet is a letter: 63 < 'A'
		}
		rest = rest[n:]
	}
	return dst
}

// namesIn tells where in RDATA all its names are: so many, one behind the other,
// so many octets in.
func namesIn(typ uint16, rdata []byte) (skip, count int) {
	switch typ {
	case dns.TypeDNAME:
		return 0, 1
	case dns.TypeRP:
		return 0, 2
	case dns.TypeAFSDB, dns.TypeRT, dns.TypeKX:
		return 2, 1
	case dns.TypePX:
		return 2, 2
	}
	if pointsOn(typ) {
		skip, _ = target(typ, rdata)
		return skip, 1
	}
	return Names(typ)
}

// spot is a name, or the end of one, that a pointer may lead to, and its offset
// in the response that RRset.Wire is made for.
type spot struct {
	name   []byte
	offset uint16
}

// startNames begins an RRset: so far there is the owner to point to. What a
// wildcard's asterisk stands for is known to the query alone.
func (c *compiler) startNames(typ uint16) {
	c.spots = c.spots[:0]
	if _, names := Names(typ); names == 0 {
		return
	}
	at := 0
	if isWildcard(c.owner) {
		at = 2
	}
	for ; c.owner[at] != 0; at += 1 + int(c.owner[at]) {
		c.spots = append(c.spots, spot{c.owner[at:], uint16(header + at)})
	}
}

// compress appends RDATA whose RRset starts at offset start of the arena.
func (c *compiler) compress(typ uint16, rdata []byte, start int) {
	z := c.zone
	skip, names := Names(typ)
	z.arena = append(z.arena, rdata[:skip]...)
	rdata = rdata[skip:]
	for range names {
		n := nameLength(rdata)
		c.appendName(rdata[:n], start)
		rdata = rdata[n:]
	}
	z.arena = append(z.arena, rdata...)
}

// hasNames reports whether RDATA has the names of its type. Whatever form it was
// written in, nothing else is compiled.
func hasNames(typ uint16, rdata []byte) bool {
	skip, names := namesIn(typ, rdata)
	for ; names > 0; names-- {
		if skip < 0 || skip >= len(rdata) {
			return false
		}
		n := nameLength(rdata[skip:])
		if n == 0 || n > maxName {
			return false
		}
		skip += n
	}
	return true
}

// appendName appends a name as its first labels and a pointer to the rest, if
// that stands in the response already, in the very same letters.
func (c *compiler) appendName(name []byte, start int) {
	z := c.zone
	for ; name[0] != 0; name = name[1+int(name[0]):] {
		for _, s := range c.spots {
			if string(s.name) == string(name) {
				z.arena = binary.BigEndian.AppendUint16(z.arena, pointer|s.offset)
				return
			}
		}
		if at := len(z.arena) - start; at < PointerReach {
			c.spots = append(c.spots, spot{name, uint16(header + len(c.owner) + question + at)})
		}
		z.arena = append(z.arena, name[:1+int(name[0])]...)
	}
	z.arena = append(z.arena, 0)
}

// appendExpanded appends the name at offset at of the wire of an RRset, which
// owner owns, without compression and in lower case.
func appendExpanded(dst, wire []byte, at int, owner []byte) []byte {
	from := wire
	for {
		label := int(from[at])
		if label >= pointer>>8 {
			at = int(binary.BigEndian.Uint16(from[at:])&^pointer) - header
			if from = owner; at >= len(owner) {
				from, at = wire, at-len(owner)-question
			}
			continue
		}
		for _, c := range from[at : at+1+label] {
			dst = append(dst, lower(c)) // no length octet is a letter: 63 < 'A'
		}
		if label == 0 {
			return dst
		}
		at += 1 + label
	}
}
