package journal

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// A child is this test program over again, which does as the variable says.
const childVariable = "NEARSIDE_JOURNAL_CHILD"

func TestMain(m *testing.M) {
	switch what, path, _ := strings.Cut(os.Getenv(childVariable), " "); what {
	case "append":
		appendForEver(path)
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

// opened opens a journal that is closed with the test.
func opened(t testing.TB, path string, limit int64) *Journal {
	t.Helper()
	j := newJournal(path, limit, "ns1", zerolog.Nop())
	j.retry = time.Millisecond
	go j.run()
	t.Cleanup(j.Close)
	return j
}

// ended closes the journal and waits for all that it takes.
func ended(j *Journal) {
	j.Close()
	<-j.closed
}

// numbered is entry number n.
func numbered(n int) Entry {
	return Entry{Kind: Input, Key: "regions/eu-west/drain", Revision: int64(n), Value: strings.Repeat("x", n%200), Verdict: Accepted}
}

// read returns all entries of the journal at path. Each line must be one.
func read(t testing.TB, path string) []Line {
	t.Helper()
	var list []Line
	for _, file := range []string{path + ".1", path} {
		content, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			var e Entry
			if err := json.Unmarshal([]byte(line), &e); err != nil || !strings.HasSuffix(line, "\n") {
				t.Fatalf("%s has the line %q: %v", file, line, err)
			}
			list = append(list, Line{e, strings.TrimSuffix(line, "\n")})
		}
	}
	if got := drain(t, path); !sameText(got, list) {
		t.Fatalf("the reader found %d entries of %d", len(got), len(list))
	}
	return list
}

func sameText(a, b []Line) bool {
	return slices.EqualFunc(a, b, func(a, b Line) bool { return a.Text == b.Text })
}

// drain reads what a Reader finds until there is no more.
func drain(t testing.TB, path string) (list []Line) {
	t.Helper()
	r, err := OpenReader(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for {
		line, err := r.Next()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, line)
	}
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		case <-poll.C:
		}
	}
}

func TestEntries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	j := opened(t, path, DefaultLimit)
	at := time.Date(2026, 11, 25, 18, 0, 0, 123456789, time.FixedZone("", 3600))
	j.Append(Entry{Time: at, Kind: Input, Key: "regions/eu-west/drain", Revision: 7, Value: "\x1b[2Jmaybe\n", Verdict: NotUnderstood, Effective: "drained", Why: "not a drain"})
	j.Append(Entry{Kind: Input, Key: "regions/eu-west/drain", Deleted: true, Value: strings.Repeat("x", 1<<20)})
	j.Append(Entry{Time: at, Kind: Transition, Region: "eu-west", From: "up", To: "drained", Since: at, By: "ann"})
	ended(j)
	j.Append(Entry{Kind: Server, Event: "too late"}) // harmless
	lines := read(t, path)
	if len(lines) != 3 {
		t.Fatalf("%d lines", len(lines))
	}
	for i, want := range map[int]string{
		0: `{"time":"2026-11-25T17:00:00.123456789Z","server":"ns1","kind":"input","key":"regions/eu-west/drain","revision":7,"value":"\\x1b[2Jmaybe\\n","verdict":"not understood","effective":"drained","why":"not a drain"}`,
		2: `{"time":"2026-11-25T17:00:00.123456789Z","server":"ns1","kind":"transition","region":"eu-west","from":"up","to":"drained","since":"2026-11-25T18:00:00.123456789+01:00","by":"ann"}`,
	} {
		if lines[i].Text != want {
			t.Errorf("line %d is\n%s, want\n%s", i, lines[i].Text, want)
		}
	}
	if size := len(lines[1].Value); size > maxText {
		t.Errorf("a value of %d octets", size)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// The files stay below the limit, and have the newest entries without a hole.
func TestLimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	const limit, entries = 64 << 10, 5000
	j := opened(t, path, limit)
	for n := range entries {
		j.Append(numbered(n))
	}
	ended(j)
	size := int64(0)
	for _, file := range []string{path, path + ".1"} {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	lines := read(t, path)
	if size > limit || size < limit/3 || lines[len(lines)-1].Revision != entries-1 {
		t.Errorf("%d octets for a limit of %d, %d lines to %d", size, limit, len(lines), lines[len(lines)-1].Revision)
	}
	inOrder(t, lines)
}

// inOrder checks that the entries are numbered one after the other.
func inOrder(t testing.TB, lines []Line) {
	t.Helper()
	for i := 1; i < len(lines); i++ {
		if lines[i].Revision != lines[i-1].Revision+1 {
			t.Fatalf("entry %d follows %d", lines[i].Revision, lines[i-1].Revision)
		}
	}
}

// A file that ends at any octet, or in what a crash of the machine leaves: what
// was whole stays, and what comes after is not joined with the rest.
func TestTorn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	j := opened(t, path, DefaultLimit)
	for n := range 3 {
		j.Append(numbered(n))
	}
	ended(j)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for end := range len(whole) + 1 {
		for _, tail := range []string{"", "\x00\x00\x00"}[:1+end%2] {
			content := string(whole[:end]) + tail
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			j := opened(t, path, DefaultLimit)
			j.Append(Entry{Kind: Server, Event: "start"})
			ended(j)
			lines := read(t, path)
			if want := strings.Count(content, "\n") + 1; len(lines) != want || lines[want-1].Event != "start" {
				t.Fatalf("cut at %d: %d lines, want %d", end, len(lines), want)
			}
		}
	}
}

// Where nothing can be written, Append does not wait; what was dropped is told.
func TestObstacle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	j := opened(t, path, DefaultLimit)
	const more = 5000 // than the queue holds, and the batch beside it
	for n := range queueLength + more {
		j.Append(numbered(n))
	}
	eventually(t, "an alarm", func() bool {
		alarms := j.Alarms()
		return len(alarms) == 1 && strings.Contains(alarms[0], "entries are lost so far") && strings.Contains(alarms[0], "is a directory")
	})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the alarm", func() bool { return len(j.Alarms()) == 0 })
	ended(j)
	lines := read(t, path)
	gap := lines[len(lines)-1]
	if gap.Kind != Gap || gap.Dropped == 0 || gap.Dropped > more || len(lines)-1+int(gap.Dropped) != queueLength+more {
		t.Errorf("%d lines and %+v", len(lines), gap.Entry)
	}
	inOrder(t, lines[:len(lines)-1])
}

// Somebody moves the file away, or deletes it.
func TestMoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	j := opened(t, path, DefaultLimit)
	for n := range 3 {
		j.Append(numbered(n))
		eventually(t, "the entry", func() bool {
			lines := drain(t, path)
			return len(lines) == 1 && lines[0].Revision == int64(n)
		})
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
	}
}

// A reader that follows sees every entry once, whatever takes the file's place.
func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	const entries = 3000
	j := opened(t, path, 32<<10)
	j.Append(numbered(0))
	eventually(t, "a journal", func() bool { return len(drain(t, path)) == 1 })
	r, err := OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for want, written := 0, 1; want < entries; {
		if want == written {
			for range min(1+rand.IntN(60), entries-written) { // less than half of the limit: no file comes and goes unseen
				j.Append(numbered(written))
				written++
			}
		}
		line, err := r.Next()
		if err == io.EOF {
			continue
		}
		if err != nil || line.Revision != int64(want) {
			t.Fatalf("entry %d, want %d: %v", line.Revision, want, err)
		}
		want++
	}
}

// appendForEver says how many entries Append took, after they were written.
func appendForEver(path string) {
	j := Open(path, 64<<10, "ns1", zerolog.Nop())
	for n := 0; ; n++ {
		j.Append(numbered(n))
		if n%50 == 0 {
			fmt.Println(n)
		}
	}
}

// A process that appends is killed, again and again: each line is whole, and the
// entries of each life follow each other.
func TestKilled(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	for range 60 {
		cmd := child("append", path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range 1 + rand.IntN(100) {
			lines.Scan()
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
	}
	j := opened(t, path, 64<<10) // cuts off what the last one left
	j.Append(Entry{Kind: Server, Event: "start"})
	ended(j)
	lines := read(t, path)
	for i, line := range lines[:len(lines)-1] {
		switch {
		case line.Kind == Gap || line.Revision == 0: // nothing, or another life
		case i > 0 && lines[i-1].Kind != Gap && line.Revision != lines[i-1].Revision+1:
			t.Fatalf("entry %d follows %d", line.Revision, lines[i-1].Revision)
		}
	}
	if len(lines) < 10 {
		t.Errorf("only %d lines", len(lines))
	}
}

// fillDisk has a disk of 20,000 octets, so to speak, and then a larger one.
func fillDisk(path string) {
	signal.Ignore(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		panic(err)
	}
	small := limit
	small.Cur = 20000
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small); err != nil {
		panic(err)
	}
	j := newJournal(path, DefaultLimit, "ns1", zerolog.Nop())
	j.retry = time.Millisecond
	go j.run()
	n := 0
	for len(j.Alarms()) == 0 {
		if len(j.queue) < queueLength/2 { // nothing is dropped
			j.Append(numbered(n))
			n++
		}
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		panic(err)
	}
	j.Append(numbered(n))
	ended(j)
	fmt.Println(n)
}

// A disk that gets full in the middle of an entry, and has room again.
func TestFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	out, err := child("full", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	last, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil || last < 50 {
		t.Fatalf("it printed %q", out)
	}
	lines := read(t, path)
	inOrder(t, lines)
	if lines[0].Revision != 0 || lines[len(lines)-1].Revision != int64(last) {
		t.Errorf("entries %d to %d, want 0 to %d", lines[0].Revision, lines[len(lines)-1].Revision, last)
	}
}

// Whatever is in the file: a reader does not fail over it, and what is appended
// then is found.
func FuzzReader(f *testing.F) {
	f.Add([]byte(`{"time":"2026-11-25T17:00:00Z","server":"ns1","kind":"server","event":"start"}` + "\n"))
	f.Add([]byte("rubbish\n\x00\x00\n{}\n{\"kind\":1}\nnull\n["))
	f.Add([]byte(strings.Repeat("x", maxLine+1)))
	folder := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(folder, fmt.Sprint(os.Getpid(), "-", rand.Int()))
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(path)
		before := drain(t, path)
		j := newJournal(path, DefaultLimit, "ns1", zerolog.Nop())
		f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := cutTorn(f); err != nil {
			t.Fatal(err)
		}
		j.encode(Entry{Time: time.Now(), Kind: Server, Event: "appended"})
		if _, err := f.Write(j.batch); err != nil {
			t.Fatal(err)
		}
		after := drain(t, path)
		if len(after) != len(before)+1 || after[len(before)].Event != "appended" || !sameText(after[:len(before)], before) {
			t.Errorf("%d entries before, %d after", len(before), len(after))
		}
	})
}

// BenchmarkAppend measures what an entry costs its caller.
func BenchmarkAppend(b *testing.B) {
	j := Open(filepath.Join(b.TempDir(), "journal.jsonl"), DefaultLimit, "ns1", zerolog.Nop())
	defer j.Close()
	e := numbered(100)
	for b.Loop() {
		j.Append(e)
	}
	b.ReportMetric(float64(j.dropped.Load())/float64(b.N), "dropped/op")
}
