package console

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"nearside/regions"
)

// Region is one data center.
type Region struct {
	Name     string            `json:"name"`
	Standing                   // of the region itself
	Standby  bool              `json:"standby,omitempty"`
	Services []ServiceInRegion `json:"services"` // those that have drains or votes of their own here
}

// ServiceInRegion is what a service has of its own in a region.
type ServiceInRegion struct {
	Service string `json:"service"`
	Standing
}

// Standing is how a region, or a service in it, stands. State is up, drained, down,
// returning, or several of drained and down.
type Standing struct {
	State      string    `json:"state"`
	Why        string    `json:"why"`
	Since      time.Time `json:"since,omitzero"`       // when it last went out or came in
	Away       int       `json:"away_percent"`         // of clients that are sent elsewhere
	Heartbeats *int      `json:"heartbeats,omitempty"` // that live; absent where none are asked for
	Votes      []Vote    `json:"votes"`
}

// Vote is what one reporter says of a region.
type Vote struct {
	Reporter string `json:"reporter"`
	Down     bool   `json:"down"`
	Live     bool   `json:"live"` // whether it counts: its probe host lives
	Since    string `json:"since,omitempty"`
	Detail   string `json:"detail,omitempty"`
	Load     string `json:"load,omitempty"`
}

// What Standing.State may be, beside what a regions.Status is written as.
const (
	regionIsUp        = "up"
	regionIsReturning = "returning"
)

// Regions shows every region as the state has it. A return whose time is past now
// waits until etcd confirms the state.
func Regions(t *regions.Table, s *regions.State, now time.Time) []Region {
	shown := make([]Region, 0, t.Len())
	for id := range t.All().All() {
		configured := t.Region(id)
		r := Region{Name: configured.Name, Standby: configured.Standby, Services: []ServiceInRegion{}}
		r.Standing = standing(t, s, regions.Key{Region: id}, now)
		for service := regions.Anyone + 1; int(service) < t.Services(); service++ {
			own := standing(t, s, regions.Key{Service: service, Region: id}, now)
			if own.State != regionIsUp || own.Away > 0 || own.Why != "" || len(own.Votes) > 0 {
				r.Services = append(r.Services, ServiceInRegion{t.Service(service).Name, own})
			}
		}
		shown = append(shown, r)
	}
	return shown
}

// standing shows one key by itself; the break-glass file is shown at the region.
func standing(t *regions.Table, s *regions.State, k regions.Key, now time.Time) Standing {
	own, subject := s.Standings[t.Index(k)], s.Inputs.Subjects[t.Index(k)]
	shown := Standing{State: stateOf(own), Since: own.Since, Away: own.Away, Votes: votes(subject.Votes, s.Inputs.Probes)}
	if own.Status.Out() || !own.Hold.IsZero() {
		shown.Away = 100
	}
	shown.Why = strings.Join(whys(own, subject, now), "; ")
	if k.Service != regions.Anyone {
		return shown
	}
	if t.Region(k.Region).Heartbeat {
		shown.Heartbeats = &subject.Heartbeats
	}
	switch {
	case s.Inputs.ForcedDrain.Has(k.Region):
		shown.State, shown.Away, shown.Why = regions.Drained.String(), 100, "by the break-glass file"
	case s.Inputs.ForcedUp.Has(k.Region):
		shown.State, shown.Away, shown.Why = regionIsUp, 0, "forced up by the break-glass file"
	}
	return shown
}

// stateOf says in a word how a key stands.
func stateOf(own regions.Standing) string {
	var words []string
	if own.Status&regions.Drained != 0 {
		words = append(words, regions.Drained.String())
	}
	if own.Status&(regions.Down|regions.Silent) != 0 {
		words = append(words, regions.Down.String())
	}
	switch {
	case len(words) > 0:
		return strings.Join(words, "+")
	case !own.Hold.IsZero() || !own.Ramp.IsZero():
		return regionIsReturning
	}
	return regionIsUp
}

// whys gives every reason there is for how a key stands.
func whys(own regions.Standing, subject regions.Subject, now time.Time) (list []string) {
	add := func(format string, arguments ...any) { list = append(list, fmt.Sprintf(format, arguments...)) }
	drain := subject.Drain
	switch {
	case own.Overdue:
		add("its drain ended at %s, but it is sick and stays out", clock(drain.Until))
	case own.Status&regions.Drained != 0:
		add("%s", whyDrained(drain))
	case own.Planned:
		add("%d%% drained from %s on: %s", drain.Percent, clock(drain.At), whyDrained(drain))
	case drain.Percent > 0 && own.Away > 0:
		add("%d%% drained: %s", drain.Percent, whyDrained(drain))
	}
	switch {
	case own.Tied:
		add("kept down: no majority of live votes says up or down")
	case own.Status&regions.Down != 0:
		add("by votes")
	}
	switch {
	case own.Status&regions.Silent != 0:
		add("no heartbeat lives")
	case own.Status&regions.Excused != 0:
		add("no heartbeat lives, but most stopped together: that counts for nothing")
	}
	switch {
	case !own.Hold.IsZero() && now.After(own.Hold):
		add("on hold until etcd confirms the state")
	case !own.Hold.IsZero():
		add("on hold until %s", clock(own.Hold))
	case !own.Ramp.IsZero() && now.After(own.Ramp):
		add("%d%% of its clients are back, the others wait until etcd confirms the state", 100-own.Away)
	case !own.Ramp.IsZero():
		add("%d%% of its clients are back, all at %s", 100-own.Away, clock(own.Ramp))
	}
	return list
}

// clock writes a time for people, in UTC.
func clock(at time.Time) string { return at.UTC().Format("2006-01-02 15:04:05Z") }

func whyDrained(drain regions.Drain) string {
	why := "no reason given"
	switch {
	case drain.Reason != "" && drain.By != "":
		why = fmt.Sprintf("%q, by %s", drain.Reason, drain.By)
	case drain.Reason != "":
		why = fmt.Sprintf("%q", drain.Reason)
	case drain.By != "":
		why = "by " + drain.By
	}
	if !drain.Until.IsZero() {
		why += ", until " + clock(drain.Until)
	}
	return why
}

func votes(by map[string]regions.Vote, probes map[string]bool) []Vote {
	list := make([]Vote, 0, len(by))
	for _, reporter := range slices.Sorted(maps.Keys(by)) {
		v := by[reporter]
		list = append(list, Vote{Reporter: reporter, Down: v.Down, Live: v.Probe == "" || probes[v.Probe], Since: v.Since, Detail: v.Detail, Load: v.Load})
	}
	return list
}
