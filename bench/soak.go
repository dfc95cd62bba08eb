package main

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// soak asks nearside at full speed for the span, then for as long in pieces of some
// milliseconds, each at another pace, with a pause after it. An answer that has not
// come when its piece is over, and a second later, is lost: a worker that was not
// woken shows, as nobody else wakes it.
func (b *bench) soak() error {
	const p = byECS
	return b.with([]peer{echo, nearside}, p, func(f fleet) error {
		s := f[1]
		l, err := newLoad(b.clients[:sockets], s.at(), p.questions())
		if err != nil {
			return err
		}
		defer l.close()
		b.announce("soak, full speed")
		if err := l.closed(b.span); err != nil {
			return err
		}
		if err := l.settle(); err != nil {
			return err
		}
		full := l.tally()
		b.announce("soak, every pace")
		pieces := 0
		for end := time.Now().Add(b.span); time.Now().Before(end) && b.ctx.Err() == nil; pieces++ {
			if err := l.piece(); err != nil {
				return err
			}
		}
		mixed := l.tally()
		t := newTable("nearside, "+string(p)+", for long", "", "answered", "wrong", "lost")
		t.add(fmt.Sprintf("full speed, %v", b.span), full.answered, full.wrong, full.lost)
		t.add(fmt.Sprintf("%d pieces, %v", pieces, b.span), mixed.answered, mixed.wrong, mixed.lost)
		t.print()
		b.atMost("soak: wrong or lost", 0, float64(full.wrong+full.lost+mixed.wrong+mixed.lost))
		return nil
	})
}

// piece asks for some milliseconds, waits for all answers, and then for up to
// three of the kernel's ticks.
func (l *load) piece() (err error) {
	const longest = 12 * time.Millisecond
	span := rand.N(longest)
	if rand.IntN(3) == 0 {
		err = l.closed(span)
	} else {
		err = l.open(100*float64(uint64(1)<<rand.IntN(11)), span, nil) // 100 to 102,400 a second
	}
	if err == nil {
		err = l.settle()
	}
	<-time.After(rand.N(longest))
	return err
}
