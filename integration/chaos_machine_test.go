package integration

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"time"
)

// setting is that of a clock: by how much it is wrong since a time.
type setting struct{ at, wrong time.Duration }

// clock is the time of day of a server, which can be set: see testdata/clock.
type clock struct {
	file     *os.File // that the server reads
	settings []setting
}

// recheck is how long a server may take until it notices that its clock was set.
const recheck = 6 * time.Second

func (g *target) newClock() error {
	file, err := os.Create(g.path("clock"))
	if err != nil {
		return err
	}
	g.trial.t.Cleanup(func() { file.Close() })
	g.clock.file = file
	g.environment = []string{"CLOCK_ERROR=" + file.Name()}
	return g.setClock(0)
}

// setClock makes the clock wrong by whole seconds.
func (g *target) setClock(wrong time.Duration) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.clock.settings = append(g.clock.settings, setting{g.trial.clock(), wrong})
	_, err := g.clock.file.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(wrong/time.Second)), 0)
	return err
}

// wrong returns by how much the clock was wrong between two times, at the least and
// at the most.
func (g *target) wrong(from, to time.Duration) (least, most time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	least, most = forever, -forever
	for _, s := range slices.Backward(g.clock.settings) {
		if s.at > to {
			continue
		}
		if least, most = min(least, s.wrong), max(most, s.wrong); s.at < from {
			break
		}
	}
	return least, most
}

// confirmation is what etcd had confirmed at a time: the state until then, at the latest.
type confirmation struct{ at, until time.Duration }

// confirmed returns until when, at the latest, etcd had confirmed the state that the
// server had at a time.
func (g *target) confirmed(at time.Duration) time.Duration {
	g.mu.Lock()
	i, _ := slices.BinarySearchFunc(g.confirmations, at, func(c confirmation, at time.Duration) int { return int(c.at - at) })
	var next confirmation
	if i < len(g.confirmations) {
		next = g.confirmations[i]
	}
	g.mu.Unlock()
	if next.at == 0 || g.wasOut(at, next.at) {
		return at
	}
	return next.until
}

// glass is what a break-glass file asks for, from a time to a time; forever while it
// is there.
type glass struct {
	span
	forced
}

// taken is how long a server may take until it follows its break-glass file.
const taken = time.Second

// breakGlass writes the file, mendGlass removes it.
func (g *target) breakGlass(f forced) error {
	g.mu.Lock()
	g.glasses = append(g.glasses, glass{span{g.trial.clock(), forever}, f})
	g.mu.Unlock()
	text := ""
	for i, r := range chaosRegions {
		switch {
		case f.drain.has(i):
			text += fmt.Sprintf("drain: [%s]\n", r.name)
		case f.up.has(i):
			text += fmt.Sprintf("up: [%s]\n", r.name)
		}
	}
	next := g.path("data/next.yaml")
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(next, g.path("data/override.yaml"))
}

func (g *target) mendGlass() error {
	g.mu.Lock()
	g.glasses[len(g.glasses)-1].to = g.trial.clock()
	g.mu.Unlock()
	return os.Remove(g.path("data/override.yaml"))
}

// forced returns what may have been in force by a break-glass file between two times.
func (g *target) forced(from, to time.Duration) []forced {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, b := range slices.Backward(g.glasses) {
		switch {
		case b.from > to || b.to < from-taken:
		case b.from < from-taken && b.to > to:
			return []forced{b.forced}
		default:
			return []forced{{}, b.forced}
		}
	}
	return unforced
}

// brokeLately reports whether a file was written since shortly before a time, that
// brings up the region that is powered off.
func (g *target) brokeLately(at time.Duration) bool {
	const shortly = 5 * time.Second
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.ContainsFunc(g.glasses, func(b glass) bool {
		return b.up.names(chaosRegions) == powerRegion && b.from > at-shortly
	})
}

// settle forgets what was needed to judge the answers of a round.
func (g *target) settle() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.confirmations = nil
	g.glasses = nil
	g.clock.settings = g.clock.settings[len(g.clock.settings)-1:]
}

// composed returns since when neither a clock that was set nor a break-glass file
// that was removed has had any effect.
func (g *target) composed() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	since := time.Duration(0)
	if n := len(g.clock.settings); n > 1 {
		since = g.clock.settings[n-1].at + recheck
	}
	if n := len(g.glasses); n > 0 {
		since = max(since, g.glasses[n-1].to+taken)
	}
	return since
}
