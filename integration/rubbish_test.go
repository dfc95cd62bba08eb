package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// rubbish is what people and programs write by mistake. None of it is a drain
// or a vote.
var rubbish = map[string]string{
	"nothing":            "", // drain keys apart: there it is a drain
	"64 KiB":             strings.Repeat("x", 64<<10),
	"1.5 MB":             strings.Repeat("{", 1_500_000),
	"not UTF-8":          "\xff\xfe\x00down",
	"a NUL":              "true\x00",
	"a word":             "yes",
	"another case":       "Down",
	"a number":           "1",
	"no percentage":      "150%",
	"JSON null":          "null",
	"a JSON list":        `["drain"]`,
	"a wrong type":       `{"reason": 7, "status": true}`,
	"an unknown field":   `{"reason": "x", "status": "down", "colour": "red"}`,
	"a repeated field":   `{"reason": "x", "reason": "y", "status": "down", "status": "up"}`,
	"a future version":   `{"version": 99, "drain": true}`,
	"half a JSON object": `{"reason": "x`,
	"two JSON objects":   `{"reason": "x"}{"reason": "y"}`,
}

// rubbishKeys are keys of every kind below the prefix, and some of no kind.
// Those that are no input need not show in status.
var rubbishKeys = []rubbishKey{
	{"regions/us-east/drain", true},             // drained before
	{"regions/eu-west/drain", true},             // never written before
	{"regions/sa-east/drain", true},             // false before
	{"regions/ap-southeast/health/here", true},  // down before
	{"regions/ap-southeast/health/there", true}, // down before
	{"regions/eu-west/health/here", true},       // never written before
	{"regions/eu-west/heartbeat/agent", false},  // whatever it says, the agent lives
	{"regions/atlantis/drain", true},
	{"regions/EU_WEST/drain", true},
	{"regions/eu-west/dran", true},
	{"regions/eu-west", true},
	{"services/sportsbook/eu-west/drain", true},
	{"services/sportsbook/eu-west/health/here", true},
	{"probes/here", false}, // the same for a probe host
	{"verdicts/regions/eu-west/drain", false},
	{"transitions/eu-west", false},
	{"servers/ns1", false},
	{"alive/ns1", false},
	{"nonsense", true},
}

type rubbishKey struct {
	key   string
	input bool
}

// takes reports whether value means something at the key.
func (k rubbishKey) takes(value string) bool {
	return value == "" && strings.HasSuffix(k.key, "/drain")
}

// TestRubbish: what is not understood changes nothing, shows in status, and
// stands in the way of nothing else.
func TestRubbish(t *testing.T) {
	t.Parallel()
	store := newCluster(t, thisMachine, 1)
	s := newServer(t, setup{etcd: store.settings()})
	etcd := store.client(t)
	put(t, etcd, "/nearside/regions/us-east/drain", `{"reason": "maintenance", "by": "anna"}`)
	put(t, etcd, "/nearside/regions/sa-east/drain", "false")
	put(t, etcd, "/nearside/regions/ap-southeast/health/here", "down")
	s.caught(t, put(t, etcd, "/nearside/regions/ap-southeast/health/there", `{"status": "down", "detail": "no answer"}`))
	if c := s.client(t, "udp"); s.from(t, c, singapore) == "ap-southeast" || s.from(t, c, america) == "us-east" {
		t.Fatal("the region that is down and the one that is drained are still in use")
	}
	before := panel(t, s)

	for what, value := range rubbish {
		var revision int64
		for _, k := range rubbishKeys {
			if !k.takes(value) {
				revision = put(t, etcd, "/nearside/"+k.key, value)
			}
		}
		s.caught(t, revision)
		samePanel(t, s, before, what)
		rejected := s.status(t).State.Rejected
		for _, k := range rubbishKeys {
			shown := slices.ContainsFunc(rejected, func(r rejectedKey) bool { return strings.HasSuffix(r.Key, k.key) && r.Why != "" })
			if k.input && !k.takes(value) && !shown {
				t.Errorf("%s: status does not show %s", what, k.key)
			}
		}
	}

	s.kill()
	s.launch(t)
	samePanel(t, s, before, "after a crash")

	// Everything else goes on.
	store.drain(t, "eu-central")
	c := s.client(t, "udp")
	eventually(t, "a drain beside rubbish", func() error { return mustBe("eu-west", s.from(t, c, germany)) })
	store.drain(t, "eu-west")
	eventually(t, "a drain over rubbish", func() error {
		if on := s.from(t, c, ireland); on == "eu-west" {
			return fmt.Errorf("still on %s", on)
		}
		return nil
	})
	s.caught(t, remove(t, etcd, "/nearside/regions/us-east/drain"))
	if got := s.from(t, c, america); got != "us-east" {
		t.Errorf("with the drain and the rubbish over it deleted, a client in New York is on %s", got)
	}
}

// TestManyKeys: somebody fills etcd with things that are not ours.
func TestManyKeys(t *testing.T) {
	t.Parallel()
	store := newCluster(t, thisMachine, 1)
	etcd := store.client(t)
	const keys, batch = 20_000, 100 // etcd takes 128 operations in one transaction
	for i := 0; i < keys; i += batch {
		var puts []clientv3.Op
		for j := range batch {
			puts = append(puts, clientv3.OpPut(fmt.Sprintf("/nearside/regions/r%d/drain", i+j), ""))
		}
		if _, err := etcd.Txn(t.Context()).Then(puts...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	s := newServer(t, setup{etcd: store.settings()})
	c := s.client(t, "udp")
	store.drain(t, "eu-west")
	eventually(t, "a drain beside many keys", func() error { return mustBe("eu-central", s.from(t, c, ireland)) })
}
