package healthsync

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"nearside/regions"
)

// TestHundredServers: a hundred servers at their usual pace have one state at one
// revision. A drain makes them write a verdict, a transition, and each of them
// once what it serves (twice where the machine is slow); then they are silent.
func TestHundredServers(t *testing.T) {
	const many, drains = 100, 8
	e := etcd(t)
	c := client(t, e)
	var servers []*server
	for i := range many {
		s := &server{t: t, folder: t.TempDir()}
		config := s.config(e.Endpoint())
		config.Table, config.ID = policed(t, 0, 0), fmt.Sprintf("ns%d", i+1)
		s.Sync = open(config, usualPace, time.Now)
		s.run()
		servers = append(servers, s)
	}
	quiet(t, c, servers)

	var taken []time.Duration
	told := 0
	for n := range drains {
		key, began := fmt.Sprintf("regions/%s/drain", []string{"eu", "us", "ap"}[n%3]), time.Now()
		var revision int64
		if n/3%2 == 0 {
			revision = put(t, c, key, "")
		} else {
			revision = del(t, c, key)
		}
		for _, s := range servers {
			s.reached(revision)
		}
		taken = append(taken, time.Since(began))
		end := quiet(t, c, servers)
		alike(t, servers)
		for what, count := range written(t, c, revision+1, end) {
			// On a busy machine some tell of the drain before they hear what others have recorded.
			if what == "servers" {
				told += count
			}
			if most := map[string]int{"verdicts": 1, "transitions": 1, "servers": 2 * many}[what]; count > most && what != "alive" {
				t.Errorf("a drain made the servers write %d keys below %s/, not %d", count, what, most)
			}
		}
	}
	slices.Sort(taken)
	t.Logf("%.2f times for each drain a server told what it serves", float64(told)/many/drains)
	t.Logf("until the last of %d servers has a drain: median %v, 99 %% %v, at most %v", many, taken[len(taken)/2], taken[len(taken)*99/100], taken[len(taken)-1])
}

// quiet waits until all servers have told what they serve, and have nothing more
// to write. It returns the revision.
func quiet(t testing.TB, c *clientv3.Client, servers []*server) (revision int64) {
	t.Helper()
	eventually(t, "silence", func() bool {
		now, err := c.Get(t.Context(), "/nearside/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			t.Fatal(err)
		}
		revision = now.Header.Revision
		list, _, err := Fleet(t.Context(), c, "/nearside")
		if err != nil {
			t.Fatal(err)
		}
		idle := !slices.ContainsFunc(servers, func(s *server) bool {
			s.Sync.mu.Lock()
			defer s.Sync.mu.Unlock()
			return len(s.ledger.due(1)) > 0
		})
		if len(list) != len(servers) || !idle {
			return false
		}
		digest := servers[0].State().Digest()
		for _, m := range list {
			s := servers[slices.IndexFunc(servers, func(s *server) bool { return s.Sync.config.ID == m.ID })]
			state := s.State()
			if m.Revision != state.Revision || state.Digest() != digest || !m.Alive {
				return false
			}
		}
		return true
	})
	return revision
}

// written counts the writes from a revision to another, by the first part of their
// keys.
func written(t testing.TB, c *clientv3.Client, from, to int64) map[string]int {
	t.Helper()
	count := make(map[string]int)
	for response := range c.Watch(t.Context(), "/nearside/", clientv3.WithPrefix(), clientv3.WithRev(from)) {
		if err := response.Err(); err != nil {
			t.Fatal(err)
		}
		for _, event := range response.Events {
			if event.Kv.ModRevision > to {
				return count
			}
			top, _, _ := strings.Cut(strings.TrimPrefix(string(event.Kv.Key), "/nearside/"), "/")
			count[top]++
			if event.Kv.ModRevision == to {
				return count
			}
		}
	}
	return count
}

// What a server has told others, it has kept: a crash does not undo what `drain
// --wait` relied on.
func TestToldIsKept(t *testing.T) {
	t.Parallel()
	e := etcd(t)
	c := client(t, e)
	s := two(t, e, [2]string{"ns1", "ns2"}, [2]func() time.Time{time.Now, time.Now})[0]
	for n := range 30 {
		revision := put(t, c, "regions/eu-west/drain", fmt.Sprintf("%d%%", n+1))
		eventually(t, "what it tells", func() bool {
			list, _, err := Fleet(t.Context(), c, "/nearside")
			return err == nil && len(list) == 2 && list[0].Revision >= revision
		})
		content, err := os.ReadFile(s.config(e.Endpoint()).StateFile)
		if err != nil {
			t.Fatal(err)
		}
		if v, err := decodeState(content); err != nil || v.Revision < revision {
			t.Fatalf("it told of revision %d, and has kept %d: %v", revision, v.Revision, err)
		}
	}
}

// two runs two servers with the given IDs on one etcd.
func two(t *testing.T, e *Embedded, ids [2]string, clocks [2]func() time.Time) (list [2]*server) {
	t.Helper()
	for i, id := range ids {
		s := &server{t: t, folder: t.TempDir()}
		config := s.config(e.Endpoint())
		config.ID = id
		s.Sync = open(config, quickPace(), clocks[i])
		list[i] = s
		s.run()
	}
	return list
}

// Servers that do not have the same say so, both of them, and no more when they have.
func TestServersDiffer(t *testing.T) {
	t.Parallel()
	e := etcd(t)
	list := two(t, e, [2]string{"ns1", "ns2"}, [2]func() time.Time{time.Now, time.Now})
	facts := Facts{Version: "1", Digests: Digests{Configuration: "c", Zones: "z", Database: "d"}}
	list[0].SetFacts(facts)
	for _, c := range []struct {
		what   string
		change func(*Digests)
	}{
		{"configuration", func(d *Digests) { d.Configuration = "other" }},
		{"zones", func(d *Digests) { d.Zones = "other" }},
		{"geo database", func(d *Digests) { d.Database = "other" }},
	} {
		other := facts
		c.change(&other.Digests)
		list[1].SetFacts(other)
		list[0].alarm("ns2 has another " + c.what)
		list[1].alarm("ns1 has another " + c.what)
		list[1].SetFacts(facts)
		for _, s := range list {
			eventually(t, "no alarm", func() bool { return len(s.Status().Alarms) == 0 })
		}
	}
}

// A clock that is wrong is noticed, and neither server does anything for it: what is
// drained stays so.
func TestClockWrong(t *testing.T) {
	t.Parallel()
	e := etcd(t)
	c := client(t, e)
	ahead := func() time.Time { return time.Now().Add(time.Hour) }
	list := two(t, e, [2]string{"ns1", "ns2"}, [2]func() time.Time{time.Now, ahead})
	put(t, c, "regions/eu-west/drain", "")
	for _, s := range list {
		s.drained("eu-west")
	}
	list[0].alarm("the clock of ns2 or of this server is wrong")
	eventually(t, "a look at ns1", func() bool { return len(list[1].Status().Servers) == 2 })
	del(t, c, "regions/eu-west/drain")
	list[1].alarm("the clock of ns1 or of this server is wrong")
	for _, s := range list {
		s.drained()
	}
}

// What a server wrote tells of its clock when it is first seen, and no other time.
func TestClocks(t *testing.T) {
	now := time.Now()
	look := func(a *announcer, after, written time.Duration) bool {
		ns2 := Member{ID: "ns2", Alive: true, Server: Server{At: now.Add(written).UTC().Round(time.Millisecond)}}
		return len(a.clocks([]Member{ns2}, now.Add(after), now.Add(after))) > 0
	}
	for _, c := range []struct {
		what           string
		after, written time.Duration // of the look, and by the other clock
		wrong          bool
	}{
		{"a right clock", 15 * time.Second, 14 * time.Second, false},
		{"written just after the look before", 15 * time.Second, time.Second, false},
		{"ahead", 15 * time.Second, 21 * time.Second, true},
		{"behind", 15 * time.Second, -6 * time.Second, true},
	} {
		a := &announcer{Sync: &Sync{config: Config{ID: "ns1"}}}
		if look(a, 0, -time.Hour) {
			t.Errorf("%s: what was written long ago is an alarm", c.what)
		}
		for n := range 3 {
			if got := look(a, c.after+time.Duration(n)*15*time.Second, c.written); got != c.wrong {
				t.Errorf("%s: look %d: an alarm is %v", c.what, n+1, got)
			}
		}
		if look(a, time.Hour, time.Hour) {
			t.Errorf("%s: the alarm stays when the clock is right", c.what)
		}
	}
}

// A clock of ours that is set is told, so that the alarms of others end.
func TestClockSet(t *testing.T) {
	now := time.Now()
	for set, want := range map[time.Duration]int{0: 0, time.Hour: 1, -time.Hour: 1} {
		a := &announcer{Sync: &Sync{untold: make(chan struct{}, 1)}, toldAt: now, told: Server{At: now.Round(0).Add(-set)}}
		a.clocks(nil, now.Add(time.Hour), now.Add(time.Hour))
		if got := len(a.untold); got != want {
			t.Errorf("set by %v: it is told %d times", set, got)
		}
	}
}

// Two servers with one ID are an alarm on both; a server whose keys somebody has
// deleted writes them again.
func TestSameID(t *testing.T) {
	e := etcd(t)
	c := client(t, e)
	list := two(t, e, [2]string{"ns1", "ns1"}, [2]func() time.Time{time.Now, time.Now})
	for _, s := range list {
		s.alarm("another server is called ns1, too")
	}
	list[1].stop()
	eventually(t, "no alarm", func() bool { return len(list[0].Status().Alarms) == 0 })
	for _, key := range []string{"servers/ns1", "alive/ns1"} {
		del(t, c, key)
		eventually(t, key, func() bool {
			found, _, err := Fleet(t.Context(), c, "/nearside")
			return err == nil && len(found) == 1 && found[0].Alive && found[0].Fault == "" && found[0].Stopped.IsZero()
		})
	}
	if alarms := list[0].Status().Alarms; len(alarms) > 0 {
		t.Errorf("alarms: %q", alarms)
	}
}

// Time alone makes nobody write: neither to etcd, where each of many servers would,
// nor to the state file.
func TestTimeWritesNothing(t *testing.T) {
	t.Parallel()
	e := etcd(t)
	c := client(t, e)
	var servers []*server
	for i := range 2 {
		s := &server{t: t, folder: t.TempDir()}
		config := s.config(e.Endpoint())
		config.Table, config.ID = policed(t, 0, 3*time.Second), fmt.Sprintf("ns%d", i+1)
		s.Sync = open(config, usualPace, time.Now)
		s.run()
		servers = append(servers, s)
	}
	put(t, c, "regions/us/drain", `{"at": "2099-01-01T00:00:00Z"}`)
	put(t, c, "regions/eu/drain", "")
	quiet(t, c, servers)
	returned := del(t, c, "regions/eu/drain")
	servers[0].reached(returned)
	servers[1].reached(returned)
	files := make(map[time.Time]bool)
	eventually(t, "the end of the ramp", func() bool {
		info, err := os.Stat(servers[0].Sync.config.StateFile)
		if err == nil {
			files[info.ModTime()] = true
		}
		return servers[0].State().Return.IsZero() && servers[1].State().Return.IsZero()
	})
	servers[0].mutex.Lock()
	states := len(servers[0].published)
	servers[0].mutex.Unlock()
	if states < 20 {
		t.Errorf("%d states: there was no ramp", states)
	}
	if n := written(t, c, returned+1, quiet(t, c, servers))["servers"]; n > 6 {
		t.Errorf("%d times a server told what it serves", n)
	}
	if len(files) > 6 { // the deletion, the verdict, the transition
		t.Errorf("the state file was written %d times", len(files))
	}
}

// What does not answer queries yet is not told: `drain --wait` would believe it.
func TestToldWhenServed(t *testing.T) {
	t.Parallel()
	e := etcd(t)
	s := &server{t: t, folder: t.TempDir()}
	config := s.config(e.Endpoint())
	swap := make(chan struct{})
	free := sync.OnceFunc(func() { close(swap) })
	config.Publish = func(*regions.State) { <-swap }
	s.Sync = open(config, quickPace(), time.Now)
	s.run()
	t.Cleanup(free)
	swap <- struct{}{} // the list
	revision := put(t, client(t, e), "regions/eu-west/drain", "")
	s.drained("eu-west")
	if told := s.self().Revision; told >= revision {
		t.Errorf("it tells revision %d", told)
	}
	free()
	eventually(t, "what is served to be told", func() bool { return s.self().Revision >= revision })
}
