package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

const (
	// normal is the load after an overload, of what the server can do.
	normal = 0.5
	// watched is how long it is looked at, in steps, unless enough in a row are good.
	watched = 5 * time.Second
	step    = 20 * time.Millisecond
	enough  = 10
)

// burst is one round of one server that got more than it can do.
type burst struct {
	offered, goodput float64       // of what it can do
	recovery         time.Duration // until every query was answered again
}

// slowest is the longest that a server took to recover.
func slowest(rounds []burst) time.Duration {
	return slices.MaxFunc(rounds, func(a, b burst) int { return cmp.Compare(a.recovery, b.recovery) }).recovery
}

// overload sends twice of what a server can do.
func (b *bench) overload() error {
	const p = byECS
	return b.with(b.chosen(p), p, func(f fleet) error {
		b.announce("overload, %s: what each can do", p)
		full, err := b.saturateAll(f, p)
		if err != nil {
			return err
		}
		b.announce("overload, %s: twice of it", p)
		rounds, err := interleave(b, f, p, b.clients[:sockets], func(i int, l *load) (burst, error) {
			return b.burst(l, medianOf(full[i], saturation.rate))
		})
		if err != nil {
			return err
		}
		t := newTable("twice what it can, "+string(p), "server", "offered", "answered", "answered all after ms", "worst ms")
		for i, s := range f {
			t.add(s.name,
				medianOf(rounds[i], func(r burst) float64 { return r.offered }),
				medianOf(rounds[i], func(r burst) float64 { return r.goodput }),
				medianOf(rounds[i], func(r burst) int64 { return r.recovery.Milliseconds() }), slowest(rounds[i]).Milliseconds())
		}
		t.print()
		own := rounds[1]
		b.atLeast("overload: queries, to what it can answer", 1.9, medianOf(own, func(r burst) float64 { return r.offered }))
		b.atLeast("overload: answers, to what it can answer", 0.8, medianOf(own, func(r burst) float64 { return r.goodput }))
		b.atMost("overload: ms until all is answered again, worst", 1000, float64(slowest(own).Milliseconds()))
		fmt.Println("\nOffered and answered are of what it can do, in the same run.")
		return nil
	})
}

func (b *bench) burst(l *load, full float64) (r burst, err error) {
	if err := l.sendTrains(); err != nil {
		return r, err
	}
	l.tally()
	began := time.Now()
	if err := l.open(2*full, b.span, nil); err != nil {
		return r, err
	}
	span, t := time.Since(began).Seconds(), l.tally()
	r.offered = float64(t.sent) / span / full
	r.goodput = float64(t.answered) / span / full
	for _, s := range l.sockets {
		s.giveUp() // answers to these come late, and are none
	}
	began = time.Now()
	for good := 0; good < enough && time.Since(began) < watched; {
		l.tally()
		if err := l.open(normal*full, step, nil); err != nil {
			return r, err
		}
		// What was sent in the last moments of a step may still be under way.
		if t := l.tally(); float64(t.answered) >= 0.9*float64(t.sent) {
			good++
		} else {
			good, r.recovery = 0, time.Since(began)
		}
	}
	return r, l.settle()
}

// ceiling shows what the load itself can do, against a server that does nothing.
func (b *bench) ceiling() error {
	return b.with([]peer{echo}, static, func(f fleet) error {
		b.announce("ceiling")
		rounds, err := b.saturateAll(f, static)
		if err != nil {
			return err
		}
		const noLimit = 1e8 // queries a second
		sent, err := interleave(b, f, static, b.clients[:sockets], func(_ int, l *load) (float64, error) {
			if err := l.sendTrains(); err != nil {
				return 0, err
			}
			began := time.Now()
			if err := l.open(noLimit, b.span, nil); err != nil {
				return 0, err
			}
			rate := float64(l.tally().sent) / time.Since(began).Seconds()
			return rate, l.settle()
		})
		if err != nil {
			return err
		}
		used := medianOf(rounds[0], func(r saturation) float64 { return r.total.Seconds() / r.span.Seconds() })
		t := newTable("the load itself, against the echo", "", "figure")
		t.add("answers/s, as fast as it answers", int(medianOf(rounds[0], saturation.rate)))
		t.add("core of the echo used", used)
		t.add("queries/s in trains, without waiting for answers", int(median(sent[0])))
		t.print()
		b.atLeast("the load keeps the echo busy: core used", 0.97, used)
		return nil
	})
}
