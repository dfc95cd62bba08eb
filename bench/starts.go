package main

import (
	"fmt"
	"slices"
	"time"
)

// begun is one start of a server.
type begun struct {
	ready  time.Duration
	cpu    time.Duration
	memory int64
}

// starts measures from the start of the process to the answer of what stands
// last in the zone, and the memory when it has settled. The server has both cores.
func (b *bench) starts() error {
	const p = millions
	list := slices.DeleteFunc(b.chosen(p), func(o peer) bool { return o.name == echo.name })
	etcd, stop, err := b.etcd()
	if err != nil {
		return err
	}
	defer stop()
	rounds := make([][]begun, len(list))
	b.announce("start, %s", p)
	for range b.rounds {
		b.dot()
		for i, o := range list {
			if err := b.ctx.Err(); err != nil {
				return err
			}
			s, err := b.configure(o, p, etcd)
			if err != nil {
				return err
			}
			r, err := b.begin(s)
			if err != nil {
				return err
			}
			rounds[i] = append(rounds[i], r)
		}
	}
	t := newTable("start with "+string(p)+", two cores", "server", "CPU-seconds to ready", "seconds to ready", "PSS MiB, settled")
	for i, o := range list {
		t.add(o.name,
			medianOf(rounds[i], func(r begun) float64 { return r.cpu.Seconds() }),
			medianOf(rounds[i], func(r begun) float64 { return r.ready.Seconds() }),
			fmt.Sprint(medianOf(rounds[i], func(r begun) int64 { return r.memory })>>20))
	}
	t.print()
	b.atMost(string(p)+": seconds to ready on two cores", 1.2, medianOf(rounds[0], func(r begun) float64 { return r.ready.Seconds() }))
	b.atMost(string(p)+": PSS, settled, in MB", 120, float64(medianOf(rounds[0], func(r begun) int64 { return r.memory }))/1e6)
	return nil
}

func (b *bench) begin(s *server) (r begun, err error) {
	if r.ready, err = b.run(s, b.serverCore+","+b.loadCore); err != nil {
		return r, err
	}
	defer s.process.stop()
	used, err := s.process.usage()
	if err != nil {
		return r, err
	}
	r.cpu = used.total
	r.memory, err = s.process.settledMemory()
	return r, err
}

// settledMemory waits until the memory has not moved by 1 % for three seconds.
func (p *process) settledMemory() (int64, error) {
	const limit = 20 * time.Second
	began, since := time.Now(), time.Now()
	reference, err := p.memory()
	for err == nil && time.Since(since) < 3*time.Second && time.Since(began) < limit {
		time.Sleep(250 * time.Millisecond)
		var now int64
		if now, err = p.memory(); max(now-reference, reference-now) > reference/100 {
			reference, since = now, time.Now()
		}
	}
	return reference, err
}
