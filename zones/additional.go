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

// additional finds what belongs beside a set or a part of one: the records of
// the names it points at that are in the zone, for NS records glue, too; steered
// ones never, as they would need a scope of their own. Glue at or below the cut
// comes first.
func (c *compiler) additional(b beside) {
	z := c.zone
	s := &z.sets[b.set]
	wire := z.wire[s.wire : s.wire+s.size]
	if b.part >= 0 {
		p := &z.parts[b.part]
		wire = z.wire[p.wire : p.wire+p.size]
	}
	own := span{extras: uint32(len(z.extras))}
	if z.nodes[b.node].cut == b.node+1 {
		c.extras(b, wire, &own, true)
		own.required = own.beside
	}
	c.extras(b, wire, &own, false)
	switch {
	case own.beside == 0:
	case b.part >= 0:
		z.parts[b.part].span = own
	default:
		s.link = uint32(len(z.links))
		z.links = append(z.links, link{span: own})
	}
}

// extras adds the additional RRsets of records: those that are required, or the
// others.
func (c *compiler) extras(b beside, wire []byte, to *span, required bool) {
	z := c.zone
	typ, owner := z.sets[b.set].typ, c.names.name(b.node)
	cut := z.nodes[b.node].cut == b.node+1
	var room [maxName]byte
	for at := 0; at < len(wire); {
		rdata := wire[at+fixed:][:binary.BigEndian.Uint16(wire[at+fixed-2:])]
		offset, types := target(typ, rdata)
		offset += at + fixed
		at += fixed + len(rdata)
		if len(types) == 0 {
			continue
		}
		name := appendExpanded(room[:0], wire, offset, owner)
		if len(name) == 1 && (typ == dns.TypeSVCB || typ == dns.TypeHTTPS) {
			name, offset = append(name[:0], owner...), -1 // RFC 9460 section 2.5
		}
		if (cut && under(name, owner)) == required {
			c.extrasOf(name, offset, types, b, wire, to)
		}
	}
}

// extrasOf adds the RRsets of these types of a name, unless they are there.
func (c *compiler) extrasOf(name []byte, offset int, types []uint16, b beside, wire []byte, to *span) {
	z := c.zone
	if !under(name, c.names.name(c.apex)) {
		return
	}
	t, ok := c.resolve(name)
	if !ok {
		return
	}
	n := &z.nodes[t]
	if n.cut != 0 && z.sets[b.set].typ != dns.TypeNS {
		return // glue is for referrals (RFC 2181 section 5.4.1)
	}
	for _, typ := range types {
		for i := n.sets; i < n.sets+uint32(n.count); i++ {
			x := extra{int32(offset), i}
			if z.sets[i].typ != typ || z.links[z.sets[i].link].regions != 0 || i == b.set || to.beside == math.MaxUint16 || c.given(x, name, b, wire, *to) {
				continue
			}
			z.extras = append(z.extras, x)
			to.beside++
		}
	}
}

// given reports whether the records have this additional RRset already: the
// same set for the same name, as many names may share a wildcard's.
func (c *compiler) given(x extra, name []byte, b beside, wire []byte, in span) bool {
	var room [maxName]byte
	owner := c.names.name(b.node)
	for _, before := range c.zone.extras[in.extras:] {
		if before.set != x.set {
			continue
		}
		other := owner
		if before.target >= 0 {
			other = appendExpanded(room[:0], wire, int(before.target), owner)
		}
		if string(other) == string(name) {
			return true
		}
	}
	return false
}
