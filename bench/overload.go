package main

import (
	"fmt"
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

// overload sends twice of what a server can do.
func (b *bench) overload() error {
	const p = byECS
	return b.with(b.chosen(p), p, func(f fleet) error {
		full, err := b.saturateAll(f, p)
		if err != nil {
			return err
		}
		rounds, err := interleave(b, f, p, b.clients[:sockets], func(i int, l *load) (burst, error) {
			return b.burst(l, medianOf(full[i], saturation.rate))
		})
		if err != nil {
			return err
		}
		t := newTable("twice what it can, "+string(p), "server", "offered", "answered", "answered all after ms")
		for i, s := range f {
			t.add(s.name,
				medianOf(rounds[i], func(r burst) float64 { return r.offered }),
				medianOf(rounds[i], func(r burst) float64 { return r.goodput }),
				medianOf(rounds[i], func(r burst) int64 { return r.recovery.Milliseconds() }))
		}
		t.print()
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
		t := newTable("the load itself, against the echo", "", "figure")
		t.add("answers/s, as fast as it answers", int(medianOf(rounds[0], saturation.rate)))
		t.add("core of the echo used", medianOf(rounds[0], func(r saturation) float64 { return r.total.Seconds() / r.span.Seconds() }))
		t.add("queries/s in trains, without waiting for answers", int(median(sent[0])))
		t.print()
		return nil
	})
}
