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
	hang.Store(false)
	close(gate)
	await(t, "votes that count again", live)
	await(t, "somebody who knows", func() bool { return p.State().Live })
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
