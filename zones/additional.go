package zones

import (
	"encoding/binary"
	"math"

	"github.com/miekg/dns"
)

var (
	addressTypes = []uint16{dns.TypeA, dns.TypeAAAA}
	serviceTypes = []uint16{dns.TypeSRV}
	svcbTypes    = []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSVCB}
	httpsTypes   = []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS}
)

// pointsOn reports whether records of a type point at names whose records belong
// into the additional section.
func pointsOn(typ uint16) bool {
	switch typ {
	case dns.TypeNS, dns.TypeMX, dns.TypeSRV, dns.TypeNAPTR, dns.TypeSVCB, dns.TypeHTTPS:
		return true
	}
	return false
}

// target returns where in the RDATA of a record the name starts that it points
// at, and which records of that name belong into the additional section: RFC
// 1035 section 3.3, RFC 2782, RFC 3403 section 4.1 and RFC 2915 section 2, RFC
// 9460 section 4.1.
func target(typ uint16, rdata []byte) (offset int, types []uint16) {
	switch typ {
	case dns.TypeNS:
		return 0, addressTypes
	case dns.TypeMX:
		return 2, addressTypes // behind the preference
	case dns.TypeSRV:
		return 6, addressTypes // behind priority, weight and port
	case dns.TypeSVCB:
		return 2, svcbTypes // behind the priority
	case dns.TypeHTTPS:
		return 2, httpsTypes
	case dns.TypeNAPTR:
		return replacement(rdata)
	}
	return 0, nil
}

// replacement finds the replacement of a NAPTR record behind order, preference,
// flags, services and regular expression. The flag says what is looked up next.
// The offset is negative if the RDATA is cut off.
func replacement(rdata []byte) (offset int, types []uint16) {
	offset = 4
	for range 3 {
		if offset >= len(rdata) {
			return -1, nil
		}
		offset += 1 + int(rdata[offset])
	}
	if rdata[4] == 1 {
		switch lower(rdata[5]) {
		case 's':
			types = serviceTypes
		case 'a':
			types = addressTypes
		}
	}
	return offset, types
}

// additional finds what belongs beside records: those of the names that they
// point at that are in the zone, for NS records glue, too; steered ones never, as
// they would need a scope of their own. Glue at or below the cut comes first.
func (c *compiler) additional(b beside) {
	z := c.zone
	first, required := len(z.extras), 0
	if c.atCut(b) {
		c.extras(b, first, true)
		required = len(z.extras) - first
	}
	c.extras(b, first, false)
	z.arena.put(b.span, span(first, len(z.extras)-first, required))
}

// span is the word for the additional RRsets extras[first:first+beside], of which
// the first few are required.
func span(first, beside, required int) uint64 {
	return uint64(first) | uint64(beside)<<32 | uint64(required)<<48
}

func readSpan(w uint64) (first uint32, beside, required int) {
	return uint32(w), int(w >> 32 & math.MaxUint16), int(w >> 48)
}

// atCut reports whether the owner of records is a cut.
func (c *compiler) atCut(b beside) bool {
	n := c.zone.arena.node(b.owner)
	return n.flags()&isCut != 0 && n.other() == b.owner
}

// ownerOf appends the name of the owner of records.
func (c *compiler) ownerOf(dst []byte, b beside) []byte {
	n := c.zone.arena.node(b.owner)
	return c.zone.appendName(dst, n)
}

// wire returns the records.
func (c *compiler) wire(b beside) []byte { return c.zone.arena[b.span+word:][:b.size] }

// extras adds the additional RRsets of records: those that are required, or the
// others. The first that they have already is the one of that number.
func (c *compiler) extras(b beside, first int, required bool) {
	var room, own [maxName]byte
	wire, owner := c.wire(b), c.ownerOf(own[:0], b)
	for at := 0; at < len(wire); {
		rdata := wire[at+fixed:][:binary.BigEndian.Uint16(wire[at+fixed-2:])]
		offset, types := target(b.typ, rdata)
		offset += at + fixed
		at += fixed + len(rdata)
		if len(types) == 0 {
			continue
		}
		name := appendExpanded(room[:0], wire, offset, owner)
		if len(name) == 1 && (b.typ == dns.TypeSVCB || b.typ == dns.TypeHTTPS) {
			name, offset = append(name[:0], owner...), -1 // RFC 9460 section 2.5
		}
		if (c.atCut(b) && under(name, owner)) == required {
			c.extrasOf(name, offset, types, b, first)
		}
	}
}

// extrasOf adds the RRsets of these types of a name, unless they are there.
func (c *compiler) extrasOf(name []byte, offset int, types []uint16, b beside, first int) {
	z := c.zone
	if !under(name, z.apex) {
		return
	}
	n, ok := z.resolve(name)
	if !ok || n.flags()&isCut != 0 && b.typ != dns.TypeNS {
		return // glue is for referrals (RFC 2181 section 5.4.1)
	}
	for _, typ := range types {
		at := n.first()
		for range n.sets() {
			h, x := z.arena.head(at), extra{int32(offset), at}
			at = z.arena.next(at)
			if h.typ() != typ || h.steered() || x.set == b.set || len(z.extras)-first == math.MaxUint16 || c.given(x, name, b, first) {
				continue
			}
			z.extras = append(z.extras, x)
		}
	}
}

// resolve returns the node that answers for a name in the zone: its own, or the
// wildcard that covers it.
func (z *Zone) resolve(name []byte) (n node, ok bool) {
	if n, ok = z.find(z.relative(name), Hash(name)); ok {
		return n, true
	}
	n, _ = z.closestEncloser(name)
	if n.flags()&isCut != 0 || n.other() == 0 {
		return n, false
	}
	return z.arena.node(n.other()), true
}

// given reports whether the records have this additional RRset already: the
// same set for the same name, as many names may share a wildcard's.
func (c *compiler) given(x extra, name []byte, b beside, first int) bool {
	var room, own [maxName]byte
	owner := c.ownerOf(own[:0], b)
	for _, before := range c.zone.extras[first:] {
		if before.set != x.set {
			continue
		}
		other := owner
		if before.target >= 0 {
			other = appendExpanded(room[:0], c.wire(b), int(before.target), owner)
		}
		if string(other) == string(name) {
			return true
		}
	}
	return false
}
