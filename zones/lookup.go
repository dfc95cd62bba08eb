package zones

import (
	"bytes"

	"github.com/miekg/dns"
)

// regionLabel is the label below an owner whose children are its regions, in
// wire form.
const regionLabel = "\x07_region"

// maxLabels is how many labels a name of 255 octets can have, the root's apart.
const maxLabels = 127

// Touch reads the place of the hash table where a lookup with this hash starts,
// and returns what is to be given to Reach. Whoever has many names to look up
// touches and reaches for them all first: the processor then waits for the
// memory of all at once.
func (z *Zone) Touch(hash uint64) uint32 {
	if len(z.slots) == 0 {
		return 0 // it failed
	}
	return z.slots[hash&uint64(len(z.slots)-1)].node
}

// Reach reads the memory that Touch found, the name itself if nothing collides.
// What it returns means nothing; add it up, or the compiler leaves the reading out.
func (z *Zone) Reach(touched uint32) uint32 {
	if touched == 0 {
		return 0
	}
	return z.nodes[touched-1].name
}

// Lookup finds what the zone has to say about a name and type: RFC 1034 section
// 4.3.2 with the wildcards of RFC 4592. qname is the absolute, lower-case,
// uncompressed wire form of a name at or below the apex. It neither allocates
// nor locks.
func (z *Zone) Lookup(qname []byte, qtype uint16) Result {
	return z.LookupHashed(qname, Hash(qname), qtype)
}

// LookupHashed is Lookup for who has the Hash of qname already.
func (z *Zone) LookupHashed(qname []byte, hash uint64, qtype uint16) Result {
	if i, ok := z.find(qname, hash); ok {
		return z.exact(i, qname, qtype)
	}
	encloser, length, ok := z.closestEncloser(qname)
	if !ok {
		return Result{Outcome: NXDomain, Owner: len(qname)} // not below the apex
	}
	n := &z.nodes[encloser]
	switch {
	case n.cut != 0:
		return z.refer(n.cut - 1)
	case n.flags&isRedirect != 0:
		s, _ := z.typed(n, dns.TypeDNAME)
		return Result{Outcome: Redirect, Set: s, Owner: length}
	case n.wildcard != 0 && !hasRegionLabel(qname):
		r := z.answer(&z.nodes[n.wildcard-1], qname, qtype)
		r.Wildcard = true
		return r
	}
	return Result{Outcome: NXDomain, Owner: len(qname)}
}

// exact answers for a name that exists. At a cut the parent has the say about
// DS alone (RFC 4035 section 3.1.4.1).
func (z *Zone) exact(i uint32, qname []byte, qtype uint16) Result {
	n := &z.nodes[i]
	if n.cut == 0 || (n.cut == i+1 && qtype == dns.TypeDS) {
		return z.answer(n, qname, qtype)
	}
	return z.refer(n.cut - 1)
}

// refer is the referral of the cut at node i.
func (z *Zone) refer(i uint32) Result {
	n := &z.nodes[i]
	s, _ := z.typed(n, dns.TypeNS)
	return Result{Outcome: Referral, Set: s, Owner: int(n.length)}
}

// answer picks the RRset of the type, else the CNAME, from the node that
// matched. A query for ANY gets one RRset (RFC 8482 section 4.1).
func (z *Zone) answer(n *node, qname []byte, qtype uint16) Result {
	r := Result{Outcome: NoData, Owner: len(qname), Steered: n.flags&isSteered != 0}
	if qtype == dns.TypeANY && n.count > 0 {
		r.Outcome, r.Set = Answer, z.any(n)
	} else if s, ok := z.typed(n, qtype); ok {
		r.Outcome, r.Set = Answer, s
	} else if s, ok := z.typed(n, dns.TypeCNAME); ok {
		r.Outcome, r.Set = Alias, s
	}
	return r
}

// typed returns the RRset of a type at a node.
func (z *Zone) typed(n *node, typ uint16) (RRset, bool) {
	for i := n.sets; i < n.sets+uint32(n.count); i++ {
		if z.sets[i].typ == typ {
			return z.setOf(n, i), true
		}
	}
	return RRset{}, false
}

// any returns one of the RRsets of a node: the first that is the same for
// everybody and whatever is drained, else the first.
func (z *Zone) any(n *node) RRset {
	for i := n.sets; i < n.sets+uint32(n.count); i++ {
		if z.links[z.sets[i].link].regions == 0 {
			return z.setOf(n, i)
		}
	}
	return z.setOf(n, n.sets)
}

// closestEncloser finds the longest existing name above qname (RFC 4592 section
// 3.3.1) and its length. All names above an existing one exist, so halving finds
// it: a name of many labels, which costs its sender nothing, costs little here.
func (z *Zone) closestEncloser(qname []byte) (i uint32, length int, ok bool) {
	var above [maxLabels]uint8 // where the names above qname begin, the longest first
	n := 0
	for at := 0; len(qname)-at > len(z.apex); {
		at += 1 + int(qname[at])
		if len(qname)-at <= z.deepest {
			above[n] = uint8(at)
			n++
		}
	}
	for lo := 0; lo < n; {
		middle := (lo + n) / 2
		name := qname[above[middle]:]
		if at, exists := z.find(name, Hash(name)); exists {
			i, length, ok = at, len(name), true
			n = middle
		} else {
			lo = middle + 1
		}
	}
	return i, length, ok
}

// find returns the node of a name.
func (z *Zone) find(name []byte, h uint64) (uint32, bool) {
	mask := uint64(len(z.slots) - 1)
	for at := h & mask; ; at = (at + 1) & mask {
		s := z.slots[at]
		if s.node == 0 {
			return 0, false
		}
		if s.tag != uint32(h>>32) {
			continue
		}
		n := &z.nodes[s.node-1]
		if bytes.Equal(z.wire[n.name:n.name+uint32(n.length)], name) {
			return s.node - 1, true
		}
	}
}

// hasRegionLabel reports whether one of the labels of name is _region. Such a
// name asks for one region's records and must not fall to a wildcard.
func hasRegionLabel(name []byte) bool {
	for len(name) > 1 && len(name) > int(name[0]) {
		if string(name[:min(len(regionLabel), len(name))]) == regionLabel {
			return true
		}
		name = name[1+int(name[0]):]
	}
	return false
}
