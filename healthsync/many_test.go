package healthsync

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"nearside/geo"
	"nearside/journal"
	"nearside/regions"
)

// policed returns four regions and a service, with a guard, a hold and a ramp.
func policed(t testing.TB, hold, ramp time.Duration) *regions.Table {
	t.Helper()
	var list []regions.Region
	for i, name := range []string{"eu", "us", "ap", "sa"} {
		list = append(list, regions.Region{Name: name, Weight: 100, Location: geo.Point{Latitude: float64(i)}})
	}
	table, err := regions.New(list)
	if err != nil {
		t.Fatal(err)
	}
	table, err = table.With([]regions.Service{{Name: "casino"}}, regions.Policy{MaxOut: 50, Hold: hold, Ramp: ramp, TTL: 30})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// fleet runs servers on one etcd.
func fleet(t testing.TB, n int, table *regions.Table, now func() time.Time, e *Embedded) []*server {
	t.Helper()
	var list []*server
	for i := range n {
		s := &server{t: t, folder: t.TempDir()}
		config := s.config(e.Endpoint())
		config.Table, config.ID = table, fmt.Sprintf("ns%d", i+1)
		s.Sync = open(config, quickPace(), now)
		list = append(list, s)
	}
	for _, s := range list {
		s.run()
		eventually(t, "etcd", func() bool { return s.Status().Connected })
	}
	return list
}

// rest waits until all servers have evaluated everything that etcd has, and want
// nothing written.
func rest(t testing.TB, c *clientv3.Client, servers []*server) {
	t.Helper()
	for {
		revision := put(t, c, "transitions/nowhere", "") // it means nothing, but all hear of it
		eventually(t, "rest", func() bool {
			return !slices.ContainsFunc(servers, func(s *server) bool {
				s.Sync.mu.Lock()
				defer s.Sync.mu.Unlock()
				return s.state.Revision < revision || len(s.ledger.due(1)) > 0
			})
		})
		if len(recorded(t, c, revision)) == 0 {
			return
		}
	}
}

// alike checks that all servers have the same state.
func alike(t testing.TB, servers []*server) {
	t.Helper()
	for _, s := range servers[1:] {
		if a, b := servers[0].State(), s.State(); !slices.Equal(a.Standings, b.Standings) {
			t.Fatalf("%s has %+v, %s has %+v", servers[0].Sync.config.ID, a.Standings, s.Sync.config.ID, b.Standings)
		}
	}
}

// recorded returns what servers have agreed on after a revision.
func recorded(t testing.TB, c *clientv3.Client, after int64) (list []string) {
	t.Helper()
	end := put(t, c, "servers/test", "")
	for response := range c.Watch(t.Context(), "/nearside/", clientv3.WithPrefix(), clientv3.WithRev(after+1)) {
		if err := response.Err(); err != nil {
			t.Fatal(err)
		}
		for _, event := range response.Events {
			key := strings.TrimPrefix(string(event.Kv.Key), "/nearside/")
			if event.Kv.ModRevision >= end {
				return list
			}
			if parseKey(key).kind != ignored && key != "transitions/nowhere" {
				list = append(list, fmt.Sprintf("%s = %s", key, event.Kv.Value))
			}
		}
	}
	return list
}

// keys returns what servers have written.
func keys(t testing.TB, c *clientv3.Client) []string {
	t.Helper()
	var list []string
	for _, top := range []string{"transitions/", "verdicts/"} {
		r, err := c.Get(t.Context(), "/nearside/"+top, clientv3.WithPrefix())
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range r.Kvs {
			if key := strings.TrimPrefix(string(kv.Key), "/nearside/"); key != "transitions/nowhere" {
				list = append(list, key)
			}
		}
	}
	return list
}

// Many servers write as much as one: a verdict for each drain, a transition for each
// region that it moves. Then they are silent, and alike.
func TestManyServers(t *testing.T) {
	e := etcd(t)
	c := client(t, e)
	servers := fleet(t, 30, policed(t, time.Hour, 0), time.Now, e)
	for _, step := range []struct {
		do     func() int64
		writes int
		keys   string
	}{
		{func() int64 { return put(t, c, "regions/eu/drain", "") }, 2, "transitions/eu verdicts/regions/eu/drain"},
		{func() int64 { return put(t, c, "regions/eu/drain", "true") }, 1, "transitions/eu verdicts/regions/eu/drain"},
		{func() int64 { return put(t, c, "services/casino/us/drain", "50%") }, 1, "transitions/eu verdicts/regions/eu/drain verdicts/services/casino/us/drain"},
		{func() int64 { return put(t, c, "regions/us/health/p", "down") }, 1, "transitions/eu transitions/us verdicts/regions/eu/drain verdicts/services/casino/us/drain"},
		{func() int64 { return put(t, c, "regions/us/health/p", "DOWN") }, 1, "transitions/eu transitions/us verdicts/regions/eu/drain verdicts/regions/us/health/p verdicts/services/casino/us/drain"},
		{func() int64 { return put(t, c, "regions/us/health/p", "up") }, 2, "transitions/eu transitions/us verdicts/regions/eu/drain verdicts/services/casino/us/drain"},
		{func() int64 { return del(t, c, "regions/eu/drain") }, 2, "transitions/eu transitions/us verdicts/services/casino/us/drain"},
		{func() int64 { return del(t, c, "services/casino/us/drain") }, 1, "transitions/eu transitions/us"},
	} {
		before := step.do()
		rest(t, c, servers)
		alike(t, servers)
		if list := recorded(t, c, before); len(list) != step.writes {
			t.Errorf("%d records followed, not %d: %v", len(list), step.writes, list)
		}
		if got := strings.Join(keys(t, c), " "); got != step.keys {
			t.Errorf("there are %s, not %s", got, step.keys)
		}
	}
	if s := servers[7].State().View(regions.Key{Region: 1}); s.Hold.IsZero() {
		t.Errorf("us is not on hold: %+v", s)
	}
}

// All drains are gone at once, for all servers; one that starts then, and one that
// starts after the operator has accepted, know the same.
func TestMassDeleteMany(t *testing.T) {
	e := etcd(t)
	c := client(t, e)
	servers := fleet(t, 3, policed(t, 0, 0), time.Now, e)
	put(t, c, "regions/eu/drain", "")
	put(t, c, "services/casino/us/drain", "")
	rest(t, c, servers)
	del(t, c, "", clientv3.WithPrefix())
	rest(t, c, servers)
	servers = append(servers, fleet(t, 1, policed(t, 0, 0), time.Now, e)...)
	rest(t, c, servers)
	for _, s := range servers {
		if held := s.Status().HeldDrains; !slices.Equal(held, []string{"casino/us", "eu"}) {
			t.Errorf("%s holds %v", s.Sync.config.ID, held)
		}
	}
	alike(t, servers)
	if err := servers[2].Accept(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all to let go", func() bool {
		return !slices.ContainsFunc(servers, func(s *server) bool { return len(s.Status().HeldDrains) > 0 })
	})
	rest(t, c, servers)
	alike(t, servers)
	for _, key := range keys(t, c) {
		if strings.HasPrefix(key, "verdicts/") {
			t.Errorf("%s stays", key)
		}
	}
	if s := fleet(t, 1, policed(t, 0, 0), time.Now, e)[0]; s.State().Drained() != 0 || len(s.Status().HeldDrains) > 0 {
		t.Errorf("a late server has %+v", s.Status())
	}
}

// Time by itself: a planned drain begins, ends, and its region is on hold and back.
func TestPlanned(t *testing.T) {
	e := etcd(t)
	c := client(t, e)
	s := fleet(t, 1, policed(t, 400*time.Millisecond, 400*time.Millisecond), time.Now, e)[0]
	at := time.Now().Add(500 * time.Millisecond).UTC()
	put(t, c, "regions/eu/drain", fmt.Sprintf(`{"at":%q,"until":%q}`, at.Format(time.RFC3339Nano), at.Add(500*time.Millisecond).Format(time.RFC3339Nano)))
	var seen []string
	eventually(t, "the end", func() bool {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		seen = nil
		for _, state := range s.published {
			view := state.View(regions.Key{})
			word := condition(view)
			if view.TTL != regions.NoCap {
				word = "near"
			}
			if len(seen) == 0 || seen[len(seen)-1] != word {
				seen = append(seen, word)
			}
		}
		return len(seen) > 2 && seen[len(seen)-1] == "up"
	})
	if got := strings.Join(seen, ", "); got != "up, near, drained, on hold, returning, up" {
		t.Errorf("it was %s", got)
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, state := range s.published {
		if view := state.View(regions.Key{}); view.Status&regions.Drained != 0 && !view.Since.Equal(at) {
			t.Errorf("drained since %v, not %v", view.Since, at)
		}
	}
}

// While etcd is away, time takes regions out and brings none back.
func TestFrozenTime(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "etcd")
	e, err := StartEmbedded(t.Context(), folder, "http://127.0.0.1:0", testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, e)
	now := new(clock)
	s := fleet(t, 1, policed(t, time.Minute, 0), now.now, e)[0]
	in := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339Nano) }
	put(t, c, "regions/eu/drain", fmt.Sprintf(`{"until":%q}`, in(10*time.Minute)))
	s.reached(put(t, c, "regions/us/drain", fmt.Sprintf(`{"at":%q}`, in(20*time.Minute))))
	s.agreed()
	e.Close()
	eventually(t, "loss", func() bool { return !s.Status().Connected })
	is := func(eu, us string) {
		t.Helper()
		wake(s.changed) // the timer knows nothing of the test's clock
		eventually(t, "eu "+eu+", us "+us, func() bool {
			return condition(s.State().View(regions.Key{})) == eu && condition(s.State().View(regions.Key{Region: 1})) == us
		})
	}
	now.advance(15 * time.Minute)
	is("drained", "up")
	now.advance(10 * time.Minute)
	is("drained", "drained")
	s.stop()
	again := &server{t: t, folder: s.folder}
	config := again.config(e.Endpoint())
	config.Table = policed(t, time.Minute, 0)
	again.Sync = open(config, quickPace(), now.now)
	again.run()
	s = again
	is("drained", "drained")
	if e, err = StartEmbedded(t.Context(), folder, e.Endpoint(), testLog(t)); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	is("on hold", "drained")
	now.advance(time.Minute)
	is("up", "drained")
}

// What is not allowed is an alarm, once, and our own judgement is in force.
func TestScribeFault(t *testing.T) {
	s := opened(t, t.TempDir(), stateContent(t))
	d := duty{key: "verdicts/regions/eu/drain"}
	s.scribbled(d, rpctypes.ErrPermissionDenied)
	if alarms := strings.Join(s.Status().Alarms, "\n"); !strings.Contains(alarms, "does not let this server write /nearside/verdicts/regions/eu/drain: grant") {
		t.Errorf("alarms: %s", alarms)
	}
	s.scribbled(d, errors.New("no space"))
	if alarms := strings.Join(s.Status().Alarms, "\n"); !strings.Contains(alarms, "cannot be written: no space") {
		t.Errorf("alarms: %s", alarms)
	}
	s.scribbled(d, nil)
	if alarms := strings.Join(s.Status().Alarms, "\n"); strings.Contains(alarms, "written") {
		t.Errorf("alarms: %s", alarms)
	}
}

// A flood of writes, each its own revision, and leases that all end at once.
func TestFlood(t *testing.T) {
	e := etcd(t)
	c := client(t, e)
	servers := fleet(t, 3, policed(t, 0, 0), time.Now, e)
	var group sync.WaitGroup
	for w := range 8 {
		group.Go(func() {
			for i := range 250 {
				value := []string{"up", "down", "rubbish"}[i%3]
				// On a slow disk etcd lets some wait for too long: they are no loss.
				_, _ = c.Put(t.Context(), fmt.Sprintf("/nearside/regions/us/health/p%d", w), value)
			}
		})
	}
	group.Go(func() {
		lease, err := c.Grant(t.Context(), 600)
		if err != nil {
			t.Error(err)
			return
		}
		for i := range 200 {
			_, _ = c.Put(t.Context(), fmt.Sprintf("/nearside/regions/eu/heartbeat/a%d", i), "", clientv3.WithLease(lease.ID))
		}
		if _, err := c.Revoke(t.Context(), lease.ID); err != nil {
			t.Error(err)
		}
	})
	group.Wait()
	for w := range 8 {
		put(t, c, fmt.Sprintf("regions/us/health/p%d", w), "down")
	}
	start := time.Now()
	put(t, c, "regions/eu/drain", "")
	eventually(t, "the drain", func() bool {
		return !slices.ContainsFunc(servers, func(s *server) bool { return !s.State().Drained().Has(0) })
	})
	t.Logf("the drain after the flood took %v", time.Since(start))
	rest(t, c, servers)
	alike(t, servers)
	if down := servers[0].State().Down(); down != regions.SetOf(1) {
		t.Errorf("down: %b", down)
	}
	if got := strings.Join(keys(t, c), " "); got != "transitions/eu transitions/us verdicts/regions/eu/drain" {
		t.Errorf("there are %s", got)
	}
	for _, s := range servers {
		s.mutex.Lock()
		t.Logf("%s published %d states", s.Sync.config.ID, len(s.published))
		s.mutex.Unlock()
		s.inOrder()
	}
}

// memory is a Journal.
type memory struct {
	mu   sync.Mutex
	list []journal.Entry
}

func (m *memory) Append(e journal.Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list = append(m.list, e)
}

// The journal has every write with what became of it, and what clients felt.
func TestJournal(t *testing.T) {
	e := etcd(t)
	c := client(t, e)
	j := new(memory)
	s := &server{t: t, folder: t.TempDir()}
	config := s.config(e.Endpoint())
	config.Journal, config.ID = j, "ns1"
	s.Sync = open(config, quickPace(), time.Now)
	s.run()
	eventually(t, "etcd", func() bool { return s.Status().Connected })
	first := put(t, c, "regions/eu-west/drain", `{"reason":"uplink","by":"ann"}`)
	s.drained("eu-west")
	put(t, c, "regions/eu-west/drain", "maybe")
	put(t, c, "regions/us-east/health/p", `{"status":"down","detail":"refused"}`)
	put(t, c, "regions/atlantis/drain", "")
	s.reached(put(t, c, "regions/us-east/health/p", "up"))
	put(t, c, "regions/us-east/drain", `{"by":"bob"}`)
	s.drained("eu-west", "us-east")
	s.agreed()
	together, err := c.Txn(t.Context()).Then(clientv3.OpDelete("/nearside/regions/eu-west/drain"), clientv3.OpDelete("/nearside/regions/us-east/drain")).Commit()
	if err != nil {
		t.Fatal(err)
	}
	last := together.Header.Revision
	s.reached(last)
	s.agreed()
	if err := os.WriteFile(config.OverrideFile, []byte("up: [eu-west]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.ReadOverride()
	s.drained("us-east")
	s.stop()
	var got []string
	for _, e := range j.list {
		switch e.Kind {
		case journal.Input:
			got = append(got, fmt.Sprintf("%s %q by %s: %s, %s, %.14s", e.Key, e.Value, e.By, e.Verdict, e.Effective, e.Why))
		case journal.Server:
			got = append(got, e.Event+": "+e.Why)
		case journal.Transition:
			got = append(got, fmt.Sprintf("%s: %s, %s: %s by %s at %s", e.Region, e.From, e.To, e.Why, e.By, e.Key))
		}
		if e.Kind == journal.Input && (e.Revision < first || e.Revision > last) || e.Kind == journal.Transition && e.Revision < first {
			t.Errorf("revision %d of %+v", e.Revision, e)
		}
	}
	want := []string{
		"eu-west: drained, up:  by the break-glass file at ",
		"eu-west: up, drained: uplink by ann at regions/eu-west/drain",
		"override: the break-glass file asks for drain: [], up: [eu-west]",
		`regions/atlantis/drain "" by : not understood, none, unknown region`,
		`regions/eu-west/drain "maybe" by : not understood, drained, not a drain: w`,
		`regions/eu-west/drain "{\"reason\":\"uplink\",\"by\":\"ann\"}" by : held, drained, `,
		`regions/eu-west/drain "{\"reason\":\"uplink\",\"by\":\"ann\"}" by ann: accepted, drained, `,
		`regions/us-east/drain "{\"by\":\"bob\"}" by : held, drained, `,
		`regions/us-east/drain "{\"by\":\"bob\"}" by bob: accepted, drained, `,
		`regions/us-east/health/p "up" by : accepted, up, `,
		`regions/us-east/health/p "{\"status\":\"down\",\"detail\":\"refused\"}" by : accepted, down, `,
		"us-east: down, up: up say p by  at regions/us-east/health",
		"us-east: up, down: down say p (refused) by  at regions/us-east/health",
		"us-east: up, drained:  by bob at regions/us-east/drain",
	}
	slices.Sort(got) // what is published together comes together
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the journal has\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
