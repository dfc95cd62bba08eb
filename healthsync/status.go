package healthsync

import (
	"fmt"
	"strings"
	"time"

	"nearside/regions"
)

// Sources of the state in force, as Status names them.
const (
	FromEtcd = "etcd" // read from etcd since the start
	FromFile = "file" // the state file of an earlier run
	FromNone = "none" // neither was there: every region counts as up
)

// Status says where the state comes from, how fresh it is and what is wrong.
type Status struct {
	Source     string  `json:"source"`    // FromEtcd, FromFile or FromNone
	Connected  bool    `json:"connected"` // an etcd member is being watched now
	Endpoint   string  `json:"endpoint,omitempty"`
	Error      string  `json:"error,omitempty"`   // why it is not connected
	Cluster    string  `json:"cluster,omitempty"` // cluster id, hexadecimal
	Revision   int64   `json:"revision"`
	AgeSeconds float64 `json:"age_seconds"` // since etcd last confirmed the state; without any state, since the start

	Frozen string `json:"frozen,omitempty"` // why etcd is not believed until `state accept`; "" if it is

	Rejected      []Rejected `json:"rejected"`       // sorted by key, the first MaxRejected
	RejectedCount int        `json:"rejected_count"` // all of them
	HeldDrains    []string   `json:"held_drains"`    // REGION or SERVICE/REGION, whose deleted drains stay in force
	Override      Override   `json:"override"`
	Servers       []Member   `json:"servers"`             // all of them, as of ServersAt
	ServersAt     time.Time  `json:"servers_at,omitzero"` // when this server looked at them, as it does every 15 seconds
	Alarms        []string   `json:"alarms"`              // what an operator must look at, each with what to do
}

// maxShown is the number of octets of a value or key that people are shown.
const maxShown = 200

// MaxRejected is the number of rejected keys that Status and the state file list.
const MaxRejected = 1000

// Rejected is a key whose newest value is not understood, or refused by the guard,
// and changes nothing.
type Rejected struct {
	Key       string `json:"key"`
	Value     string `json:"value"` // printable, at most 200 octets
	Why       string `json:"why"`
	Revision  int64  `json:"revision"`  // of that write
	Effective string `json:"effective"` // what stays in force: drained, not drained, a share, up, down or none
	Refused   bool   `json:"refused"`   // it is understood, but refused
}

// Override is the break-glass file as it is in force.
type Override struct {
	Drain []string `json:"drain"`
	Up    []string `json:"up"`
	Error string   `json:"error,omitempty"` // why the file was not taken; the last good one stays in force
}

// Status returns the condition of the synchronisation.
func (s *Sync) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := Status{
		Source: s.source, Connected: s.link.connected, Endpoint: s.link.endpoint, Error: s.link.fault,
		Revision: s.revision, AgeSeconds: s.age().Seconds(),
		HeldDrains: s.ledger.held(),
		Override: Override{
			Drain: s.config.Table.Names(named(s.config.Table, s.override.Drain)),
			Up:    s.config.Table.Names(named(s.config.Table, s.override.Up)),
			Error: text(s.overrideFault),
		},
		Servers: append([]Member{}, s.fleet...), ServersAt: s.fleetAt,
		Alarms: s.alarms(),
	}
	if s.cluster != 0 {
		status.Cluster = fmt.Sprintf("%x", s.cluster)
	}
	if s.frozen != nil {
		status.Frozen = s.frozen.Why
	}
	status.Rejected, status.RejectedCount = s.ledger.rejections()
	return status
}

// age is the time since etcd last confirmed the state.
func (s *Sync) age() time.Duration {
	if s.confirmed.IsZero() {
		return s.now().Sub(s.opened)
	}
	return s.now().Sub(s.confirmed)
}

// alarms says what is wrong, and what to do about it.
func (s *Sync) alarms() []string {
	alarms := []string{}
	raise := func(format string, args ...any) { alarms = append(alarms, fmt.Sprintf(format, args...)) }
	if s.frozen != nil {
		raise("the state is frozen: %s; look at etcd, then run `nearside state accept` on every name server", s.frozen.Why)
	}
	if held := s.ledger.held(); len(held) > 0 {
		raise("all drains were deleted at once, and so are kept: %s; write them again, or end them with `nearside undrain`, or all with `nearside state accept`", strings.Join(held, ", "))
	}
	switch age := s.age(); {
	case age <= s.pace.stale:
	case s.source == FromNone:
		raise("etcd was never reached and there is no state of an earlier run: every region counts as up; see to etcd")
	default:
		raise("etcd has not confirmed the state for %v: the last state stays in force; see to etcd", age.Round(time.Second))
	}
	if s.link.hint != "" {
		raise("etcd cannot be followed, the last state stays in force: %s", s.link.hint)
	}
	s.stateAlarms(raise)
	if drain, up := s.override.Drain, s.override.Up; len(drain)+len(up) > 0 {
		raise("the break-glass file wins over etcd on this server (drain %v, up %v): remove it when it is over", drain, up)
	}
	if s.overrideFault != nil {
		raise("the break-glass file was not taken, the last good one stays in force: %v", s.overrideFault)
	}
	for _, fault := range []error{s.stateFault, s.damage, s.etcdFault, s.scribeFault, s.announceFault} {
		if fault != nil {
			raise("%v", fault)
		}
	}
	return append(alarms, s.differences()...)
}

// stateAlarms says what is wrong with the regions themselves.
func (s *Sync) stateAlarms(raise func(format string, args ...any)) {
	table, state := s.config.Table, s.state
	var tied, blind, mute, excused, overdue []string
	for i, standing := range state.Standings {
		add := func(list *[]string, applies bool) {
			if applies {
				*list = append(*list, s.ledger.subject(table.Key(i)))
			}
		}
		add(&tied, standing.Tied)
		add(&blind, standing.Blind())
		add(&mute, standing.Mute() && !standing.Tied)
		add(&excused, standing.Status&regions.Excused != 0)
		add(&overdue, standing.Overdue)
	}
	about := func(list []string, format string) {
		if len(list) > 0 {
			raise(format, strings.Join(list, ", "))
		}
	}
	about(tied, "kept down as recorded, though no majority of live votes says so: %s; see to the probes")
	about(blind, "no vote lives, so nothing changes by votes: %s; see to the probes, or delete their votes")
	about(mute, "one vote lives of several, and two must agree, so nothing goes down by votes: %s; see to the probes, or delete the other votes")
	about(excused, "the heartbeats of %s stopped with those of more than half of the regions, so that counts for nothing: see to the agents and to etcd")
	about(overdue, "sick, and so still out though the drain has ended: %s; see to the regions")
	s.guardAlarms(raise)
}

// guardAlarms says where the guard would refuse now what it let pass, or where nobody
// is left. Whoever has the zones says which names that leaves without an answer.
func (s *Sync) guardAlarms(raise func(format string, args ...any)) {
	table, state := s.config.Table, s.state
	for _, excess := range table.Excess(state.Inputs, s.now()) {
		raise("%s: undrain what can be, or see whether regions or guard.max_out changed", excess)
	}
	for id := range table.Services() {
		service := regions.ServiceID(id)
		if state.Usual(service) == 0 && table.Len() > 0 {
			raise("%s is usable in no region: on_exhausted decides who answers; see to the regions", table.Of(service))
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
