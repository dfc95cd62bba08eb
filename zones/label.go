package zones

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/miekg/dns"
)

// findLabels finds the names REGION._region.OWNER. They are never steered
// themselves. Those of a static owner are plain data below it.
func (s *steerer) findLabels() {
	if !s.containsRegionLabel() {
		return
	}
	s.labels = make(map[uint32][]uint32)
	s.inside = make([]bool, s.names.len())
	bare := make(map[uint32]bool) // owners that are warned of
	for i := range uint32(s.names.len()) {
		owner, depth := s.ownerOf(i)
		if depth < 0 {
			continue
		}
		s.inside[i] = true
		if !s.owns(i) {
			continue
		}
		if s.static(owner) {
			if !s.owns(owner) && !bare[owner] {
				bare[owner] = true
				s.faults.warnf(s.at(s.firstOf(i)), "%s answers with nothing: steering.static lists it, so region labels do not count, and it has no records of its own; write some at the name itself, or take it out of steering.static",
					s.text(owner))
			}
			continue
		}
		if depth != 1 {
			s.fault(s.at(s.firstOf(i)), "%s is no region label; write REGION._region.OWNER, with nothing below", s.text(i))
			continue
		}
		s.labels[owner] = append(s.labels[owner], i)
	}
}

// ownerOf returns the owner for which a name with the label _region stands, and
// how deep below that label the name is: 1 for REGION._region.OWNER. The depth
// is negative for a name without the label. The label that is nearest to the
// apex counts.
func (s *steerer) ownerOf(i uint32) (owner uint32, depth int) {
	depth = -1
	for at, n := i, 0; s.parents[at] != 0; n++ {
		name, parent := s.names.name(at), s.parents[at]-1
		if len(name) > len(regionLabel) && string(name[:len(regionLabel)]) == regionLabel {
			owner, depth = parent, n
		}
		at = parent
	}
	return owner, depth
}

// regionGroup is the records of one region label.
type regionGroup struct {
	name   uint32
	region uint8
	groups []group
}

// byLabel returns what the labels of an owner hold, by type and region.
func (s *steerer) byLabel(owner uint32, names []uint32) []labelled {
	var known, all []regionGroup
	var regions uint64
	for _, i := range names {
		g := regionGroup{name: i, groups: slices.DeleteFunc(slices.Collect(s.groupsOf(i)), func(g group) bool { return signing(g.typ) })}
		if len(g.groups) == 0 {
			continue
		}
		all = append(all, g)
		name := s.names.name(i)
		region, ok := s.Named(string(name[1 : 1+name[0]]))
		if !ok {
			s.fault(s.at(g.groups[0]), "%s names no region; correct the label, or add the region to the configuration", s.text(i))
			continue
		}
		g.region = region
		regions |= 1 << region
		known = append(known, g)
	}
	if len(known) == 0 {
		known = all // an owner with none left answers with everything
	} else if bits.OnesCount64(regions) == 1 && len(known) == len(all) {
		s.fault(s.at(known[0].groups[0]), "%s is the only region label of %s; add another region's, or write the records at the name itself", s.text(known[0].name), s.text(owner))
	}
	slices.SortStableFunc(known, func(a, b regionGroup) int { return cmp.Compare(a.region, b.region) })
	s.checkLabels(owner, known)
	return s.byType(known, regions)
}

// checkLabels reports labels that do not go together, or not with their owner.
func (s *steerer) checkLabels(owner uint32, labels []regionGroup) {
	for n, l := range labels {
		for _, g := range l.groups {
			switch {
			case g.typ == dns.TypeNS || g.typ == dns.TypeDNAME || g.typ == dns.TypeDS || g.typ == dns.TypeSOA:
				s.fault(s.at(g), "%s records cannot be steered by region labels; write them at %s itself", dns.Type(g.typ), s.text(owner))
			case g.typ == dns.TypeCNAME && owner == s.apex:
				s.fault(s.at(g), "a CNAME record at a region label of the apex %s: a CNAME cannot stand at an apex", s.text(owner))
			case n == 0:
				s.checkOwner(owner, g)
			}
		}
		if n > 0 && !slices.EqualFunc(l.groups, labels[0].groups, func(a, b group) bool { return a.typ == b.typ }) {
			s.fault(s.at(l.groups[0]), "%s and %s have different record types; all region labels of a name hold the same", s.text(l.name), s.text(labels[0].name))
		}
	}
}

// checkOwner reports what the owner itself has beside a labelled type.
func (s *steerer) checkOwner(owner uint32, label group) {
	for own := range s.groupsOf(owner) {
		switch {
		case own.typ == label.typ:
			s.fault(s.at(own), "%s has %s records both itself and at its region labels; choose one form", s.text(owner), dns.Type(own.typ))
		case label.typ == dns.TypeCNAME && !signing(own.typ):
			s.fault(s.at(own), "%s has %s records beside the CNAME records of its region labels; a CNAME stands alone", s.text(owner), dns.Type(own.typ))
		}
	}
}

// byType turns labels, sorted by region, into RRsets by type.
func (s *steerer) byType(labels []regionGroup, regions uint64) []labelled {
	var list []labelled
	for _, l := range labels {
		for _, g := range l.groups {
			n := slices.IndexFunc(list, func(t labelled) bool { return t.typ == g.typ })
			if n < 0 {
				n = len(list)
				list = append(list, labelled{typ: g.typ})
			}
			if regions != 0 {
				list[n].regions |= 1 << l.region
			}
			list[n].records = append(list[n].records, s.list(g))
		}
	}
	return list
}
