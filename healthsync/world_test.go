package healthsync

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"nearside/regions"
)

// world is an etcd of one prefix without etcd, and the servers that follow it: each
// hears of every revision in order, but when and in which company differs.
type world struct {
	t        testing.TB
	table    *regions.Table
	now      time.Time
	revision int64
	keys     map[string]write
	history  [][]write // by revision, from 1
	servers  []*listener
	written  int // records by servers

	steered func() []regions.Steered // for the guard
	lost    time.Time                // since when etcd answers nobody; zero: it does
}

// listener is a server: the pure part of a Sync.
type listener struct {
	*ledger
	name  string
	heard int64
	skew  time.Duration // of its clock
	state *regions.State
}

func newWorld(t testing.TB, table *regions.Table, servers int) *world {
	w := &world{t: t, table: table, now: time.Date(2026, 11, 23, 18, 0, 0, 0, time.UTC), keys: make(map[string]write)}
	w.put("regions/ap/heartbeat/a", "") // where a region of the table must show life
	for i := range servers {
		w.servers = append(w.servers, w.start(fmt.Sprintf("ns%d", i+1)))
	}
	return w
}

// start returns a server that has read etcd for the first time.
func (w *world) start(name string) *listener {
	s := &listener{ledger: newLedger(w.table, name, w.steered), name: name}
	w.list(s)
	return s
}

// put writes keys and values in one transaction; the value "-" deletes.
func (w *world) put(pairs ...string) int64 {
	w.revision++
	var writes []write
	for i := 0; i < len(pairs); i += 2 {
		key, value := pairs[i], pairs[i+1]
		old, there := w.keys[key]
		if value == "-" {
			if there {
				delete(w.keys, key)
				writes = append(writes, write{key: key, deleted: true, revision: w.revision})
			}
			continue
		}
		n := write{key: key, value: []byte(value), revision: w.revision, created: w.revision}
		if there {
			n.created = old.created
		}
		w.keys[key] = n
		writes = append(writes, n)
	}
	w.history = append(w.history, writes)
	return w.revision
}

// clear deletes every key with a prefix in one transaction.
func (w *world) clear(prefix string) {
	var pairs []string
	for key := range w.keys {
		if strings.HasPrefix(key, prefix) {
			pairs = append(pairs, key, "-")
		}
	}
	w.put(pairs...)
}

// hear brings a server n revisions further, as one batch.
func (w *world) hear(s *listener, n int) {
	for range n {
		if s.heard < w.revision {
			s.heard++
			s.transact(slices.Clone(w.history[s.heard-1]), w.now)
		}
	}
	w.evaluate(s)
}

// list makes a server read everything.
func (w *world) list(s *listener) {
	s.ledger = s.replace(slices.Collect(maps.Values(w.keys)), w.revision, s.heard, w.now)
	s.heard = w.revision
	w.evaluate(s)
}

// restart saves a server's ledger and loads it again.
func (w *world) restart(s *listener) {
	v := s.save()
	s.ledger = newLedger(w.table, s.name, w.steered)
	s.load(v, w.now)
	w.evaluate(s)
}

func (w *world) evaluate(s *listener) {
	clock := regions.Clock{Now: w.now.Add(s.skew)}
	clock.Back = clock.Now
	if last := w.lost.Add(frozenAfter); !w.lost.IsZero() && last.Before(clock.Back) {
		clock.Back = last
	}
	s.settle(clock.Now)
	s.state = w.table.Evaluate(s.share(), clock)
	s.change(s.state.Due)
}

// scribe makes a server do one of its duties and reports whether it had any. Whoever
// is slow finds that another was faster.
func (w *world) scribe(s *listener) bool {
	list := s.due(1000)
	slices.SortFunc(list, func(a, b duty) int { return strings.Compare(a.key, b.key) })
	for _, d := range list {
		if d.judges != "" && w.keys[d.judges].revision != d.revision || w.keys[d.key].revision != d.mod {
			continue
		}
		value := "-"
		if d.value != nil {
			value = string(d.value)
		}
		w.put(d.key, value)
		w.written++
		return true
	}
	return false
}

// quiet lets the servers agree, and fails if they go on writing.
func (w *world) quiet() {
	w.t.Helper()
	for round := 0; ; round++ {
		for _, s := range w.servers {
			w.hear(s, len(w.history))
		}
		if !slices.ContainsFunc(w.servers, w.scribe) {
			return
		}
		if round > 1000 {
			for _, writes := range w.history[w.revision-8:] {
				w.t.Logf("revision %d: %s = %q", writes[0].revision, writes[0].key, writes[0].value)
			}
			w.t.Fatal("the servers do not come to rest")
		}
	}
}

// agree checks that all servers have one state, and one that starts now has it, too.
func (w *world) agree() {
	w.t.Helper()
	fresh := w.start("fresh")
	for _, s := range append(w.servers[1:], fresh) {
		for i, standing := range s.state.Standings {
			if first := w.servers[0].state.Standings[i]; first != standing {
				w.t.Fatalf("%s is %+v for %s, %+v for %s", w.servers[0].subject(w.table.Key(i)), first, w.servers[0].name, standing, s.name)
			}
		}
		if s.state.Digest() != w.servers[0].state.Digest() {
			w.t.Fatalf("%s answers otherwise than %s", s.name, w.servers[0].name)
		}
		if a, b := w.servers[0].held(), s.held(); !slices.Equal(a, b) {
			w.t.Fatalf("%v is held by %s, %v by %s", a, w.servers[0].name, b, s.name)
		}
		if s != fresh {
			if list := s.due(1000); len(list) > 0 {
				w.t.Fatalf("%s has yet to write %s: %s", s.name, list[0].key, list[0].value)
			}
		}
	}
	if list := fresh.due(1000); len(list) > 0 {
		w.t.Fatalf("a server that starts would write %s: %q", list[0].key, list[0].value)
	}
}

// is checks the statuses of regions and services, such as "eu-west drained".
func (w *world) is(want ...string) {
	w.t.Helper()
	for _, s := range w.servers {
		var got []string
		for i := range s.state.Standings {
			if c := condition(s.state.Standings[i]); c != "up" {
				got = append(got, s.subject(w.table.Key(i))+" "+c)
			}
		}
		if !slices.Equal(got, want) {
			w.t.Fatalf("%s has %q, not %q", s.name, got, want)
		}
	}
}

// verdict checks what is recorded of a key.
func (w *world) verdict(key, want string) {
	w.t.Helper()
	n, there := w.keys["verdicts/"+key]
	if !there {
		if want != "" {
			w.t.Fatalf("no verdict on %s", key)
		}
		return
	}
	if want == "" || !strings.Contains(string(n.value), want) {
		w.t.Fatalf("the verdict on %s is %s, not %q", key, n.value, want)
	}
}
