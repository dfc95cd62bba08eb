package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"nearside/console"
	"nearside/dnsserver"
	"nearside/journal"
	"nearside/zones"
)

var errStarting = errors.New("the server is still starting; `nearside status` shows when it serves")

// Status says what the server does at this moment.
func (s *server) Status() console.Status {
	status := console.Status{
		Server: console.Server{
			ID: s.config.ServerID, Version: version(), PID: os.Getpid(), Started: s.started,
			Phase: s.phase.Load().(console.Phase), Config: s.config.File, Admin: s.admin.Addr().String(),
		},
	}
	for _, addr := range s.dns.Addrs() {
		status.Server.DNS = append(status.Server.DNS, addr.String())
	}
	status.Server.Degraded, status.Alarms = []string{}, []string{} // JSON lists, also while empty
	if status.Server.Phase == console.Starting {
		return status
	}
	status.Zones = console.Zones(s.zones.store.Status())
	status.Reloads = []console.Reload{s.zones.counted()}
	status.Alarms = append(append([]string{}, s.zones.alarms()...), s.secrets.alarms()...)
	if s.controlFault != nil {
		status.Alarms = append(status.Alarms, s.controlFault.Error())
	}
	if s.sync != nil {
		s.addRegions(&status)
	}
	status.Server.Degraded = slices.Clone(status.Alarms)
	if s.probes != nil {
		state := s.probes.State()
		status.Probes = &state
		if why := console.NotLive(&state); why != "" {
			status.Server.Degraded = append(status.Server.Degraded, why)
		}
	}
	if status.State != nil && !status.State.Connected {
		status.Server.Degraded = append(status.Server.Degraded, "etcd is not connected")
	}
	return status
}

// addRegions adds what a plain authoritative server does not have.
func (s *server) addRegions(status *console.Status) {
	state := s.sync.Status()
	status.State = &state
	status.Regions = console.Regions(s.config.Table(), s.state.Load(), time.Now())
	geography, bad, reloads := s.geo.status()
	status.Geography = &geography
	status.Reloads = append(status.Reloads, reloads)
	status.Alarms = append(append(status.Alarms, state.Alarms...), s.credentials.Alarms(time.Now())...)
	status.Alarms = append(status.Alarms, s.journal.Alarms()...)
	if bad != "" {
		status.Alarms = append(status.Alarms, fmt.Sprintf("%s; instead %s of %s is used", bad, geography.Name, geography.Built.Format(time.DateOnly)))
	}
	if n, name := dnsserver.Exhausted(s.zones.current(), s.state.Load()); n > 0 {
		status.Alarms = append(status.Alarms, fmt.Sprintf("%s, one of %s, with no region left that may answer: the answer is no address; undrain one, or see to its health",
			count(n, "steered RRset"), name))
	}
}

// Counters returns what the name server counted since its start.
func (s *server) Counters() dnsserver.Counters { return s.dns.Counters() }

// Reload reads zones and geography again, or accepts zones that are held.
func (s *server) Reload(ctx context.Context, r console.ReloadRequest) (console.Reloaded, error) {
	if s.phase.Load() == console.Starting {
		return console.Reloaded{}, errStarting
	}
	if err := s.zones.reload(ctx, r.Accept, r.Zone); err != nil {
		return console.Reloaded{}, err
	}
	if r.Accept {
		s.log.Info().Str("zone", cmp.Or(r.Zone, "all")).Msg("holds of zones lifted on request")
	}
	signalChange(s.secrets.changed)
	s.credentials.Reload()
	if s.geo != nil && !r.Accept {
		if err := s.geo.reload(ctx); err != nil {
			return console.Reloaded{}, err
		}
	}
	done := s.reloaded()
	s.log.Info().Int("faults", len(done.Faults)).Msg("read again: " + done.Summary)
	return done, nil
}

// reloaded sums up how things stand after a reload.
func (s *server) reloaded() console.Reloaded {
	done := console.Reloaded{Faults: []string{}}
	by := make(map[string]int)
	list := s.zones.store.Status()
	for _, z := range list {
		by[z.State]++
		for _, f := range z.Faults {
			if !f.Warning {
				done.Faults = append(done.Faults, f.String())
			}
		}
	}
	if fault := s.zones.store.Folder(); fault != nil {
		done.Faults = append(done.Faults, fault.String())
	}
	parts := []string{count(len(list), "zone")}
	for _, state := range []string{zones.StateOK, zones.StateHeld, zones.StateLastGood, zones.StateFailed, zones.StateTwice} {
		if by[state] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", by[state], state))
		}
	}
	done.Summary = strings.Join(parts, ", ")
	if s.geo != nil {
		geography, bad, _ := s.geo.status()
		done.Summary += "; geography " + geography.Name
		if bad != "" {
			done.Faults = append(done.Faults, bad)
		}
	}
	return done
}

// AcceptState takes the state of etcd as it is.
func (s *server) AcceptState(context.Context) error {
	if s.phase.Load() == console.Starting {
		return errStarting
	}
	if s.sync == nil {
		return fmt.Errorf("%s has no regions: there is no state to accept", s.config.File)
	}
	err := s.sync.Accept()
	if err == nil {
		s.log.Info().Msg("the state of etcd was accepted on request")
		s.journal.Append(journal.Entry{Kind: journal.Server, Event: "accept", Why: "`state accept` on this machine"})
	}
	return err
}

// count writes a number of things.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
