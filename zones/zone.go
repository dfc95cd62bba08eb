// Package zones turns RFC 1035 master files into immutable zones and looks
// names up in them. A Store keeps the zones of a folder, their last good
// versions, and the rules for when an old version stays in force.
//
// A Zone and a View never change once made, so any number of goroutines may
// share them.
package zones

import (
	"crypto/sha256"
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
	// Service returns the service that a steered name belongs to, below
	// MaxServices, and the cap on the TTLs of its steered RRsets, in seconds. The
	// owner is as for Static.
	Service func(owner string) (service uint16, ttl uint32)
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
	// Service is the service of a steered RRset: see Steering.
	Service uint16

	body    uint32 // where the regions are in the arena, if it is steered
	span    uint32 // where it is in the arena; 0: nothing belongs beside the records
	spanned bool   // its records have a span
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

// Zone is one zone in compiled form. Its arena holds no pointers, so a zone of
// a million records costs the garbage collector nothing.
type Zone struct {
	origin  string
	apex    []byte
	serial  uint32
	file    string // where the SOA record stands
	line    int
	records int
	failed  bool
	digest  [sha256.Size]byte // of the texts that a Store made it of

	negative RRset

	index   index
	deepest int // length in octets of the longest name
	arena   arena
	top     uint32 // offset of the node of the apex
	extras  []extra
	spreads []Spread

	servers []string // wire names of NS targets that other zones may answer for, sorted
	pinned  []string // wire names of NS targets of other zones that keep a name here from being steered
	steered []string // owners, sorted
	single  []OneRegion
}

// OneRegion is a name whose addresses lie in one region only: it has nowhere to
// go, so it is static.
type OneRegion struct{ Name, Region string }

// extra is an additional RRset: the name at an offset in the wire of the records
// that it belongs to owns the set at an offset in the arena.
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

// Steers reports whether the zone has steered names.
func (z *Zone) Steers() bool { return len(z.steered) > 0 }

// Negative returns the SOA record for the authority section of NODATA and
// NXDOMAIN: its TTL is the lesser of its own and its MINIMUM field (RFC 2308
// section 5). Its owner is the apex.
func (z *Zone) Negative() *RRset { return &z.negative }

// name returns the wire name of a node.
func (z *Zone) name(n node) []byte { return z.appendName(nil, n) }

func (z *Zone) appendName(dst []byte, n node) []byte {
	return append(append(dst, z.arena[n.name():n.first()]...), z.apex...)
}

// Narrow leaves of a steered RRset the records of one region, as if it were
// static; none if the region has none.
func (z *Zone) Narrow(s *RRset, region uint8) {
	if s.Regions>>region&1 != 0 {
		z.arena.narrow(s, region)
	}
	s.Regions = 0
}

// Beside returns how many RRsets belong beside s: see compiler.additional.
func (z *Zone) Beside(s *RRset) int {
	if s.span == 0 {
		return 0
	}
	_, beside, _ := readSpan(z.arena.word(s.span))
	return beside
}

// Additional returns the i-th RRset that belongs beside s.
func (z *Zone) Additional(s *RRset, i int) (more Additional) {
	first, _, required := readSpan(z.arena.word(s.span))
	x := z.extras[int(first)+i]
	more.Target, more.Required = int(x.target), i < required
	z.arena.set(x.set, &more.Set)
	return more
}
