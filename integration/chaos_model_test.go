package integration

import (
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestChaosModel: who judges the servers is judged first. Clients try eu-west,
// then us-east; every revision was written by an attempt that began at as many
// seconds.
func TestChaosModel(t *testing.T) {
	t.Parallel()
	const west, east = 0, 1
	now := time.Duration(0)
	h := newHistory(func() time.Duration { return now }, t.Logf)
	h.learn([][]int{{west, east}})
	write := func(revision int64, deleted bool, pairs ...string) {
		now = time.Duration(revision) * time.Second
		a := h.begin()
		h.end(a, revision)
		var events []*clientv3.Event
		for i := 0; i < len(pairs); i += 2 {
			e := &clientv3.Event{Type: clientv3.EventTypePut}
			if deleted {
				e.Type = clientv3.EventTypeDelete
			}
			fresh(&e.Kv)
			e.Kv.Key, e.Kv.Value, e.Kv.ModRevision = []byte("/nearside/regions/"+pairs[i]), []byte(pairs[i+1]), revision
			events = append(events, e)
		}
		h.hear(events)
	}
	write(1, false, "eu-west/drain", "")
	write(2, false, "eu-west/drain", "rubbish is all that is not a drain")
	write(3, false, "eu-west/drain", "false")
	write(4, false, "eu-west/health/p1", "down")
	write(5, false, "eu-west/health/p2", "up") // a tie
	write(6, false, "eu-west/health/p3", "up")
	write(7, false, "eu-west/drain", "", "sa-east/drain", "true")
	write(8, true, "eu-west/drain", "", "sa-east/drain", "") // held
	write(9, false, "eu-west/drain", "yes")                  // still
	write(10, false, "eu-west/drain", "0%")

	for _, c := range []struct {
		floor int64 // what the server has applied
		at    float64
		want  choices
	}{
		{0, 0.5, only(west)},
		{0, 1.5, only(west) | only(east)}, // it may know, or not
		{1, 1.5, only(east)},
		{2, 2.5, only(east)},
		{2, 3.5, only(west) | only(east)},
		{3, 3.5, only(west)},
		{4, 4.5, only(east)},
		{5, 5.5, only(west) | only(east)},
		{6, 6.5, only(west)},
		{7, 9.5, only(east)},
		{8, 9.5, only(east)},
		{9, 10.5, only(west) | only(east)},
		{10, 10.5, only(west)},
		{3, 10.5, only(west) | only(east)},
	} {
		got := h.allowed(0, position{0, c.floor}, 0, time.Duration(c.at*float64(time.Second)))
		if got != c.want {
			t.Errorf("revision %d applied, at %v s: %s, want %s", c.floor, c.at, got.names(chaosRegions), c.want.names(chaosRegions))
		}
	}
}

// fresh makes what the pointer is to point at, whatever it is called.
func fresh[T any](p **T) { *p = new(T) }
