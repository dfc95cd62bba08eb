package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// panel asks for everything that tests compare before and after a fault: every
// place, both address types, behind a CNAME, and what is not steered.
func panel(t testing.TB, s *server) string {
	t.Helper()
	c := s.client(t, "udp")
	var b strings.Builder
	for _, place := range places {
		for _, name := range []string{"play", "www", "plain", "missing"} {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeTXT} {
				answer := c.ask(t, name+".bet.example.", qtype, place)
				var records []string
				for _, rr := range slices.Concat(answer.Answer, answer.Ns) {
					records = append(records, strings.ReplaceAll(rr.String(), "\t", " "))
				}
				slices.Sort(records)
				fmt.Fprintf(&b, "%s from %q: %s %v\n", name, place, dns.RcodeToString[answer.Rcode], records)
			}
		}
	}
	return b.String()
}

// samePanel fails the test if anything is answered in another way than before.
func samePanel(t testing.TB, s *server, before, when string) {
	t.Helper()
	after := panel(t, s)
	if after == before {
		return
	}
	was, is := strings.Split(before, "\n"), strings.Split(after, "\n")
	for i := range was {
		if was[i] != is[i] {
			t.Errorf("%s:\n was %s\n  is %s", when, was[i], is[i])
		}
	}
}

// TestLosingEtcd takes etcd away member by member, restarts the server without
// it, and gives it back.
func TestLosingEtcd(t *testing.T) {
	t.Parallel()
	store := newCluster(t, thisMachine, 3)
	s := newServer(t, setup{etcd: store.settings()})
	c := s.client(t, "udp")

	store.drain(t, "us-east")
	eventually(t, "a drain", func() error { return mustBe("us-west", s.from(t, c, america)) })

	store.members[0].kill()
	store.await(t) // it may have been the leader
	store.drain(t, "eu-west")
	eventually(t, "a drain with one member of three lost", func() error { return mustBe("eu-central", s.from(t, c, ireland)) })
	before := panel(t, s)

	store.members[1].kill()
	samePanel(t, s, before, "with the quorum lost")
	store.members[2].kill()
	samePanel(t, s, before, "with etcd lost")
	if r := finish(t, s.nearside("drain", "sa-east")); r.status != 1 || !strings.Contains(r.stderr, "`drain: [sa-east]` in "+s.path("data/override.yaml")) {
		t.Errorf("drain without etcd ends with %d, and does not say what helps: %s", r.status, r.stderr)
	}
	if err := s.ready(t); err != nil {
		t.Errorf("a server that answers is not ready: %v", err)
	}

	s.stop(t)
	s.launch(t)
	samePanel(t, s, before, "after a restart without etcd")
	if source := s.status(t).State.Source; source != "file" {
		t.Errorf("status says that the state comes from %q, want file", source)
	}
	s.kill()
	s.launch(t)
	samePanel(t, s, before, "after a crash without etcd")

	for i := range store.members {
		store.launch(t, i)
	}
	store.await(t)
	store.undrain(t, "eu-west")
	c = s.client(t, "udp")
	eventually(t, "an undrain with etcd back", func() error { return mustBe("eu-west", s.from(t, c, ireland)) })
	store.drain(t, "ap-southeast")
	eventually(t, "a drain with etcd back", func() error {
		if s.from(t, c, singapore) == "ap-southeast" {
			return fmt.Errorf("still on ap-southeast")
		}
		return nil
	})
}

// TestDiskLost: a disk that is full, or read-only, is no reason not to serve
// what is on it.
func TestDiskLost(t *testing.T) {
	t.Parallel()
	store := newCluster(t, thisMachine, 1)
	s := newServer(t, setup{etcd: store.settings()})
	store.drain(t, "eu-west")
	c := s.client(t, "udp")
	eventually(t, "a drain", func() error { return mustBe("eu-central", s.from(t, c, ireland)) })
	before := panel(t, s)
	s.stop(t)
	store.members[0].kill()

	disk := s.path("data")
	saved := t.TempDir()
	if err := os.CopyFS(saved, os.DirFS(disk)); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatalf("mounting a small disk, which needs root: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	if err := os.CopyFS(disk, os.DirFS(saved)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(disk, "filler"), make([]byte, 2<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	s.launch(t)
	samePanel(t, s, before, "on a full disk")
	s.stop(t)

	if err := syscall.Mount("", disk, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	s.launch(t)
	samePanel(t, s, before, "on a disk that is read-only")
	if err := s.ready(t); err != nil {
		t.Errorf("not ready on a disk that is read-only: %v", err)
	}
	s.stop(t)
}

// TestFirstStartWithoutEtcd: with no state at all every region is up, and the
// server says so.
func TestFirstStartWithoutEtcd(t *testing.T) {
	t.Parallel()
	s := newServer(t, setup{etcd: fmt.Sprintf("endpoints: [%q]", "http://"+loopback(t).String())})
	if got := s.from(t, s.client(t, "udp"), ireland); got != "eu-west" {
		t.Errorf("a client in Ireland is on %s", got)
	}
	st := s.status(t)
	if st.State.Source != "none" || len(st.Server.Degraded) == 0 {
		t.Errorf("status hides that there is no state: %+v", st)
	}
}

// TestDeletedPrefix: the slip of an operator who deletes everything brings no
// drained region back.
func TestDeletedPrefix(t *testing.T) {
	t.Parallel()
	store := newCluster(t, thisMachine, 1)
	s := newServer(t, setup{etcd: store.settings()})
	store.drain(t, "us-east")
	store.drain(t, "eu-west")
	c := s.client(t, "udp")
	eventually(t, "two drains", func() error { return mustBe("eu-central", s.from(t, c, ireland)) })
	before := panel(t, s)

	s.caught(t, remove(t, store.client(t), "/nearside/", clientv3.WithPrefix()))
	samePanel(t, s, before, "after etcdctl del --prefix")
	if alarms := s.status(t).State.Alarms; len(alarms) == 0 {
		t.Error("status shows no alarm")
	}
	// The state is written to disk just after it is served.
	eventually(t, "a state file with both drains held", func() error {
		content, err := os.ReadFile(s.path("data/state.json"))
		if held := bytes.Count(content, []byte(`"held": true`)); err == nil && held != 4 { // and their verdicts
			return fmt.Errorf("%d are", held)
		}
		return err
	})
	s.kill()
	s.launch(t)
	samePanel(t, s, before, "after etcdctl del --prefix and a crash")

	if said := succeed(t, s.nearside("state", "accept")); !strings.Contains(said, "are let go: eu-west, us-east") {
		t.Errorf("it does not say what comes back: %s", said)
	}
	c = s.client(t, "udp")
	eventually(t, "state accept", func() error { return mustBe("eu-west", s.from(t, c, ireland)) })

	store.drain(t, "us-east")
	store.drain(t, "eu-west")
	eventually(t, "two drains", func() error { return mustBe("eu-central", s.from(t, c, ireland)) })
	succeed(t, s.nearside("undrain", "--all"))
	eventually(t, "undrain --all", func() error { return mustBe("eu-west", s.from(t, c, ireland)) })
	eventually(t, "undrain --all", func() error { return mustBe("us-east", s.from(t, c, america)) })
}
