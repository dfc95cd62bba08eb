package zones

// Spread is what some steered RRsets have in common, so that they have a region left
// together or none: their service, and the regions that have records of theirs.
type Spread struct {
	Service uint16
	Regions uint64 // bit i stands for region i
	Name    string // the owner of one of them
	RRsets  int    // how many they are
}

// spreads gathers each Spread once. The zero value is empty.
type spreads struct {
	list []Spread // in the order of the first RRset of each
	at   map[spreadKey]int
}

type spreadKey struct {
	service uint16
	regions uint64
}

func (s *spreads) add(more Spread) {
	key := spreadKey{more.Service, more.Regions}
	if i, known := s.at[key]; known {
		s.list[i].RRsets += more.RRsets
		return
	}
	if s.at == nil {
		s.at = make(map[spreadKey]int)
	}
	s.at[key] = len(s.list)
	s.list = append(s.list, more)
}

func spreadsOf(zones []*Zone) []Spread {
	var all spreads
	for _, z := range zones {
		for _, one := range z.spreads {
			all.add(one)
		}
	}
	return all.list
}

// Spreads returns what steered RRsets there are, each kind of them once. It is the
// view's own: do not change it.
func (v *View) Spreads() []Spread { return v.spreads() }

// Exhausted returns the number of steered RRsets for which no region is left, as
// left tells of a service and regions, and the owner of one of them.
func (v *View) Exhausted(left func(service uint16, regions uint64) bool) (n int, name string) {
	for _, s := range v.Spreads() {
		if !left(s.Service, s.Regions) {
			n, name = n+s.RRsets, s.Name
		}
	}
	return n, name
}
