// Package regions decides which data center answers. It holds the configured
// regions and services, ranks regions by distance, judges drains (the guard), turns
// drains, votes and heartbeats into a State, and chooses among a name's regions by
// that State.
//
// Everything here is pure: no etcd, no clock, no DNS, no I/O. A Table and a
// State are immutable once made, so any number of goroutines may share them.
package regions

import (
	"cmp"
	"fmt"
	"iter"
	"math/bits"
	"net/netip"
	"slices"

	"nearside/geo"
)

// Max is the largest number of regions. A Set is one machine word, so that the
// choice on the query path is a few AND operations.
const Max = 64

// ID is the index of a region in the configured order.
type ID uint8

// Set is a set of regions: bit i stands for ID i.
type Set uint64

// SetOf returns the set of the given regions.
func SetOf(ids ...ID) Set {
	var s Set
	for _, id := range ids {
		s |= 1 << id
	}
	return s
}

// Has reports whether id is in s.
func (s Set) Has(id ID) bool { return s>>id&1 != 0 }

// Len returns the number of regions in s.
func (s Set) Len() int { return bits.OnesCount64(uint64(s)) }

// All yields the regions of s in the configured order.
func (s Set) All() iter.Seq[ID] {
	return func(yield func(ID) bool) {
		for ; s != 0; s &= s - 1 {
			if !yield(ID(bits.TrailingZeros64(uint64(s)))) {
				return
			}
		}
	}
}

// Region is a data center as configured.
type Region struct {
	Name     string
	Location geo.Point
	Prefixes []netip.Prefix // the address space it announces

	Weight    int  // share of the capacity, for the guard; > 0
	Heartbeat bool // no live heartbeat means that it is down
	Standby   bool // used when nothing else is left alone
}

// Table is the configured regions and services, and the rules for them.
type Table struct {
	list     []Region
	byName   map[string]ID
	owned    []owned  // prefixes, sorted by first address; they do not overlap
	seeds    []uint64 // by region: see bucket
	standby  Set
	services []Service        // the first is Anyone
	names    Names[ServiceID] // listed by services
	policy   Policy
	longest  uint32 // the longest TTL that any service allows
}

type owned struct {
	prefix netip.Prefix
	region ID
}

// New builds the table. The configured order is the order of list: it breaks
// ties of distance, and it is the preference of clients without a place.
// An error names the region and what is wrong with it. There are no services, and
// the guard refuses only what leaves nothing: see With.
func New(list []Region) (*Table, error) {
	if len(list) > Max {
		return nil, fmt.Errorf("%d regions: at most %d are possible", len(list), Max)
	}
	t := &Table{list: slices.Clone(list), byName: make(map[string]ID, len(list)), policy: Policy{MaxOut: 100}}
	for i, r := range list {
		if err := CheckName(r.Name); err != nil {
			return nil, fmt.Errorf("region %q: %w", r.Name, err)
		}
		if _, twice := t.byName[r.Name]; twice {
			return nil, fmt.Errorf("region %s is listed twice", r.Name)
		}
		if !r.Location.Valid() {
			return nil, fmt.Errorf("region %s: no such place as latitude %v, longitude %v", r.Name, r.Location.Latitude, r.Location.Longitude)
		}
		t.byName[r.Name] = ID(i)
		t.seeds = append(t.seeds, seedOf(r.Name))
		if r.Standby {
			t.standby |= SetOf(ID(i))
		}
		for _, p := range r.Prefixes {
			t.owned = append(t.owned, owned{p, ID(i)})
		}
	}
	slices.SortFunc(t.owned, func(a, b owned) int {
		return cmp.Or(a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()))
	})
	for i, o := range t.owned {
		if o.prefix != o.prefix.Masked() {
			return nil, fmt.Errorf("region %s: prefix %s has bits set beyond its length; write %s", t.Name(o.region), o.prefix, o.prefix.Masked())
		}
		if o.prefix.Addr().Is4In6() {
			return nil, fmt.Errorf("region %s: %s is an IPv4 prefix written as IPv6; leave out its ::ffff: part", t.Name(o.region), o.prefix)
		}
		// Sorted by address, then the shorter first: an overlap shows between neighbours.
		if i > 0 && t.owned[i-1].prefix.Overlaps(o.prefix) {
			return nil, fmt.Errorf("region %s: prefix %s overlaps %s of region %s",
				t.Name(o.region), o.prefix, t.owned[i-1].prefix, t.Name(t.owned[i-1].region))
		}
	}
	t.services = []Service{t.anyone()}
	return t, nil
}

// CheckName reports why name cannot name a region: 1 to 63 lower-case letters,
// digits and hyphens, with no hyphen at either end (it is a DNS label too).
func CheckName(name string) error {
	if len(name) < 1 || len(name) > 63 {
		return fmt.Errorf("a name has 1 to 63 characters")
	}
	for i, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case c == '-' && i > 0 && i < len(name)-1:
		default:
			return fmt.Errorf("a name has lower-case letters, digits and inner hyphens only")
		}
	}
	return nil
}

// Len returns the number of regions.
func (t *Table) Len() int { return len(t.list) }

// Name returns the name of region id.
func (t *Table) Name(id ID) string { return t.list[id].Name }

// Region returns region id as configured.
func (t *Table) Region(id ID) Region { return t.list[id] }

// All returns the set of all regions.
func (t *Table) All() Set {
	if len(t.list) == Max {
		return ^Set(0)
	}
	return 1<<len(t.list) - 1
}

// Named returns the region called name.
func (t *Table) Named(name string) (ID, bool) {
	id, ok := t.byName[name]
	return id, ok
}

// Names returns the names of the regions in s, in the configured order.
func (t *Table) Names(s Set) []string {
	names := make([]string, 0, s.Len())
	for id := range s.All() {
		names = append(names, t.Name(id))
	}
	return names
}

// RegionOf returns the region that announces addr.
func (t *Table) RegionOf(addr netip.Addr) (ID, bool) {
	addr = addr.Unmap()
	i, exact := slices.BinarySearchFunc(t.owned, addr, func(o owned, a netip.Addr) int {
		return o.prefix.Addr().Compare(a)
	})
	if !exact {
		i-- // the last prefix that starts before addr
	}
	if i < 0 || !t.owned[i].prefix.Contains(addr) {
		return 0, false
	}
	return t.owned[i].region, true
}

// Rank returns every region, nearest to p first. Only the nearest depth regions
// are ordered by distance; those beyond follow in the configured order. Equal
// distances keep the configured order.
func (t *Table) Rank(p geo.Point, depth int) []ID {
	distance := make([]float64, len(t.list))
	for i, r := range t.list {
		distance[i] = p.Distance(r.Location)
	}
	order := t.Listed()
	for i := range min(depth, len(order)) {
		nearest := i
		for j := i + 1; j < len(order); j++ {
			if distance[order[j]] < distance[order[nearest]] {
				nearest = j
			}
		}
		id := order[nearest]
		copy(order[i+1:nearest+1], order[i:nearest]) // the others keep their order
		order[i] = id
	}
	return order
}

// Listed returns every region in the configured order: the preference of a
// client without a place.
func (t *Table) Listed() []ID {
	order := make([]ID, len(t.list))
	for i := range order {
		order[i] = ID(i)
	}
	return order
}
