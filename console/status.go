// Package console shows the server to people and machines: metrics, health and
// readiness over HTTP on the admin address, and status, reload and accept over
// a unix socket for whoever may open it.
//
// It knows nothing of its own: a Server tells it what is, and does what is asked.
package console

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"nearside/healthsync"
	"nearside/regions"
	"nearside/zones"
)

// Phase is where a server is in its life.
type Phase string

// The phases, in their order.
const (
	Starting Phase = "starting" // no snapshot yet: queries are not answered
	Serving  Phase = "serving"
	Stopping Phase = "stopping" // answering what is in flight
)

// Status is what the server says of itself, all at one moment.
type Status struct {
	Server    Server             `json:"server"`
	State     *healthsync.Status `json:"state"` // nil without regions
	Regions   []Region           `json:"regions"`
	Zones     []Zone             `json:"zones"`
	Geography *Geography         `json:"geography"` // nil without regions
	Reloads   []Reload           `json:"reloads"`
	Alarms    []string           `json:"alarms"` // what an operator must look at
}

// Server is the process.
type Server struct {
	ID       string    `json:"id"`
	Version  string    `json:"version"`
	PID      int       `json:"pid"`
	Started  time.Time `json:"started"`
	Phase    Phase     `json:"phase"`
	Degraded []string  `json:"degraded"` // why it serves less well than it could
	Config   string    `json:"config"`
	DNS      []string  `json:"dns"`   // host:port, as bound
	Admin    string    `json:"admin"` // host:port, as bound
}

// Region is one data center. State is up, down or drained.
type Region struct {
	Name  string `json:"name"`
	State string `json:"state"`
	Why   string `json:"why"`
	Votes []Vote `json:"votes"`
}

// Vote is what one reporter says of a region.
type Vote struct {
	Reporter string `json:"reporter"`
	Down     bool   `json:"down"`
	Since    string `json:"since,omitempty"`
	Detail   string `json:"detail,omitempty"`
}

// What Region.State may be.
const (
	regionIsUp      = "up"
	regionIsDown    = "down"
	regionIsDrained = "drained"
)

// Zone is one zone.
type Zone struct {
	Name      string      `json:"name"`
	State     string      `json:"state"` // ok, last good, held, failed or twice
	File      string      `json:"file"`
	Serial    uint32      `json:"serial"`
	Records   int         `json:"records"`
	Faults    []string    `json:"faults"`     // warnings included
	OneRegion []OneRegion `json:"one_region"` // names that no drain moves
}

// OneRegion is a name whose addresses lie in one region only.
type OneRegion struct {
	Name   string `json:"name"`
	Region string `json:"region"`
}

// Geography is the database that says where clients are.
type Geography struct {
	Name   string    `json:"name"`
	File   string    `json:"file"` // "" for the built-in database
	Built  time.Time `json:"built"`
	Digest string    `json:"digest"`
}

// Source says where the database is.
func (g *Geography) Source() string {
	if g.File == "" {
		return "built in"
	}
	return g.File
}

// Reload counts how often something was read again.
type Reload struct {
	What    string    `json:"what"` // zones or geo
	OK      uint64    `json:"ok"`
	Failed  uint64    `json:"failed"`
	Success time.Time `json:"success"` // the last that went well
}

// Zones shows every zone as the store has it.
func Zones(list []*zones.Status) []Zone {
	shown := make([]Zone, 0, len(list))
	for _, z := range list {
		faults := make([]string, len(z.Faults))
		for i, f := range z.Faults {
			faults[i] = f.String()
		}
		single := make([]OneRegion, len(z.OneRegion))
		for i, name := range z.OneRegion {
			single[i] = OneRegion(name)
		}
		shown = append(shown, Zone{z.Origin, z.State, z.File, z.Serial, z.Records, faults, single})
	}
	return shown
}

// Regions shows every region as the state has it.
func Regions(t *regions.Table, s *regions.State) []Region {
	shown := make([]Region, 0, t.Len())
	for id := range t.All().All() {
		r := Region{Name: t.Name(id), Votes: votes(s.Inputs.Subjects[id].Votes)}
		switch {
		case s.Drained().Has(id):
			r.State, r.Why = regionIsDrained, whyDrained(s, id)
		case s.Usual(regions.Anyone).Has(id):
			r.State = regionIsUp
			if s.Inputs.ForcedUp.Has(id) {
				r.Why = "forced up by the break-glass file"
			}
		default:
			r.State, r.Why = regionIsDown, "by votes"
			if s.Tied().Has(id) {
				r.Why = "kept down: no majority of votes says up or down"
			}
		}
		shown = append(shown, r)
	}
	return shown
}

func whyDrained(s *regions.State, id regions.ID) string {
	if s.Inputs.ForcedDrain.Has(id) {
		return "by the break-glass file"
	}
	drain := s.Inputs.Subjects[id].Drain
	switch {
	case drain.Reason != "" && drain.By != "":
		return fmt.Sprintf("%q, by %s", drain.Reason, drain.By)
	case drain.Reason != "":
		return fmt.Sprintf("%q", drain.Reason)
	case drain.By != "":
		return "by " + drain.By
	}
	return "no reason given"
}

func votes(by map[string]regions.Vote) []Vote {
	list := make([]Vote, 0, len(by))
	for _, reporter := range slices.Sorted(maps.Keys(by)) {
		v := by[reporter]
		list = append(list, Vote{Reporter: reporter, Down: v.Down, Since: v.Since, Detail: v.Detail})
	}
	return list
}
