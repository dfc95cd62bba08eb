package regions

import (
	"fmt"
	"time"
)

// Steered is a steered name and the regions that have its records.
type Steered struct {
	Name    string
	Service ServiceID
	Regions Set
}

// Judge says why a drain may not be written at a key, or "" if it may. in has the
// drains in force before; names are the steered names, one for each distinct pair of
// service and regions. A drain that has yet to begin counts as begun.
//
// It looks at drains alone: sickness comes and goes, a verdict stays.
func (t *Table) Judge(in Inputs, at Key, next Drain, names []Steered, now time.Time) string {
	before := in.Subjects[t.Index(at)].Drain
	if next.Force || !next.planned(now) || next.within(before, now) {
		return ""
	}
	g := guard{Table: t, in: in, at: at, next: next, now: now}
	if away, total := g.weight(at.Service, true); away > t.policy.MaxOut*total {
		return fmt.Sprintf("%s of the capacity%s would be out, and guard.max_out is %d%%",
			percent(away, total), t.inService(at.Service), t.policy.MaxOut)
	}
	if name := g.stranded(names); name != "" {
		return name + " would be left with no region"
	}
	return ""
}

// Excess says of which services more capacity is out than the guard lets out, though
// no drain that counts was forced: the configuration has changed since, or other
// drains have come. Drains of regions alone are measured by all capacity alone.
func (t *Table) Excess(in Inputs, now time.Time) (list []string) {
	g := guard{Table: t, in: in, now: now}
	for id := range t.services {
		service := ServiceID(id)
		own := g.any(service, func(Drain) bool { return true })
		forced := g.any(service, func(d Drain) bool { return d.Force }) || g.any(Anyone, func(d Drain) bool { return d.Force })
		if away, total := g.weight(service, false); own && !forced && away > t.policy.MaxOut*total {
			list = append(list, fmt.Sprintf("%s of the capacity%s is out by drains, and guard.max_out is %d%%",
				percent(away, total), t.inService(service), t.policy.MaxOut))
		}
	}
	return list
}

// any reports whether a drain at a service's own keys counts and is such.
func (g *guard) any(service ServiceID, such func(Drain) bool) bool {
	for id := range g.services[service].members.All() {
		if d := g.in.Subjects[g.Index(Key{service, id})].Drain; d.planned(g.now) && such(d) {
			return true
		}
	}
	return false
}

// within reports whether d takes out no more than what it replaces, at any time.
func (d Drain) within(old Drain, now time.Time) bool {
	if !old.planned(now) {
		return false
	}
	begins := d.At.After(old.At) || !now.Before(old.At) || d.At.Equal(old.At)
	ends := old.Until.IsZero() || !d.Until.IsZero() && !d.Until.After(old.Until)
	return d.Percent <= old.Percent && begins && ends
}

// guard is the drains as they would be.
type guard struct {
	*Table
	in   Inputs
	at   Key
	next Drain
	now  time.Time
}

// away is the percentage of clients of a service that a region does not serve;
// with the drain that is judged, or without it.
func (g *guard) away(k Key, with bool) int {
	own := func(k Key) int {
		d := g.in.Subjects[g.Index(k)].Drain
		if with && k == g.at {
			d = g.next
		}
		if !d.planned(g.now) {
			return 0
		}
		return d.Percent
	}
	return max(own(k), own(Key{Anyone, k.Region}))
}

// weight returns the weight that would be out, in percent of weight 1, and all of
// it. Standby regions are no capacity.
func (g *guard) weight(service ServiceID, with bool) (away, total int) {
	for id := range (g.services[service].members &^ g.standby).All() {
		w := g.list[id].Weight
		total += w
		away += w * g.away(Key{service, id}, with)
	}
	return away, total
}

// gone returns the regions that serve no client of a service.
func (g *guard) gone(service ServiceID, with bool) (gone Set) {
	for id := range g.All().All() {
		if g.away(Key{service, id}, with) == 100 {
			gone |= SetOf(id)
		}
	}
	return gone
}

// stranded returns a service or a name that would lose its last region.
func (g *guard) stranded(names []Steered) string {
	loses := func(service ServiceID, regions Set) bool {
		can := g.usable(&g.services[service]) & regions
		return can&^g.gone(service, false) != 0 && can&^g.gone(service, true) == 0
	}
	for id := range g.services {
		if loses(ServiceID(id), g.All()) {
			return g.Of(ServiceID(id))
		}
	}
	for _, n := range names {
		if loses(n.Service, n.Regions) {
			return n.Name
		}
	}
	return ""
}

// Of names a service in a sentence.
func (t *Table) Of(id ServiceID) string {
	if id == Anyone {
		return "everything"
	}
	return "service " + t.services[id].Name
}

// inService names a service in a sentence.
func (t *Table) inService(id ServiceID) string {
	if id == Anyone {
		return ""
	}
	return " of service " + t.services[id].Name
}

// percent writes how much of total (weights) away is (percent of weights).
func percent(away, total int) string {
	return fmt.Sprintf("%.4g%%", float64(away)/float64(max(total, 1)))
}
