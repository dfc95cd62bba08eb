package regions

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// Whatever is configured, is written and passes, the rules are those of the twin.
func TestRules(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for range 3000 {
		code := make(tape, 60+r.IntN(600))
		for i := range code {
			code[i] = byte(r.Uint32())
		}
		if replay(t, code); t.Failed() {
			t.Fatalf("by %x", code)
		}
	}
}

func FuzzRules(f *testing.F) {
	r := rand.New(rand.NewPCG(13, 14))
	for range 20 {
		code := make([]byte, 300)
		for i := range code {
			code[i] = byte(r.Uint32())
		}
		f.Add(code)
	}
	f.Fuzz(func(t *testing.T, code []byte) { replay(t, code[:min(len(code), 600)]) })
}

// tape is what a world is made of: each octet is a decision.
type tape []byte

func (c *tape) upTo(n int) int {
	if len(*c) == 0 {
		return 0
	}
	b := (*c)[0]
	*c = (*c)[1:]
	return int(b) % n
}

func (c *tape) seldom(n int) bool { return c.upTo(n) == n-1 }

func pick[T any](c *tape, list ...T) T { return list[c.upTo(len(list))] }

// life is a world as time goes by.
type life struct {
	t      *testing.T
	c      tape
	table  *Table
	in     Inputs
	now    time.Time
	frozen time.Time // zero: etcd answers
	names  []Steered
}

// replay lives a life and compares each moment with the twin.
func replay(t *testing.T, code tape) {
	l := life{t: t, c: code, now: now}
	l.configure()
	l.in = l.table.NewInputs()
	l.in.Probes = make(map[string]bool)
	for len(l.c) > 0 && !t.Failed() {
		l.step()
		s := l.table.Evaluate(l.in, l.clock(l.now))
		l.compare(s)
		l.stays(s)
		for _, due := range s.Due {
			l.in.Subjects[l.table.Index(due.Key)].Record = due.Record
		}
		again := l.table.Evaluate(l.in, l.clock(l.now))
		if len(again.Due) > 0 || again.Digest() != s.Digest() {
			t.Errorf("what is recorded changes something: %+v", again.Due)
		}
	}
}

func (l *life) clock(now time.Time) Clock {
	c := Clock{Now: now, Back: now}
	if last := l.frozen.Add(30 * time.Second); !l.frozen.IsZero() && last.Before(now) {
		c.Back = last
	}
	return c
}

func (l *life) configure() {
	c := &l.c
	list := make([]Region, 1+c.upTo(6))
	for i := range list {
		list[i] = Region{Name: fmt.Sprintf("r%d", i), Weight: pick(c, 100, 50, 1, 7), Heartbeat: c.seldom(2), Standby: c.seldom(4)}
	}
	table := made(l.t, list)
	someOf := func() (some []ID) {
		for id := range list {
			if c.seldom(2) {
				some = append(some, ID(id))
			}
		}
		if c.seldom(2) {
			slices.Reverse(some)
		}
		return some
	}
	services := make([]Service, c.upTo(3))
	for i := range services {
		services[i] = Service{
			Name: fmt.Sprintf("s%d", i), Regions: someOf(), Failover: c.seldom(3), TTL: pick(c, uint32(0), 5, 60),
			OnExhausted: Exhausted{Kind: ExhaustedKind(c.upTo(3)), Region: ID(c.upTo(len(list)))},
		}
	}
	policy := Policy{MaxOut: pick(c, 100, 50, 33, 0, 10), Hold: pick(c, time.Minute, 0, 7*time.Second), Ramp: pick(c, 100*time.Second, 0, time.Second), TTL: 30}
	var err error
	if l.table, err = table.With(services, policy); err != nil {
		l.t.Fatal(err)
	}
	for range c.upTo(4) {
		l.names = append(l.names, Steered{Name: "name", Service: ServiceID(c.upTo(len(services) + 1)), Regions: SetOf(someOf()...)})
	}
}

// step is something that happens.
func (l *life) step() {
	c := &l.c
	at := c.upTo(len(l.in.Subjects))
	if c.seldom(2) {
		at = c.upTo(l.table.Len()) // a region itself
	}
	subject := &l.in.Subjects[at]
	switch c.upTo(12) {
	case 0, 1, 2:
		next := l.drain()
		if l.judge(l.table.Key(at), next) == "" {
			subject.Drain = next
		}
	case 3, 4:
		if subject.Votes == nil || c.seldom(5) {
			subject.Votes = make(map[string]Vote)
		}
		subject.Votes[pick(c, "a", "b", "c", "d")] = Vote{Down: c.seldom(2), Probe: pick(c, "", "h1", "h2")}
	case 5:
		host := pick(c, "h1", "h2")
		l.in.Probes[host] = !l.in.Probes[host]
	case 6:
		subject.Heartbeats = c.upTo(3)
	case 7, 8:
		l.pass()
	case 9:
		if l.frozen.IsZero() {
			l.frozen = l.now
		} else {
			l.frozen = time.Time{}
		}
	case 10:
		l.other(subject)
	case 11:
		l.in.ForcedDrain, l.in.ForcedUp = 0, 0
		if some := SetOf(ID(c.upTo(l.table.Len()))); c.seldom(3) {
			l.in.ForcedDrain = some
		} else if c.seldom(3) {
			l.in.ForcedUp = some
		}
	}
}

// instant is a time nearby.
func (l *life) instant() time.Time {
	return l.now.Add(time.Duration(l.c.upTo(200)-100) * time.Second / time.Duration(pick(&l.c, 1, 2, 3)))
}

func (l *life) drain() Drain {
	d := Drain{Percent: pick(&l.c, 100, 100, 0, 50, 30, 31, 99), Force: l.c.seldom(4)}
	if l.c.seldom(3) {
		d.At = l.instant()
	}
	if until := l.instant(); l.c.seldom(3) && until.After(d.At) {
		d.Until = until
	}
	return d
}

// judge asks the guard.
func (l *life) judge(at Key, next Drain) string {
	got := l.table.Judge(l.in, at, next, l.names, l.now)
	w := twin{Table: l.table, in: l.in, clock: Clock{Now: l.now, Back: l.now}}
	if want := w.judge(at, next, l.names); (got == "") != (want == "") || !strings.Contains(got, want) {
		l.t.Errorf("at %v %+v after %+v: the guard says %q, not %q", at, next, l.in.Subjects[l.table.Index(at)].Drain, got, want)
	}
	return got
}

// pass lets time pass, often to the moment at which the state changes. While etcd is
// away it brings nothing back.
func (l *life) pass() {
	s := l.table.Evaluate(l.in, l.clock(l.now))
	next := l.now.Add(time.Duration(l.c.upTo(90)) * time.Second)
	if at := pick(&l.c, s.Next, s.Return, time.Time{}); at.After(l.now) {
		next = at
	}
	frozen := !l.frozen.IsZero() && !l.now.Before(l.frozen.Add(30*time.Second))
	if l.now = next; !frozen {
		return
	}
	later := l.table.Evaluate(l.in, l.clock(l.now))
	for i := range s.Standings {
		if was, is := s.Standings[i], later.Standings[i]; missing(is) < missing(was) {
			l.t.Errorf("time that nobody confirms made %+v of %+v", is, was)
		}
	}
}

// missing is how far from clients a region is kept.
func missing(s Standing) int {
	switch {
	case s.Status.Out():
		return 102
	case !s.Hold.IsZero():
		return 101
	}
	return s.Away
}

// other is what another server, with another clock, or another version recorded.
func (l *life) other(subject *Subject) {
	if l.c.seldom(2) {
		// silent and excused at once is no status
		subject.Record = Record{From: Status(l.c.upTo(32)), To: pick(&l.c, 0, Drained, Down, Drained|Down, Silent, Down|Silent, Excused, Drained|Excused), Since: l.instant()}
		return
	}
	skewed := l.now.Add(time.Duration(l.c.upTo(40)-20) * time.Second)
	for _, due := range l.table.Evaluate(l.in, l.clock(skewed)).Due {
		l.in.Subjects[l.table.Index(due.Key)].Record = due.Record
	}
}

// stays checks that nothing happens before the state says so.
func (l *life) stays(s *State) {
	for _, due := range s.Due {
		s.Inputs.Subjects[l.table.Index(due.Key)].Record = due.Record
	}
	next := l.now.Add(time.Hour)
	if !s.Next.IsZero() && s.Next.Before(next) {
		next = s.Next
	}
	if l.frozen.IsZero() && !s.Return.IsZero() && s.Return.Before(next) {
		next = s.Return
	}
	if !next.After(l.now) {
		l.t.Fatalf("the state changes at %v, which is past", next)
	}
	for _, at := range []time.Time{l.now.Add(next.Sub(l.now) / 2), next.Add(-1)} {
		clock := l.clock(at)
		if !s.Return.IsZero() && !clock.Back.Before(s.Return) {
			continue
		}
		then := l.table.Evaluate(s.Inputs, clock)
		if then.Digest() != s.Digest() {
			l.t.Errorf("the state changes before %v", next)
		}
		for i := range s.Standings {
			if a, b := s.Standings[i].TTL, then.Standings[i].TTL; a != b {
				l.t.Errorf("the TTL of %v becomes %d, from %d, before %v", l.table.Key(i), b, a, next)
			}
		}
	}
}

// compare asks the twin of everything.
func (l *life) compare(s *State) {
	w := &twin{Table: l.table, in: l.in, clock: l.clock(l.now)}
	due := make(map[Key]Record)
	for _, d := range s.Due {
		due[d.Key] = d.Record
	}
	for i, got := range s.Standings {
		key := l.table.Key(i)
		want := w.stand(key)
		record, changed := due[key]
		if !changed {
			record = l.in.Subjects[i].Record
		}
		if got.Status.String() != want.status || got.Away != want.away || got.Hold != want.hold || got.Ramp != want.ramp || got.TTL != l.seconds(want) || record != want.record {
			l.t.Errorf("%v is %+v by %+v, not %+v: %+v", key, got, record, want, l.in.Subjects[i])
		}
		view, met := s.View(key), w.view(key)
		if isOut(met.status) {
			continue
		}
		if view.Away != met.away || view.Hold != met.hold || view.TTL != l.seconds(met) {
			l.t.Errorf("clients meet %v as %+v, not as %+v", key, view, met)
		}
	}
	r := rand.New(rand.NewPCG(uint64(len(l.c)), 1))
	for client := range clients(4) {
		for service := range l.table.Services() {
			prefer := l.table.Listed()
			r.Shuffle(len(prefer), func(i, j int) { prefer[i], prefer[j] = prefer[j], prefer[i] })
			l.answer(s, w, prefer, Set(r.Uint64())&l.table.All(), ServiceID(service), client)
		}
	}
}

// seconds is how long answers may be kept.
func (l *life) seconds(s stand) uint32 {
	if seconds := (s.ttl + time.Second - 1) / time.Second; seconds > 0 && uint32(seconds) <= l.table.LongestTTL() {
		return uint32(seconds)
	}
	return NoCap
}

func (l *life) answer(s *State, w *twin, prefer []ID, candidates Set, service ServiceID, client netip.Addr) {
	got, ok := s.Choose(prefer, candidates, service, client)
	want, is := w.choose(prefer, candidates, service, client)
	if ok != is || got != want {
		l.t.Errorf("%v of %v, %b in the order %v: %d, %t, not %d, %t", client, service, candidates, prefer, got, ok, want, is)
	}
	if ok && s.View(Key{service, got}).Status&Drained != 0 {
		l.t.Errorf("%d answers, and is drained", got)
	}
}

// BenchmarkEvaluate is what each change costs, and each second before a planned drain.
func BenchmarkEvaluate(b *testing.B) {
	for _, size := range []struct{ regions, services int }{{6, 10}, {12, 100}, {Max, MaxServices}} {
		list := make([]Region, size.regions)
		for i := range list {
			list[i] = Region{Name: fmt.Sprintf("r%d", i), Weight: 100}
		}
		services := make([]Service, size.services)
		for i := range services {
			services[i].Name = fmt.Sprintf("s%d", i)
		}
		table, err := made(b, list).With(services, Policy{MaxOut: 50, TTL: 30})
		if err != nil {
			b.Fatal(err)
		}
		for _, busy := range []struct {
			name  string
			every int // so many subjects, one has a vote
		}{{"idle", 1 << 30}, {"voted", 1}} {
			in := table.NewInputs()
			in.Subjects[0].Drain = Drain{Percent: 100, At: now.Add(10 * time.Second)}
			for i := 0; i < len(in.Subjects); i += busy.every {
				in.Subjects[i].Votes = votes("uuu")
			}
			b.Run(fmt.Sprintf("%dx%d/%s", size.regions, size.services, busy.name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					table.Evaluate(in, Clock{Now: now, Back: now})
				}
			})
		}
	}
}
