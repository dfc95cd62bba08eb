package healthsync

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"nearside/regions"
)

// guarded returns four regions, of which half the capacity may be out, and two
// services.
func guarded(t testing.TB) *regions.Table {
	t.Helper()
	table, err := regions.New([]regions.Region{
		{Name: "eu", Weight: 100}, {Name: "us", Weight: 100}, {Name: "ap", Weight: 100, Heartbeat: true}, {Name: "sa", Weight: 100},
	})
	if err != nil {
		t.Fatal(err)
	}
	table, err = table.With([]regions.Service{
		{Name: "casino"}, {Name: "poker", Regions: []regions.ID{0, 1, 2}, Failover: true},
	}, regions.Policy{MaxOut: 50, Hold: time.Minute, Ramp: 100 * time.Second, TTL: 30})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// One verdict and one transition for a drain, then silence; its deletion leaves
// nothing but the transition.
func TestRecords(t *testing.T) {
	w := newWorld(t, guarded(t), 3)
	revision := w.put("regions/eu/drain", `{"reason":"uplink"}`)
	w.quiet()
	w.is("eu drained")
	w.agree()
	if w.written != 2 {
		t.Errorf("%d writes followed a drain", w.written)
	}
	w.verdict("regions/eu/drain", fmt.Sprintf(`{"revision":%d,"accepted":true,"effective":"{\"reason\":\"uplink\"}","server":"ns1"}`, revision))
	if got := string(w.keys["transitions/eu"].value); got != `{"from":"up","to":"drained","since":"2026-11-23T18:00:00Z"}` {
		t.Errorf("transition %s", got)
	}
	w.now = w.now.Add(time.Minute)
	w.put("regions/eu/drain", "-")
	w.quiet()
	w.is("eu returning")
	w.agree()
	w.verdict("regions/eu/drain", "")
	if w.written != 4 {
		t.Errorf("%d writes followed a drain and its end", w.written)
	}
	w.now = w.now.Add(100 * time.Second)
	w.quiet()
	w.is()
	if w.written != 4 {
		t.Errorf("%d writes at the end of the ramp", w.written)
	}
}

// What is not understood keeps the last good value in force and is told of, for
// every kind of key; when it is understood again, nothing is left.
func TestNotUnderstood(t *testing.T) {
	for _, c := range []struct{ key, good, rubbish, state string }{
		{"regions/eu/drain", "true", "maybe", "eu drained"},
		{"services/poker/eu/drain", "30%", "130%", "poker/eu 30% drained"},
		{"regions/us/health/p", "down", "DOWN", "us down"},
		{"services/casino/sa/health/p", `{"status":"down"}`, `{"status":7}`, "casino/sa down"},
	} {
		w := newWorld(t, guarded(t), 2)
		w.put(c.key, c.good)
		w.quiet()
		revision := w.put(c.key, c.rubbish)
		w.quiet()
		w.is(c.state)
		w.verdict(c.key, fmt.Sprintf(`{"revision":%d,"accepted":false,"effective":`, revision))
		w.agree()
		w.put(c.key, "-")
		w.quiet()
		w.verdict(c.key, "")
		w.agree()
		w.put(c.key, c.rubbish)
		w.quiet()
		w.verdict(c.key, `"accepted":false,"effective":null`)
		w.put(c.key, c.good)
		w.quiet()
		if parseKey(c.key).kind == voteKey {
			w.verdict(c.key, "")
		} else {
			w.verdict(c.key, `"accepted":true`)
		}
		w.agree()
	}
}

// Keys of nothing that is configured get verdicts that bind nobody who knows better.
func TestUnknownKeys(t *testing.T) {
	w := newWorld(t, guarded(t), 2)
	for key, why := range map[string]string{
		"regions/mars/drain": "unknown region", "services/bingo/eu/drain": "unknown service", "services/casino/mars/health/p": "unknown region",
		"regions/eu/drains": "no such key", "regions/eu": "no such key", "probes/a/b": "no such key", "services/casino/eu/heartbeat/a": "no such key",
		"regions/EU/drain": "EU names no region", "regions/eu/health/\x00": "a name has",
	} {
		w.put(key, "true")
		w.quiet()
		w.verdict(key, `"accepted":false,"effective":null,"why":"`+why[:5])
		w.verdict(key, `"unknown":true`)
	}
	w.is()
	w.agree()
	w.put("regions/mars/drain", "-")
	w.quiet()
	w.verdict("regions/mars/drain", "")

	// A server whose configuration is newer judges for itself, and all is quiet.
	small, err := regions.New([]regions.Region{{Name: "eu"}, {Name: "us"}})
	if err != nil {
		t.Fatal(err)
	}
	old := &listener{ledger: newLedger(small, "old", nil), name: "old"}
	w.put("regions/sa/drain", "true", "regions/sa/health/p", "up")
	old.ledger = old.replace([]write{w.keys["regions/sa/drain"], w.keys["regions/sa/health/p"]}, w.revision, 0, w.now)
	for _, d := range old.due(10) {
		if !d.patient {
			t.Errorf("%s is not left to those who know", d.key)
		}
		w.put(d.key, string(d.value))
	}
	w.quiet()
	w.is("sa drained")
	w.verdict("regions/sa/drain", `"accepted":true`)
	w.verdict("regions/sa/health/p", `"unknown":true`)
	w.agree()
	old.transact([]write{w.keys["verdicts/regions/sa/drain"], w.keys["verdicts/regions/sa/health/p"]}, w.now)
	if list := old.due(10); len(list) > 0 {
		t.Errorf("the older one writes %s again", list[0].key)
	}
}

// The guard refuses a third of four regions. Refused it stays, also when there is
// room again, until it is written anew.
func TestRefused(t *testing.T) {
	w := newWorld(t, guarded(t), 2)
	w.put("regions/eu/drain", "true")
	w.put("regions/us/drain", "true")
	w.put("regions/sa/drain", "true")
	w.quiet()
	w.is("eu drained", "us drained")
	w.verdict("regions/sa/drain", `"accepted":false,"effective":null,"why":"75% of the capacity would be out`)
	w.put("regions/us/drain", "-")
	w.quiet()
	w.now = w.now.Add(time.Hour)
	w.quiet()
	w.is("eu drained")
	w.put("regions/sa/drain", "true")
	w.quiet()
	w.is("eu drained", "sa drained")
	// More than what is in force is refused and leaves that in force; less is not.
	w.put("regions/us/drain", "1%")
	w.put("regions/sa/drain", "40%")
	w.put("regions/us/drain", "70%")
	w.put("regions/us/drain", "30%")
	w.quiet()
	w.is("eu drained", "us 30% drained", "sa returning") // to those 60 % that it may have again
	w.now = w.now.Add(time.Hour)
	w.quiet()
	w.is("eu drained", "us 30% drained", "sa 40% drained")
	w.put("regions/ap/drain", `{"force":true}`)
	w.quiet()
	w.is("eu drained", "us 30% drained", "ap drained", "sa 40% drained")
	w.agree()
}

// In one transaction what returns makes room for what goes.
func TestSwap(t *testing.T) {
	w := newWorld(t, guarded(t), 2)
	w.put("regions/eu/drain", "true", "regions/us/drain", "true")
	w.quiet()
	w.put("regions/ap/drain", "true", "regions/eu/drain", "false")
	w.quiet()
	w.is("eu returning", "us drained", "ap drained")
	w.agree()
}

// Two servers of different configurations judge differently: what is recorded first
// holds for both.
func TestSplitDecision(t *testing.T) {
	strict, err := guarded(t).With(nil, regions.Policy{MaxOut: 10})
	if err != nil {
		t.Fatal(err)
	}
	for _, first := range []int{0, 1} {
		w := newWorld(t, guarded(t), 2)
		s := w.servers[1]
		s.ledger = newLedger(strict, s.name, nil)
		key := regions.Key{Region: 0}
		out := func(i int) bool { return w.servers[i].inputs.Subjects[key.Region].Drain.Percent > 0 }
		s.ledger = s.replace([]write{w.keys["regions/ap/heartbeat/a"]}, w.revision, 0, w.now)
		s.heard = w.revision
		w.put("regions/eu/drain", "true")
		for _, s := range w.servers {
			s.transact(w.history[w.revision-1], w.now)
		}
		if !out(0) || out(1) {
			t.Fatal("they do not judge by themselves at first")
		}
		heard := w.revision
		for w.scribe(w.servers[first]) {
			for _, s := range w.servers {
				for _, writes := range w.history[heard:] {
					s.transact(writes, w.now)
				}
			}
			heard = w.revision
		}
		if out(0) != (first == 0) || out(1) != (first == 0) {
			t.Errorf("recorded by %d: %v, %v", first, out(0), out(1))
		}
		if w.scribe(w.servers[1-first]) {
			t.Errorf("%s contradicts: %s", w.servers[1-first].name, w.history[w.revision-1][0].value)
		}
	}
}

// A server that knows less lets a drain pass that the others refuse: what it has seen of
// the region then was nobody's transition, and so no return follows.
func TestOverturned(t *testing.T) {
	w := newWorld(t, guarded(t), 2)
	w.servers[0].steered = func() []regions.Steered {
		return []regions.Steered{{Name: "lonely.", Regions: regions.SetOf(0)}}
	}
	w.put("regions/eu/health/p", "down")
	w.quiet()
	w.now = w.now.Add(time.Hour)
	w.put("regions/eu/health/p", "up")
	w.quiet()
	returned := string(w.keys["transitions/eu"].value)
	w.put("regions/eu/drain", "true")
	for i, want := range []string{"on hold", "drained"} {
		w.hear(w.servers[i], len(w.history))
		if got := condition(w.servers[i].state.Standings[0]); got != want {
			t.Fatalf("eu is %q for %s before there is a verdict", got, w.servers[i].name)
		}
	}
	for w.scribe(w.servers[0]) {
	}
	w.quiet()
	w.is("eu on hold")
	w.verdict("regions/eu/drain", `"accepted":false,"effective":null`)
	if got := string(w.keys["transitions/eu"].value); got != returned {
		t.Errorf("transition %s", got)
	}
	w.agree()
}

// What was in force before, and so whether a write takes out more than that, is told by
// verdicts to those who start from nothing, and to those who know what was before that.
func TestLessUnseen(t *testing.T) {
	for _, away := range []bool{true, false} {
		w := newWorld(t, guarded(t), 2)
		w.put("regions/us/drain", "2%")
		w.quiet()
		late := w.servers[1]
		w.servers = w.servers[:1]
		w.put("regions/eu/drain", `{"force":true}`)
		w.put("regions/us/drain", `{"force":true}`)
		w.put("regions/ap/drain", `{"force":true}`)
		w.quiet()
		w.put("regions/sa/drain", "true") // which nobody sees, nor what follows
		w.put("regions/us/drain", "99%")
		w.put("regions/ap/drain", "1%")
		if away {
			w.list(late)
		} else {
			late = w.start("fresh")
		}
		w.servers = []*listener{late}
		w.quiet()
		w.verdict("regions/us/drain", `"accepted":true,"effective":"99%"`)
		w.verdict("regions/ap/drain", `"accepted":true,"effective":"1%"`)
		w.verdict("regions/sa/drain", `"accepted":false,"effective":null,"why":"100% of the capacity`)
		w.agree()
	}
}

// All drains of regions and services are deleted at once: they are held, also by a
// server that comes later, until let go. Twice is not enough.
func TestHeld(t *testing.T) {
	for name, end := range map[string]struct {
		do   func(w *world)
		want []string
	}{
		"everything again": {func(w *world) { w.clear("") }, []string{"eu drained", "casino/us 30% drained"}},
		"the state is accepted by one": {func(w *world) {
			w.servers[1].release()
		}, []string{"eu returning"}},
		"one verdict is deleted": {func(w *world) { w.put("verdicts/regions/eu/drain", "-") }, []string{"eu returning", "casino/us 30% drained"}},
		"one is written":         {func(w *world) { w.put("regions/eu/drain", "false") }, []string{"eu returning", "casino/us 30% drained"}},
		"one is drained again, and deleted": {func(w *world) {
			w.put("regions/eu/drain", "20%")
			w.quiet()
			w.now = w.now.Add(time.Hour)
			w.quiet()
			w.is("eu 20% drained", "casino/us 30% drained")
			w.put("regions/eu/drain", "-")
		}, []string{"casino/us 30% drained"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, guarded(t), 3)
			w.put("regions/eu/drain", "", "services/casino/us/drain", "30%")
			w.quiet()
			w.clear("")
			w.put("regions/ap/heartbeat/a", "")
			w.quiet()
			w.is("eu drained", "casino/us 30% drained")
			w.verdict("regions/eu/drain", `"held":true`)
			w.agree()
			end.do(w)
			w.put("regions/ap/heartbeat/a", "")
			w.quiet()
			w.is(end.want...)
			w.agree()
		})
	}
}

// Servers that were away while drains were removed one by one do not bring them
// back; if nobody was there, they do.
func TestUnseenDeletion(t *testing.T) {
	for _, seen := range []bool{true, false} {
		w := newWorld(t, guarded(t), 2)
		w.put("regions/eu/drain", "", "services/casino/us/drain", "30%")
		w.quiet()
		away := w.servers[1]
		w.servers = w.servers[:1]
		if !seen {
			w.servers = nil
		}
		w.put("regions/eu/drain", "-")
		w.put("services/casino/us/drain", "-")
		w.quiet()
		w.restart(away)
		w.servers = append(w.servers, away)
		w.list(away)
		w.quiet()
		if seen {
			w.is("eu returning")
		} else {
			w.is("eu drained", "casino/us 30% drained")
		}
		w.agree()
	}
}

// What was in force before is not to be read any more: the judging is left to others
// for a while.
func TestPastUnknown(t *testing.T) {
	for _, others := range []bool{true, false} {
		w := newWorld(t, guarded(t), 1)
		w.put("regions/eu/drain", "true")
		w.quiet()
		w.put("regions/eu/drain", "maybe")
		w.put("verdicts/regions/eu/drain", "-")
		fresh := w.start("fresh")
		if len(fresh.due(10)) > 0 || fresh.next != w.now.Add(courtesy) {
			t.Fatalf("it judges at once, or never: %v", fresh.next)
		}
		if !others {
			w.servers = nil
		}
		w.servers = append(w.servers, fresh)
		w.quiet()
		w.now = w.now.Add(courtesy)
		w.quiet()
		w.is("eu drained")
		w.verdict("regions/eu/drain", `"accepted":false,"effective":"true"`) // for the transition says so, where nobody knows
		w.agree()
	}
}

// Rubbish where servers write is written again, from what is known, or removed.
func TestRubbishRecords(t *testing.T) {
	w := newWorld(t, guarded(t), 2)
	w.put("regions/eu/drain", "true", "regions/us/health/p", "down")
	w.quiet()
	good := map[string]string{}
	for _, key := range []string{"verdicts/regions/eu/drain", "transitions/eu", "transitions/us"} {
		good[key] = string(w.keys[key].value)
	}
	for _, rubbish := range []string{"", "x", "{}", "null", "[]", `{"revision":-1,"accepted":true,"effective":null,"from":"up","to":"expired","since":"2026-11-23T18:00:00Z"}`,
		`{"revision":3,"accepted":true,"effective":"rubbish"}`, `{"from":"up","to":"up"}`, "-"} {
		for key, value := range good {
			w.put(key, rubbish)
			w.quiet()
			w.is("eu drained", "us down")
			if got := string(w.keys[key].value); got != value {
				t.Errorf("%s after %q is %s", key, rubbish, got)
			}
		}
		for _, key := range []string{"verdicts/regions/sa/drain", "verdicts/regions/us/health/p", "verdicts/x", "transitions/sa"} {
			w.put(key, rubbish)
			w.quiet()
			if n, there := w.keys[key]; there {
				t.Errorf("%s stays at %s", key, n.value)
			}
		}
		w.agree()
	}
}

// A restart knows what was refused, held, and not yet recorded.
func TestRestart(t *testing.T) {
	w := newWorld(t, guarded(t), 1)
	s := w.servers[0]
	check := func() {
		t.Helper()
		before, due := s.state.Standings, len(s.due(100))
		w.now = w.now.Add(time.Second)
		w.restart(s)
		for i, standing := range s.state.Standings {
			if standing.Since != before[i].Since || condition(standing) != condition(before[i]) {
				t.Errorf("%s was %+v, is %+v", s.subject(w.table.Key(i)), before[i], standing)
			}
		}
		if n := len(s.due(100)); n != due {
			t.Errorf("%d records were due, %d are", due, n)
		}
	}
	w.put("regions/eu/drain", "true")
	w.put("regions/us/drain", "true")
	w.put("regions/us/drain", "rubbish")
	w.put("regions/sa/drain", "true")
	w.put("regions/sa/health/p", "down")
	w.hear(s, 10)
	check()
	w.quiet()
	check()
	w.put("regions/sa/drain", "-", "regions/us/drain", "-", "regions/eu/drain", "-")
	w.hear(s, 1)
	if len(s.held()) != 2 {
		t.Fatalf("%v is held", s.held())
	}
	check()
	w.quiet()
	check()
	s.release()
	w.evaluate(s)
	check()
	w.quiet()
	w.is("eu returning", "us returning", "sa down")
}

// Servers whose clocks differ do not quarrel over the moment at which a drain begins
// or ends: each keeps to its own, and one of them writes each transition.
func TestSkew(t *testing.T) {
	w := newWorld(t, guarded(t), 2)
	w.servers[1].skew = -20 * time.Second
	drain := func(from, to int) string {
		return fmt.Sprintf(`{"at":"%s","until":"%s"}`, w.now.Add(time.Duration(from)*time.Second).Format(time.RFC3339), w.now.Add(time.Duration(to)*time.Second).Format(time.RFC3339))
	}
	w.put("regions/eu/drain", drain(10, 40))
	start := w.now
	for range 400 {
		w.quiet()
		for _, s := range w.servers {
			since := w.now.Add(s.skew).Sub(start).Seconds()
			want := "up"
			switch {
			case since >= 10 && since < 40:
				want = "drained"
			case since >= 40 && since < 100:
				want = "on hold"
			case since >= 100 && since < 200:
				want = "returning"
			}
			if got := condition(s.state.Standings[0]); got != want {
				t.Fatalf("%v after the write it is %s for %s, not %s", since, got, s.name, want)
			}
		}
		w.now = w.now.Add(time.Second)
	}
	if w.written != 3 {
		t.Errorf("%d records were written", w.written)
	}
	if got := string(w.keys["transitions/eu"].value); got != `{"from":"expired","to":"up","since":"2026-11-23T18:00:40Z"}` {
		t.Errorf("transition %s", got)
	}
}

// Whatever is written, in whatever order and company servers hear of it, whether
// they list, restart or come late: they come to rest with one state.
func TestConvergence(t *testing.T) {
	for seed := range uint64(150) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { converge(t, seed) })
	}
}

func FuzzConvergence(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { converge(t, seed) })
}

func converge(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 7))
	w := newWorld(t, guarded(t), 1+r.IntN(4))
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	for range 150 {
		s := w.servers[r.IntN(len(w.servers))]
		switch r.IntN(13) {
		case 0, 1, 2, 3, 4:
			var pairs []string
			for range 1 + r.IntN(3)/2 {
				if pair := randomWrite(r, w.now); !slices.Contains(pairs, pair[0]) { // as in a transaction
					pairs = append(pairs, pair...)
				}
			}
			w.put(pairs...)
		case 5, 6:
			w.hear(s, 1+r.IntN(5))
		case 7, 8, 9:
			w.hear(s, len(w.history))
			w.scribe(s)
		case 10:
			w.now = w.now.Add(time.Duration(r.IntN(40)) * time.Second)
		case 11:
			w.list(s)
		case 12:
			switch r.IntN(6) {
			case 0:
				w.clear(pick("", "regions/", "services/", "verdicts/", "transitions/", "regions/eu/"))
			case 1:
				w.restart(s)
				w.now = w.now.Add(time.Duration(r.IntN(3)) * time.Second)
				w.list(s)
			default:
				w.quiet()
			}
		}
	}
	w.quiet()
	w.now = w.now.Add(courtesy)
	w.quiet()
	w.agree()
}

// randomWrite returns a key and a value: of inputs mostly, of records at times.
func randomWrite(r *rand.Rand, now time.Time) []string {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	at := func() string { return now.Add(time.Duration(r.IntN(100)-20) * time.Second).Format(time.RFC3339) }
	where := pick("regions/", "regions/", "services/casino/", "services/poker/", "services/bingo/") + pick("eu", "us", "ap", "sa", "mars")
	switch r.IntN(12) {
	case 0:
		return []string{"probes/" + pick("h1", "h2"), pick("", "-")}
	case 1:
		return []string{where + "/heartbeat/" + pick("a", "b"), pick("", "-")}
	case 2, 3, 4:
		return []string{where + "/health/" + pick("h1", "h2", "h3"), pick("up", "down", "down", "-", "sick", `{"status":"down","probe":"h1"}`, `{"status":"up","probe":"h2"}`)}
	case 5:
		key := pick("verdicts/", "transitions/")
		if key == "verdicts/" {
			key += where + "/drain"
		} else {
			key += pick("eu", "us", "casino/eu")
		}
		return []string{key, pick("", "-", "{}", "x", `{"from":"down","to":"up","since":"`+at()+`"}`)}
	}
	return []string{where + "/drain", pick("", "true", "false", "-", "-", "50%", "10%", "rubbish", `{"force":true}`, `{"at":"`+at()+`"}`, `{"until":"`+at()+`"}`, `{"percent":30,"until":"`+at()+`"}`)}
}
