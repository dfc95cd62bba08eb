package dnsserver

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestSwapWaitsForNoCounters: while the counters of a view that is gone are added
// up, which takes long with many zones, a new state is served at once.
func TestSwapWaitsForNoCounters(t *testing.T) {
	s, b := serveBench(t, "127.0.0.1:0")
	for c := range s.allCounts {
		c.retired.folding.Lock()
	}
	done := make(chan struct{})
	go func() {
		s.Swap(b.snapshot.WithZones(b.snapshot.zones))
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Error("it waits")
	}
	for c := range s.allCounts {
		c.retired.folding.Unlock()
	}
	<-done
}

// TestRetiredCountersAreFolded: views that are gone are let go of, though nobody
// asks for the counters.
func TestRetiredCountersAreFolded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{workers: []*udpWorker{{}}, streams: &streams{}}
		ctx, end := context.WithCancel(t.Context())
		go s.foldCounts(ctx)
		c := &s.workers[0].counts
		for range 3 {
			z := &zoneCounts{[]string{"bet.example."}, make([]atomic.Uint64, 1)}
			z.n[0].Add(2)
			c.retire(z, nil)
		}
		time.Sleep(foldPeriod)
		synctest.Wait()
		if len(c.retired.views) > 0 || c.retired.total["bet.example."] != 6 {
			t.Errorf("%d views are kept, %v is counted", len(c.retired.views), c.retired.total)
		}
		end()
	})
}
