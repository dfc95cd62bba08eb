package healthsync

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestHundredServers: a hundred servers at their usual pace have one state at one
// revision. A drain makes them write a verdict, a transition, and each of them
// once what it serves (twice where the machine is slow); then they are silent.
func TestHundredServers(t *testing.T) {
	if testing.Short() {
		t.Skip("a hundred servers take their time")
	}
	const many, drains = 100, 20
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
			if most := map[string]int{"verdicts": 1, "transitions": 1, "servers": 2 * many}[what]; count > most {
				t.Errorf("a drain made the servers write %d keys below %s/, not %d", count, what, most)
			}
		}
	}
	slices.Sort(taken)
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
