package integration

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestGuard: whoever drains too much is refused by the servers, also with etcdctl.
// What was refused does not come into force later, by itself.
func TestGuard(t *testing.T) {
	t.Parallel()
	store := newCluster(t, thisMachine, 1)
	etcd := store.client(t)
	servers := []*server{newServer(t, setup{etcd: store.settings()}), newServer(t, setup{etcd: store.settings()})}
	on := func(region string) {
		t.Helper()
		for _, s := range servers {
			c := s.client(t, "udp")
			eventually(t, "players on "+region, func() error { return mustBe(region, s.from(t, c, ireland)) })
		}
	}
	for _, region := range []string{"us-east", "us-west", "sa-east"} {
		store.drain(t, region)
	}
	on("eu-west")

	store.drain(t, "eu-west") // the fourth of six
	var v struct {
		Accepted bool
		Why      string
	}
	eventually(t, "a verdict", func() error {
		key := read(t, etcd, "/nearside/verdicts/regions/eu-west/drain")
		if err := json.Unmarshal([]byte(key.value), &v); err != nil || v.Accepted || !strings.Contains(v.Why, "guard.max_out is 50%") {
			return fmt.Errorf("%v: %s", err, key.value)
		}
		return nil
	})
	on("eu-west")
	for _, s := range servers {
		eventually(t, "the refused key in status", func() error {
			if st := s.status(t); !slices.ContainsFunc(st.State.Rejected, func(r rejectedKey) bool {
				return r.Key == "regions/eu-west/drain" && strings.Contains(r.Why, "guard.max_out is 50%")
			}) {
				return fmt.Errorf("%+v", st.State.Rejected)
			}
			return nil
		})
	}
	store.undrain(t, "us-east")
	for _, s := range servers {
		s.caught(t, put(t, etcd, "/nearside/regions/sa-east/health/none", "up"))
	}
	on("eu-west")

	store.drain(t, "us-east")
	if r := finish(t, servers[0].nearside("drain", "eu-west")); r.status != 1 || !strings.Contains(r.stderr, "guard.max_out is 50%") || !strings.Contains(r.stderr, "--force") {
		t.Errorf("drain ended with %d: %s%s", r.status, r.stdout, r.stderr)
	}
	on("eu-west")
	succeed(t, servers[0].nearside("drain", "eu-west", "--force"))
	on("eu-central")
}
