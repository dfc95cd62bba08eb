package zones

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

const (
	steeredServer = "$TTL 60\n@ SOA ns hostmaster 1 1h 15m 2w 1m\n@ NS other\nother A 203.0.113.53\nns A 192.0.2.1\nns A 198.51.100.1\n"
	pointsAtIt    = "$TTL 60\n@ SOA ns.b.example. hostmaster 1 1h 15m 2w 1m\n@ NS ns.b.example.\n"
	pointsAway    = "$TTL 60\n@ SOA ns.b.example. hostmaster 2 1h 15m 2w 1m\n@ NS ns.elsewhere.\n"
	eitherServer  = "eu 30 A 192.0.2.1\nus 30 A 198.51.100.1\n"
	bothServers   = "60 A 192.0.2.1\n60 A 198.51.100.1\n"
)

func newSteeredFolder(t *testing.T) *folder {
	f := newFolder(t)
	f.steering = testSteering()
	f.restart()
	return f
}

func (f *folder) wantServer(what, want string) {
	f.t.Helper()
	if got := answer(f.t, f.zone("b.example."), "ns.b.example.", dns.TypeA); got != want {
		f.t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// TestServerOfAnotherZone: a name is static while an NS record of any zone
// points at it, whichever of the two zones comes, changes or goes.
func TestServerOfAnotherZone(t *testing.T) {
	f := newSteeredFolder(t)
	f.write("b.example.zone", steeredServer)
	f.reload()
	f.wantServer("nobody points at it", eitherServer)
	f.write("a.example.zone", pointsAtIt)
	f.reload()
	f.wantServer("a zone comes that points at it", bothServers)
	f.wantFault("b.example.zone:5: warning: ns.b.example. is in several regions (eu, us) and yet static, because an NS record of another zone points at ns.b.example.")
	before := f.zone("b.example.")
	f.write("c.example.zone", pointsAtIt)
	f.reload()
	if f.zone("b.example.") != before {
		t.Error("a zone that was static was compiled again for another one that points at it")
	}
	f.remove("c.example.zone")
	f.write("b.example.zone", steeredServer+"more TXT x\n")
	f.reload()
	f.wantServer("its own zone changes", bothServers)
	f.write("a.example.zone", pointsAway)
	f.reload()
	f.wantServer("the NS record goes", eitherServer)
	f.write("a.example.zone", pointsAtIt)
	f.reload()
	f.wantServer("the NS record comes back", bothServers)
	f.remove("a.example.zone")
	f.reload()
	f.wantServer("the zone goes", eitherServer)
	if got := f.faults(); got != "" {
		t.Errorf("faults stay: %s", got)
	}
}

// TestServerInLastGood: it is the same for a version whose file is bad by now.
func TestServerInLastGood(t *testing.T) {
	f := newSteeredFolder(t)
	f.write("b.example.zone", steeredServer)
	f.reload()
	f.write("b.example.zone", broken)
	f.write("a.example.zone", pointsAtIt)
	f.reload()
	f.want("a.example. 1 ok", "b.example. 1 last good")
	f.wantServer("the file is bad", bothServers)
	f.restart()
	f.reload()
	f.want("a.example. 1 ok", "b.example. 1 last good")
	f.wantServer("after a restart", bothServers)
	f.wantFault("b.example.zone:2: SOA record: the mailbox is missing")
	f.remove("a.example.zone")
	f.reload()
	f.wantServer("the zone goes", eitherServer)
}

// TestServerByWildcard: what answers for a target is static, be it a wildcard,
// the owner of region labels, or in a zone below the one that points at it.
func TestServerByWildcard(t *testing.T) {
	f := newSteeredFolder(t)
	f.write("a.example.zone", head+"@ NS x.live.b.example.\n@ NS mail.b.example.\n@ NS ns.sub.a.example.\nsub NS ns.sub\nns.sub A 192.0.2.1\n")
	f.write("sub.a.example.zone", head+"@ NS ns.c.example.\nns A 192.0.2.1\nns A 198.51.100.1\n")
	f.write("b.example.zone", head+"@ NS ns.c.example.\n*.live A 192.0.2.1\n*.live A 198.51.100.1\neu._region.mail A 192.0.2.2\nus._region.mail A 198.51.100.2\n")
	f.reload()
	for name, want := range map[string]string{
		"y.live.b.example.":          bothServers,
		"mail.b.example.":            "60 A 192.0.2.2\n60 A 198.51.100.2\n",
		"ns.sub.a.example.":          bothServers,
		"eu._region.mail.b.example.": "60 A 192.0.2.2\n",
	} {
		if got := answer(t, f.zone(name), name, dns.TypeA); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	f.wantFault("points at x.live.b.example.")
}

// TestServerMeanwhileChanged: a file that changes while its zone is compiled
// anew is left to the reload that is due.
func TestServerMeanwhileChanged(t *testing.T) {
	f := newSteeredFolder(t)
	f.write("b.example.zone", steeredServer)
	f.reload()
	e := f.store.members["b.example.zone"]
	before := e.zone
	f.write("b.example.zone", strings.Replace(steeredServer, "hostmaster 1", "hostmaster 2", 1))
	f.store.recompile(e)
	if e.zone != before {
		t.Error("the new version was taken")
	}
	f.reload()
	f.want("b.example. 2 ok")
}

// TestServersLikeAFreshStart: whatever the order of changes, a name is steered
// as if all files had been there from the start.
func TestServersLikeAFreshStart(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	names := []string{"a.example.", "b.example.", "sub.b.example.", "c.example."}
	f := newSteeredFolder(t)
	f.hold = false
	f.restart()
	text := func(serial int) string {
		var b strings.Builder
		fmt.Fprintf(&b, "$TTL 60\n@ SOA ns hostmaster %d 1 2 3 4\n@ NS x\n", serial)
		for range random.IntN(3) {
			fmt.Fprintf(&b, "@ NS %s.%s\n", []string{"x", "y", "w.z", "v.z"}[random.IntN(4)], names[random.IntN(len(names))])
		}
		for _, owner := range []string{"x", "y", "*.z", "v.z", "w.z", "*"} {
			if owner != "x" && random.IntN(3) == 0 {
				continue
			}
			b.WriteString(owner + " A 192.0.2.1\n")
			if random.IntN(3) > 0 {
				b.WriteString(owner + " A 198.51.100.1\n")
			}
		}
		return b.String()
	}
	compared := 0
	for round := range 300 {
		var changed []string
		for range 1 + random.IntN(2) {
			file := names[random.IntN(len(names))] + "zone"
			changed = append(changed, filepath.Join(f.dir, file))
			if random.IntN(4) == 0 {
				_ = os.Remove(changed[len(changed)-1])
			} else {
				f.write(file, text(round+1))
			}
		}
		if f.view = f.store.ReloadFiles(changed); round%2 == 0 {
			f.view = f.store.Reload()
		}
		fresh := NewStore(StoreConfig{Dir: f.dir, Steering: f.steering}).Reload()
		if slices.ContainsFunc(f.store.Status(), func(s *Status) bool { return s.State != StateOK }) {
			continue // from the start there would be no last good version
		}
		compared++
		for _, z := range fresh.zones {
			is, _ := f.view.Find(z.apex)
			if fmt.Sprint(is.steered, is.pinned) != fmt.Sprint(z.steered, z.pinned) {
				t.Fatalf("round %d: %s has %v pinned by %v, from the start %v pinned by %v", round, z.origin, is.steered, is.pinned, z.steered, z.pinned)
			}
		}
	}
	if compared < 50 {
		t.Errorf("only %d rounds were compared", compared)
	}
}
