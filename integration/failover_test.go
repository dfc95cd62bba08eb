package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// failoverLimit is how long after the death of a region nobody is sent there any
// more, with the settings that everybody has.
const failoverLimit = 10 * time.Second

// TestFailover: three hosts probe all regions. Whatever becomes of one of them,
// nobody is sent elsewhere; and a region that dies is left by itself.
func TestFailover(t *testing.T) {
	t.Parallel()
	f := newField(t)
	p := f.probings

	f.phase("one host sees no region", func() (heal func()) {
		heal = f.blind(p[0])
		for _, r := range sixRegions {
			p[0].voted(t, f.etcd, r.name, "down")
		}
		return heal
	})
	for _, r := range sixRegions {
		p[0].voted(t, f.etcd, r.name, "up")
	}
	f.phase("one host is gone", func() (heal func()) {
		p[1].process.kill()
		p[1].counts(t, f.etcd, false)
		return func() { p[1].run(t) }
	})
	p[1].counts(t, f.etcd, true)
	f.phase("one host hangs", func() (heal func()) {
		p[2].cmd.Process.Signal(syscall.SIGSTOP)
		p[2].counts(t, f.etcd, false)
		return func() { p[2].cmd.Process.Signal(syscall.SIGCONT) }
	})
	p[2].counts(t, f.etcd, true)
	f.phase("one host is cut off from etcd", func() (heal func()) {
		heal = sever(t, p[0].node, f.store, silent)
		p[0].counts(t, f.etcd, false)
		return heal
	})
	p[0].counts(t, f.etcd, true)

	f.fails("eu-west", "eu-central", "it answers no more", func(r *dataCenter) { r.node.fallSilent(t) })
	p[0].process.kill()
	p[0].counts(t, f.etcd, false)
	f.fails("eu-central", "us-east", "its program has died, and one probe host is gone", func(r *dataCenter) { r.web.Close() })
}

// field is a server, the regions it sends players to, and hosts that probe them,
// each on a host of its own.
type field struct {
	t        *testing.T
	store    *node
	etcd     *clientv3.Client
	server   *server
	regions  map[string]*dataCenter
	probings []*probingNode
	watched  *watched
}

// dataCenter is a region with a health page.
type dataCenter struct {
	node *node
	web  *http.Server
}

// probingNode is a probing on a host of its own.
type probingNode struct {
	*probing
	node *node
}

func newField(t *testing.T) *field {
	t.Helper()
	network := newNetwork(t)
	f := &field{t: t, store: network.plug(t, "etcd", "10.66.0.1"), regions: make(map[string]*dataCenter)}
	cluster := &cluster{host: f.store.host}
	cluster.add(t, f.store.host, "http", f.store.port(2379), f.store.port(2380))
	cluster.begin(t)
	f.etcd = f.store.etcdClient(t, cluster.clients)
	probes := "probes:\n"
	for i, r := range sixRegions {
		d := newDataCenter(t, network.plug(t, r.name, fmt.Sprintf("10.66.1.%d", i+1)), func(http.ResponseWriter, *http.Request) {})
		f.regions[r.name] = d
		probes += fmt.Sprintf("  - {region: %s, http: \"http://%s/healthz\"}\n", r.name, d.node.port(80))
	}
	s := setup{regions: sixRegions, etcd: cluster.settings(), ttl: 30, rules: probes}
	for i := range 3 {
		n := network.plug(t, fmt.Sprintf("p%d", i+1), fmt.Sprintf("10.66.0.3%d", i+1))
		p := &probing{name: n.name, server: &server{host: n.host, dir: t.TempDir(), address: n.port(53), admin: n.port(8053)}}
		s.address, s.admin = p.address, p.admin
		write(t, p.path("nearside.yaml"), configuration(s))
		p.run(t)
		f.probings = append(f.probings, &probingNode{p, n})
	}
	ns := network.plug(t, "ns1", "10.66.0.21")
	s.host, s.address, s.admin = ns.host, ns.port(53), ns.port(8053)
	f.server = newServer(t, s)
	for _, p := range f.probings {
		p.counts(t, f.etcd, true)
		for _, r := range sixRegions {
			p.voted(t, f.etcd, r.name, "up")
		}
	}
	f.watched = watch(t, f.server)
	f.watched.settled("eu-west")
	return f
}

func newDataCenter(t testing.TB, n *node, page http.HandlerFunc) *dataCenter {
	t.Helper()
	listener, err := n.listen("tcp", n.port(80).String())
	if err != nil {
		t.Fatal(err)
	}
	d := &dataCenter{node: n, web: &http.Server{Handler: page}}
	go d.web.Serve(listener)
	t.Cleanup(func() { d.web.Close() })
	return d
}

// fallSilent makes the host drop whatever comes.
func (n *node) fallSilent(t testing.TB) {
	t.Helper()
	succeed(t, n.command("iptables", "--wait", "--append", "INPUT", "-j", "DROP"))
}

// blind parts a probing from all regions, and nothing else.
func (f *field) blind(p *probingNode) (heal func()) {
	var heals []func()
	for _, d := range f.regions {
		heals = append(heals, sever(f.t, p.node, d.node, silent))
	}
	return func() {
		for _, heal := range heals {
			heal()
		}
	}
}

// phase breaks something that must not change any answer, and heals it.
func (f *field) phase(what string, breaks func() (heal func())) {
	f.t.Helper()
	heal := breaks()
	f.server.caught(f.t, put(f.t, f.etcd, "/nearside/regions/eu-west/health/none", "up"))
	remove(f.t, f.etcd, "/nearside/regions/eu-west/health/none")
	heal()
	if changes := f.watched.changes.Load(); changes > 0 {
		f.t.Errorf("%s: %d answers were others than before", what, changes)
	}
	found, err := f.etcd.Get(f.t.Context(), "/nearside/transitions/", clientv3.WithPrefix())
	if err != nil {
		f.t.Fatal(err)
	}
	for _, kv := range found.Kvs {
		f.t.Errorf("%s: %s is %s", what, kv.Key, kv.Value)
	}
}

// fails lets a region die, and waits until players are sent to another one.
func (f *field) fails(name, next, how string, die func(*dataCenter)) {
	f.t.Helper()
	began := time.Now()
	die(f.regions[name])
	within(f.t, failoverLimit, name+": "+how+": players on "+next, func() error { return mustBe(next, f.watched.last()) })
	f.t.Logf("%s: %s: players are on %s after %v", name, how, next, time.Since(began).Round(10*time.Millisecond))
	var v struct{ From, To string }
	eventually(f.t, "the record of "+name, func() error {
		key := read(f.t, f.etcd, "/nearside/transitions/"+name)
		if err := json.Unmarshal([]byte(key.value), &v); err != nil || v.From != "up" || v.To != "down" {
			return fmt.Errorf("%v: %s", err, key.value)
		}
		return nil
	})
	f.watched.settled(next)
}

// watched is a server that is asked without end.
type watched struct {
	t       testing.TB
	changes atomic.Int64 // answers with another region than the first since it settled

	mu     sync.Mutex
	region string // of the newest answer
	home   string
}

// watch asks a server for play, as somebody in Ireland, until the test ends.
func watch(t testing.TB, s *server) *watched {
	t.Helper()
	w := &watched{t: t}
	c := s.client(t, "udp")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() {
		cancel()
		<-done
	})
	go func() {
		defer close(done)
		for ; ctx.Err() == nil; wait(ctx, 5*time.Millisecond) {
			answer, err := c.exchange(query("play.bet.example.", dns.TypeA, ireland))
			region := "nowhere"
			if err != nil {
				region = err.Error()
			} else if found := addresses(answer); len(found) == 1 {
				region = regionOf(sixRegions, found[0])
			}
			w.mu.Lock()
			if w.region = region; w.home != "" && region != w.home {
				w.changes.Add(1)
			}
			w.mu.Unlock()
		}
	}()
	return w
}

func (w *watched) last() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.region
}

// settled waits for a region, from which answers must not change after that.
func (w *watched) settled(home string) {
	w.t.Helper()
	eventually(w.t, "players on "+home, func() error { return mustBe(home, w.last()) })
	w.mu.Lock()
	defer w.mu.Unlock()
	w.home = home
	w.changes.Store(0)
}
