package console

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"nearside/healthsync"
	"nearside/printable"
	"nearside/zones"
)

// manyZones is how many zones are listed one by one; of more, only those that
// are not well.
const manyZones = 50

// manyServers is the same for name servers.
const manyServers = 50

// WriteText writes the status for people, in at most about a hundred columns.
func (s Status) WriteText(w io.Writer, now time.Time) error {
	out := &lines{w: w}
	s.Server.write(out, now)
	if s.Server.Phase == Starting {
		return out.err
	}
	for _, alarm := range firstOf(s.Alarms, 20) {
		out.printf("ALARM      %s", alarm)
	}
	writeState(out, s.State)
	writeRegions(out, s.Regions)
	writeProbes(out, s.Probes)
	writeRejected(out, s.State)
	writeServers(out, s.State, s.Server.ID, now)
	writeZones(out, s.Zones)
	s.Geography.write(out, now)
	return out.err
}

// lines writes lines and keeps the first error.
type lines struct {
	w   io.Writer
	err error
}

// printf writes a line. What others wrote into etcd or a zone file stays within
// its place: it can neither forge a line nor tell the terminal what to do.
func (l *lines) printf(format string, arguments ...any) {
	for i, argument := range arguments {
		if text, ok := argument.(string); ok {
			arguments[i] = printable.Text(text)
		}
	}
	if l.err == nil {
		_, l.err = fmt.Fprintf(l.w, format+"\n", arguments...)
	}
}

// table aligns the columns of what rows writes, separated by tabs.
func (l *lines) table(rows func(*lines)) {
	var text strings.Builder // which cannot fail, and so neither can what writes to it
	aligned := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	rows(&lines{w: aligned})
	aligned.Flush()
	for line := range strings.Lines(text.String()) {
		l.printf("%s", strings.TrimRight(line, " \n"))
	}
}

func (s Server) write(out *lines, now time.Time) {
	out.printf("server     %s, %s, pid %d, %s for %s", s.ID, s.Version, s.PID, s.Phase, rough(now.Sub(s.Started)))
	out.printf("           config %s", s.Config)
	out.printf("           dns %s; admin %s", strings.Join(s.DNS, " "), s.Admin)
}

func writeState(out *lines, s *healthsync.Status) {
	if s == nil {
		out.printf("state      not needed: no regions are configured")
		return
	}
	age := rough(time.Duration(s.AgeSeconds * float64(time.Second)))
	if s.Source == healthsync.FromNone {
		out.printf("state      none: etcd was not read in the %s since the start; every region counts as up", age)
	} else {
		out.printf("state      revision %d, cluster %s, from %s, confirmed %s ago", s.Revision, s.Cluster, s.Source, age)
	}
	if s.Connected {
		out.printf("           etcd connected at %s", s.Endpoint)
	} else {
		out.printf("           etcd NOT connected: %s", cmp.Or(s.Error, "not reached yet"))
	}
	if s.Frozen != "" {
		out.printf("           FROZEN: %s", s.Frozen)
		out.printf("           look at the keys in etcd, then take them with `nearside state accept`")
	}
	if len(s.HeldDrains) > 0 {
		out.printf("           drains that were deleted together and are kept: %s", strings.Join(s.HeldDrains, " "))
	}
	writeOverride(out, s.Override)
}

func writeOverride(out *lines, o healthsync.Override) {
	if len(o.Drain) > 0 {
		out.printf("           break glass drains: %s", strings.Join(o.Drain, " "))
	}
	if len(o.Up) > 0 {
		out.printf("           break glass forces up: %s", strings.Join(o.Up, " "))
	}
	if o.Error != "" {
		out.printf("           break-glass file is not taken: %s", o.Error)
	}
}

func writeRegions(out *lines, list []Region) {
	if len(list) == 0 {
		return
	}
	out.printf("regions    %d", len(list))
	out.table(func(out *lines) {
		for _, r := range list {
			r.Standing.write(out, "  "+r.Name)
			for _, s := range r.Services {
				s.Standing.write(out, "    "+s.Service)
			}
		}
	})
}

// write writes a row, and one for each vote that says down.
func (s Standing) write(out *lines, name string) {
	state := s.State
	if s.Away > 0 && s.Away < 100 {
		state = fmt.Sprintf("%s -%d%%", state, s.Away)
	}
	out.printf("%s\t%s\t%s\t%s", name, state, s.watchers(), s.Why)
	for _, v := range s.Votes {
		if v.Down {
			out.printf("\t\t\t  %s: down%s", v.Reporter, v.more())
		}
	}
}

// watchers says who watches, and what they say.
func (s Standing) watchers() string {
	text := "unmonitored"
	if up, down, stale := tally(s.Votes); up+down+stale > 0 {
		text = fmt.Sprintf("%d up, %d down", up, down)
		if stale > 0 {
			text += fmt.Sprintf(", %d stale", stale)
		}
	}
	if s.Heartbeats != nil {
		text = fmt.Sprintf("%s, %d alive", text, *s.Heartbeats)
	}
	return text
}

// tally counts votes; those of probes that are gone are stale.
func tally(votes []Vote) (up, down, stale int) {
	for _, v := range votes {
		switch {
		case !v.Live:
			stale++
		case v.Down:
			down++
		default:
			up++
		}
	}
	return up, down, stale
}

func (v Vote) more() string {
	more := ""
	if !v.Live {
		more = " (stale)"
	}
	if v.Since != "" {
		more += " since " + v.Since
	}
	if v.Detail != "" {
		more += ": " + v.Detail
	}
	return more
}

func writeRejected(out *lines, s *healthsync.Status) {
	if s == nil || s.RejectedCount == 0 {
		return
	}
	out.printf("rejected   %d: refused, or not understood, so it changes nothing", s.RejectedCount)
	for _, r := range s.Rejected {
		out.printf("  %s = %q, revision %d; in force: %s", r.Key, r.Value, r.Revision, r.Effective)
		out.printf("      %s", r.Why)
	}
}

// writeServers lists the name servers that share etcd, as this one saw them when it
// looked: that may be before the newest drain.
func writeServers(out *lines, s *healthsync.Status, id string, now time.Time) {
	if s == nil || len(s.Servers) == 0 {
		return
	}
	var self healthsync.Server
	alive := 0
	for _, m := range s.Servers {
		if m.ID == id {
			self = m.Server
		}
		if m.Alive {
			alive++
		}
	}
	when := ""
	if !s.ServersAt.IsZero() { // a server of an earlier version does not say
		when = " " + rough(now.Sub(s.ServersAt)) + " ago"
	}
	out.printf("servers    %d, %d of them alive%s", len(s.Servers), alive, when)
	out.table(func(out *lines) {
		for _, m := range s.Servers {
			notes := notesOn(m, self)
			if len(s.Servers) <= manyServers || !m.Alive || notes != "" {
				out.printf("  %s\t%s\trevision %d\t%s", m.ID, lifeOf(m), m.Revision, notes)
			}
		}
	})
}

// lifeOf says whether a server reaches etcd.
func lifeOf(m healthsync.Member) string {
	switch {
	case m.Alive:
		return "alive"
	case !m.Stopped.IsZero():
		return "stopped"
	}
	return "cut off or dead"
}

// notesOn says what is strange about a server, compared with this one.
func notesOn(m healthsync.Member, self healthsync.Server) string {
	if m.Fault != "" {
		return "not understood: " + m.Fault
	}
	var differs, notes []string
	for _, d := range []struct{ what, theirs, ours string }{
		{"etcd cluster", m.Cluster, self.Cluster},
		{"configuration", m.Digests.Configuration, self.Digests.Configuration},
		{"zones", m.Digests.Zones, self.Digests.Zones},
		{"geo database", m.Digests.Database, self.Digests.Database},
	} {
		if m.Alive && d.theirs != d.ours {
			differs = append(differs, d.what)
		}
	}
	if len(differs) > 0 {
		notes = append(notes, "differs in "+strings.Join(differs, ", "))
	}
	if m.Frozen {
		notes = append(notes, "frozen")
	}
	if m.Override {
		notes = append(notes, "break glass")
	}
	if m.Frozen {
		notes = append(notes, "frozen")
	}
	return strings.Join(notes, "; ")
}

func writeZones(out *lines, list []Zone) {
	well := 0
	for _, z := range list {
		if z.State == zones.StateOK {
			well++
		}
	}
	out.printf("zones      %d, %d of them ok", len(list), well)
	out.table(func(out *lines) {
		for _, z := range list {
			if len(list) <= manyZones || z.State != zones.StateOK {
				out.printf("  %s\t%s\tserial %d\t%d records", z.Name, z.State, z.Serial, z.Records)
			}
		}
	})
	for _, z := range list {
		for _, fault := range z.Faults {
			out.printf("  %s", fault)
		}
	}
}

func (g *Geography) write(out *lines, now time.Time) {
	if g == nil {
		out.printf("geography  not needed: no regions are configured")
		return
	}
	out.printf("geography  %s, %s, of %s (%s old)", g.Name, g.Source(), g.Built.UTC().Format(time.DateOnly), rough(now.Sub(g.Built)))
}

// firstOf returns the first n of a list, and how many there are beyond.
func firstOf(list []string, n int) []string {
	if len(list) <= n {
		return list
	}
	return append(slices.Clone(list[:n]), fmt.Sprintf("and %d more", len(list)-n))
}

// rough writes a duration in its largest unit.
func rough(d time.Duration) string {
	switch {
	case d < time.Second:
		return "under 1 s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
