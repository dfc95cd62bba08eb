package main

import (
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"time"
)

// longPause is what no stop of the garbage collector may exceed, in ms.
const longPause = 0.5

// reloads has nearside read 1,000,000 records again and again under full load,
// then at a high rate, and looks at its pauses, its memory and its latency.
func (b *bench) reloads() error {
	const p = millions
	etcd, stop, err := b.etcd()
	if err != nil {
		return err
	}
	defer stop()
	s, err := b.configure(nearside, p, etcd)
	if err != nil {
		return err
	}
	// The collector tells of every cycle, with both times that it stops the world.
	if _, err := b.run(s, b.serverCore, "GODEBUG=gctrace=1"); err != nil {
		return err
	}
	defer s.process.stop()
	settled, err := s.process.settledMemory()
	if err != nil {
		return err
	}
	if err := s.process.forgetPeak(); err != nil {
		return err
	}
	l, err := newLoad(b.clients[:sockets], s.at(), p.questions())
	if err != nil {
		return err
	}
	defer l.close()
	b.announce("reload, %d queries a second without", highRate)
	var calm, latency histogram
	if err := l.open(highRate, reloadTime, calm.add); err != nil {
		return err
	}
	if err := l.settle(); err != nil {
		return err
	}
	l.tally()
	full, err := b.reloadUnder(l, s, "full", func() error { return l.closed(reloadTime) })
	if err != nil {
		return err
	}
	paced, err := b.reloadUnder(l, s, "paced", func() error { return l.open(highRate, reloadTime, latency.add) })
	if err != nil {
		return err
	}
	peak, err := s.process.peakMemory()
	if err != nil {
		return err
	}
	pauses := s.pauses()
	long, worst := 0, 0.0
	for _, ms := range pauses {
		worst = max(worst, ms)
		if ms > longPause {
			long++
		}
	}
	t := newTable("nearside, "+string(p)+", the zone reloaded under load", "", "figure")
	t.add("reloads", 2*b.rounds)
	t.add("answers at full load, right", full.answered)
	t.add("wrong", full.wrong+paced.wrong)
	t.add("lost at 20,000 a second", paced.lost)
	t.add("p50 us at 20,000 a second", latency.quantile(0.5))
	t.add("p99 us", latency.quantile(0.99))
	t.add("p99.9 us", latency.quantile(0.999))
	t.add("p99 us without a reload", calm.quantile(0.99))
	t.add("stops of the world", len(pauses))
	t.add(fmt.Sprintf("of them over %.1f ms", longPause), long)
	t.add("longest, ms", worst)
	t.add("PSS MiB before, settled", int(settled>>20))
	t.add("RSS MiB, peak from then on", int(peak>>20))
	t.print()
	b.atMost("reload: stops of the world over 0.5 ms", 0, float64(long))
	b.atMost("reload: wrong answers, and queries lost at 20,000 a second", 0, float64(full.wrong+paced.wrong+paced.lost))
	b.atMost("reload: p99 over that without one, in ms", 1, float64(latency.quantile(0.99)-calm.quantile(0.99))/1e6)
	b.atMost("reload: peak of the memory, to before", 2, float64(peak)/float64(settled))
	return nil
}

// reloadTime is how long the load goes on after a change of the zone: longer
// than it takes to notice and to read it.
const reloadTime = 4 * time.Second

// reloadUnder changes the zone and asks meanwhile, once a round.
func (b *bench) reloadUnder(l *load, s *server, name string, ask func() error) (t tally, err error) {
	b.announce("reload, %s", name)
	for n := range b.rounds {
		b.dot()
		if err := b.ctx.Err(); err != nil {
			return t, err
		}
		q, err := s.appendRecord(fmt.Sprintf("%s%d", name, n))
		if err != nil {
			return t, err
		}
		if err := ask(); err != nil {
			return t, err
		}
		if err := l.settle(); err != nil {
			return t, err
		}
		t.add(l.tally())
		if err := b.await(s, q); err != nil { // the change, which must be in force
			return t, err
		}
	}
	return t, nil
}

// appendRecord changes the zone a little, and returns a question for what is new.
func (s *server) appendRecord(name string) (q question, err error) {
	f, err := os.OpenFile(s.zoneFile(s.Zone()+".zone"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return q, err
	}
	defer f.Close()
	address := address4(1 << 20)
	_, err = fmt.Fprintf(f, "%s IN A %s\n", name, address)
	return newQuestion(name+"."+s.Zone()+".", typeA, netip.Prefix{}, address.AsSlice()), err
}

// clocks finds the three phases in a line of gctrace, of which the first and
// the third stop the world.
var clocks = regexp.MustCompile(`(?m)^gc \d+ @.*: ([0-9.]+)\+[0-9.]+\+([0-9.]+) ms clock`)

// pauses reads from the log how long the world was stopped each time, in ms.
func (s *server) pauses() (list []float64) {
	text, _ := os.ReadFile(s.process.log)
	for _, m := range clocks.FindAllStringSubmatch(string(text), -1) {
		for _, figure := range m[1:] {
			ms, _ := strconv.ParseFloat(figure, 64)
			list = append(list, ms)
		}
	}
	return list
}
