package console

import (
	"bytes"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"nearside/probes"
)

type fakeProbes struct{ state probes.State }

func (f fakeProbes) State() probes.State { return f.state }

func testProbes() *probes.State {
	return &probes.State{
		Host: "ns1", Why: "etcd: no answer within 2s", Stuck: "the probe tcp://192.0.2.1:443 of us-east hangs",
		Probes: []probes.Result{
			{Region: "eu-west", Service: "casino", Target: "https://192.0.2.10/healthz as play.bet.example", Status: probes.Down, Since: noon,
				Detail: "status 503", Last: noon.Add(time.Minute), Took: 30 * time.Millisecond, Passed: 7, Failed: 3, Void: 1},
			{Region: "eu-west", Target: "tcp://192.0.2.10:443", Status: probes.Up, Since: noon, Last: noon, Passed: 10},
			{Region: "us-east", Target: "tcp://192.0.2.1:443"},
		},
	}
}

func TestProbesText(t *testing.T) {
	var out bytes.Buffer
	if err := (Status{Server: Server{Phase: Serving}, Probes: testProbes()}).WriteText(&out, noon); err != nil {
		t.Fatal(err)
	}
	want := `probes     3, 1 of them up, as ns1
           the votes do NOT count: etcd: no answer within 2s
  casino in eu-west down since 2026-11-23T12:00:00Z: https://192.0.2.10/healthz as play.bet.example
      status 503
`
	if !strings.Contains(out.String(), want) {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
	many := testProbes()
	for range maxDownProbes + 1 {
		many.Probes = append(many.Probes, many.Probes[0])
	}
	out.Reset()
	if err := (Status{Server: Server{Phase: Serving}, Probes: many}).WriteText(&out, noon); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "status 503"); n != maxDownProbes || !strings.Contains(out.String(), "and 2 more") {
		t.Errorf("%d of many are listed:\n%s", n, &out)
	}
}

// What `status --json` prints is what the command reads from the server.
func TestProbesJSON(t *testing.T) {
	text, err := json.Marshal(Status{Probes: testProbes()})
	if err != nil {
		t.Fatal(err)
	}
	var back Status
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back.Probes, testProbes()) || !strings.Contains(string(text), `"status":"down"`) {
		t.Errorf("got %s", text)
	}
	if err := json.Unmarshal([]byte(`{"probes":{"probes":[{"status":"well"}]}}`), &back); err == nil {
		t.Error("a status that is none was taken")
	}
}

func TestProbesAdmin(t *testing.T) {
	state := *testProbes()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(probeCollector{fakeProbes{state}})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if problems, err := promlint.NewWithMetricFamilies(families).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	_, text := get(t, Probes(fakeProbes{state}, "v1"), "/metrics")
	server := testServer(t)
	server.status.Probes = &state
	_, inServer := get(t, Admin(server), "/metrics")
	for _, want := range []string{
		`nearside_probe_up{region="eu-west",service="casino",target="https://192.0.2.10/healthz as play.bet.example"} 0`,
		`nearside_probe_up{region="eu-west",service="",target="tcp://192.0.2.10:443"} 1`,
		`nearside_probe_duration_seconds{region="eu-west",service="casino",target="https://192.0.2.10/healthz as play.bet.example"} 0.03`,
		`nearside_probe_last_run_timestamp_seconds{region="eu-west",service="",target="tcp://192.0.2.10:443"} 1.7954352e+09`,
		`nearside_probe_results_total{region="eu-west",result="failed",service="casino",target="https://192.0.2.10/healthz as play.bet.example"} 3`,
		`nearside_probe_results_total{region="us-east",result="void",service="",target="tcp://192.0.2.1:443"} 0`,
		`nearside_probes_live{host="ns1"} 0`,
		`nearside_probes_stuck{host="ns1"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in\n%s", want, text)
		}
		if !strings.Contains(inServer, want+"\n") {
			t.Errorf("a server that probes does not show %s", want)
		}
	}
	if strings.Contains(text, `nearside_probe_up{region="us-east"`) {
		t.Error("a status is shown before it is decided")
	}

	for path, want := range map[string]string{
		"/healthz": "the probe tcp://192.0.2.1:443 of us-east hangs",
		"/readyz":  "the votes of the probes in here do not count: etcd: no answer within 2s",
	} {
		if code, text := get(t, Probes(fakeProbes{state}, "v1"), path); code != http.StatusServiceUnavailable || text != want+"\n" {
			t.Errorf("%s: %d %q", path, code, text)
		}
	}
	state.Live, state.Why, state.Stuck = true, "", ""
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, text := get(t, Probes(fakeProbes{state}, "v1"), path); code != http.StatusOK || text != "ok\n" {
			t.Errorf("%s: %d %q", path, code, text)
		}
	}
	if code, text := get(t, Probes(fakeProbes{state}, "v1"), "/"); code != http.StatusOK || !strings.Contains(text, "probes of ns1") {
		t.Errorf("/: %d %q", code, text)
	}
}
