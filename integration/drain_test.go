package integration

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestNoOldAnswerAfterNew: once anybody has seen the first answer without the
// drained region, nobody who asks after that gets it any more, whatever socket,
// protocol and worker of the server his query meets.
func TestNoOldAnswerAfterNew(t *testing.T) {
	t.Parallel()
	store := newCluster(t, thisMachine, 1)
	s := newServer(t, setup{etcd: store.settings()})
	etcd := store.client(t)

	// Many source ports, so that every worker is met: the kernel spreads
	// sockets over them by a hash of the addresses.
	var clients []*client
	for range 16 {
		clients = append(clients, s.client(t, "udp"))
	}
	for range 4 {
		clients = append(clients, s.client(t, "tcp"))
	}
	for round := range 40 {
		from, to := "eu-west", "eu-central"
		change := func() { put(t, etcd, "/nearside/regions/eu-west/drain", "") }
		if round%2 == 1 {
			from, to = to, from
			change = func() { remove(t, etcd, "/nearside/regions/eu-west/drain") }
		}
		var seen atomic.Bool // an answer with the new region was received
		var wait sync.WaitGroup
		failures := make(chan error, len(clients))
		for _, c := range clients {
			wait.Go(func() { failures <- c.cross(from, to, &seen) })
		}
		change()
		wait.Wait()
		close(failures)
		for err := range failures {
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
	}
}

// cross asks until the answer has gone from one region to the other and a
// number of answers have confirmed it. seen is shared by all clients.
func (c *client) cross(from, to string, seen *atomic.Bool) error {
	deadline := time.Now().Add(patience)
	for confirmed := 0; confirmed < 20; {
		mustBeNew := seen.Load() // BEFORE the query is sent
		answer, err := c.exchange(query("play.bet.example.", dns.TypeA, ireland))
		if err != nil {
			return err
		}
		found := addresses(answer)
		if len(found) != 1 {
			return fmt.Errorf("%d addresses", len(found))
		}
		switch region := regionOf(sixRegions, found[0]); {
		case region == to:
			seen.Store(true)
			confirmed++
		case region != from:
			return fmt.Errorf("on %s, neither %s nor %s", region, from, to)
		case mustBeNew:
			return fmt.Errorf("an answer with %s to a query sent after somebody had received %s", from, to)
		case time.Now().After(deadline):
			return fmt.Errorf("on %s for %v", from, patience)
		}
	}
	return nil
}

// BenchmarkStart measures the time from the start of the process to its first
// answer, with the example of the README: built-in geography, embedded etcd.
func BenchmarkStart(b *testing.B) {
	var taken []time.Duration
	for b.Loop() {
		b.StopTimer()
		e := newExample(b)
		b.StartTimer()
		start := time.Now()
		e.launch(b)
		taken = append(taken, time.Since(start))
		b.StopTimer()
		e.stop(b)
		b.StartTimer()
	}
	report(b, taken)
}

// report adds the percentiles to what the benchmark prints.
func report(b *testing.B, taken []time.Duration) {
	slices.Sort(taken)
	for _, m := range []struct {
		unit string
		part float64
	}{{"p50-ms", 0.50}, {"p99-ms", 0.99}, {"max-ms", 1}} {
		i := min(int(m.part*float64(len(taken))), len(taken)-1)
		b.ReportMetric(float64(taken[i].Microseconds())/1000, m.unit)
	}
}
