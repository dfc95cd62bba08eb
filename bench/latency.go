package main

import (
	"fmt"
	"time"
)

const (
	lowRate  = 5_000
	highRate = 20_000
	// nearlyFull is the share of what a server can do that it must bear without loss.
	nearlyFull = 0.9
)

// paced is one round of one server under an open loop.
type paced struct {
	usage
	tally
	latency histogram
	offered float64 // queries a second, as sent
}

// pace asks at a rate.
func (b *bench) pace(l *load, s *server, rate float64) (*paced, error) {
	r := new(paced)
	if err := l.open(rate, warmUp, nil); err != nil {
		return r, err
	}
	l.tally()
	before, err := s.process.usage()
	if err != nil {
		return r, err
	}
	began := time.Now()
	if err := l.open(rate, b.span, r.latency.add); err != nil {
		return r, err
	}
	span := time.Since(began)
	after, err := s.process.usage()
	if err != nil {
		return r, err
	}
	if err := l.settle(); err != nil {
		return r, err
	}
	r.usage, r.tally = after.minus(before), l.tally()
	r.offered = float64(r.sent) / span.Seconds()
	return r, r.right()
}

// each is the server's CPU time per answer.
func (r *paced) each() time.Duration { return r.total / time.Duration(max(1, r.answered)) }

// cost is the same as a number.
func (r *paced) cost() float64 { return float64(r.each()) }

// lossOf is lost queries per million.
func lossOf(t tally) float64 { return 1e6 * float64(t.lost) / float64(max(1, t.sent)) }

func (b *bench) latency() error {
	for _, p := range []profile{static, byECS} {
		if err := b.with(b.chosen(p), p, func(f fleet) error { return b.latencyOf(f, p) }); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}

func (b *bench) latencyOf(f fleet, p profile) error {
	b.announce("latency, %s: what each can do", p)
	full, err := b.saturateAll(f, p)
	if err != nil {
		return err
	}
	for _, pace := range []struct {
		title string
		rate  func(i int) float64
		judge func(f fleet, what string, rounds [][]*paced)
	}{
		{"5,000 queries a second", func(int) float64 { return lowRate }, b.judgeRate},
		{"20,000 queries a second", func(int) float64 { return highRate }, b.judgeRate},
		{"90 % of what it can", func(i int) float64 { return nearlyFull * medianOf(full[i], saturation.rate) }, b.judgeLoss},
	} {
		b.announce("latency, %s: %s", p, pace.title)
		rounds, err := interleave(b, f, p, b.clients[:sockets], func(i int, l *load) (*paced, error) { return b.pace(l, f[i], pace.rate(i)) })
		if err != nil {
			return err
		}
		t := newTable(fmt.Sprintf("%s, %s", p, pace.title), "server", "CPU us a query", "of the echo", "nearside to it", "p50 us", "p99 us", "p99.9 us", "queries/s", "lost per million")
		for i, s := range f {
			own := rounds[i]
			quantile := func(q float64) time.Duration {
				return medianOf(own, func(r *paced) time.Duration { return r.latency.quantile(q) })
			}
			t.add(s.name, medianOf(own, (*paced).each), ratio(own, rounds[0], (*paced).cost), ratio(rounds[1], own, (*paced).cost), quantile(0.5), quantile(0.99), quantile(0.999),
				int(medianOf(own, func(r *paced) float64 { return r.offered })),
				medianOf(own, func(r *paced) float64 { return lossOf(r.tally) }))
		}
		t.print()
		pace.judge(f, fmt.Sprintf("%s, %s", p, pace.title), rounds)
	}
	return nil
}

// judgeRate says whether a rate that is nothing for a core costs no more than it must.
func (b *bench) judgeRate(f fleet, what string, rounds [][]*paced) {
	b.atMost(what+": CPU time per query, to the echo", 1.2, ratio(rounds[1], rounds[0], (*paced).cost))
	for i, s := range f {
		if s.name == gdnsd.name {
			late := make([]float64, b.rounds)
			for n := range late {
				late[n] = float64(rounds[1][n].latency.quantile(0.5)-rounds[i][n].latency.quantile(0.5)) / 1e3
			}
			b.atMost(what+": p50 over gdnsd's, in us", 3, median(late))
		}
	}
}

func (b *bench) judgeLoss(_ fleet, what string, rounds [][]*paced) {
	b.atMost(what+": lost per million", 0, medianOf(rounds[1], func(r *paced) float64 { return lossOf(r.tally) }))
}
