package integration

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// waited is servers with hosts of their own, and an operator who waits until a
// region can be powered off.
type waited struct {
	t        *testing.T
	network  *network
	outside  *node // etcd and the operator
	store    *cluster
	etcd     *clientv3.Client
	nodes    []*node
	servers  []*server
	operator *server // who has a configuration, and no server
}

const waitedTTL = 2 // seconds

func newWaited(t *testing.T) *waited {
	t.Helper()
	w := &waited{t: t, network: newNetwork(t)}
	w.outside = w.network.plug(t, "outside", "10.66.0.1")
	w.store = &cluster{host: w.outside.host}
	w.store.add(t, w.outside.host, "http", w.outside.port(2379), w.outside.port(2380))
	w.store.begin(t)
	w.etcd = w.outside.etcdClient(t, w.store.clients)
	for i := range 3 {
		n := w.network.plug(t, fmt.Sprintf("ns%d", i+1), fmt.Sprintf("10.66.0.2%d", i+1))
		w.nodes = append(w.nodes, n)
		w.servers = append(w.servers, newServer(t, setup{host: n.host, address: n.port(uint16(5301 + i)), admin: n.port(8053), etcd: w.store.settings(), ttl: waitedTTL}))
	}
	w.operator = prepareServer(t, setup{host: w.outside.host, address: w.outside.port(53), admin: w.outside.port(8053), etcd: w.store.settings(), ttl: waitedTTL})
	for i := range w.servers {
		w.registered(i, true)
	}
	return w
}

// registered waits until a server lives by what etcd says, or not.
func (w *waited) registered(i int, alive bool) {
	w.t.Helper()
	key := "/nearside/alive/" + w.id(i)
	eventually(w.t, fmt.Sprintf("%s there: %v", key, alive), func() error {
		told := read(w.t, w.etcd, "/nearside/servers/"+w.id(i)).value
		if is := read(w.t, w.etcd, key).there; is != alive || alive && (told == "" || strings.Contains(told, "stopped")) {
			return fmt.Errorf("it is %v, and says %s", is, told)
		}
		return nil
	})
}

func (w *waited) id(i int) string { return fmt.Sprintf("ns-%d", w.servers[i].address.Port()) }

// drain drains a region and waits. It must end with a status, and say all of words.
func (w *waited) drain(region string, status int, words ...string) (stdout string) {
	w.t.Helper()
	r := finish(w.t, w.operator.nearside("drain", region, "--wait", "--force"))
	if r.status != status {
		w.t.Errorf("drain %s --wait ended with %d, want %d:\n%s%s", region, r.status, status, r.stdout, r.stderr)
	}
	for _, word := range words {
		if !strings.Contains(r.stdout+r.stderr, word) {
			w.t.Errorf("drain %s --wait does not say %q:\n%s%s", region, word, r.stdout, r.stderr)
		}
	}
	return r.stdout
}

// cutOff keeps etcd, and nothing else, from a server.
func (w *waited) cutOff(i int) (heal func()) {
	w.t.Helper()
	cut := func(action string) {
		succeed(w.t, w.nodes[i].command("iptables", "--wait", action, "INPUT", "-p", "tcp", "--sport", "2379", "-j", "DROP"))
	}
	cut("--append")
	return func() { cut("--delete") }
}

// answers returns which servers answer Ireland with eu-west.
func (w *waited) answers() (list []string) {
	w.t.Helper()
	for i, s := range w.servers {
		if s.process.failed() == nil && s.from(w.t, newClient(w.t, w.outside.host, "udp", s.address), ireland) == "eu-west" {
			list = append(list, w.id(i))
		}
	}
	return list
}

func (w *waited) answering(want ...string) {
	w.t.Helper()
	if got := w.answers(); fmt.Sprint(got) != fmt.Sprint(want) {
		w.t.Errorf("with eu-west answer %v, want %v", got, want)
	}
}

// TestDrainWait: a region that is safe to power off is answered by nobody, and
// where it may be, drain --wait says by whom.
func TestDrainWait(t *testing.T) {
	t.Parallel()
	w := newWaited(t)
	w.drain("eu-west", 0, "3 of 3 servers have applied", "safe to power off eu-west")
	w.answering()
	succeed(t, w.operator.nearside("undrain", "eu-west"))
	eventually(t, "eu-west back", func() error { return mustBe(fmt.Sprint([]string{w.id(0), w.id(1), w.id(2)}), fmt.Sprint(w.answers())) })

	heal := sever(t, w.nodes[2], w.outside, silent)
	if stdout := w.drain("eu-west", 2, w.id(2)+" may still answer eu-west: NOT safe", "2 of 3 servers"); strings.Contains(stdout, w.id(0)+" may") {
		t.Errorf("it names a server that has the drain:\n%s", stdout)
	}
	heal()
	eventually(t, "the drain on all servers", func() error { return mustBe("[]", fmt.Sprint(w.answers())) })
	w.drain("eu-west", 0, "safe to power off eu-west")

	w.servers[2].stop(t)
	w.drain("eu-west", 0, "safe to power off eu-west")
	heal = w.cutOff(2)
	w.servers[2].launch(t) // of which etcd never hears
	w.drain("us-west", 2, w.id(2)+" may still answer us-west: NOT safe: it was stopped")
	heal()
	w.registered(2, true)
	w.servers[2].kill()
	w.drain("us-east", 2, w.id(2)+" may still answer us-east: NOT safe", "nearside forget")
	w.registered(2, false)
	succeed(t, w.operator.nearside("forget", w.id(2)))
	w.drain("us-east", 0, "2 of 2 servers have applied", "safe to power off us-east")
}

// TestDrainWaitCutOff: a server that is cut off from etcd, and can be asked over
// DNS, is believed when it says that it has not the drain, and that it has.
func TestDrainWaitCutOff(t *testing.T) {
	t.Parallel()
	w := newWaited(t)
	heal := w.cutOff(2)
	w.drain("eu-west", 2, w.id(2)+" may still answer eu-west: NOT safe: ", "asked over DNS: it answers from revision ")
	w.answering(w.id(2))
	heal()
	eventually(t, "the drain on all servers", func() error { return mustBe("[]", fmt.Sprint(w.answers())) })
	w.drain("eu-west", 0, "safe to power off eu-west")
}

// TestDrainWaitUndrained: whoever waits is told that somebody else has brought
// the region back.
func TestDrainWaitUndrained(t *testing.T) {
	t.Parallel()
	w := newWaited(t)
	w.servers[2].cmd.Process.Signal(syscall.SIGSTOP) // so that it takes a while
	result := make(chan result)
	go func() { result <- finish(t, w.operator.nearside("drain", "eu-west", "--wait")) }()
	eventually(t, "the drain on the first server", func() error {
		if region := w.servers[0].from(t, newClient(t, w.outside.host, "udp", w.servers[0].address), ireland); region == "eu-west" {
			return fmt.Errorf("it is on %s", region)
		}
		return nil
	})
	remove(t, w.etcd, "/nearside/regions/eu-west/drain")
	w.servers[2].cmd.Process.Signal(syscall.SIGCONT)
	if r := <-result; r.status != 2 || strings.Contains(r.stdout, "safe to power off eu-west") {
		t.Errorf("it ended with %d:\n%s%s", r.status, r.stdout, r.stderr)
	}
}

// TestDrainWaitOtherCluster: servers that do not believe an etcd that replaced
// theirs do not have what is written there, whatever its revisions are.
func TestDrainWaitOtherCluster(t *testing.T) {
	t.Parallel()
	w := newWaited(t)
	for range 20 { // so that revisions of the old cluster are higher
		put(t, w.etcd, "/nearside/regions/us-east/health/here", "up")
	}
	w.store.members[0].kill()
	w.store.dirs[0], w.store.token = t.TempDir(), "another"
	w.store.launch(t, 0)
	w.store.await(t)
	for _, s := range w.servers {
		eventually(t, "a server that sees the other cluster", func() error {
			if s.metric(t, "state_frozen") == 0 {
				return fmt.Errorf("it is not frozen")
			}
			return nil
		})
	}
	w.drain("eu-west", 2, "NOT safe")
	w.answering(w.id(0), w.id(1), w.id(2))
	for _, s := range w.servers {
		succeed(t, s.nearside("state", "accept"))
	}
	w.drain("eu-west", 0, "safe to power off eu-west")
	w.answering()
}

// TestDrainWaitNobody: where no server is registered, nothing is known.
func TestDrainWaitNobody(t *testing.T) {
	t.Parallel()
	store := newCluster(t, thisMachine, 1)
	s := prepareServer(t, setup{etcd: store.settings(), ttl: waitedTTL})
	began := time.Now()
	r := finish(t, s.nearside("drain", "eu-west", "--wait"))
	if r.status != 2 || strings.Contains(r.stdout, "\nsafe to power off") {
		t.Errorf("after %v it ended with %d:\n%s%s", time.Since(began), r.status, r.stdout, r.stderr)
	}
}

// TestDrainWaitEveryAddress: servers that listen at every address of their machines are
// asked at those of their own, though one runs where the operator is.
func TestDrainWaitEveryAddress(t *testing.T) {
	t.Parallel()
	w := newWaited(t)
	for i, s := range w.servers {
		s.stop(t)
		s.process = start(t, s.nearside("serve", "--server.listen", ":5353"))
		w.registered(i, true)
	}
	heal := w.cutOff(2)
	w.operator = w.servers[0]
	w.drain("eu-west", 2, w.id(2)+" may still answer eu-west: NOT safe: ", "asked over DNS: it answers from revision ")
	heal()
	eventually(t, "the drain on the server that was cut off", func() error {
		return mustBe("1", fmt.Sprint(w.servers[2].metric(t, `region_drained{region="eu-west"}`)))
	})
	w.drain("eu-west", 0, "safe to power off eu-west")
}
