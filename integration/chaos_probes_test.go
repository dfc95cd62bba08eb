package integration

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"
)

// probedMembers are the regions in which real probe hosts check a service.
var probedMembers = []string{"us-east", "us-west"}

const probedService = "casino"

// watchtower is a `nearside probe` on a host of its own.
type watchtower struct {
	*probing
	node *node
}

// backends is what they check: a page for each region.
type backends struct {
	*dataCenter
	mu   sync.Mutex
	sick map[string]bool
}

func newBackends(tr *trial) *backends {
	b := &backends{sick: make(map[string]bool)}
	b.dataCenter = newDataCenter(tr.t, tr.network.plug(tr.t, "backends", "10.66.1.1"), func(w http.ResponseWriter, r *http.Request) {
		if b.isSick(strings.TrimPrefix(r.URL.Path, "/")) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	return b
}

func (b *backends) isSick(region string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sick[region]
}

func (b *backends) set(region string, sick bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sick[region] = sick
}

func newWatchtower(tr *trial, i int) *watchtower {
	n := tr.network.plug(tr.t, fmt.Sprintf("r%d", i+1), fmt.Sprintf("10.66.0.4%d", i+1))
	w := &watchtower{node: n, probing: &probing{name: n.name, server: &server{host: n.host, dir: tr.t.TempDir(), address: n.port(53), admin: n.port(8053)}}}
	probes := "probes:\n"
	for _, name := range probedMembers {
		probes += fmt.Sprintf("  - {region: %s, service: %s, http: \"http://%s/%s\", interval: 500ms, timeout: 400ms, down_after: 2, up_after: 2}\n",
			name, probedService, tr.backends.node.port(80), name)
	}
	write(tr.t, w.path("nearside.yaml"), configuration(setup{address: w.address, admin: w.admin, regions: chaosRegions,
		etcd: tr.store.settings(), ttl: int(chaosTTL.Seconds()), beating: beatingRegions, rules: chaosRules() + probes}))
	w.run(tr.t)
	return w
}

// finish waits until it votes as it must, and that counts.
func (w *watchtower) finish(tr *trial) {
	const limit = time.Minute // after a crash the lease of the one before has to end
	within(tr.t, limit, "the votes of "+w.name, func() error {
		if err := w.process.failed(); err != nil {
			tr.t.Fatalf("%s: %v:\n%s", w.name, err, lastLines(w.output.String(), 20))
		}
		if !read(tr.t, tr.etcd, "/nearside/probes/"+w.name).there {
			return fmt.Errorf("they do not count")
		}
		for _, name := range probedMembers {
			key := read(tr.t, tr.etcd, fmt.Sprintf("/nearside/services/%s/%s/health/%s", probedService, name, w.name))
			if b, understood := meansVote(key.value); !key.there || !understood || b.down != tr.backends.isSick(name) || b.probe != w.name {
				return fmt.Errorf("on %s: %q", name, key.value)
			}
		}
		return nil
	})
}

func (tr *trial) oneWatchtower(random *rand.Rand) *watchtower {
	return tr.watchtowers[random.IntN(len(tr.watchtowers))]
}

// cutWatchtower parts a probe host from etcd: its votes count no more after a while.
func (tr *trial) cutWatchtower(random *rand.Rand) fault {
	return tr.part("a probe host is cut off", []*node{tr.oneWatchtower(random).node}, tr.members, cut(random.IntN(int(cuts))))
}

// blindWatchtower parts a probe host from what it probes.
func (tr *trial) blindWatchtower(random *rand.Rand) fault {
	return tr.part("a probe host is blind", []*node{tr.oneWatchtower(random).node}, []*node{tr.backends.node}, cut(random.IntN(int(cuts))))
}

// pauseWatchtower stops a probe host in its tracks.
func (tr *trial) pauseWatchtower(random *rand.Rand) fault {
	w := tr.oneWatchtower(random)
	return fault{
		kind: "a probe host pauses", on: w.name, claims: []string{"process of " + w.name},
		strike: func() { w.cmd.Process.Signal(syscall.SIGSTOP) },
		heal:   func() { w.cmd.Process.Signal(syscall.SIGCONT) },
	}
}

// crashWatchtower kills a probe host and starts it again.
func (tr *trial) crashWatchtower(random *rand.Rand) fault {
	w := tr.oneWatchtower(random)
	return fault{
		kind: "a probe host is killed", on: w.name, claims: []string{"process of " + w.name},
		strike: func() {
			w.hidden = true
			w.process.kill()
		},
		heal: func() { w.run(tr.t) },
	}
}
