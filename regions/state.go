package regions

import (
	"math"
	"time"
)

// Clock is what time it is. There are two, because time that passes while etcd
// cannot be reached must bring nothing back.
type Clock struct {
	Now  time.Time // takes regions out: Drain.At, and the TTLs before it
	Back time.Time // brings them back: Drain.Until, hold and ramp; never after Now
}

// State says who is out. It is immutable and belongs to the Table it was made with.
type State struct {
	// Cluster and Revision say which state of etcd this is: Revision that of the last
	// input. Both are 0 before etcd was ever read. Revisions of different clusters
	// cannot be compared.
	Cluster  uint64
	Revision int64

	Standings []Standing // by Table.Index: of each key by itself
	Due       []Due      // records that the servers must agree on

	// Next and Return are when the state changes by itself: Next by Clock.Now,
	// Return by Clock.Back. Zero: never. Return may be past already where Back lags.
	Next, Return time.Time

	Inputs Inputs // what the state was made from, to show it

	table   *Table
	ladders []ladder // by service
}

// Standing is what follows from the inputs for one key.
type Standing struct {
	Status  Status
	Since   time.Time // when Status last changed; zero: it never did
	Away    int       // percent of clients sent elsewhere by a drain or a ramp
	Hold    time.Time // not before it is the region used again; zero: it is not on hold
	Ramp    time.Time // when all clients are back; zero: they are
	Tied    bool      // down as recorded, though no majority of live votes says so
	Planned bool      // there is a drain that has yet to begin
	Overdue bool      // the drain has ended, but the region is sick
	TTL     uint32    // of answers at most, as a drain is near, in seconds; else NoCap

	live, votes int
}

// NoCap is the TTL that limits nothing.
const NoCap = math.MaxUint32

// Unmonitored reports whether nobody votes.
func (s Standing) Unmonitored() bool { return s.votes == 0 }

// Blind reports whether there are votes, but none that lives.
func (s Standing) Blind() bool { return s.votes > 0 && s.live == 0 }

// Mute reports whether some votes live, but so few that they cannot take it out: two
// must agree where there are more votes than one.
func (s Standing) Mute() bool { return s.live == 1 && s.votes > 1 }

// Due is a change of status that is not yet recorded.
type Due struct {
	Key
	Record
}

// Evaluate makes the state from the inputs. It depends on nothing else, so
// servers with equal inputs and clocks have equal states.
//
// A change of status counts from the moment it is first seen. Enter Due as the
// records of the next Inputs, until those that the servers agreed on come.
func (t *Table) Evaluate(in Inputs, clock Clock) *State {
	e := evaluation{Table: t, in: in, clock: clock, excused: t.excuses(in, clock)}
	s := &State{Inputs: in, table: t, Standings: make([]Standing, len(in.Subjects)), ladders: make([]ladder, len(t.services))}
	for i := range in.Subjects {
		s.Standings[i] = e.standing(t.Key(i))
	}
	for id := range t.services {
		s.ladders[id] = e.ladder(s, ServiceID(id))
	}
	s.Due, s.Next, s.Return = e.due, e.next, e.back
	return s
}

// evaluation is one run of Evaluate.
type evaluation struct {
	*Table
	in      Inputs
	clock   Clock
	excused Set // their silence counts for nothing

	due        []Due
	next, back time.Time
}

// wait makes the state be evaluated again when a clock, next or back, reaches an instant.
func wait(clock *time.Time, at time.Time) {
	if clock.IsZero() || at.Before(*clock) {
		*clock = at
	}
}

// standing judges one key by itself.
func (e *evaluation) standing(k Key) Standing {
	s := Standing{TTL: NoCap}
	subject := &e.in.Subjects[e.Index(k)]
	e.drain(&s, subject.Drain)
	e.vote(&s, subject)
	e.heartbeat(&s, subject, k)

	record := subject.Record
	differs := record.To ^ s.Status
	if differs != 0 && !(differs == Drained && e.ahead(record, subject.Drain)) {
		record = e.change(record, s.Status, subject.Drain)
		e.due = append(e.due, Due{k, record})
	}
	s.Since = record.Since
	s.Overdue = subject.Drain.Percent > 0 && subject.Drain.ended(e.clock.Back) && s.Status&sickness != 0
	if e.returning(record) {
		e.comeBack(&s, record)
	}
	return s
}

// returning reports whether a region came back so lately that it is kept from clients.
func (e *evaluation) returning(r Record) bool {
	return r.From.Out() && !r.To.Out() && e.clock.Back.Before(r.Since.Add(e.policy.Hold+e.policy.Ramp))
}

// ahead reports whether a record tells that a drain has begun, or ended by itself,
// which is to come by our own clock: that of the server that wrote the record is
// ahead. We follow ours, and do not contradict what will be right in a moment.
func (e *evaluation) ahead(r Record, d Drain) bool {
	switch {
	case d.Percent != 100:
		return false
	case r.To&Drained != 0:
		return r.From&Drained == 0 && !d.begun(e.clock.Now) && !r.Since.Before(d.At)
	}
	return r.From&Expired != 0 && !d.Until.IsZero() && !d.ended(e.clock.Back) && !r.Since.Before(d.Until)
}

// punctual is how late a drain's At and Until may be seen and still count as the
// time at which it happened. What is older happened while nobody could look.
const punctual = 30 * time.Second

// change returns the record of a change that is seen now, and comes after another.
func (e *evaluation) change(last Record, to Status, d Drain) Record {
	from := last.To
	if !to.Out() && e.returning(last) {
		return Record{From: last.From, To: to, Since: last.Since} // that it came back is still what counts
	}
	r := Record{From: from, To: to, Since: e.clock.Now}
	if to&sickness == 0 && e.convalescent(last) {
		r.From |= last.From & sickness // so that it is on hold when a drain ends now
	}
	exactly := func(at time.Time) {
		if late := r.Since.Sub(at); late >= 0 && late < punctual {
			r.Since = at
		}
	}
	switch full := d.Percent == 100; {
	case full && from&Drained != 0 && to&Drained == 0 && d.ended(e.clock.Back):
		r.From = r.From&^Drained | Expired
		exactly(d.Until)
	case full && from&Drained == 0 && to&Drained != 0:
		exactly(d.At)
	}
	return r
}

// convalescent reports whether a region recovered less than the hold ago, drained or not.
func (e *evaluation) convalescent(r Record) bool {
	return r.From&sickness != 0 && r.To&sickness == 0 && e.clock.Back.Before(r.Since.Add(e.policy.Hold))
}

// drain applies a drain.
func (e *evaluation) drain(s *Standing, d Drain) {
	switch {
	case d.Percent == 0 || d.ended(e.clock.Back):
		return
	case !d.begun(e.clock.Now):
		s.Planned = true
		e.runDown(s, d.At)
		return
	}
	s.Away = d.Percent
	if d.Percent == 100 {
		s.Status |= Drained
	}
	if !d.Until.IsZero() {
		wait(&e.back, d.Until)
	}
}

// runDown caps the TTL so that caches run out at the instant a drain begins.
func (e *evaluation) runDown(s *Standing, at time.Time) {
	left, longest := at.Sub(e.clock.Now), time.Duration(e.longest)*time.Second // left is > 0, and at most 292 years
	if left > longest {
		wait(&e.next, at.Add(-longest))
		return
	}
	seconds := (left + time.Second - 1) / time.Second
	s.TTL = uint32(seconds)
	wait(&e.next, at.Add(-(seconds-1)*time.Second))
}

// vote counts the live votes. The key goes down when more than half of them say
// so: that is at least two, or one where only one reporter has a key. It comes
// back by the same majority, or when there is no vote any more.
func (e *evaluation) vote(s *Standing, subject *Subject) {
	down := 0
	for _, v := range subject.Votes {
		if v.Probe != "" && !e.in.Probes[v.Probe] {
			continue
		}
		s.live++
		if v.Down {
			down++
		}
	}
	s.votes = len(subject.Votes)
	if s.votes == 0 {
		return
	}
	quorum := max(s.live/2+1, min(2, s.votes))
	switch {
	case down >= quorum:
		s.Status |= Down
	case s.live-down >= quorum:
	case subject.Record.To&Down != 0:
		s.Status |= Down
		s.Tied = true
	}
}

// heartbeat notices that nothing lives in a region that must show life.
func (e *evaluation) heartbeat(s *Standing, subject *Subject, k Key) {
	switch {
	case k.Service != Anyone || !e.list[k.Region].Heartbeat || subject.Heartbeats > 0:
	case e.excused.Has(k.Region):
		s.Status |= Excused
	default:
		s.Status |= Silent
	}
}

// storm is how long after each other heartbeats stop that stop together.
const storm = 30 * time.Second

// excuses returns the regions whose silence counts for nothing. Heartbeats that
// stop within 30 s of each other, in more than half of three or more regions, tell
// of etcd or the network, not of the regions. A silence that is recorded stays what
// it was.
func (t *Table) excuses(in Inputs, clock Clock) Set {
	var fresh, recent, excused Set
	required := 0
	for id, r := range t.list {
		if !r.Heartbeat {
			continue
		}
		required++
		subject, this := &in.Subjects[id], SetOf(ID(id))
		record := subject.Record
		switch {
		case subject.Heartbeats > 0:
			continue
		case record.To&(Silent|Excused) == 0:
			fresh |= this
		case record.From&(Silent|Excused) == 0 && clock.Now.Sub(record.Since) < storm:
			recent |= this // else it was drained, or voted down, since it stopped
		}
		if record.To&Excused != 0 {
			excused |= this
		}
	}
	if required >= 3 && 2*(fresh|recent).Len() > required {
		excused |= fresh
	}
	return excused
}

// skew is how far a record may be ahead of our clock. One that is farther was
// written by a wrong clock, and tells nothing of when.
const skew = time.Minute

// comeBack keeps a region that has returned from clients for a while: after
// sickness or a drain that ended by itself on hold, and then by and by.
func (e *evaluation) comeBack(s *Standing, record Record) {
	back := record.Since
	if back.Sub(e.clock.Now) > skew {
		wait(&e.next, back.Add(-skew))
		return
	}
	if record.From&(sickness|Expired) != 0 {
		back = back.Add(e.policy.Hold)
		if e.clock.Back.Before(back) {
			s.Hold = back
			wait(&e.back, back)
			return
		}
	}
	end := back.Add(e.policy.Ramp)
	if !e.clock.Back.Before(end) {
		return
	}
	step := e.policy.Ramp / 100 // a percent of the clients
	steps := int(e.clock.Back.Sub(back) / max(step, 1))
	s.Ramp = end
	s.Away = max(s.Away, 100-min(max(steps, 0), 100))
	wait(&e.back, back.Add(time.Duration(steps+1)*max(step, 1)))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Usual returns the regions that serve all or some clients of a service.
func (s *State) Usual(service ServiceID) Set {
	l := &s.ladders[service]
	return l.usual.open | l.usual.partial
}

// DrainedNames returns the regions that no answer has, in the configured order, then
// SERVICE/REGION for those that a service alone has not.
func (s *State) DrainedNames() []string {
	everywhere := s.table.All() &^ s.ladders[Anyone].alive
	names := s.table.Names(everywhere)
	for id := 1; id < len(s.ladders); id++ {
		for r := range (s.table.All() &^ everywhere &^ s.ladders[id].alive).All() {
			names = append(names, s.table.services[id].Name+"/"+s.table.Name(r))
		}
	}
	return names
}

// Digest sums up who answers whom. It is the same on servers with one configuration
// and equal inputs; the TTLs before a drain, which differ within a second, do not
// count.
func (s *State) Digest() uint64 {
	digest := uint64(0)
	add := func(words ...Set) {
		for _, w := range words {
			digest = mix(digest+1) ^ uint64(w)
		}
	}
	for i := range s.ladders {
		l := &s.ladders[i]
		for _, r := range [...]rungs{l.usual, l.spare} {
			add(r.open, r.partial, r.hold)
			for id := range r.partial.All() {
				add(Set(l.more.away[id]))
			}
		}
		add(l.last, l.alive)
	}
	return mix(digest)
}

// Drained returns the regions that are out by a drain or the break-glass file.
func (s *State) Drained() Set { return s.with(Drained) }

// Down returns the regions that are out by votes or silence.
func (s *State) Down() Set { return s.with(sickness) }

func (s *State) with(causes Status) (set Set) {
	for id := range s.table.All().All() {
		if s.View(Key{Anyone, id}).Status&causes != 0 {
			set |= SetOf(id)
		}
	}
	return set
}

// Tied returns the regions that are down as recorded alone.
func (s *State) Tied() (set Set) {
	for id := range s.table.All().All() {
		if s.Standings[id].Tied {
			set |= SetOf(id)
		}
	}
	return set
}
