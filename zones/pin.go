package zones

import (
	"slices"

	"github.com/miekg/dns"
)

// maxPasses bounds the passes of pin. The targets of a zone's NS records do not
// depend on what is steered, so the second finds nothing to do unless a file
// changes meanwhile; that file is due for another reload anyhow.
const maxPasses = 3

// pin makes the zones static where NS records of other zones point, which none
// of them can know by itself, and steered again where none points any more. due
// is the members that may have another zone than at the last call. It returns
// those that it compiled anew.
func (s *Store) pin(due []*member) (anew []*member) {
	for range maxPasses {
		changed := s.recount(due)
		if len(changed) == 0 {
			break
		}
		again := make(map[*Zone]bool)
		for _, target := range changed {
			s.view.above([]byte(target), func(z *Zone) {
				if s.pointed.zones[target] == 0 {
					again[z] = again[z] || slices.Contains(z.pinned, target)
				} else {
					again[z] = again[z] || z.steers(target)
				}
			})
		}
		due = slices.DeleteFunc(slices.Clone(s.order), func(e *member) bool { return e.index < 0 || !again[e.zone] })
		for _, e := range due {
			s.recompile(e)
		}
		s.view = s.view.with(due)
		anew = append(anew, due...)
	}
	return anew
}

// recount brings Store.pointed up to date and returns the names that came or went.
func (s *Store) recount(due []*member) []string {
	old, served := s.left, []*Zone(nil)
	s.left = nil
	for _, e := range due {
		z := e.zone
		if e.index < 0 {
			z = nil
		}
		if e.counted == z {
			continue
		}
		if e.counted != nil {
			old = append(old, e.counted)
		}
		if z != nil {
			served = append(served, z)
		}
		e.counted = z
	}
	return s.pointed.replace(served, old)
}

// steers reports whether the answer for a name depends on the region.
func (z *Zone) steers(name string) bool {
	return !z.failed && z.Lookup([]byte(name), dns.TypeA).Steered
}

// recompile makes a zone anew from what it was made of, now that other zones
// point at other names. If that is gone, the zone stays as it is: the file has
// changed and is due for a reload, or the disk has failed.
func (s *Store) recompile(e *member) {
	var z *Zone
	var faults []Fault
	switch {
	case e.unkept != nil:
		z, faults = s.load(e.name, e.unkept)
	case e.state != StateOK:
		z, faults = s.restore(e.kept)
	case e.files != nil:
		again := s.open(e.name)
		if !e.files.forgotten {
			again = e.files
		} else if !e.files.same(again) {
			return
		}
		e.files = again
		z, faults = s.load(e.name, again)
	}
	if z == nil || z.origin != e.zone.origin {
		return
	}
	e.zone = z
	if e.state == StateOK {
		e.faults = faults
		return
	}
	for _, f := range faults {
		if !slices.Contains(e.faults, f) {
			e.faults = append(e.faults, f)
		}
	}
}
