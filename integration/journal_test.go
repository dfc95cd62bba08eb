package integration

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// smallDisk puts a file system of two megabytes under data_dir of a server that
// does not run.
func smallDisk(t testing.TB, s *server) {
	t.Helper()
	disk := s.path("data")
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatalf("mounting a small disk, which needs root: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
}

// fill writes to a disk until it is full.
func fill(t testing.TB, path string) {
	t.Helper()
	if err := os.WriteFile(path, make([]byte, 4<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
}

// TestDiskFull: the disk gets full under a server that serves. Drains take effect
// meanwhile; status says what cannot be kept; with room again the state and the
// journal go on, and nothing is lost that could wait.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	store := newCluster(t, thisMachine, 1)
	s := newServer(t, setup{etcd: store.settings()})
	s.stop(t)
	smallDisk(t, s)
	s.launch(t)
	c := s.client(t, "udp")
	store.drain(t, "us-east")
	eventually(t, "a drain", func() error { return mustBe("us-west", s.from(t, c, america)) })

	const accepts = 60 // more than fit into the rest of the last page
	fill(t, s.path("data/filler"))
	store.drain(t, "eu-west")
	eventually(t, "a drain on a full disk", func() error { return mustBe("eu-central", s.from(t, c, ireland)) })
	s.says(t, "the state file cannot be written")
	if err := s.ready(t); err != nil {
		t.Errorf("not ready on a full disk: %v", err)
	}
	for range accepts {
		succeed(t, s.nearside("state", "accept"))
	}
	s.says(t, "the journal cannot be written, 0 entries are lost so far")
	if err := os.Remove(s.path("data/filler")); err != nil {
		t.Fatal(err)
	}
	s.says(t, "")
	s.kill()
	store.members[0].kill()
	s.launch(t)
	if got := s.from(t, s.client(t, "udp"), ireland); got != "eu-central" {
		t.Errorf("after a crash without etcd a client in Ireland is on %s", got)
	}
	s.stop(t)
	var events []string
	for _, e := range s.journal(t) {
		if e.Kind == "server" {
			events = append(events, e.Event)
		}
	}
	if got := strings.Join(events, " "); got != "start "+strings.Repeat("accept ", accepts)+"start stop" {
		t.Errorf("the journal has %s", got)
	}
}

// entry is a line of the journal, as far as tests look at it.
type entry struct {
	Time, Server, Kind, Event, Why, By, Key, Value string
}

// TestWhoUndrained: the journal says who ended a drain, however.
func TestWhoUndrained(t *testing.T) {
	t.Parallel()
	store := newCluster(t, thisMachine, 1)
	s := newServer(t, setup{etcd: store.settings()})
	for _, command := range [][]string{{"undrain", "eu-west"}, {"undrain", "eu-west", "--now"}, {"undrain", "--all"}} {
		succeed(t, s.nearside("drain", "eu-west"))
		succeed(t, s.nearside(command...))
		if found := succeed(t, store.ctl("get", "--prefix", "/nearside/regions/")); found != "" {
			t.Errorf("%v leaves %s", command, found)
		}
	}
	eventually(t, "who undrained", func() error {
		said := 0
		for _, e := range s.journal(t) {
			if e.Key == "regions/eu-west/drain" && strings.Contains(e.Value, `"percent":0`) && strings.Contains(e.By, "@") {
				said++
			}
		}
		if said != 3 {
			return fmt.Errorf("%d of 3: %v", said, s.journal(t))
		}
		return nil
	})
}

// journal returns what `nearside log --json` prints.
func (s *server) journal(t testing.TB) (list []entry) {
	t.Helper()
	for line := range strings.Lines(succeed(t, s.nearside("log", "--json"))) {
		var e entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		list = append(list, e)
	}
	return list
}

// TestLog: the journal is read while the server runs, is stopped, is killed and
// starts again.
func TestLog(t *testing.T) {
	t.Parallel()
	store := newCluster(t, thisMachine, 1)
	s := newServer(t, setup{etcd: store.settings()})
	eventually(t, "the first entry", func() error {
		if list := s.journal(t); len(list) != 1 {
			return fmt.Errorf("%v", list)
		}
		return nil
	})
	follow := s.nearside("log", "--follow")
	out, err := follow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { follow.Process.Kill(); follow.Wait() })
	lines := bufio.NewScanner(out)
	next := func(want string) {
		t.Helper()
		if !lines.Scan() || !strings.Contains(lines.Text(), "  server ") || !strings.Contains(lines.Text(), want) {
			t.Fatalf("%q, want %s", lines.Text(), want)
		}
	}
	next("start: version ")
	succeed(t, s.nearside("state", "accept"))
	next("accept: ")
	s.stop(t)
	next("stop")
	s.launch(t)
	next("start: version ")
	s.kill()
	// What the end of the process may leave of a line.
	torn, err := os.OpenFile(s.path("data/journal.jsonl"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = torn.WriteString(`{"time":"2026-11-2`)
	if err := errors.Join(err, torn.Close()); err != nil {
		t.Fatal(err)
	}
	s.launch(t)
	next("start: version ")
	if list := s.journal(t); len(list) != 5 || list[0].Server == "" || list[0].Time == "" {
		t.Errorf("%v", list)
	}
	if content, err := os.ReadFile(s.path("data/journal.jsonl")); err != nil || strings.Contains(string(content), `"2026-11-2{`) || strings.Count(string(content), "\n") != 5 {
		t.Errorf("%s", content)
	}
}
