// Package zones turns RFC 1035 master files into immutable zones and looks
// names up in them. A Store keeps the zones of a folder, their last good
// versions, and the rules for when an old version stays in force.
//
// A Zone and a View never change once made, so any number of goroutines may
// share them.
package zones

import (
	"math/bits"
	"net/netip"
)

// Steering tells the loader which region an address or a label belongs to, and
// so which names are steered. The zero value makes every name plain.
type Steering struct {
	// RegionOf returns the region that announces an address.
	RegionOf func(netip.Addr) (region uint8, ok bool)
	// Named returns the region of that name, as in REGION._region.OWNER.
	Named func(label string) (region uint8, ok bool)
	// Name returns the name of a region, for messages.
	Name func(region uint8) string
	// Static reports whether a name is opted out (steering.static). The owner
	// is canonical: lower case, absolute, with the final dot.
	Static func(owner string) bool
	// TTL caps the TTL of steered RRsets, in seconds.
	TTL uint32
}

// Outcome says what a lookup found, in the terms of RFC 1034 section 4.3.2.
type Outcome uint8

// The outcomes of a lookup.
const (
	Answer   Outcome = iota // Set is the RRset asked for
	Alias                   // Set is the CNAME to follow
	NoData                  // the name exists without records of that type
	NXDomain                // the name does not exist
	Referral                // Set is the NS RRset of the cut at or above the name
	Redirect                // Set is the DNAME above the name (RFC 6672)
)

// RRset is the records of one name and type. Wire points into its zone.
type RRset struct {
	Type  uint16
	Count uint16 // of records in Wire
	TTL   uint32 // seconds; of a steered RRset already capped, the least of its regions
	// Wire is the records one after another, as they stand in the response to a
	// question for their very owner: the owner as the pointer C0 0C, TYPE, CLASS,
	// TTL, RDLENGTH and RDATA, its letter case kept. Names in RDATA are compressed
	// where Names says so: a pointer leads into the owner, which is at offset 12,
	// but not to the asterisk of a wildcard; or into Wire, which is at offset 16
	// plus OwnerLength, but to none beyond the first PointerReach octets of it.
	// It is empty when the RRset is steered.
	Wire []byte
	// OwnerLength is how many octets the wire name has that owns the records;
	// where a wildcard matched, "*" is its first label.
	OwnerLength uint16
	// Regions is the regions that have records of this type: bit i stands for
	// region i. 0 means that the RRset is static.
	Regions uint64

	link uint32 // index into Zone.links
	span        // what belongs beside the records
}

// Steered reports whether the RRset depends on the region: see Zone.Narrow.
func (s RRset) Steered() bool { return s.Regions != 0 }

// Result is what a lookup found.
type Result struct {
	Outcome Outcome
	Set     RRset // for Answer, Alias, Referral and Redirect
	// Owner is the length in octets of the wire name that owns Set, a suffix of
	// the name asked for: the cut of a Referral, the DNAME of a Redirect. For
	// everything else it is the whole name asked for.
	Owner    int
	Wildcard bool // the name was matched by a wildcard
	Steered  bool // the name has a steered RRset, if perhaps of another type
}

// Additional is an RRset that belongs into the additional section beside an
// RRset. Its RDATA has no compressed names.
type Additional struct {
	// Target is the offset in RRset.Wire of the name that owns Set; negative:
	// the owner of the RRset itself.
	Target int
	Set    RRset
	// Required says that Set is glue at or below the cut, without which nobody
	// gets any further (RFC 9471). What is required comes first.
	Required bool
}

// Zone is one zone in compiled form. Its arenas hold no pointers, so a zone of
// a million records costs the garbage collector nothing.
type Zone struct {
	origin  string
	apex    []byte
	serial  uint32
	file    string // where the SOA record stands
	line    int
	records int
	failed  bool

	negative RRset

	slots   []slot // open addressing, a power of two, at most half full
	deepest int    // length in octets of the longest name
	nodes   []node // in the order of the files; 0 is the apex
	sets    []set  // those of a node stand together, by type
	links   []link // 0 is nobody's
	parts   []part
	extras  []extra
	wire    []byte // per node its name, then its RRsets: one stretch of memory for one query

	servers []string // wire names of NS targets that other zones may answer for, sorted
	pinned  []string // wire names of NS targets of other zones that keep a name here from being steered
	steered []string // owners, sorted
	single  []OneRegion
}

// OneRegion is a name whose addresses lie in one region only: it has nowhere to
// go, so it is static.
type OneRegion struct{ Name, Region string }

// slot is one place of the hash table. node 0 stands for "free" because the
// index is one too high.
type slot struct {
	tag  uint32 // upper half of the hash
	node uint32 // index into nodes, plus one
}

// node is a name that exists: it owns records or stands above a name that does
// (an empty non-terminal).
type node struct {
	name     uint32 // offset of the wire name in wire
	sets     uint32 // first in sets
	wildcard uint32 // the node of the child "*", plus one; 0: none
	cut      uint32 // the node of the cut at or above, plus one; 0: authoritative
	count    uint16 // of sets
	length   uint8  // of the wire name
	flags    uint8
}

const (
	isRedirect uint8 = 1 << iota // owns a DNAME
	isSteered                    // owns a steered RRset
)

// set is an RRset at rest.
type set struct {
	typ, count uint16
	ttl        uint32
	wire, size uint32
	link       uint32 // 0: static, without additional addresses
}

// link is what few RRsets have: regions, or additional records.
type link struct {
	regions uint64
	parts   uint32 // first in parts, one for each bit of regions
	span
}

// part is the records of one region of a steered RRset.
type part struct {
	wire, size uint32
	span
	count uint16
}

// span is the additional RRsets of some records: extras[extras:extras+beside],
// of which the first few are required.
type span struct {
	extras           uint32
	beside, required uint16
}

// extra is an additional RRset: the name at an offset in the wire of the records
// that it belongs to owns sets[set].
type extra struct {
	target int32 // negative: the owner of these records
	set    uint32
}

// Apex returns the wire name of the zone, in lower case.
func (z *Zone) Apex() []byte { return z.apex }

// Origin returns the name of the zone, in lower case with a final dot.
func (z *Zone) Origin() string { return z.origin }

// Serial returns the serial of the SOA record.
func (z *Zone) Serial() uint32 { return z.serial }

// Records returns the number of records.
func (z *Zone) Records() int { return z.records }

// Failed reports whether the zone is configured but was never good: nothing
// can be looked up in it, and every query for it ends in SERVFAIL.
func (z *Zone) Failed() bool { return z.failed }

// Negative returns the SOA record for the authority section of NODATA and
// NXDOMAIN: its TTL is the lesser of its own and its MINIMUM field (RFC 2308
// section 5). Its owner is the apex.
func (z *Zone) Negative() *RRset { return &z.negative }

// Narrow leaves of a steered RRset the records of one region, as if it were
// static; none if the region has none.
func (z *Zone) Narrow(s *RRset, region uint8) {
	bit := uint64(1) << region
	if s.Regions&bit != 0 {
		p := &z.parts[z.links[s.link].parts+uint32(bits.OnesCount64(s.Regions&(bit-1)))]
		end := p.wire + p.size
		s.Wire, s.Count, s.span = z.wire[p.wire:end:end], p.count, p.span
	}
	s.Regions = 0
}

// Additional returns the i-th RRset that belongs beside s: see compiler.additional.
// It returns false when there is no i-th.
func (z *Zone) Additional(s *RRset, i int) (Additional, bool) {
	if i < 0 || i >= int(s.beside) {
		return Additional{}, false
	}
	x := z.extras[s.extras+uint32(i)]
	return Additional{Target: int(x.target), Set: z.set(x.set), Required: i < int(s.required)}, true
}

// set returns the RRset at index i, without the length of its owner's name.
func (z *Zone) set(i uint32) RRset {
	s := &z.sets[i]
	l := &z.links[s.link]
	end := s.wire + s.size
	return RRset{Type: s.typ, Count: s.count, TTL: s.ttl, Wire: z.wire[s.wire:end:end], Regions: l.regions, link: s.link, span: l.span}
}

// setOf returns the RRset at index i, which is one of the node's.
func (z *Zone) setOf(n *node, i uint32) RRset {
	s := z.set(i)
	s.OwnerLength = uint16(n.length)
	return s
}
