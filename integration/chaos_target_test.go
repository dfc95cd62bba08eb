package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// target is a nearside that is tried.
type target struct {
	*server
	name  string
	node  *node
	trial *trial
	load  *load
	web   *http.Client
	links []*relay // to the members, if there are any in between
	clock clock

	mu      sync.Mutex
	outages []span // when it could not answer; the last may have no end yet
	life    int    // it starts and accepts: what was asked before says nothing
	floor   position
	heard   position      // what it has read, from which it will answer in a moment
	back    time.Duration // until when it lets time bring regions back, at least
	known   []known       // positions by time, the last few
	full    time.Duration // since when its disk is not full any more; -1 while it is
	newer   int           // the newest cluster it may have taken
	vitals  vitals
	behind  []time.Duration // by round: how old the state behind an answer was at most
	glasses []glass

	confirmations []confirmation // of this round
}

// known says that a position was applied at a time.
type known struct {
	at time.Duration
	position
}

// vitals are what the metrics of a server say of the process.
type vitals struct {
	revision           int64
	asked, told        time.Duration
	age                time.Duration // of the state
	memory, goroutines int
	panics             int
	frozen             bool
}

const forever = time.Duration(1<<63 - 1)

// applied returns what the server has applied at least, and until when it lets
// time bring regions back.
func (g *target) applied() (position, time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.floor, g.back
}

// newest returns the newest cluster that the server may have taken.
func (g *target) newest() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.newer
}

// goes says that from now on the server cannot answer, comes that it can again.
func (g *target) goes() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.life++
	g.outages = append(g.outages, span{g.trial.clock(), forever})
}

func (g *target) comes() {
	// What came meanwhile fills the receive buffer, and the first queries find no room.
	const grace = 300 * time.Millisecond
	g.mu.Lock()
	defer g.mu.Unlock()
	g.life++
	g.outages[len(g.outages)-1].to = g.trial.clock() + grace
}

// wasOut reports whether the server could not answer at some time in between.
func (g *target) wasOut(from, to time.Duration) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := len(g.outages) - 1; i >= 0; i-- {
		if o := g.outages[i]; o.from <= to && from <= o.to {
			return true
		}
	}
	return false
}

// idle returns since when, just before a time, the server could not do anything;
// that time, if it could.
func (g *target) idle(at time.Duration) time.Duration {
	const recovery = time.Second
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := len(g.outages) - 1; i >= 0; i-- {
		if o := g.outages[i]; o.from <= at && at <= o.to+recovery {
			return o.from
		}
	}
	return at
}

// crash kills the server.
func (g *target) crash() {
	g.goes()
	if err := g.failed(); err != nil {
		g.trial.breach("%s: %v by itself", g.name, err)
	}
	g.kill()
	g.read()
	g.remember()
}

// again starts the server after a crash.
func (g *target) again() {
	g.launch(g.trial.t)
	g.comes()
}

// read looks for bugs in what the process printed.
func (g *target) read() {
	text := g.output.String()
	g.hidden = true
	for _, sign := range []string{"panic", "DATA RACE", "fatal error", "SIGSEGV"} {
		if at := strings.Index(text, sign); at >= 0 {
			g.trial.breach("%s printed: %s", g.name, text[at:min(len(text), at+4000)])
		}
	}
	file, err := os.OpenFile(filepath.Join(g.trial.papers, g.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		g.trial.t.Error(err)
		return
	}
	defer file.Close()
	fmt.Fprintf(file, "%s--- ended at %v\n", text, g.trial.clock())
}

// remember compares the state file that a crash left with what the server had
// served, and goes on from it.
func (g *target) remember() {
	const written = 2 * time.Second // after it was served
	g.mu.Lock()
	defer g.mu.Unlock()
	left, err := readPosition(g.path("data/state.json"), g.trial.clusterNumber)
	if err != nil {
		g.trial.breach("%s: the state file after a crash: %v", g.name, err)
		return
	}
	now := g.trial.clock()
	for _, k := range g.known {
		if now-k.at > written && g.full >= 0 && k.at > g.full && left.before(k.position) && !g.trial.history.same(left, k.position) {
			g.trial.breach("%s: killed at %v, it has kept the state of %v alone, though it had served %v since %v",
				g.name, now, left, k.position, k.at)
			break
		}
	}
	g.known, g.floor, g.heard, g.newer, g.back = nil, left, left, left.cluster, 0
}

// accept takes the state of another cluster.
func (g *target) accept(cluster int) {
	g.mu.Lock()
	g.life++
	g.newer = cluster
	g.mu.Unlock()
	succeed(g.trial.t, g.nearside("state", "accept"))
	g.mu.Lock()
	defer g.mu.Unlock()
	g.life++
	g.known, g.floor, g.heard, g.back = nil, position{cluster: cluster}, position{cluster: cluster}, 0
}

// readPosition reads where a state file stands.
func readPosition(path string, number func(cluster string) int) (position, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return position{}, err
	}
	_, payload, _ := bytes.Cut(content, []byte("\n"))
	var saved struct {
		Cluster  string
		Revision int64
	}
	if err := json.Unmarshal(payload, &saved); err != nil {
		return position{}, err
	}
	return position{number(saved.Cluster), saved.Revision}, nil
}

// poll reads the metrics of the server every now and then until ctx ends.
func (g *target) poll(ctx context.Context) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		g.mu.Lock()
		life := g.life
		g.mu.Unlock()
		asked := g.trial.clock()
		v, err := g.examine()
		g.mu.Lock()
		if err == nil && g.life == life {
			g.learn(v)
		}
		g.mu.Unlock()
		if err != nil && !g.wasOut(asked, g.trial.clock()) {
			g.trial.note("%s: no metrics: %v", g.name, err)
		}
	}
}

// learn takes what the metrics say. The caller holds the mutex.
func (g *target) learn(v vitals) {
	g.vitals = v
	g.confirmations = append(g.confirmations, confirmation{v.asked, v.told - v.age})
	if g.floor.cluster != g.newer {
		return // of which cluster is this?
	}
	at := position{g.floor.cluster, v.revision}
	if at.before(g.heard) {
		g.trial.breach("%s: the state went back from %v to %v", g.name, g.heard, at)
	}
	g.floor, g.heard, g.back = g.heard, at, v.asked-v.age+frozenAfter
	g.known = append(g.known, known{g.trial.clock(), at})
	if len(g.known) > 100 {
		g.known = g.known[1:]
	}
}

// frozenAfter is the age of a state from which on time brings nothing back.
const frozenAfter = 30 * time.Second

// examine reads the metrics of the server.
func (g *target) examine() (v vitals, err error) {
	v.asked = g.trial.clock()
	answer, err := g.web.Get("http://" + g.admin.String() + "/metrics")
	if err != nil {
		return v, err
	}
	defer answer.Body.Close()
	page, err := io.ReadAll(answer.Body)
	if err != nil {
		return v, err
	}
	v.told = g.trial.clock()
	found := 0
	for line := range strings.Lines(string(page)) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		number, err := strconv.ParseFloat(text, 64)
		if err != nil {
			continue
		}
		found++
		switch name {
		case "nearside_state_revision":
			v.revision = int64(number)
		case "nearside_state_age_seconds":
			v.age = time.Duration(number * float64(time.Second))
		case "nearside_state_frozen":
			v.frozen = number > 0
		case "nearside_panics_total":
			v.panics = int(number)
		case "process_resident_memory_bytes":
			v.memory = int(number)
		case "go_goroutines":
			v.goroutines = int(number)
		default:
			found--
		}
	}
	if found != 6 {
		return v, fmt.Errorf("%d of 6 metrics", found)
	}
	return v, nil
}

// mountDisk gives the server a small disk for its data: a whole journal has room.
func (g *target) mountDisk() error {
	data := g.path("data")
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", data, "tmpfs", 0, "size=128m"); err != nil {
		return fmt.Errorf("mounting a small disk, which needs root: %w", err)
	}
	g.trial.t.Cleanup(func() { _ = syscall.Unmount(data, syscall.MNT_DETACH) })
	return nil
}

// fillDisk leaves no room on the disk, freeDisk makes it again.
func (g *target) fillDisk() {
	g.mu.Lock()
	g.full = -1
	g.mu.Unlock()
	file, err := os.Create(g.path("data/filler"))
	if err != nil {
		g.trial.t.Fatal(err)
	}
	defer file.Close()
	for _, size := range []int{1 << 20, 1 << 12, 1} {
		for err = nil; err == nil; {
			_, err = file.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			g.trial.t.Fatal(err)
		}
	}
}

func (g *target) freeDisk() {
	const rewrite = 7 * time.Second // until the state is written again
	if err := os.Remove(g.path("data/filler")); err != nil {
		g.trial.t.Fatal(err)
	}
	g.mu.Lock()
	g.full = g.trial.clock() + rewrite
	g.mu.Unlock()
}
