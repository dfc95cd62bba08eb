package healthsync

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	if !errors.Is(s.damage, errDamaged) || !slices.Contains(s.Status().Alarms, s.damage.Error()) {
		t.Fatalf("no alarm: %v", s.damage)
	}
	if aside, err := os.ReadFile(s.config.StateFile + ".damaged"); err != nil || !bytes.Equal(aside, content) {
		t.Fatalf("not set aside: %v", err)
	}
}

// Each octet changed, each length too short, and something behind the end.
func TestDamagedState(t *testing.T) {
	t.Parallel()
	folder, good := t.TempDir(), stateContent(t)
	isWhole(t, opened(t, folder, good))
	for i := range good {
		for _, bits := range []byte{0xff, 1 << (i % 8)} {
			content := slices.Clone(good)
			content[i] ^= bits
			isRefused(t, opened(t, folder, content), content)
		}
		isRefused(t, opened(t, folder, good[:i]), good[:i])
	}
	longer := append(slices.Clone(good), '\n')
	isRefused(t, opened(t, folder, longer), longer)
	isWhole(t, opened(t, folder, good))
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
		content := append(stateHeader([]byte(payload)), payload...)
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
			v, err := readState(filepath.Join(folder, "state"))
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
