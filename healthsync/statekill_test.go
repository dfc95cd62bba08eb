package healthsync

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A child is this test program over again, which does as the variable says.
const childVariable = "NEARSIDE_STATE_CHILD"

func TestMain(m *testing.M) {
	switch what, path, _ := strings.Cut(os.Getenv(childVariable), " "); what {
	case "write":
		writeForEver(path)
	case "full":
		fillDisk(path)
	default:
		os.Exit(m.Run())
	}
}

func child(what, path string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+what+" "+path)
	cmd.Stderr = os.Stderr
	return cmd
}

// stateAt is a state whose every part follows from its revision.
func stateAt(revision int64) saved {
	value := strings.Repeat(strconv.FormatInt(revision, 10)+" ", int(revision%500))
	return saved{Cluster: 7, Revision: revision, Keys: []savedKey{{Key: "regions/eu-west/health/p1", Revision: revision, Value: &value}}}
}

// mustBeWhole checks that a state is one that stateAt returned.
func mustBeWhole(t testing.TB, v saved) {
	t.Helper()
	got, err := v.encode()
	if err != nil {
		t.Fatal(err)
	}
	want, err := stateAt(v.Revision).encode()
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Fatalf("this state was never written:\n%s", got)
	}
}

// writeForEver goes on from the state that is there, and says what it has written.
func writeForEver(path string) {
	f := stateFile{path: path}
	v, err := f.load()
	for revision := v.Revision + 1; err == nil; revision++ {
		var content []byte
		if content, err = stateAt(revision).encode(); err == nil {
			err = f.store(content)
		}
		if err == nil {
			fmt.Println(revision)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// A process that writes states is killed at any moment: what it said to have
// written is there, or the state after that, and nothing else.
func TestKilledWriter(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state")
	for range 200 {
		cmd := child("write", path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range 1 + rand.IntN(4) {
			lines.Scan()
		}
		timer := time.NewTimer(rand.N(3 * time.Millisecond)) // the moment of the kill
		for waiting := true; waiting; {
			select {
			case <-timer.C:
				waiting = false
			default:
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			continue
		}
		_ = cmd.Wait()
		f := stateFile{path: path}
		v, err := f.load()
		if err != nil {
			t.Fatal(err)
		}
		mustBeWhole(t, v)
		said, _ := strconv.ParseInt(lines.Text(), 10, 64)
		if v.Revision < said || v.Revision > said+1 && said > 0 {
			t.Fatalf("it said %d, and the file has %d", said, v.Revision)
		}
		old, err := readState(path + ".old")
		if errors.Is(err, fs.ErrNotExist) && v.Revision == 1 {
			continue // there was none before
		}
		if err != nil {
			t.Fatalf("the file before revision %d: %v", v.Revision, err)
		}
		if mustBeWhole(t, old); old.Revision < v.Revision-1 || old.Revision > v.Revision {
			t.Fatalf("the file before revision %d has %d", v.Revision, old.Revision)
		}
	}
}

// fillDisk has no room for more than so many octets of a file, one after the other.
func fillDisk(path string) {
	signal.Ignore(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	check := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	check(syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit))
	f := stateFile{path: path}
	before, err := stateAt(3).encode()
	check(err)
	check(f.store(before))
	check(f.store(before))
	next, err := stateAt(450).encode()
	check(err)
	for room := range len(next) {
		small := limit
		small.Cur = uint64(room)
		check(syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small))
		if err := f.store(next); !errors.Is(err, syscall.EFBIG) {
			panic(fmt.Sprintf("with room for %d octets: %v", room, err))
		}
		v, err := (&stateFile{path: path}).load()
		check(err)
		if v.Revision != 3 {
			panic(fmt.Sprintf("with room for %d octets the state is %d", room, v.Revision))
		}
	}
	check(syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
	check(f.store(next))
}

// A disk that has no room for the rest, at each octet: the state before stays,
// and nothing is left behind.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	path := filepath.Join(folder, "state")
	if err := child("full", path).Run(); err != nil {
		t.Fatal(err)
	}
	v, err := (&stateFile{path: path}).load()
	if err != nil || v.Revision != 450 {
		t.Fatalf("%d, %v", v.Revision, err)
	}
	mustBeWhole(t, v)
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) != 2 { // the state, and the one before
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// Whenever somebody looks there is a state file, and the one that it says.
func TestAlwaysThere(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state")
	f := stateFile{path: path}
	store := func(revision int64) {
		content, err := stateAt(revision).encode()
		if err == nil {
			err = f.store(content)
		}
		if err != nil {
			t.Error(err)
		}
	}
	store(1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for revision := int64(2); revision < 200; revision++ {
			store(revision)
		}
	}()
	for last := int64(1); ; {
		select {
		case <-done:
			return
		default:
		}
		v, err := readState(path)
		if err != nil || v.Revision < last {
			t.Errorf("after revision %d: %d, %v", last, v.Revision, err)
			<-done
			return
		}
		last = v.Revision
	}
}
