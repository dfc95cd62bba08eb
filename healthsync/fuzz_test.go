package healthsync

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"nearside/regions"
)

// values are seeds for drains and votes alike.
var values = []string{
	"", " \n", "true", "false", "100%", "0%", "50%", "TRUE", "up", "down", " down\r\n", "Up", "\xff\xfe", "\x00", "{", "{}", "{} {}", "[]", "null", `"up"`,
	`{"reason":"cables","by":"ann"}`, `{"reason":"a","reason":"b"}`, `{"BY":"ann"}`, `{"by":null}`, `{"by":7}`, `{"percent":"50"}`, `{"reason":"\ud800<&\u2028"}`,
	`{"reason":{"by":"ann"}}`, `{"by":"ann",}`, `{"by":"ann"`, `{"status":"down"}`, `{"status":"up","since":"2026-11-23T18:00:00Z","detail":"3 of 3"}`,
	`{"percent":50,"force":true,"at":"2026-11-23T18:00:00Z","until":"2026-11-23T20:00:00+01:30"}`, `{"percent":0}`, `{"percent":"50%"}`, "100 %", "07%", "101%",
	`{"status":"down","probe":"p1","load":0.75}`, `{"status":"up","load":"high"}`, `{"status":"up","probe":""}`,
	`{"status":"up","since":""}`, `{"status":"up","since":"2026-11-23"}`, `{"detail":"no status"}`, `{"status":"up","probe":"p1"}`,
	strings.Repeat(" ", maxValue) + "x", `{"reason":"` + strings.Repeat("<", maxValue-20) + `"}`,
}

func seed(f *testing.F, seeds ...string) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
}

// judged writes a value over a good one and returns the inputs that follow. It
// checks that what is not understood changes nothing and is shown.
func judged(t *testing.T, key, good string, value []byte, understood bool) regions.Inputs {
	t.Helper()
	now := time.Date(2026, 11, 23, 18, 0, 0, 0, time.UTC)
	l := newLedger(table(t), "test", nil)
	l.transact([]write{{key: key, value: []byte(good), revision: 1, created: 1}}, now)
	before := l.share()
	l.transact([]write{{key: key, value: value, revision: 2, created: 1}}, now)
	after := l.share()
	r, rejected := l.rejection(key)
	if rejected == understood && !r.Refused {
		t.Fatalf("rejected: %v, understood: %v", rejected, understood)
	}
	if rejected && !reflect.DeepEqual(before, after) {
		t.Fatalf("it changed the inputs from %+v to %+v", before, after)
	}
	if rejected && (r.Why == "" || len(r.Value) > maxShown || !utf8.ValidString(r.Value) || r.Effective == "none") {
		t.Fatalf("shown as %+v", r)
	}
	return after
}

func FuzzDrain(f *testing.F) {
	seed(f, values...)
	f.Fuzz(func(t *testing.T, value []byte) {
		d, err := ParseDrain(value)
		in := judged(t, "regions/eu-west/drain", `{"reason":"before"}`, value, err == nil)
		if err != nil {
			return
		}
		if in.Subjects[0].Drain != d || d.Percent < 0 || d.Percent > 100 || !d.Until.IsZero() && !d.Until.After(d.At) {
			t.Fatalf("%+v is in force, not %+v", in.Subjects[0].Drain, d)
		}
		text, err := encodeDrain(d)
		if err != nil { // escapes can make it longer than a value may be
			if object, _ := json.Marshal(d); len(object) < maxValue {
				t.Fatalf("%+v cannot be written: %v", d, err)
			}
			return
		}
		if again, err := ParseDrain([]byte(text)); err != nil || again != d {
			t.Fatalf("%+v became %+v: %v", d, again, err)
		}
	})
}

func FuzzVote(f *testing.F) {
	seed(f, values...)
	f.Fuzz(func(t *testing.T, value []byte) {
		v, err := ParseVote(value)
		in := judged(t, "regions/us-east/health/p1", `{"status":"down","detail":"before"}`, value, err == nil)
		if err != nil {
			return
		}
		if in.Subjects[1].Votes["p1"] != v {
			t.Fatalf("%+v is in force, not %+v", in.Subjects[1].Votes["p1"], v)
		}
		object := map[string]any{"status": map[bool]string{false: "up", true: "down"}[v.Down], "detail": v.Detail}
		for name, text := range map[string]string{"probe": v.Probe, "since": v.Since} {
			if text != "" {
				object[name] = text
			}
		}
		if v.Load != "" {
			object["load"] = json.Number(v.Load)
		}
		text, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseVote(text); (err != nil || again != v) && len(text) <= maxValue {
			t.Fatalf("%+v became %+v: %v", v, again, err)
		}
	})
}

// FuzzState reads state files whose sum matches: the sum alone keeps others out.
func FuzzState(f *testing.F) {
	_, payload, _ := bytes.Cut(stateContent(f), []byte("\n"))
	seed(f, string(payload), "", "{}", "null", "[]", "{} {}", `{"cluster":"1","revision":9223372036854775807}`, `{"revision":-1}`,
		`{"cluster":"1","confirmed":"9999-12-31T23:59:59-23:59","frozen":{"why":"x","cluster":"2"}}`,
		`{"cluster":"1","confirmed":"0000-01-01T00:00:00+23:59","down":["eu-west","eu-west","nowhere"]}`,
		`{"cluster":"1","keys":[{"key":"regions/eu-west/drain","value":"rubbish","held":true},{"key":"servers/ns1","value":"x"},{"key":"\u0000"}]}`,
		`{"cluster":"1","keys":[{"key":"regions/eu-west/drain","value":" true\n"},{"key":"regions/eu-west/drain","value":"false"}]}`,
		`{"cluster":"1","override":{"drain":["eu-west"],"up":["eu-west","nowhere"]}}`,
		`{"cluster":"1","keys":[{"key":"regions/eu-west/drain","revision":7,"value":"50%","why":"too much","refused":true,"rejected":"true"},{"key":"probes/h1","revision":8,"value":""},
			{"key":"regions/us-east/heartbeat/a","value":""},{"key":"services/casino/us-east/drain","value":"true","unjudged":true},{"key":"verdicts/x","value":""}],
			"verdicts":[{"key":"regions/eu-west/drain","mod":9,"revision":7,"accepted":false,"effective":"50%","server":"ns1"},{"key":"regions/us-east/drain","mod":3,"revision":2,"effective":"true","held":true},
			{"key":"x","mod":-1,"effective":null},{"key":"regions/us-east/health/p","mod":4,"rubbish":true,"revision":0,"accepted":false,"effective":null,"server":""}],
			"transitions":[{"subject":"eu-west","from":"drained","to":"up","since":"2026-11-23T18:00:00Z","mod":8,"recorded":true},{"subject":"casino/us-east","from":"up","to":"drained","since":"9999-12-31T23:59:59Z"},
			{"subject":"us-east","from":"up","to":"sick","since":"2026-11-23T18:00:00Z"},{"subject":"a/b/c","from":"up","to":"up","since":"2026-11-23T18:00:00Z"},{"subject":"us-east","from":"expired","to":"expired","since":"2026-11-23T18:00:00Z"}]}`)
	f.Fuzz(func(t *testing.T, payload []byte) {
		if _, err := decodeState(payload); err == nil && !bytes.HasPrefix(payload, []byte(stateMagic)) {
			t.Fatal("taken without a sum")
		}
		content := append(stateHeader(stateVersion, payload), payload...)
		v, err := decodeState(content)
		s := opened(t, t.TempDir(), content)
		if err != nil {
			isRefused(t, s, content)
			return
		}
		if s.damage != nil || s.State().Cluster != v.Cluster || v.Cluster != 0 && s.State().Revision != v.Revision {
			t.Fatalf("%+v became %+v: %v", v, s.State(), s.damage)
		}
		// What is written next says the same.
		if err := s.save(); err != nil {
			t.Fatal(err)
		}
		again := open(s.config, s.pace, s.now)
		a, b := s.State(), again.State()
		if a.Cluster != b.Cluster || a.Revision != b.Revision || !slices.Equal(a.Standings, b.Standings) {
			t.Fatalf("%+v became %+v", a, b)
		}
		before, after := s.snapshot(), again.snapshot()
		if before.Confirmed = after.Confirmed; !reflect.DeepEqual(before, after) {
			t.Fatalf("%+v became %+v", before, after)
		}
	})
}

func FuzzOverride(f *testing.F) {
	seed(f, "", "# nothing\n", "---\n", "null", "{}", "[]", "drain: [eu-west]\nup: [us-east]\n", "drain: eu-west", "drain: [eu-west, eu-west]", "drain:\n- eu-west\n- nowhere\n",
		"drain: [eu-west]\ndrain: []\n", "up: ~\n", "down: []", "drain: [[eu-west]]", "drain: [&a eu-west]\nup: [*a]\n", "drain: [&up eu-west]\n*up : [us-east]\n",
		"drain: &d [eu-west]\nup: *d\n", "a: &a [x]\nb: &b [*a,*a]\n", "<<: {drain: [eu-west]}", "drain: []\n---\nup: []\n", "drain: [!!int eu-west]", "? [drain]\n: [eu-west]\n",
		"%YAML 1.1\n---\n", "drain: [eu-west", "\tdrain: []", "\xef\xbb\xbfdrain: [eu-west]", "\xff\xfe", "drain: !!seq [eu-west]\n", "!!map {drain: []}", "drain: ['eu-west', \"us-east\"]")
	regionTable := table(f)
	f.Fuzz(func(t *testing.T, content []byte) {
		got, err := parseOverride("override.yaml", content, regionTable)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "override.yaml:") || got.Drain != nil || got.Up != nil {
				t.Fatalf("%+v, %v", got, err)
			}
			return
		}
		// What is taken means to YAML what it means to us, wrong tags apart.
		var plain map[string][]string
		if err := yaml.Unmarshal(content, &plain); err == nil && (!slices.Equal(plain["drain"], got.Drain) || !slices.Equal(plain["up"], got.Up)) {
			t.Fatalf("%+v is %+v by itself", got, plain)
		}
		text, err := yaml.Marshal(map[string][]string{"drain": got.Drain, "up": got.Up})
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parseOverride("override.yaml", text, regionTable); err != nil || !slices.Equal(again.Drain, got.Drain) || !slices.Equal(again.Up, got.Up) {
			t.Fatalf("%+v became %+v: %v", got, again, err)
		}
	})
}
