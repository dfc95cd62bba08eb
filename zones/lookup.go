package zones

import (
	"github.com/miekg/dns"
)

// regionLabel is the label below an owner whose children are its regions, in
// wire form.
const regionLabel = "\x07_region"

// maxLabels is how many labels a name of 255 octets can have, the root's apart.
const maxLabels = 127

// Touch reads the slot where the search for a hash starts. Whoever has many names to
// look up touches all, then seeks and reaches for all: the processor waits for the
// memory of all at once. What Touch and Reach return means nothing; add it up, or
// the compiler leaves the reading out.
func (z *Zone) Touch(hash uint64) uint32 { return z.index.slots[z.index.home(hash)] }

// Seek returns where the name with this hash stands, 0 if there is none. Now and then
// another name stands there: LookupSought knows.
func (z *Zone) Seek(hash uint64) (at uint32) {
	at, _ = z.index.seek(hash, z.index.home(hash))
	return at
}

// Reach reads what a name owns that was sought.
func (z *Zone) Reach(at uint32) uint32 {
	if at == 0 {
		return 0
	}
	return uint32(z.arena[at]) + uint32(z.arena[at+line])
}

// Lookup finds what the zone has to say about a name and type: RFC 1034 section
// 4.3.2 with the wildcards of RFC 4592. qname is the absolute, lower-case,
// uncompressed wire form of a name at or below the apex. It neither allocates
// nor locks.
func (z *Zone) Lookup(qname []byte, qtype uint16) (r Result) {
	hash := Hash(qname)
	z.LookupSought(qname, hash, z.Seek(hash), qtype, &r)
	return r
}

// LookupSought is Lookup for who has the Hash of qname already, what Seek returned for
// it, and a place for the result: to copy it would cost as much as to find it.
func (z *Zone) LookupSought(qname []byte, hash uint64, at uint32, qtype uint16, r *Result) {
	*r = Result{Owner: len(qname)}
	if z.failed || len(qname) < len(z.apex) {
		r.Outcome = NXDomain // not below the apex
		return
	}
	if at != 0 {
		n, ok := z.arena.node(at), true
		if !z.named(n, z.relative(qname)) {
			n, ok = z.find(z.relative(qname), hash)
		}
		if ok {
			z.exact(n, qtype, r)
			return
		}
	}
	n, length := z.closestEncloser(qname)
	switch {
	case n.flags()&isCut != 0:
		z.refer(n.other(), r)
	case n.flags()&isRedirect != 0:
		z.typed(n, dns.TypeDNAME, &r.Set)
		r.Outcome, r.Owner = Redirect, length
	case n.other() != 0 && !hasRegionLabel(qname):
		r.Wildcard = true
		star := z.arena.node(n.other())
		z.answer(star, qtype, r)
	default:
		r.Outcome = NXDomain
	}
}

// relative returns a name without the apex, as the arena has it.
func (z *Zone) relative(name []byte) []byte { return name[:len(name)-len(z.apex)] }

// exact answers for a name that exists. At a cut the parent has the say about
// DS alone (RFC 4035 section 3.1.4.1).
func (z *Zone) exact(n node, qtype uint16, r *Result) {
	if n.flags()&isCut == 0 || n.other() == n.at && qtype == dns.TypeDS {
		z.answer(n, qtype, r)
		return
	}
	z.refer(n.other(), r)
}

// refer is the referral of a cut.
func (z *Zone) refer(cut uint32, r *Result) {
	n := z.arena.node(cut)
	z.typed(n, dns.TypeNS, &r.Set)
	r.Outcome, r.Owner = Referral, z.length(n)
}

// answer picks the RRset of the type, else the CNAME, from the node that
// matched. A query for ANY gets one RRset (RFC 8482 section 4.1).
func (z *Zone) answer(n node, qtype uint16, r *Result) {
	r.Steered = n.flags()&isSteered != 0
	switch {
	case z.typed(n, qtype, &r.Set), qtype == dns.TypeANY && z.any(n, &r.Set):
		r.Outcome = Answer
	case z.typed(n, dns.TypeCNAME, &r.Set):
		r.Outcome = Alias
	default:
		r.Outcome = NoData
	}
}

// length returns how many octets the name of a node has.
func (z *Zone) length(n node) int { return n.length() + len(z.apex) }

// typed reads the RRset of a type at a node into s.
func (z *Zone) typed(n node, typ uint16, s *RRset) bool {
	at := n.first()
	for range n.sets() {
		h := z.arena.head(at)
		if h.typ() == typ {
			z.own(n, at, s)
			return true
		}
		at += word + h.size()
	}
	return false
}

// any reads one of the RRsets of a node into s: the first that is the same for
// everybody and whatever is drained, else the first.
func (z *Zone) any(n node, s *RRset) bool {
	at := n.first()
	for range n.sets() {
		if !z.arena.head(at).steered() {
			z.own(n, at, s)
			return true
		}
		at = z.arena.next(at)
	}
	if n.sets() > 0 {
		z.own(n, n.first(), s)
	}
	return n.sets() > 0
}

// own reads the RRset at an offset, which is one of the node's, into s.
func (z *Zone) own(n node, at uint32, s *RRset) {
	s.OwnerLength = uint16(z.length(n))
	z.arena.set(at, s)
}

// closestEncloser finds the longest existing name above qname (RFC 4592 section
// 3.3.1) and its length. All names above an existing one exist, so halving finds
// it: a name of many labels, which costs its sender nothing, costs little here.
func (z *Zone) closestEncloser(qname []byte) (encloser node, length int) {
	encloser, length = z.arena.node(z.top), len(z.apex)
	var above [maxLabels]uint8 // where the names between qname and the apex begin, the longest first
	n := 0
	for at := 1 + int(qname[0]); len(qname)-at > len(z.apex); at += 1 + int(qname[at]) {
		if len(qname)-at <= z.deepest {
			above[n] = uint8(at)
			n++
		}
	}
	for lo := 0; lo < n; {
		middle := (lo + n) / 2
		name := qname[above[middle]:]
		if found, exists := z.find(z.relative(name), Hash(name)); exists {
			encloser, length = found, len(name)
			n = middle
		} else {
			lo = middle + 1
		}
	}
	return encloser, length
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
