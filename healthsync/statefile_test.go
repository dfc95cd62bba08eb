package healthsync

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"nearside/regions"
)

// stateContent is a state file with something of everything in it.
func stateContent(t testing.TB) []byte {
	t.Helper()
	on, down, bad := "true", "down", `{"reason":"a<b","by":"ann"}`
	v := saved{
		Cluster: 0xfeedfacecafebeef, Revision: 42, Confirmed: time.Date(2026, 11, 23, 18, 0, 0, 0, time.UTC),
		Down: []string{"us-east"}, Override: forced{Up: []string{"ap-southeast"}},
		Keys: []savedKey{
			{Key: "regions/eu-west/drain", Revision: 40, Value: &on, Held: true},
			{Key: "regions/us-east/drain", Revision: 41, Value: &bad, Why: "not a drain", Rejected: "50%"},
			{Key: "regions/us-east/health/p1", Revision: 42, Value: &down},
			{Key: "regions/atlantis/drain", Revision: 12},
		},
	}
	content, err := v.encode()
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// opened returns a Sync that has read a state file of this content.
func opened(t testing.TB, folder string, content []byte) *Sync {
	t.Helper()
	s := &server{t: t, folder: folder}
	config := s.config("http://127.0.0.1:1")
	config.Log = zerolog.New(io.Discard)
	if err := os.WriteFile(config.StateFile, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return open(config, quickPace(), time.Now)
}

// isWhole checks that all of stateContent was taken.
func isWhole(t testing.TB, s *Sync) {
	t.Helper()
	state := s.State()
	if state.Cluster != 0xfeedfacecafebeef || state.Revision != 42 || s.source != FromFile || s.damage != nil ||
		state.Drained() != regions.SetOf(0, 1) || state.Down() != regions.SetOf(1) || state.Inputs.ForcedUp != 0 {
		t.Fatalf("the state is not whole: %+v, %v", state, s.damage)
	}
}

// isRefused checks that nothing of a damaged file was taken, and that it was
// set aside.
func isRefused(t testing.TB, s *Sync, content []byte) {
	t.Helper()
	state := s.State()
	if state.Cluster != 0 || state.Revision != 0 || s.source != FromNone || state.Usual(regions.Anyone) != s.config.Table.All() || len(s.ledger.entries) != 0 || s.frozen != nil {
		t.Fatalf("half a state: %+v", state)
	}
	aside := s.config.StateFile + ".damaged"
	if errors.Is(s.damage, errNewer) { // the damage is in the digits of its version
		aside = s.config.StateFile + ".newer"
	} else if !errors.Is(s.damage, errDamaged) {
		t.Fatalf("no reason: %v", s.damage)
	}
	if !slices.Contains(s.Status().Alarms, s.damage.Error()) {
		t.Fatalf("no alarm: %v", s.damage)
	}
	if aside, err := os.ReadFile(aside); err != nil || !bytes.Equal(aside, content) {
		t.Fatalf("not set aside: %v", err)
	}
}

// damages calls try with ways to damage a file: each octet with one bit changed,
// with all, and zeroed; each length too short; zeros up to the end from each octet
// on, as a crash may leave them; and something behind the end.
func damages(content []byte, try func(damaged []byte)) {
	damaged := make([]byte, len(content))
	for i := range content {
		for _, bits := range []byte{1 << (i % 8), 0xff, content[i]} {
			copy(damaged, content)
			damaged[i] ^= bits
			try(damaged)
		}
		try(content[:i])
		copy(damaged, content)
		clear(damaged[i:])
		try(damaged)
	}
	try(append(slices.Clone(content), '\n'))
}

// Each octet with each of its bits changed, and with all.
func TestChangedOctet(t *testing.T) {
	t.Parallel()
	content := stateContent(t)
	for i := range content {
		for _, bits := range []byte{1, 2, 4, 8, 16, 32, 64, 128, 255} {
			content[i] ^= bits
			if _, err := decodeState(content); !errors.Is(err, errDamaged) && !errors.Is(err, errNewer) {
				t.Fatalf("octet %d with %02x: %v", i, content[i], err)
			}
			content[i] ^= bits
		}
	}
}

// A damaged state file and none before it: a clear refusal.
func TestDamagedState(t *testing.T) {
	t.Parallel()
	folder, good := t.TempDir(), stateContent(t)
	isWhole(t, opened(t, folder, good))
	damages(good, func(content []byte) { isRefused(t, opened(t, folder, content), content) })
	isWhole(t, opened(t, folder, good))
}

// A damaged state file beside the one before it: that is taken, and whole.
func TestStateBeforeDamaged(t *testing.T) {
	t.Parallel()
	folder, good := t.TempDir(), stateContent(t)
	s := opened(t, folder, good)
	if err := s.save(); err != nil { // the file before it is now as good
		t.Fatal(err)
	}
	previous := s.config.StateFile + ".old"
	if old, err := os.ReadFile(previous); err != nil || !bytes.Equal(old, good) {
		t.Fatalf("the file before it is not as it was: %v", err)
	}
	newer, err := saved{Cluster: 1, Revision: 43}.encode()
	if err != nil {
		t.Fatal(err)
	}
	damages(newer, func(content []byte) {
		s := opened(t, folder, content)
		if len(content) == 0 { // somebody emptied it
			isRefused(t, s, content)
			return
		}
		if !strings.Contains(fmt.Sprint(s.damage), "started from the one before it, which etcd confirmed at 2026-11-23T18:00:00Z") {
			t.Fatalf("no alarm: %v", s.damage)
		}
		s.damage = nil
		isWhole(t, s)
	})
	// Both are damaged.
	if err := os.WriteFile(previous, good[1:], 0o600); err != nil {
		t.Fatal(err)
	}
	s = opened(t, folder, good[:20])
	isRefused(t, s, good[:20])
	if !strings.Contains(s.damage.Error(), "was not taken either") {
		t.Errorf("%v", s.damage)
	}
	// What cannot be read at all does not become the one before.
	if err := os.WriteFile(previous, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(s.config.StateFile, 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(s.config, s.pace, s.now)
	if !strings.Contains(fmt.Sprint(s.damage), "is no regular file; started from the one before it") {
		t.Errorf("%v", s.damage)
	}
	if err := s.save(); err != nil {
		t.Fatal(err)
	}
	if old, err := readLimited(previous, maxStateFile); err != nil || !bytes.Equal(old, good) {
		t.Errorf("the file before it was replaced: %v", err)
	}
	// Who removes the state file wants none.
	if err := os.Remove(s.config.StateFile); err != nil {
		t.Fatal(err)
	}
	if again := open(s.config, s.pace, s.now); again.source != FromNone || again.damage != nil {
		t.Errorf("without a state file: %s, %v", again.source, again.damage)
	}
}

// A state file of a later version is kept for that.
func TestNewerState(t *testing.T) {
	folder := t.TempDir()
	payload := []byte(`{"cluster":"1","revision":43,"invented":"later"}`)
	content := append(stateHeader(stateVersion+1, payload), payload...)
	s := opened(t, folder, content)
	want := fmt.Sprintf("a newer version of nearside wrote it: it has format %d, and this version reads up to %d; it is set aside as %s.newer; started without it",
		stateVersion+1, stateVersion, s.config.StateFile)
	if s.source != FromNone || !strings.HasSuffix(fmt.Sprint(s.damage), want) {
		t.Errorf("%s: %v, want %s", s.source, s.damage, want)
	}
	if aside, err := os.ReadFile(s.config.StateFile + ".newer"); err != nil || !bytes.Equal(aside, content) {
		t.Errorf("not set aside: %v", err)
	}
	for _, version := range []int{0, -1} {
		content := append(stateHeader(version, payload), payload...)
		isRefused(t, opened(t, folder, content), content)
	}
}

// The sum matches, but this is not what a server writes.
func TestForgedState(t *testing.T) {
	for payload, want := range map[string]string{
		"":                             "EOF",
		"null null":                    "something follows",
		"[]":                           "cannot unmarshal array",
		`{"cluster":"1"} {}`:           "something follows",
		`{"cluster":1}`:                "invalid use of ,string",
		`{"cluster":"-1"}`:             "-1",
		`{"revision":-1}`:              "impossible revision -1",
		`{"revision":1.5}`:             "1.5",
		`{"confirmed":"yesterday"}`:    "yesterday",
		`{"future":true}`:              `unknown field "future"`,
		`{"keys":[{"value":["x"]}]}`:   "cannot unmarshal array",
		`{"keys":[{"key":"a"`:          "unexpected EOF",
		`{"override":{"drain":"all"}}`: "cannot unmarshal string",
	} {
		content := append(stateHeader(stateVersion, []byte(payload)), payload...)
		s := opened(t, t.TempDir(), content)
		isRefused(t, s, content)
		if !strings.Contains(s.damage.Error(), want) {
			t.Errorf("%s: %v does not say %s", payload, s.damage, want)
		}
	}
}

// A crash in the middle of a write leaves a temporary file: the state is the
// one from before, and the next write goes well.
func TestUncleanWrite(t *testing.T) {
	good := stateContent(t)
	for name, left := range map[string][]byte{"empty": {}, "half": good[:len(good)/2], "whole": good, "rubbish": []byte("rubbish\n")} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			temporary := filepath.Join(folder, "state.new")
			if err := os.WriteFile(temporary, left, 0o600); err != nil {
				t.Fatal(err)
			}
			v, err := (&stateFile{path: filepath.Join(folder, "state")}).load()
			if err != nil || v.Cluster != 0 {
				t.Errorf("before the first state: %+v, %v", v, err)
			}
			s := opened(t, folder, good)
			isWhole(t, s)
			if err := s.save(); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(temporary); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the temporary file stays: %v", err)
			}
			content, err := os.ReadFile(s.config.StateFile)
			if err != nil {
				t.Fatal(err)
			}
			isWhole(t, opened(t, folder, content))
		})
	}
}

// What cannot be written is an alarm, until it can be written again.
func TestUnwritableState(t *testing.T) {
	folder := t.TempDir()
	s := opened(t, folder, stateContent(t))
	obstacle := filepath.Join(folder, "state.new")
	if err := os.Mkdir(obstacle, 0o700); err != nil {
		t.Fatal(err)
	}
	const words = "the state file cannot be written"
	raised := func() bool {
		return slices.ContainsFunc(s.Status().Alarms, func(a string) bool { return strings.Contains(a, words) })
	}
	if err := s.save(); err == nil || !raised() {
		t.Errorf("no alarm over %v", err)
	}
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	if err := s.save(); err != nil || raised() {
		t.Errorf("%v, and the alarm is still there: %v", err, raised())
	}
}
