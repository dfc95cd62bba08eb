// Package console shows the server to people and machines: metrics, health and
// readiness over HTTP on the admin address, and status, reload and accept over
// a unix socket for whoever may open it.
//
// It knows nothing of its own: a Server tells it what is, and does what is asked.
package console

import (
	"time"

	"nearside/healthsync"
	"nearside/probes"
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
	Geography *Geography         `json:"geography"`        // nil without regions
	Probes    *probes.State      `json:"probes,omitempty"` // of this process
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
