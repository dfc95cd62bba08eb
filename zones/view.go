package zones

import (
	"bytes"
	"iter"
	"slices"
	"sync"
)

// View is an immutable set of zones.
type View struct {
	zones   []*Zone  // sorted by origin
	origins []string // of zones
	spreads func() []Spread
	*apexes
}

// apexes finds zones by their apex. Views with the same apexes share it.
type apexes struct {
	byApex map[string]int     // index into View.zones
	only   [maxName + 1]int32 // index of the one whose apex has so many octets; or:
}

// What apexes.only has where no apex has that length, and where several have.
const (
	none    = -1
	several = -2
)

// newView makes the view of zones with distinct origins.
func newView(zones []*Zone) *View {
	v := &View{zones: zones, origins: make([]string, len(zones)), apexes: &apexes{byApex: make(map[string]int, len(zones))}}
	for n := range v.only {
		v.only[n] = none
	}
	for i, z := range zones {
		v.origins[i] = z.origin
		v.byApex[string(z.apex)] = i
		if only := &v.only[len(z.apex)]; *only == none {
			*only = int32(i)
		} else {
			*only = several
		}
	}
	v.spreads = sync.OnceValue(func() []Spread { return spreadsOf(zones) })
	return v
}

// with returns the view with the new versions of zones that it has already.
func (v *View) with(due []*member) *View {
	next := *v
	next.zones = slices.Clone(v.zones)
	for _, e := range due {
		if e.index >= 0 {
			next.zones[e.index] = e.zone
		}
	}
	next.spreads = sync.OnceValue(func() []Spread { return spreadsOf(next.zones) })
	return &next
}

// Find returns the deepest zone at or above qname (lower-case wire form) and
// its index among All, or nil and -1 if there is none. The zone may be one that
// was never good: see Zone.Failed. For DS at an apex the parent is asked (RFC
// 4035 section 3.1.4.1): call Find with the first label cut off. It does not
// allocate.
func (v *View) Find(qname []byte) (z *Zone, index int) {
	for {
		switch i := int(v.only[uint8(len(qname))]); i {
		case none:
		case several:
			if i, ok := v.byApex[string(qname)]; ok {
				return v.zones[i], i
			}
		default:
			if z := v.zones[i]; bytes.Equal(z.apex, qname) {
				return z, i
			}
		}
		if len(qname) <= 1 || len(qname) <= int(qname[0])+1 {
			return nil, -1
		}
		qname = qname[1+int(qname[0]):]
	}
}

// above calls f for each zone at or above a name.
func (v *View) above(name []byte, f func(*Zone)) {
	for z, _ := v.Find(name); z != nil; z, _ = v.Find(name) {
		f(z)
		if len(z.apex) == 1 {
			return
		}
		name = z.apex[1+int(z.apex[0]):]
	}
}

// All yields the zones, sorted by origin.
func (v *View) All() iter.Seq[*Zone] {
	return func(yield func(*Zone) bool) {
		for _, z := range v.zones {
			if !yield(z) {
				return
			}
		}
	}
}

// Names yields every name that exists in the zones, in lower case with a final
// dot: those that own records and those above them.
func (v *View) Names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, z := range v.zones {
			for n := range z.arena.nodes() {
				if !yield(nameText(z.name(n))) {
					return
				}
			}
		}
	}
}

// Len returns the number of zones.
func (v *View) Len() int { return len(v.zones) }

// Origins returns the names of the zones, sorted. They are the view's own: do
// not change them.
func (v *View) Origins() []string { return v.origins }
