package main

import (
	"fmt"
	"time"
)

// sockets is how many the load has for one worker: few enough for every one to
// have a batch under way.
const sockets = 16

// saturation is one round of one server under a closed loop.
type saturation struct {
	usage
	tally
	span time.Duration
	idle float64 // the share of the load's receiving calls that found nothing
}

// perSecond is answers per second of the server's CPU.
func (s saturation) perSecond() float64 { return float64(s.answered) / s.total.Seconds() }

// rate is answers per second of wall time.
func (s saturation) rate() float64 { return float64(s.answered) / s.span.Seconds() }

// each is a part of the time, per answer.
func (s saturation) each(d time.Duration) time.Duration { return d / time.Duration(max(1, s.answered)) }

// saturate asks as fast as the server answers.
func (b *bench) saturate(l *load, s *server) (r saturation, err error) {
	if err := l.closed(warmUp); err != nil {
		return r, err
	}
	l.tally()
	l.busy()
	before, err := s.process.usage()
	if err != nil {
		return r, err
	}
	began := time.Now()
	if err := l.closed(b.span); err != nil {
		return r, err
	}
	r.span = time.Since(began)
	after, err := s.process.usage()
	if err != nil {
		return r, err
	}
	r.usage, r.tally, r.idle = after.minus(before), l.tally(), 1-l.busy()
	if err := l.settle(); err != nil {
		return r, err
	}
	return r, r.right()
}

// throughput measures every profile.
func (b *bench) throughput() error {
	for _, p := range everything {
		if err := b.throughputOf(p); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}

// wanted is what nearside is to answer per CPU-second, of what another does.
var wanted = map[profile]map[string]float64{
	static:   {echo.name: 0.85, gdnsd.name: 1, knot.name: 1.25, nsd.name: 1.4},
	bySource: {echo.name: 0.85, gdnsd.name: 1},
	byECS:    {echo.name: 0.85, gdnsd.name: 1, knot.name: 1.6},
}

func (b *bench) throughputOf(p profile) error {
	return b.with(b.chosen(p), p, func(f fleet) error {
		b.announce("throughput, %s", p)
		rounds, err := b.saturateAll(f, p)
		if err != nil {
			return err
		}
		t := newTable(string(p)+", as fast as it answers", "server", "of the echo", "nearside to it", "answers per CPU-second", "user ns", "system ns", "answers/s", "core used", "load idle", "lost")
		for i, s := range f {
			own := rounds[i]
			t.add(s.name, ratio(own, rounds[0], saturation.perSecond), ratio(rounds[1], own, saturation.perSecond),
				int(medianOf(own, saturation.perSecond)),
				medianOf(own, func(r saturation) int { return int(r.each(r.inUser())) }),
				medianOf(own, func(r saturation) int { return int(r.each(r.total - r.inUser())) }),
				int(medianOf(own, saturation.rate)),
				medianOf(own, func(r saturation) float64 { return r.total.Seconds() / r.span.Seconds() }),
				medianOf(own, func(r saturation) float64 { return r.idle }),
				medianOf(own, func(r saturation) int { return r.lost }))
			if least, ok := wanted[p][s.name]; ok {
				b.atLeast(fmt.Sprintf("%s: answers per CPU-second, to %s", p, s.name), least, ratio(rounds[1], own, saturation.perSecond))
			}
		}
		t.print()
		return nil
	})
}

// interleave measures every server of the fleet in every round, so that what
// the machine does meanwhile meets all. The results are by server, then by round.
func interleave[R any](b *bench, f fleet, p profile, clients []client, measure func(i int, l *load) (R, error)) ([][]R, error) {
	results := make([][]R, len(f))
	loads := make([]*load, len(f))
	list := p.questions()
	for i, s := range f {
		l, err := newLoad(clients, s.at(), list)
		if err != nil {
			return nil, err
		}
		defer l.close()
		for _, c := range l.sockets {
			c.echo = s.isEcho()
		}
		loads[i] = l
	}
	for round := range b.rounds {
		b.dot()
		for i := range f {
			i = (i + round) % len(f) // nobody is always first
			if err := b.ctx.Err(); err != nil {
				return nil, err
			}
			r, err := measure(i, loads[i])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f[i].name, err)
			}
			results[i] = append(results[i], r)
		}
	}
	return results, nil
}

// saturateAll interleaves closed loops.
func (b *bench) saturateAll(f fleet, p profile) ([][]saturation, error) {
	return interleave(b, f, p, b.clients[:sockets], func(i int, l *load) (saturation, error) { return b.saturate(l, f[i]) })
}
