package regions

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// twin says the same as Evaluate, Judge and Choose, from the words of docs/state.md,
// by loops over everything and no more than one thing at a time.
type twin struct {
	*Table // for what is configured alone
	in     Inputs
	clock  Clock
}

// stand is how a region, or a service in one, stands for the twin.
type stand struct {
	status string // as it is written
	record Record // the last change, this one included
	away   int
	hold   time.Time
	ramp   time.Time
	ttl    time.Duration // zero: whatever
}

func says(status, cause string) bool { return slices.Contains(strings.Split(status, "+"), cause) }

func saysAny(status string, causes ...string) bool {
	return slices.ContainsFunc(causes, func(cause string) bool { return says(status, cause) })
}

func isOut(status string) bool { return saysAny(status, "drained", "down", "silent") }

// by itself
func (w *twin) stand(k Key) (s stand) {
	subject := w.in.Subjects[w.Index(k)]
	drain := subject.Drain
	begun := drain.At.IsZero() || !w.clock.Now.Before(drain.At)
	ended := !drain.Until.IsZero() && !w.clock.Back.Before(drain.Until)
	var causes []string
	if begun && !ended {
		s.away = drain.Percent
		if drain.Percent == 100 {
			causes = append(causes, "drained")
		}
	}
	if !begun && !ended && drain.Percent > 0 {
		s.ttl = drain.At.Sub(w.clock.Now)
	}
	if w.down(subject) {
		causes = append(causes, "down")
	}
	if cause := w.lifeless(k); cause != "" {
		causes = append(causes, cause)
	}
	s.status = strings.Join(causes, "+")
	if s.status == "" {
		s.status = "up"
	}
	s.record = subject.Record
	if s.status != s.record.To.String() && !w.early(s.status, subject) {
		s.record = w.changed(s.status, subject)
	}
	w.comeBack(&s)
	return s
}

// down counts the live votes.
func (w *twin) down(s Subject) bool {
	live, down := 0, 0
	for _, v := range s.Votes {
		if v.Probe == "" || w.in.Probes[v.Probe] {
			live++
			if v.Down {
				down++
			}
		}
	}
	up, need := live-down, 2
	if len(s.Votes) == 1 {
		need = 1
	}
	switch {
	case len(s.Votes) == 0:
		return false
	case 2*down > live && down >= need:
		return true
	case 2*up > live && up >= need:
		return false
	}
	return says(s.Record.To.String(), "down")
}

// lifeless says what the heartbeats of a region do to it.
func (w *twin) lifeless(k Key) string {
	if k.Service != Anyone || !w.Region(k.Region).Heartbeat || w.in.Subjects[k.Region].Heartbeats > 0 {
		return ""
	}
	for _, recorded := range []string{"silent", "excused"} {
		if says(w.in.Subjects[k.Region].Record.To.String(), recorded) {
			return recorded
		}
	}
	required, together := 0, 0
	for id := range w.Len() {
		if !w.Region(ID(id)).Heartbeat {
			continue
		}
		required++
		other := w.in.Subjects[id]
		stopsNow := !saysAny(other.Record.To.String(), "silent", "excused")
		stoppedThen := !saysAny(other.Record.From.String(), "silent", "excused")
		if other.Heartbeats == 0 && (stopsNow || stoppedThen && w.clock.Now.Sub(other.Record.Since) < 30*time.Second) {
			together++
		}
	}
	if required >= 3 && 2*together > required {
		return "excused"
	}
	return "silent"
}

// early reports whether another server has recorded what time will do in a moment by
// our clock.
func (w *twin) early(status string, s Subject) bool {
	rest := func(status string) string {
		return strings.Join(slices.DeleteFunc(strings.Split(status, "+"), func(c string) bool { return c == "drained" || c == "up" }), "+")
	}
	if from, to := s.Record.From.String(), s.Record.To.String(); s.Drain.Percent != 100 || rest(status) != rest(to) {
		return false
	} else if says(to, "drained") {
		return !says(from, "drained") && w.clock.Now.Before(s.Drain.At) && !s.Record.Since.Before(s.Drain.At)
	} else {
		return says(from, "expired") && !s.Drain.Until.IsZero() && w.clock.Back.Before(s.Drain.Until) && !s.Record.Since.Before(s.Drain.Until)
	}
}

// changed is what is recorded of a change.
func (w *twin) changed(status string, s Subject) Record {
	was := s.Record.To.String()
	to, _ := ParseStatus(status)
	r := Record{From: s.Record.To, To: to, Since: w.clock.Now}
	lately := func(t time.Time) bool { return !w.clock.Now.Before(t) && w.clock.Now.Before(t.Add(30*time.Second)) }
	full := s.Drain.Percent == 100
	switch {
	case !isOut(status) && !isOut(was) && w.keptAway(s.Record):
		r.From, r.Since = s.Record.From, s.Record.Since
	case full && says(was, "drained") && !says(status, "drained") && !s.Drain.Until.IsZero() && !w.clock.Back.Before(s.Drain.Until):
		r.From = r.From&^Drained | Expired
		if lately(s.Drain.Until) {
			r.Since = s.Drain.Until
		}
	case full && !says(was, "drained") && says(status, "drained") && lately(s.Drain.At):
		r.Since = s.Drain.At
	}
	for _, cause := range []Status{Down, Silent} {
		lately := w.clock.Back.Sub(s.Record.Since) < w.Policy().Hold
		if says(s.Record.From.String(), cause.String()) && lately && !saysAny(was, "down", "silent") && !saysAny(status, "down", "silent") {
			r.From |= cause
		}
	}
	return r
}

// keptAway reports whether a return was less than hold and ramp ago.
func (w *twin) keptAway(r Record) bool {
	return saysAny(r.From.String(), "drained", "down", "silent", "expired") && w.clock.Back.Sub(r.Since) < w.Policy().Hold+w.Policy().Ramp
}

// comeBack is hold and ramp.
func (w *twin) comeBack(s *stand) {
	from, to := s.record.From.String(), s.record.To.String()
	if !saysAny(from, "drained", "down", "silent", "expired") || isOut(to) || s.record.Since.Sub(w.clock.Now) > time.Minute {
		return
	}
	start := s.record.Since
	if saysAny(from, "down", "silent", "expired") {
		start = start.Add(w.Policy().Hold)
		if w.clock.Back.Before(start) {
			s.hold = start
			return
		}
	}
	for percent := range 100 {
		if w.clock.Back.Before(start.Add(w.Policy().Ramp * time.Duration(percent+1) / 100)) {
			s.away, s.ramp = max(s.away, 100-percent), start.Add(w.Policy().Ramp)
			return
		}
	}
}

// view is what clients of a service meet.
func (w *twin) view(k Key) stand {
	if w.in.ForcedDrain.Has(k.Region) {
		return stand{status: "drained"}
	}
	if w.in.ForcedUp.Has(k.Region) {
		return stand{status: "up"}
	}
	s := w.stand(Key{Anyone, k.Region})
	if k.Service == Anyone {
		return s
	}
	own := w.stand(k)
	s.status += "+" + own.status
	s.away = max(s.away, own.away)
	if own.hold.After(s.hold) {
		s.hold = own.hold
	}
	if s.ttl == 0 || own.ttl > 0 && own.ttl < s.ttl {
		s.ttl = own.ttl
	}
	return s
}

// class is the rung of a region for a client.
func (w *twin) class(k Key, client netip.Addr) string {
	switch s := w.view(k); {
	case says(s.status, "drained"):
		return "never"
	case saysAny(s.status, "down", "silent"):
		return "down"
	case !s.hold.IsZero():
		return "hold"
	case int(bucket(network(client), seedOf(w.Name(k.Region)))) < s.away:
		return "away"
	}
	return "up"
}

// choose walks down the ladder.
func (w *twin) choose(prefer []ID, candidates Set, service ServiceID, client netip.Addr) (ID, bool) {
	s := w.Service(service)
	of := func(id ID) bool { return len(s.Regions) == 0 || slices.Contains(s.Regions, id) }
	if s.Failover {
		prefer = s.Regions
		if len(prefer) == 0 {
			prefer = w.Listed()
		}
		if last := s.OnExhausted; last.Kind == OneRegion && !of(last.Region) {
			prefer = append(slices.Clone(prefer), last.Region)
		}
	}
	first := func(class string, also func(ID) bool) (ID, bool) {
		for _, id := range prefer {
			if candidates.Has(id) && also(id) && w.class(Key{service, id}, client) == class {
				return id, true
			}
		}
		return 0, false
	}
	usual := func(id ID) bool { return of(id) && !w.Region(id).Standby }
	spare := func(id ID) bool { return of(id) && w.Region(id).Standby }
	named := func(id ID) bool { return id == s.OnExhausted.Region }
	type rung struct {
		class string
		also  func(ID) bool
	}
	rungs := []rung{{"up", usual}, {"away", usual}, {"hold", usual}}
	switch s.OnExhausted.Kind {
	case AnyRegion:
		rungs = append(rungs, rung{"up", spare}, rung{"away", spare}, rung{"hold", spare}, rung{"down", of})
	case OneRegion:
		rungs = append(rungs, rung{"up", named}, rung{"away", named}, rung{"hold", named}, rung{"down", named})
	}
	for _, r := range rungs {
		if id, ok := first(r.class, r.also); ok {
			return id, true
		}
	}
	return 0, false
}

// percentAt is what a drain takes out at an instant.
func percentAt(d Drain, t time.Time) int {
	if t.Before(d.At) || !d.Until.IsZero() && !t.Before(d.Until) {
		return 0
	}
	return d.Percent
}

// judge is the guard: "", or what a drain would do.
func (w *twin) judge(at Key, next Drain, names []Steered) string {
	now, before := w.clock.Now, w.in.Subjects[w.Index(at)].Drain
	more := false // than what it replaces, at any time from now on
	for _, t := range []time.Time{now, next.At, next.Until, before.At, before.Until} {
		if !t.Before(now) && percentAt(next, t) > percentAt(before, t) {
			more = true
		}
	}
	if next.Force || !more {
		return ""
	}
	share := func(k Key, next Drain) (most int) {
		for _, k := range []Key{k, {Anyone, k.Region}} {
			d := w.in.Subjects[w.Index(k)].Drain
			if k == at {
				d = next
			}
			if d.Until.IsZero() || now.Before(d.Until) { // also one that has yet to begin
				most = max(most, d.Percent)
			}
		}
		return most
	}
	out, all := 0, 0
	for id := range w.Len() {
		s := w.Service(at.Service)
		if r := w.Region(ID(id)); !r.Standby && (len(s.Regions) == 0 || slices.Contains(s.Regions, ID(id))) {
			all += 100 * r.Weight
			out += share(Key{at.Service, ID(id)}, next) * r.Weight
		}
	}
	if 100*out > w.Policy().MaxOut*all {
		return "capacity"
	}
	for service := range w.Services() {
		names = append(names, Steered{Service: ServiceID(service), Regions: w.All()})
	}
	for _, n := range names {
		left := func(next Drain) bool {
			s := w.Service(n.Service)
			for id := range n.Regions.All() {
				of := len(s.Regions) == 0 || slices.Contains(s.Regions, id)
				last := s.OnExhausted.Kind == OneRegion && s.OnExhausted.Region == id
				standby := w.Region(id).Standby && s.OnExhausted.Kind != AnyRegion
				if (of && !standby || last) && share(Key{n.Service, id}, next) < 100 {
					return true
				}
			}
			return false
		}
		if left(before) && !left(next) {
			return "left with no region"
		}
	}
	return ""
}
