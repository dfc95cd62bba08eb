package zones

import (
	"cmp"
	"maps"
	"path/filepath"
	"slices"
)

// shape is what arrange looks at: while it stays the same for every member, so
// does what arrange finds.
type shape struct {
	origin       string
	loaded, gone bool
}

func (e *member) shape() shape { return shape{e.origin(), e.zone != nil, e.gone} }

// moved reports whether arrange may find another place for a member than last
// time. A twin has been read again, in case the other one goes.
func (e *member) moved() bool {
	return e.twin || e.former != nil || e.accepted || e.shape() != e.placed
}

// arrange decides which members are served when zones come, go or change their
// names, and makes the view of them. It returns all members.
func (s *Store) arrange() []*member {
	s.sort()
	var gone []*member
	for _, group := range s.groups() {
		present := s.separate(group)
		for _, e := range group {
			if !e.gone {
				continue
			}
			if !e.good() || e.twin || present {
				s.drop(e) // never served, or served from another file
			} else {
				gone = append(gone, e)
			}
		}
	}
	s.part(gone)
	s.order = slices.DeleteFunc(s.order, func(e *member) bool { return s.members[e.name] != e })
	s.good = 0
	for i, e := range s.order {
		e.row, e.placed = i, e.shape()
		if e.good() && !e.twin {
			s.good++
		}
	}
	s.view = s.arranged()
	return s.order
}

// sort puts the members in order. What was in order stays, so that sorting is
// for the few that came or have another name now.
func (s *Store) sort() {
	for _, e := range slices.Collect(maps.Values(s.members)) {
		if f := e.former; f != nil { // the file has become another zone
			e.former = nil
			if old := s.members[f.name]; old != nil {
				s.drop(old)
			}
			s.members[f.name] = f
		}
	}
	stays := func(e *member) bool { return e.placed.origin == e.origin() }
	order := slices.DeleteFunc(s.order, func(e *member) bool { return s.members[e.name] != e || !stays(e) })
	var came []*member
	for _, e := range s.members {
		if !stays(e) {
			e.placed.origin = e.origin()
			came = append(came, e)
		}
	}
	compare := func(a, b *member) int {
		return cmp.Or(cmp.Compare(a.placed.origin, b.placed.origin), cmp.Compare(a.name, b.name))
	}
	slices.SortFunc(came, compare)
	s.order = make([]*member, 0, len(s.members))
	for _, e := range came {
		n, _ := slices.BinarySearchFunc(order, e, compare)
		s.order = append(append(s.order, order[:n]...), e)
		order = order[n:]
	}
	s.order = append(s.order, order...)
}

// groups returns the members of each origin, by file name.
func (s *Store) groups() [][]*member {
	groups := make([][]*member, 0, len(s.order))
	for i := 0; i < len(s.order); {
		end := i + 1
		for end < len(s.order) && s.order[end].placed.origin == s.order[i].placed.origin {
			end++
		}
		groups = append(groups, s.order[i:end:end])
		i = end
	}
	return groups
}

// separate finds the twins among the members of one origin. It reports whether
// there is a file for the zone.
func (s *Store) separate(group []*member) (present bool) {
	owner := ownerAmong(group)
	for _, e := range group {
		present = present || !e.gone && e.good()
		if e.gone {
			continue
		}
		e.serves = e == owner
		if e.zone == nil {
			continue
		}
		was := e.twin
		if e.twin = !e.serves; !e.twin {
			continue
		}
		if was && s.folder != nil {
			continue // it was not read again
		}
		file, line := filepath.Join(s.Dir, e.name), 0
		if e.state == StateOK {
			file, line = e.zone.file, e.zone.line
		}
		e.faults = append(slices.Clone(e.faults), newFault(file, line,
			"the zone %s is in %s too, which is served; delete one of them", e.origin(), filepath.Join(s.Dir, owner.name)))
		e.files = nil // so that it is read again, in case the other one goes
		e.state = StateTwice
	}
	return present
}

// ownerAmong returns the member whose file has the zone of a group, nil for
// none: the file that had it keeps it, whoever else claims it now; else the
// first by name gets it.
func ownerAmong(group []*member) (owner *member) {
	for _, e := range group {
		if !e.gone && e.zone != nil && (owner == nil || e.serves && !owner.serves) {
			owner = e
		}
	}
	return owner
}

// part takes leave of the zones whose files are gone, unless they are too many
// at once: then an operator has to accept that.
func (s *Store) part(gone []*member) {
	drastic := s.HoldShrink && 2*len(gone) > s.good
	for _, e := range gone {
		held := e.state == StateHeld
		if !e.accepted && (drastic || held) {
			e.faults = []Fault{newFault(filepath.Join(s.Dir, e.name), 0,
				"the file is gone; %s stays as it was, because most zones vanished at once: bring it back, or run: nearside reload --accept %s", e.origin(), e.origin())}
			s.fallBack(e)
			e.state = StateHeld
			continue
		}
		s.drop(e)
		s.removals = append(s.removals, e.origin())
	}
}

// drop forgets a member.
func (s *Store) drop(e *member) {
	delete(s.members, e.name)
	delete(s.again, e)
	delete(s.including, e)
	delete(s.unwritten, e)
	if e.counted != nil {
		s.left = append(s.left, e.counted)
	}
}

// arranged makes what is to be served. A zone that was never good is in it too,
// so that its names get SERVFAIL, unless another file serves it.
func (s *Store) arranged() *View {
	zones := make([]*Zone, 0, len(s.order))
	for _, group := range s.groups() {
		n := slices.IndexFunc(group, func(e *member) bool { return e.zone != nil && !e.twin })
		for _, e := range group {
			e.index = -1
		}
		if n >= 0 {
			group[n].index = len(zones)
			zones = append(zones, group[n].zone)
		} else if wire, err := parseOrigin(group[0].placed.origin); err == nil {
			zones = append(zones, &Zone{origin: nameText(wire), apex: wire, failed: true, index: newIndex(1, 0)})
		}
	}
	return newView(zones)
}
