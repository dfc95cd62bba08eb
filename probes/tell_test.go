package probes

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"

	"nearside/healthsync"
)

// store starts an etcd in this process.
func store(t *testing.T) *clientv3.Client {
	t.Helper()
	etcd, err := healthsync.StartEmbedded(t.Context(), t.TempDir(), "http://127.0.0.1:0", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Close)
	client, err := healthsync.Connect([]string{etcd.Endpoint()}, nil, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// running runs a prober until the test ends.
func running(t *testing.T, list []Probe, client *clientv3.Client, check func(context.Context, *Probe) error) *Prober {
	t.Helper()
	p := newProber(list, Config{Host: "here", Client: client, Prefix: "/nearside", Log: zerolog.Nop()}, check)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		p.Run(ctx)
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return p
}

// await waits until a condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for again := time.NewTicker(5 * time.Millisecond); !holds(); <-again.C {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func keys(t *testing.T, client *clientv3.Client, prefix string) map[string]string {
	t.Helper()
	found, err := client.Get(t.Context(), prefix, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]string)
	for _, kv := range found.Kvs {
		values[string(kv.Key)] = string(kv.Value)
	}
	return values
}

func often(p *Probe) { p.Interval, p.Timeout = 100*time.Millisecond, 100*time.Millisecond }

// A check that hangs takes the votes of this host out of the count, at once
// when it is noticed, and until it gets on.
func TestTellHanging(t *testing.T) {
	t.Parallel()
	client := store(t)
	var hang atomic.Bool
	gate := make(chan struct{})
	p := running(t, fixture(2, often), client, func(_ context.Context, probe *Probe) error {
		if probe.Region == "region-1" && hang.Load() {
			<-gate
		}
		return nil
	})
	live := func() bool { return len(keys(t, client, "/nearside/probes/here")) == 1 }
	await(t, "votes that count", live)
	if votes := keys(t, client, "/nearside/regions/"); len(votes) != 2 {
		t.Errorf("votes %v", votes)
	}
	hang.Store(true)
	await(t, "a key that is gone", func() bool { return !live() })
	await(t, "somebody who says so", func() bool { return !p.State().Live })
	if state := p.State(); !strings.Contains(state.Why, "the check hangs") || !strings.Contains(state.Stuck, "region-1") {
		t.Errorf("%+v", state)
	}
	if leases, err := client.Leases(t.Context()); err != nil || len(leases.Leases) > 0 {
		t.Errorf("the lease goes on: %v %v", leases, err)
	}
	// Not for a moment do they count while it hangs, however long.
	checks := p.State().Probes[0].Passed
	await(t, "the other probe to go on", func() bool { return p.State().Probes[0].Passed > checks+30 })
	hang.Store(false)
	close(gate)
	await(t, "votes that count again", live)
	await(t, "somebody who knows", func() bool { return p.State().Live })
	if n := writes(t, client, "/nearside/probes/here"); n != 2 {
		t.Errorf("the key was made %d times", n)
	}
}

// Votes that somebody deletes or writes over, or that are older since etcd was restored,
// are written again, though nothing has changed.
func TestTellAgain(t *testing.T) {
	t.Parallel()
	client := store(t)
	running(t, fixture(maxWrites+2, often), client, func(_ context.Context, probe *Probe) error {
		if probe.Region == "region-1" {
			return errors.New("down")
		}
		return nil
	})
	const sick, well = "/nearside/regions/region-1/health/here", "/nearside/regions/region-0/health/here"
	stand := func() bool {
		votes := keys(t, client, "/nearside/regions/")
		return len(votes) == maxWrites+2 && strings.Contains(votes[sick], `"down"`) && strings.Contains(votes[well], `"up"`)
	}
	await(t, "all votes", stand)
	await(t, "votes that count", func() bool { return len(keys(t, client, "/nearside/probes/here")) == 1 })
	if _, err := client.Delete(t.Context(), "/nearside/regions/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	await(t, "all votes again", stand)
	if _, err := client.Put(t.Context(), sick, `{"status":"up","probe":"here"}`); err != nil {
		t.Fatal(err)
	}
	await(t, "the vote that is true", stand)
	if n := writes(t, client, "/nearside/probes/here"); n != 1 {
		t.Errorf("the key was made %d times", n)
	}
}

// writes returns how often a key was written, deletions in between or not.
func writes(t *testing.T, client *clientv3.Client, key string) (n int) {
	t.Helper()
	last, err := client.Put(t.Context(), "/last", "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for answer := range client.Watch(ctx, "/", clientv3.WithPrefix(), clientv3.WithRev(1)) {
		for _, event := range answer.Events {
			if string(event.Kv.Key) == key && event.Type == clientv3.EventTypePut {
				n++
			}
			if event.Kv.ModRevision == last.Header.Revision {
				return n
			}
		}
	}
	t.Fatal("the watch ended")
	return 0
}

// A session writes what is not as it should be, as much as that may be, and
// nothing else; without its key it writes nothing.
func TestSession(t *testing.T) {
	t.Parallel()
	const n = 3*maxWrites + 7
	client := store(t)
	p := newProber(fixture(n, func(p *Probe) { p.DownAfter, p.UpAfter = 1, 1 }), Config{Host: "here", Client: client, Prefix: "/nearside", Log: zerolog.Nop()}, nil)
	enter := func(results func(i int) error) {
		for i, r := range p.runners {
			p.enter(r, epoch, epoch, results(i))
		}
	}
	dead := errors.New("dead")
	enter(func(i int) error {
		if i == 0 {
			return dead
		}
		return nil
	})
	for i, vote := range []string{`{"status":"down","probe":"here"}`, `{"status":"up","probe":"here"}`, `{"status":"down","probe":"here"}`, `down`, `{"status":"up","probe":"there"}`} {
		if _, err := client.Put(t.Context(), fmt.Sprintf("/nearside/regions/region-%d/health/here", i), vote); err != nil {
			t.Fatal(err)
		}
	}
	lease, err := client.Grant(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	s := &session{Prober: p, lease: lease.ID, written: make(map[*subject]stored)}
	if err := s.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect := func(times map[int]int, others int) {
		t.Helper()
		for i := range 8 {
			want, special := times[i]
			if !special {
				want = others
			}
			if got := writes(t, client, fmt.Sprintf("/nearside/regions/region-%d/health/here", i)); got != want {
				t.Errorf("the vote on region-%d was written %d times, not %d", i, got, want)
			}
		}
	}
	expect(map[int]int{2: 2, 3: 2, 4: 2}, 1)
	enter(func(int) error { return dead })
	if err := s.write(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect(map[int]int{0: 1, 2: 3, 3: 3, 4: 3}, 2)
	for key, value := range keys(t, client, "/nearside/regions/") {
		if !strings.Contains(value, `"down"`) {
			t.Fatalf("%s = %s", key, value)
		}
	}
	if _, err := client.Delete(t.Context(), "/nearside/probes/here"); err != nil {
		t.Fatal(err)
	}
	enter(func(int) error { return nil })
	if err := s.write(t.Context()); !errors.Is(err, errTaken) {
		t.Errorf("without its key: %v", err)
	}
	expect(map[int]int{0: 1, 2: 3, 3: 3, 4: 3}, 2)
	if err := s.renew(t.Context()); !errors.Is(err, errTaken) {
		t.Errorf("renewed without its key: %v", err)
	}
}

// More votes than fit into one transaction are all written, also when all
// change at once.
func TestTellMany(t *testing.T) {
	t.Parallel()
	const n = 3*maxWrites + 7
	client := store(t)
	// Of an earlier run: as many that nobody casts any more.
	for i := range n {
		if _, err := client.Put(t.Context(), fmt.Sprintf("/nearside/services/casino/old-%d/health/here", i), `{"status":"down","probe":"here"}`); err != nil {
			t.Fatal(err)
		}
	}
	var dead atomic.Bool
	running(t, fixture(n, func(p *Probe) {
		often(p)
		p.Interval = time.Second
		if p.Service = "sportsbook"; p.Region == "region-0" {
			p.Service = ""
		}
	}), client, func(context.Context, *Probe) error {
		if dead.Load() {
			return errors.New("dead")
		}
		return nil
	})
	all := func(status string) func() bool {
		return func() bool {
			votes := keys(t, client, "/nearside/services/sportsbook/")
			if len(votes) != n-1 {
				return false
			}
			for _, value := range votes {
				if !strings.Contains(value, `{"status":"`+status+`","probe":"here","since":"`) {
					return false
				}
			}
			return strings.Contains(keys(t, client, "/nearside/regions/region-0/health/here")["/nearside/regions/region-0/health/here"], status)
		}
	}
	await(t, "votes that count", func() bool { return len(keys(t, client, "/nearside/probes/here")) == 1 })
	if !all("up")() {
		t.Error("the votes count before they are there")
	}
	if old := keys(t, client, "/nearside/services/casino/"); len(old) > 0 {
		t.Errorf("%d old votes count again", len(old))
	}
	dead.Store(true)
	await(t, "all down", all("down"))
}

// A target that nothing is known of for long does not keep the others waiting.
func TestTellUndecided(t *testing.T) {
	t.Parallel()
	client := store(t)
	old := `{"status":"down","probe":"here"}`
	if _, err := client.Put(t.Context(), "/nearside/regions/region-1/health/here", old); err != nil {
		t.Fatal(err)
	}
	running(t, fixture(2, func(p *Probe) {
		often(p)
		if p.Region == "region-1" {
			p.Interval, p.DownAfter = time.Hour, 2
		}
	}), client, func(_ context.Context, p *Probe) error {
		if p.Region == "region-1" {
			return errors.New("dead")
		}
		return nil
	})
	await(t, "votes that count", func() bool { return len(keys(t, client, "/nearside/probes/here")) == 1 })
	if votes := keys(t, client, "/nearside/regions/"); len(votes) != 2 || votes["/nearside/regions/region-1/health/here"] != old {
		t.Errorf("votes %v", votes)
	}
}
