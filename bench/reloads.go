package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
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
	l, err := newLoad(b.clients[:sockets], s.at(), p.questions())
	if err != nil {
		return err
	}
	defer l.close()
	for n := range b.rounds {
		if err := b.reload(l, s, n); err != nil {
			return err
		}
	}
	full := l.tally()
	var latency histogram
	for n := range b.rounds {
		if err := s.appendRecord(b.rounds + n); err != nil {
			return err
		}
		if err := l.open(highRate, reloadTime, latency.add); err != nil {
			return err
		}
	}
	if err := l.settle(); err != nil {
		return err
	}
	paced := l.tally()
	peak, err := peakMemory(s.process.pid())
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
	t.add("stops of the world", len(pauses))
	t.add(fmt.Sprintf("of them over %.1f ms", longPause), long)
	t.add("longest, ms", worst)
	t.add("PSS MB, settled", int(settled/1e6))
	t.add("RSS MB, peak", int(peak/1e6))
	t.print()
	return nil
}

// reloadTime is how long the load goes on after a change of the zone: longer
// than it takes to notice and to read it.
const reloadTime = 4 * time.Second

// reload changes the zone under a full load.
func (b *bench) reload(l *load, s *server, n int) error {
	if err := b.ctx.Err(); err != nil {
		return err
	}
	if err := s.appendRecord(n); err != nil {
		return err
	}
	return l.closed(reloadTime)
}

// appendRecord changes the zone a little.
func (s *server) appendRecord(n int) error {
	f, err := os.OpenFile(s.zoneFile(s.Zone()+".zone"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintf(f, "more%d IN A 10.255.255.1\n", n)
	return err
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

// peakMemory is the most that a process has had resident, in octets.
func peakMemory(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(text), "VmHWM:")
	kilobytes, err := strconv.ParseInt(strings.Fields(after + " ?")[0], 10, 64)
	return kilobytes << 10, err
}
