package integration

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestFleet: ten servers that follow one cluster give the same answers at the
// same revision, whatever came before. After a drain all of them tell what they
// serve, and are silent.
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

	remove(t, etcd, "/nearside/regions/eu-west/drain")
	told(t, etcd, servers, put(t, etcd, "/nearside/regions/eu-west/health/none", "up"))
	began := put(t, etcd, "/nearside/regions/eu-west/drain", "")
	told(t, etcd, servers, began)
	count := make(map[string]int)
	for response := range etcd.Watch(t.Context(), "/nearside/", clientv3.WithPrefix(), clientv3.WithRev(began+1)) {
		for _, event := range response.Events {
			top, _, _ := strings.Cut(strings.TrimPrefix(string(event.Kv.Key), "/nearside/"), "/")
			count[top]++
		}
		if count["end"] > 0 {
			break
		}
		if count["servers"] >= fleet && count["asked"] == 0 {
			count["asked"]++
			put(t, etcd, "/nearside/end/of/it", "")
		}
	}
	for top, most := range map[string]int{"verdicts": 1, "transitions": 1, "servers": 2 * fleet} {
		if count[top] > most {
			t.Errorf("a drain made the servers write %d keys below %s/, not %d", count[top], top, most)
		}
	}
}

// told waits until all servers say in etcd that they serve a revision.
func told(t testing.TB, etcd *clientv3.Client, servers []*server, revision int64) {
	t.Helper()
	eventually(t, fmt.Sprintf("revision %d on all servers, by what they say", revision), func() error {
		for _, s := range servers {
			var says struct{ Revision int64 }
			key := read(t, etcd, fmt.Sprintf("/nearside/servers/ns-%d", s.address.Port()))
			if err := json.Unmarshal([]byte(key.value), &says); err != nil || says.Revision < revision {
				return fmt.Errorf("%s: %s, %v", s.address, key.value, err)
			}
		}
		return nil
	})
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
