package integration

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// probed is a health page that is well until told otherwise.
type probed struct {
	*httptest.Server
	status atomic.Int32
}

func newProbed(t testing.TB) *probed {
	t.Helper()
	tt := &probed{}
	tt.status.Store(http.StatusOK)
	tt.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(int(tt.status.Load()))
	}))
	t.Cleanup(tt.Close)
	return tt
}

// probing is a `nearside probe` with a folder and a name of its own.
type probing struct {
	*process
	*server // for its commands and its admin address; it serves nothing
	name    string
}

// newProbing starts a probing. probes are the elements of the list, in YAML.
func newProbing(t testing.TB, c *cluster, name string, probes ...string) *probing {
	t.Helper()
	p := &probing{name: name, server: &server{dir: t.TempDir(), address: loopback(t), admin: loopback(t)}}
	write(t, p.path("nearside.yaml"), configuration(setup{address: p.address, admin: p.admin, etcd: c.settings(), regions: sixRegions, ttl: 30})+
		"probes:\n  - "+strings.Join(probes, "\n  - ")+"\n")
	p.run(t)
	return p
}

func (p *probing) run(t testing.TB) {
	t.Helper()
	p.process = start(t, p.nearside("probe", "--host", p.name))
}

// quick is a probe of a region that needs no patience.
func quick(region string, at *probed) string {
	return fmt.Sprintf("{region: %s, http: %q, interval: 500ms, timeout: 500ms, down_after: 2, up_after: 2}", region, at.URL+"/healthz")
}

// kept is a key of etcd.
type kept struct {
	there    bool
	value    string
	version  int64 // how often it was written
	revision int64 // when it was written last
	lease    int64
}

// vote is what a probing writes.
type vote struct {
	Status, Probe, Since, Detail string
}

func read(t testing.TB, client *clientv3.Client, key string) kept {
	t.Helper()
	found, err := client.Get(t.Context(), key)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	if len(found.Kvs) == 0 {
		return kept{}
	}
	kv := found.Kvs[0]
	return kept{true, string(kv.Value), kv.Version, kv.ModRevision, kv.Lease}
}

func voteKey(region, host string) string { return "/nearside/regions/" + region + "/health/" + host }

// voted waits until the vote of a host on a region says status.
func (p *probing) voted(t testing.TB, client *clientv3.Client, region, status string) (v vote, key kept) {
	t.Helper()
	eventually(t, fmt.Sprintf("the vote of %s that %s is %s", p.name, region, status), func() error {
		if err := p.process.failed(); err != nil {
			t.Fatalf("%v:\n%s", err, p.output)
		}
		key = read(t, client, voteKey(region, p.name))
		v = vote{}
		if err := json.Unmarshal([]byte(key.value), &v); key.there && err != nil {
			t.Fatalf("vote %s: %v", key.value, err)
		}
		if v.Status != status {
			return fmt.Errorf("it is %q", key.value)
		}
		return nil
	})
	return v, key
}

// counts waits until the votes of a host count, or do not.
func (p *probing) counts(t testing.TB, client *clientv3.Client, want bool) kept {
	t.Helper()
	var key kept
	eventually(t, fmt.Sprintf("%s alive: %v", p.name, want), func() error {
		key = read(t, client, "/nearside/probes/"+p.name)
		if key.there != want {
			return fmt.Errorf("it is not so:\n%s", lastLines(p.output.String(), 5))
		}
		return nil
	})
	if want && key.lease == 0 {
		t.Errorf("the key of %s has no lease", p.name)
	}
	return key
}

func (p *probing) page(t testing.TB, path string) string {
	t.Helper()
	page, err := p.get(path)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return page
}

// checks returns how many checks of a region passed.
func (p *probing) checks(t testing.TB, region string) (n int) {
	t.Helper()
	for line := range strings.Lines(p.page(t, "/metrics")) {
		if strings.HasPrefix(line, "nearside_probe_results_total{") && strings.Contains(line, `region="`+region+`"`) && strings.Contains(line, `result="passed"`) {
			fmt.Sscan(line[strings.LastIndex(line, " "):], &n)
		}
	}
	return n
}

// A vote is written once at the start and when it changes, with since and why;
// a clean stop makes it count no more, and does not say down.
func TestProbeVotes(t *testing.T) {
	t.Parallel()
	c := newCluster(t, thisMachine, 1)
	etcd := c.client(t)
	west, east := newProbed(t), newProbed(t)
	began := time.Now()
	p := newProbing(t, c, "dublin-1", quick("eu-west", west), quick("us-east", east))

	v, key := p.voted(t, etcd, "eu-west", "up")
	if v.Probe != "dublin-1" || v.Detail != "" || key.version != 1 || key.lease != 0 {
		t.Errorf("the first vote is %+v, %+v", v, key)
	}
	p.voted(t, etcd, "us-east", "up")
	p.counts(t, etcd, true)
	for _, path := range []string{"/healthz", "/readyz"} {
		if text := p.page(t, path); text != "ok\n" {
			t.Errorf("%s says %q", path, text)
		}
	}
	// Nothing is written while nothing changes.
	before, n := put(t, etcd, "/ready", ""), p.checks(t, "eu-west")
	eventually(t, "more checks", func() error {
		if more := p.checks(t, "eu-west"); more < n+8 {
			return fmt.Errorf("%d", more-n)
		}
		return nil
	})
	if writes := put(t, etcd, "/ready", "") - before - 1; writes != 0 {
		t.Errorf("%d writes without a change", writes)
	}

	west.status.Store(http.StatusServiceUnavailable)
	v, key = p.voted(t, etcd, "eu-west", "down")
	if since, err := time.Parse(time.RFC3339, v.Since); err != nil || since.Before(began.Add(-time.Second)) || since.After(time.Now().Add(time.Second)) {
		t.Errorf("down since %q: %v", v.Since, err)
	}
	if v.Detail != west.URL+"/healthz: status 503" || key.version != 2 {
		t.Errorf("the vote is %+v, written %d times", v, key.version)
	}
	if page := p.page(t, "/metrics"); !strings.Contains(page, fmt.Sprintf("nearside_probe_up{region=\"eu-west\",service=\"\",target=\"%s/healthz\"} 0", west.URL)) ||
		!strings.Contains(page, fmt.Sprintf("nearside_probe_up{region=\"us-east\",service=\"\",target=\"%s/healthz\"} 1", east.URL)) ||
		!strings.Contains(page, `nearside_probes_live{host="dublin-1"} 1`) {
		t.Errorf("metrics:\n%s", page)
	}
	west.status.Store(http.StatusOK)
	if _, key = p.voted(t, etcd, "eu-west", "up"); key.version != 3 {
		t.Errorf("the vote was written %d times", key.version)
	}
	east.Close()
	v, _ = p.voted(t, etcd, "us-east", "down")
	if !strings.HasSuffix(v.Detail, "connect: connection refused") {
		t.Errorf("the vote is %+v", v)
	}

	p.process.stop(t)
	if read(t, etcd, "/nearside/probes/dublin-1").there {
		t.Error("the votes count after a clean stop")
	}
	if key = read(t, etcd, voteKey("eu-west", p.name)); !strings.Contains(key.value, `"up"`) || key.version != 3 {
		t.Errorf("after a clean stop the vote is %+v", key)
	}
}

// Where the lease is lost there is a new one, and votes are written again that
// are not as they should be. Votes of this host that nobody casts any more are
// deleted, or they would count.
func TestProbeLeaseLost(t *testing.T) {
	t.Parallel()
	c := newCluster(t, thisMachine, 1)
	etcd := c.client(t)
	west, east := newProbed(t), newProbed(t)
	p := newProbing(t, c, "dublin-1", quick("eu-west", west), quick("us-east", east))
	p.voted(t, etcd, "eu-west", "up")
	_, kept := p.voted(t, etcd, "us-east", "up")
	old := p.counts(t, etcd, true)

	put(t, etcd, voteKey("eu-west", p.name), `{"status":"down","probe":"dublin-1","since":"2026-11-23T18:00:00Z"}`)
	put(t, etcd, voteKey("sa-east", p.name), `{"status":"down","probe":"dublin-1","since":"2026-11-23T18:00:00Z"}`)
	put(t, etcd, voteKey("us-west", p.name), "down") // by hand: none of ours
	put(t, etcd, voteKey("us-west", "dublin-2"), `{"status":"down","probe":"dublin-2"}`)
	if _, err := etcd.Revoke(t.Context(), clientv3.LeaseID(old.lease)); err != nil {
		t.Fatal(err)
	}
	p.voted(t, etcd, "eu-west", "up")
	if now := p.counts(t, etcd, true); now.lease == old.lease {
		t.Error("the lease is the old one")
	}
	for key, want := range map[string]bool{voteKey("sa-east", p.name): false, voteKey("us-west", p.name): true, voteKey("us-west", "dublin-2"): true} {
		if is := read(t, etcd, key).there; is != want {
			t.Errorf("%s there: %v", key, is)
		}
	}
	if now := read(t, etcd, voteKey("us-east", p.name)); now != kept {
		t.Errorf("the vote on us-east was right, and yet written again: %+v", now)
	}
	// Whoever deletes the key makes the votes count no more; it comes again.
	remove(t, etcd, "/nearside/probes/dublin-1")
	p.counts(t, etcd, true)
	west.status.Store(500)
	p.voted(t, etcd, "eu-west", "down")
}

// A probing that hangs as a whole has no votes that count; when it goes on, what
// it says is what it sees then.
func TestProbeStopped(t *testing.T) {
	t.Parallel()
	c := newCluster(t, thisMachine, 1)
	etcd := c.client(t)
	west := newProbed(t)
	p := newProbing(t, c, "dublin-1", quick("eu-west", west))
	p.voted(t, etcd, "eu-west", "up")
	p.counts(t, etcd, true)
	p.cmd.Process.Signal(syscall.SIGSTOP)
	p.counts(t, etcd, false)
	west.status.Store(500)
	p.cmd.Process.Signal(syscall.SIGCONT)
	p.voted(t, etcd, "eu-west", "down")
	p.counts(t, etcd, true)
}

// While etcd is away probes go on; what is seen last is written when it is back.
func TestProbeWithoutEtcd(t *testing.T) {
	t.Parallel()
	c := newCluster(t, thisMachine, 1)
	etcd := c.client(t)
	west := newProbed(t)
	p := newProbing(t, c, "dublin-1", quick("eu-west", west))
	p.voted(t, etcd, "eu-west", "up")
	p.counts(t, etcd, true)
	c.members[0].kill()
	west.status.Store(500)
	eventually(t, "a probed found down without etcd", func() error {
		if page := p.page(t, "/metrics"); !strings.Contains(page, "/healthz\"} 0\n") {
			return fmt.Errorf("%s", page)
		}
		return nil
	})
	c.launch(t, 0)
	c.await(t)
	v, key := p.voted(t, etcd, "eu-west", "down")
	if key.version != 2 {
		t.Errorf("%+v was written %d times", v, key.version)
	}
	p.counts(t, etcd, true)
}

// Votes get through while the member that leads is dead.
func TestProbeLeaderLost(t *testing.T) {
	t.Parallel()
	c := newCluster(t, thisMachine, 3)
	etcd := c.client(t)
	west := newProbed(t)
	p := newProbing(t, c, "dublin-1", quick("eu-west", west))
	p.voted(t, etcd, "eu-west", "up")
	for i := range c.members {
		status, err := etcd.Status(t.Context(), c.clients[i])
		if err != nil {
			t.Fatal(err)
		}
		if status.Leader == status.Header.MemberId {
			c.members[i].kill()
			break
		}
	}
	west.status.Store(500)
	p.voted(t, etcd, "eu-west", "down")
	p.counts(t, etcd, true)
}

// Two processes with one name do not fight: one waits, says so, and goes on
// where the other ended.
func TestProbeTwice(t *testing.T) {
	t.Parallel()
	c := newCluster(t, thisMachine, 1)
	etcd := c.client(t)
	west, other := newProbed(t), newProbed(t)
	other.status.Store(500)
	first := newProbing(t, c, "dublin-1", quick("eu-west", west))
	first.voted(t, etcd, "eu-west", "up")
	first.counts(t, etcd, true)
	second := newProbing(t, c, "dublin-1", quick("eu-west", other))
	eventually(t, "the second to wait", func() error {
		if !strings.Contains(second.output.String(), "another process probed as dublin-1") {
			return fmt.Errorf("%s", second.output)
		}
		return nil
	})
	if _, err := second.get("/readyz"); err == nil {
		t.Error("the second is ready")
	}
	first.voted(t, etcd, "eu-west", "up")
	first.process.stop(t)
	second.voted(t, etcd, "eu-west", "down")
	second.counts(t, etcd, true)
	// After a crash the next one waits for the end of the lease.
	second.process.kill()
	second.run(t)
	second.counts(t, etcd, true)
	eventually(t, "the next to be ready", func() error {
		_, err := second.get("/readyz")
		return err
	})
}

// A server runs the probes itself if it is told to, and shows them.
func TestProbeInServer(t *testing.T) {
	t.Parallel()
	c := newCluster(t, thisMachine, 1)
	etcd := c.client(t)
	west := newProbed(t)
	west.status.Store(404)
	s := &server{dir: t.TempDir(), address: loopback(t), admin: loopback(t)}
	s.host = thisMachine
	write(t, s.path("nearside.yaml"), strings.Replace(
		configuration(setup{address: s.address, admin: s.admin, etcd: c.settings(), regions: sixRegions, ttl: 30}), "server: {", "server: {probe: true, ", 1)+
		"probes:\n  - "+quick("eu-west", west)+"\n")
	write(t, s.path("bet.example.zone"), zone(sixRegions))
	succeed(t, exec.Command("sh", "-c", "cd "+s.dir+" && mkdir zones && mv bet.example.zone zones/"))
	s.launch(t)
	p := &probing{process: s.process, server: s, name: fmt.Sprintf("ns-%d", s.address.Port())}
	p.voted(t, etcd, "eu-west", "down")
	p.counts(t, etcd, true)
	if page := p.page(t, "/metrics"); !strings.Contains(page, "nearside_probe_up{") || !strings.Contains(page, "nearside_probes_live{") {
		t.Errorf("metrics:\n%s", page)
	}
	text := succeed(t, s.nearside("status"))
	if !strings.Contains(text, "probes     1, 0 of them up, as "+p.name) || !strings.Contains(text, "status 404") {
		t.Errorf("status:\n%s", text)
	}
	s.process.stop(t)
	if read(t, etcd, "/nearside/probes/"+p.name).there {
		t.Error("the votes count after a clean stop")
	}
}

// Every kind of probe, over IPv4 and IPv6, from the usual configuration.
func TestProbeKinds(t *testing.T) {
	t.Parallel()
	c := newCluster(t, thisMachine, 1)
	etcd := c.client(t)
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "all is well with %s", r.Host)
	}))
	t.Cleanup(secure.Close)
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	write(t, ca, pemOf(secure.Certificate().Raw))
	at := strings.TrimPrefix(secure.URL, "https://")
	port := netip.MustParseAddrPort(at).Port()
	p := newProbing(t, c, "dublin-1",
		fmt.Sprintf("{region: eu-west, http: %q, host: example.com, ca: %q, body: all is well with example.com, status: [200], source: 127.0.0.9}", secure.URL, ca),
		fmt.Sprintf("{region: us-east, tls: %q, host: example.com, ca: %q}", at, ca),
		fmt.Sprintf("{region: us-west, tls: %q, verify: false}", at),
		fmt.Sprintf("{region: sa-east, tls: %q, interval: 500ms, timeout: 500ms}", at),
		fmt.Sprintf("{region: ap-southeast, tcp: %q}", at),
		fmt.Sprintf("{region: eu-central, tcp: \"[::1]:%d\", interval: 500ms, timeout: 500ms}", port),
	)
	for _, region := range []string{"eu-west", "us-east", "us-west", "ap-southeast"} {
		p.voted(t, etcd, region, "up")
	}
	for region, why := range map[string]string{"sa-east": "TLS: certificate signed by unknown authority", "eu-central": "connect: connection refused"} {
		if v, _ := p.voted(t, etcd, region, "down"); !strings.HasSuffix(v.Detail, why) {
			t.Errorf("%s: %+v", region, v)
		}
	}
}

func pemOf(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// BenchmarkProbeDetection measures the time from the death of a probed to the
// vote that it is down, with the usual settings: one that refuses connections,
// and one that takes them and is silent.
func BenchmarkProbeDetection(b *testing.B) {
	for _, silent := range []bool{false, true} {
		b.Run(fmt.Sprintf("silent=%v", silent), func(b *testing.B) {
			c := newCluster(b, thisMachine, 1)
			etcd := c.client(b)
			var taken []time.Duration
			for b.Loop() {
				b.StopTimer()
				west, hold := newProbed(b), make(chan struct{})
				var dead atomic.Bool
				west.Config.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
					if dead.Load() {
						<-hold
					}
				})
				p := newProbing(b, c, "dublin-1", fmt.Sprintf("{region: eu-west, http: %q}", west.URL))
				p.voted(b, etcd, "eu-west", "up")
				p.counts(b, etcd, true)
				time.Sleep(rand.N(3 * time.Second)) // anywhere between two checks
				b.StartTimer()
				start := time.Now()
				if dead.Store(true); !silent {
					west.Close()
				}
				p.voted(b, etcd, "eu-west", "down")
				taken = append(taken, time.Since(start))
				b.StopTimer()
				close(hold)
				p.process.stop(b)
				b.StartTimer()
			}
			report(b, taken)
		})
	}
}
