package integration

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// pair is two registered servers on one etcd, whose answers are kept for a second.
func pair(t *testing.T) (*cluster, []*server) {
	store := newCluster(t, thisMachine, 1)
	servers := []*server{newServer(t, setup{etcd: store.settings(), ttl: 1}), newServer(t, setup{etcd: store.settings(), ttl: 1})}
	registered(t, store, 2)
	return store, servers
}

// registered waits until so many servers have said what they serve.
func registered(t *testing.T, store *cluster, n int) {
	t.Helper()
	eventually(t, "registered servers", func() error {
		keys := succeed(t, store.ctl("get", "--prefix", "--keys-only", "/nearside/servers/"))
		if got := strings.Count(keys, "/servers/"); got != n {
			return fmt.Errorf("%d of %d", got, n)
		}
		return nil
	})
}

// unsafe fails the test unless `drain --wait` says that it is not safe.
func unsafe(t *testing.T, r result) {
	t.Helper()
	if r.status == 0 || strings.Contains(r.stdout, "safe to power off eu-west") {
		t.Errorf("drain --wait ended with %d:\n%s%s", r.status, r.stdout, r.stderr)
	}
}

// prints waits for what a program is to print.
func prints(t *testing.T, p *process, text string) {
	t.Helper()
	eventually(t, text, func() error {
		if !strings.Contains(p.output.String(), text) {
			return fmt.Errorf("it printed %s", p.output)
		}
		return nil
	})
}

func waiting(t *testing.T, s *server) *process {
	return start(t, s.nearside("drain", "eu-west", "--wait"))
}

func ended(t *testing.T, p *process) result {
	p.await(t)
	return result{stdout: p.output.String(), status: p.cmd.ProcessState.ExitCode()}
}

// Where nobody is registered nobody has applied anything.
func TestWaitForNobody(t *testing.T) {
	t.Parallel()
	_, servers := pair(t)
	unsafe(t, finish(t, servers[0].nearside("drain", "eu-west", "--wait", "--etcd.prefix", "/nearsid")))
}

// A drain that is refused late is no drain.
func TestWaitForRefusedDrain(t *testing.T) {
	t.Parallel()
	store, servers := pair(t)
	for i, r := range sixRegions {
		if r.name != "eu-west" && i < 4 {
			store.drain(t, r.name)
		}
	}
	for _, s := range servers {
		s.caught(t, 1)
		s.cmd.Process.Signal(syscall.SIGSTOP)
	}
	wait := waiting(t, servers[0])
	prints(t, wait, "no server has judged it")
	for _, s := range servers {
		s.cmd.Process.Signal(syscall.SIGCONT)
	}
	unsafe(t, ended(t, wait))
}

// A drain that somebody else ends meanwhile is no drain.
func TestWaitForRemovedDrain(t *testing.T) {
	t.Parallel()
	store, servers := pair(t)
	wait := waiting(t, servers[0])
	prints(t, wait, "the last cached answer runs out")
	store.undrain(t, "eu-west")
	unsafe(t, ended(t, wait))
}

// A drain that ends by itself before the last cached answer runs out is none.
func TestWaitForShortDrain(t *testing.T) {
	t.Parallel()
	store, _ := pair(t)
	s := newServer(t, setup{etcd: store.settings(), ttl: 5})
	registered(t, store, 3)
	unsafe(t, finish(t, s.nearside("drain", "eu-west", "--wait", "--for", "3s")))
	if said := succeed(t, s.nearside("drain", "eu-west", "--wait", "--for", "1m")); !strings.Contains(said, "\nsafe to power off eu-west until ") || !strings.Contains(said, "nobody votes on eu-west") {
		t.Errorf("it does not say for how long, or that nobody watches:\n%s", said)
	}
	put(t, store.client(t), "/nearside/regions/eu-west/health/p", "up")
	if said := succeed(t, s.nearside("drain", "eu-west", "--for", "1m")); strings.Contains(said, "nobody votes") {
		t.Errorf("somebody watches:\n%s", said)
	}
}

// Whoever loses patience, or etcd, is told who is late.
func TestWaitForLateServer(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testing.T, *cluster, *process){
		"interrupted": func(_ *testing.T, _ *cluster, wait *process) { wait.cmd.Process.Signal(syscall.SIGINT) },
		"etcd lost":   func(_ *testing.T, store *cluster, _ *process) { store.members[0].kill() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, servers := pair(t)
			servers[1].cmd.Process.Signal(syscall.SIGSTOP)
			wait := waiting(t, servers[0])
			prints(t, wait, "1 of 2 servers have applied")
			end(t, store, wait)
			r := ended(t, wait)
			if late := fmt.Sprintf("ns-%d may still answer eu-west: NOT safe", servers[1].address.Port()); r.status != 2 || !strings.Contains(r.stdout, late) {
				t.Errorf("it ended with %d, and does not say %q:\n%s", r.status, late, r.stdout)
			}
		})
	}
}

// A server that stopped cleanly may be back, cut off from etcd.
func TestWaitForReturnedServer(t *testing.T) {
	t.Parallel()
	_, servers := pair(t)
	back := servers[1]
	back.stop(t)
	back.process = start(t, back.nearside("serve", "--etcd.endpoints", "http://"+loopback(t).String()))
	eventually(t, "a server that is ready", func() error { return back.ready(t) })
	r := finish(t, servers[0].nearside("drain", "eu-west", "--wait"))
	if got := back.from(t, back.client(t, "udp"), ireland); got == "eu-west" {
		unsafe(t, r)
	}
}

// Servers whose state is frozen apply nothing, whatever their revision.
func TestWaitForFrozenServers(t *testing.T) {
	t.Parallel()
	store, servers := pair(t)
	etcd := store.client(t)
	for range 100 {
		put(t, etcd, "/nearside/regions/us-east/drain", "false")
	}
	store.members[0].kill()
	store.dirs[0], store.token = t.TempDir(), "-other"
	store.begin(t)
	registered(t, store, 2)
	r := finish(t, servers[0].nearside("drain", "eu-west", "--wait"))
	if got := servers[0].from(t, servers[0].client(t, "udp"), ireland); got == "eu-west" {
		unsafe(t, r)
	}
}

// Where etcd was restored from a backup, what a server told of a revision that is gone
// says nothing: not that it has a drain, nor that it has none.
func TestWaitForRestoredCluster(t *testing.T) {
	t.Parallel()
	store, servers := pair(t)
	data, backup := store.dirs[0], t.TempDir()
	store.members[0].kill()
	if err := os.CopyFS(backup, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	store.launch(t, 0)
	store.await(t)
	etcd := store.client(t)
	var last int64
	for range 100 {
		last = put(t, etcd, "/nearside/regions/us-east/drain", "false")
	}
	told(t, etcd, servers, last)
	store.members[0].kill()
	store.dirs[0] = backup
	store.launch(t, 0)
	store.await(t)
	for _, s := range servers {
		within(t, 30*time.Second, "a frozen server", func() error {
			if s.metric(t, "state_frozen") == 0 {
				return errors.New("it believes etcd")
			}
			return nil
		})
	}
	if said := succeed(t, servers[0].nearside("state", "accept")); !strings.Contains(said, "every other name server") {
		t.Errorf("it does not say that the others are frozen still: %s", said)
	}
	late := fmt.Sprintf("ns-%d may ", servers[1].address.Port())
	r := finish(t, servers[0].nearside("drain", "eu-west", "--wait"))
	if got := servers[1].from(t, servers[1].client(t, "udp"), ireland); got != "eu-west" {
		t.Fatalf("the frozen server sends players to %s", got)
	}
	unsafe(t, r)
	if !strings.Contains(r.stdout, late) || !strings.Contains(r.stdout, "state accept") {
		t.Errorf("it does not say who is frozen, and what to do:\n%s", r.stdout)
	}
	unsafe(t, finish(t, servers[0].nearside("drain", "eu-west", "--wait", "--at", "2099-01-01T00:00:00Z")))
	for _, command := range [][]string{{"undrain", "eu-west"}, {"undrain", "--all"}} {
		if said := succeed(t, servers[0].nearside(command...)); !strings.Contains(said, late) {
			t.Errorf("%v does not say who is frozen:\n%s", command, said)
		}
	}
	succeed(t, servers[1].nearside("state", "accept"))
	if said := succeed(t, servers[0].nearside("drain", "eu-west", "--wait")); !strings.Contains(said, "\nsafe to power off eu-west") {
		t.Errorf("it is not safe when all follow:\n%s", said)
	}
}

// A server that was started before there was a service knows nothing of its drain.
func TestWaitForUnknownService(t *testing.T) {
	t.Parallel()
	store := newCluster(t, thisMachine, 1)
	service := "services: [{name: sports, names: [play.bet.example]}]\n"
	newer := newServer(t, setup{etcd: store.settings(), ttl: 1, rules: service})
	older := newServer(t, setup{etcd: store.settings(), ttl: 1})
	registered(t, store, 2)
	drain := func() result {
		return finish(t, newer.nearside("drain", "eu-west", "--service", "sports", "--wait"))
	}
	r := drain()
	if late := fmt.Sprintf("ns-%d may still answer sports in eu-west", older.address.Port()); r.status != 2 || !strings.Contains(r.stdout, late) {
		t.Errorf("%s answers; it ended with %d:\n%s", older.from(t, older.client(t, "udp"), ireland), r.status, r.stdout)
	}
	older.stop(t)
	write(t, older.path("nearside.yaml"), configuration(setup{address: older.address, admin: older.admin, etcd: store.settings(), regions: sixRegions, ttl: 1, rules: service}))
	older.launch(t)
	if r := drain(); r.status != 0 {
		t.Errorf("with one configuration, it ended with %d:\n%s", r.status, r.stdout)
	}
}

// What a server is asked at must lead to it from elsewhere.
func TestRegisteredAddress(t *testing.T) {
	t.Parallel()
	store := newCluster(t, thisMachine, 1)
	free := loopback(t)
	s := prepareServer(t, setup{etcd: store.settings(), address: free, admin: loopback(t)})
	s.process = start(t, s.nearside("serve", "--server.listen", netip.AddrPortFrom(netip.IPv4Unspecified(), free.Port()).String()))
	registered(t, store, 1)
	if said := succeed(t, store.ctl("get", "--prefix", "/nearside/servers/")); strings.Contains(said, "0.0.0.0:") {
		t.Errorf("asked at that address, any machine answers for itself: %s", said)
	}
}

// After `etcdctl del --prefix` the servers are registered again.
func TestRegisteredAgain(t *testing.T) {
	t.Parallel()
	store, _ := pair(t)
	remove(t, store.client(t), "/nearside/", clientv3.WithPrefix())
	within(t, 30*time.Second, "servers that are alive", func() error {
		keys := succeed(t, store.ctl("get", "--prefix", "--keys-only", "/nearside/"))
		if strings.Count(keys, "/servers/") != 2 || strings.Count(keys, "/alive/") != 2 {
			return fmt.Errorf("there are %q", strings.Fields(keys))
		}
		return nil
	})
}

// Who brings back a region whose drain is held means it.
func TestUndrainHeld(t *testing.T) {
	t.Parallel()
	for _, command := range [][]string{{"undrain", "eu-west"}, {"undrain", "eu-west", "--now"}, {"undrain", "--all"}} {
		t.Run(strings.Join(command, " "), func(t *testing.T) {
			t.Parallel()
			store, servers := pair(t)
			store.drain(t, "us-east")
			store.drain(t, "eu-west")
			c := servers[0].client(t, "udp")
			eventually(t, "two drains", func() error { return mustBe("eu-central", servers[0].from(t, c, ireland)) })
			remove(t, store.client(t), "/nearside/regions/", clientv3.WithPrefix())
			eventually(t, "held drains", func() error {
				if said := succeed(t, store.ctl("get", "--prefix", "/nearside/verdicts/")); strings.Count(said, `"held":true`) != 2 {
					return fmt.Errorf("the verdicts are %s", said)
				}
				return nil
			})
			said := succeed(t, servers[0].nearside(command...))
			eventually(t, "eu-west is back", func() error { return mustBe("eu-west", servers[0].from(t, c, ireland)) })
			if command[1] == "--all" {
				eventually(t, "us-east is back", func() error { return mustBe("us-east", servers[0].from(t, c, america)) })
			} else if got := servers[0].from(t, c, america); got == "us-east" {
				t.Errorf("us-east is back, too; undrain says %s", said)
			}
		})
	}
}

// Nothing is written while nothing happens, though a drain is planned.
func TestQuietBeforePlannedDrain(t *testing.T) {
	t.Parallel()
	store, _ := pair(t)
	succeed(t, store.ctl("put", "/nearside/regions/eu-west/drain", `{"at": "2099-01-01T00:00:00Z"}`))
	watched := exec.Command("timeout", "22", etcdctl, "--endpoints", strings.Join(store.clients, ","), "watch", "--prefix", "/nearside/")
	if got := strings.Count(finish(t, watched).stdout, "PUT"); got > 6 { // verdict, servers; what was on its way
		t.Errorf("%d writes within 22 s", got)
	}
}

// Neither hold nor ramp is what keeps a sick region out: --now is no vote.
func TestUndrainNowOfSickRegion(t *testing.T) {
	t.Parallel()
	store, servers := pair(t)
	etcd, c := store.client(t), servers[0].client(t, "udp")
	for _, host := range []string{"a", "b"} {
		put(t, etcd, "/nearside/probes/"+host, "")
		put(t, etcd, "/nearside/regions/eu-west/health/"+host, fmt.Sprintf(`{"status": "down", "probe": %q}`, host))
	}
	eventually(t, "a region that is down", func() error { return mustBe("eu-central", servers[0].from(t, c, ireland)) })
	eventually(t, "a record of that, without which its votes must live", func() error {
		if record := read(t, etcd, "/nearside/transitions/eu-west").value; !strings.Contains(record, `"to":"down"`) {
			return fmt.Errorf("there is %q", record)
		}
		return nil
	})
	servers[0].caught(t, remove(t, etcd, "/nearside/probes/", clientv3.WithPrefix()))
	store.drain(t, "eu-west")
	succeed(t, servers[0].nearside("undrain", "eu-west", "--now"))
	servers[0].caught(t, put(t, etcd, "/nearside/regions/us-east/drain", "false"))
	if got := servers[0].from(t, c, ireland); got != "eu-central" {
		t.Errorf("a client in Ireland is on %s, which is down as recorded", got)
	}
}
