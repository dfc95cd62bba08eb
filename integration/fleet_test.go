package integration

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestFleet: ten servers that follow one cluster give the same answers at the
// same revision, whatever came before.
func TestFleet(t *testing.T) {
	t.Parallel()
	const fleet, writes = 10, 60
	store := newCluster(t, thisMachine, 3)
	etcd := store.client(t)
	var servers []*server
	for range fleet {
		servers = append(servers, newServer(t, setup{etcd: store.settings()}))
	}
	random := rand.New(rand.NewPCG(1, 1))
	for n := range writes {
		key := "/nearside/regions/" + sixRegions[random.IntN(len(sixRegions))].name
		var revision int64
		switch random.IntN(4) {
		case 0:
			revision = put(t, etcd, key+"/drain", "")
		case 1:
			revision = remove(t, etcd, key+"/drain")
		default:
			reporter := fmt.Sprintf("/health/prober-%d", random.IntN(3))
			revision = put(t, etcd, key+reporter, []string{"up", "down"}[random.IntN(2)])
		}
		if n%5 != 4 {
			continue // these come in a row, and nobody waits in between
		}
		at := agree(t, servers, revision)
		first := panel(t, servers[0])
		for i, s := range servers[1:] {
			samePanel(t, s, first, fmt.Sprintf("server %d at revision %d, beside the first", i+1, at))
		}
	}
}

// agree waits until all servers have applied the same revision, not before the
// given one, and returns it.
func agree(t testing.TB, servers []*server, revision int64) (at int64) {
	t.Helper()
	eventually(t, "one revision on all servers", func() error {
		at = int64(servers[0].metric(t, "state_revision"))
		for i, s := range servers {
			if now := int64(s.metric(t, "state_revision")); now != at || now < revision {
				return fmt.Errorf("server %d is at %d, the first at %d, the last write at %d", i, now, at, revision)
			}
		}
		return nil
	})
	return at
}
