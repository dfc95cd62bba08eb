package console

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/rs/zerolog"

	"nearside/dnsserver"
	"nearside/geo"
	"nearside/healthsync"
	"nearside/regions"
)

var update = flag.Bool("update", false, "write the expected output anew")

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// fake is a server with a bit of everything wrong.
type fake struct {
	status   Status
	counters dnsserver.Counters
	requests []ReloadRequest
	accepted int
	err      error
}

func (f *fake) Status() Status               { return f.status }
func (f *fake) Counters() dnsserver.Counters { return f.counters }

func (f *fake) Reload(_ context.Context, r ReloadRequest) (Reloaded, error) {
	f.requests = append(f.requests, r)
	return Reloaded{Summary: "2 zones", Faults: []string{"a.zone:1: bad"}}, f.err
}

func (f *fake) AcceptState(context.Context) error {
	f.accepted++
	return f.err
}

func testRegions(t *testing.T) []Region {
	t.Helper()
	var list []regions.Region
	for _, name := range []string{"us-east", "us-west", "eu-west", "eu-central", "ap-southeast", "sa-east", "eu-south", "me-south", "af-south", "ap-east"} {
		list = append(list, regions.Region{Name: name, Location: geo.Point{}, Heartbeat: name == "sa-east"})
	}
	table, err := regions.New(list)
	if err != nil {
		t.Fatal(err)
	}
	table, err = table.With([]regions.Service{{Name: "casino"}}, regions.Policy{MaxOut: 50, Hold: time.Minute, Ramp: 200 * time.Second, TTL: 30})
	if err != nil {
		t.Fatal(err)
	}
	in := table.NewInputs()
	in.Subjects[0].Drain = regions.Drain{Percent: 100, Reason: "uplink", By: "ann@noc\n  us-east\tup"}
	in.Subjects[1].Drain = regions.Drain{Percent: 100, Until: noon.Add(time.Hour)}
	in.Subjects[2].Votes = map[string]regions.Vote{
		"p1": {Down: true, Since: "2026-11-23T11:58:00Z", Detail: "connection refused"},
		"p4": {Down: true, Detail: "a\nus-west\tup \x1b[31m\u202e é'\""},
		"p2": {Down: true},
		"p3": {},
		"p5": {Down: true, Probe: "host5"},
	}
	in.Subjects[3].Votes = map[string]regions.Vote{"p1": {}}
	in.Subjects[6].Drain = regions.Drain{Percent: 30, Reason: "capacity"}
	in.Subjects[7].Record = regions.Record{From: regions.Down, Since: noon.Add(-40 * time.Second)}
	in.Subjects[8].Record = regions.Record{From: regions.Drained, Since: noon.Add(-100 * time.Second)}
	in.Subjects[9].Drain = regions.Drain{Percent: 100, At: noon.Add(20 * time.Second), By: "bob"}
	in.Subjects[table.Index(regions.Key{Service: 1, Region: 3})].Drain = regions.Drain{Percent: 50, By: "ann"}
	in.ForcedDrain = regions.SetOf(4)
	in.ForcedUp = regions.SetOf(5)
	return Regions(table, table.Evaluate(in, regions.Clock{Now: noon, Back: noon}), noon)
}

// testServers is ns1, which is asked, and others.
func testServers() []healthsync.Member {
	self := healthsync.Server{Cluster: "cdf818194e3a8c32", Revision: 4711, Facts: healthsync.Facts{Digests: healthsync.Digests{Configuration: "c", Zones: "z", Database: "d"}}}
	other, stopped := self, self
	other.Revision, other.Cluster, other.Override, other.Digests = 12, "ff", true, healthsync.Digests{}
	stopped.Stopped = noon
	return []healthsync.Member{
		{ID: "ns1", Alive: true, Server: self}, {ID: "ns2", Alive: true, Server: other}, {ID: "ns3", Server: stopped}, {ID: "ns4", Server: self},
		{ID: "ns5\n", Alive: true, Fault: "it says nothing of itself"},
	}
}

func testServer(t *testing.T) *fake {
	return &fake{
		status: Status{
			Server: Server{
				ID: "ns1", Version: "v1.2.3", PID: 7, Started: noon.Add(-3 * time.Hour), Phase: Serving,
				Degraded: []string{"etcd is not connected"}, Config: "/etc/nearside/nearside.yaml",
				DNS: []string{"192.0.2.53:53", "[2001:db8::53]:53"}, Admin: "127.0.0.1:8053",
			},
			State: &healthsync.Status{
				Source: healthsync.FromFile, Cluster: "cdf818194e3a8c32", Revision: 4711, AgeSeconds: 312,
				Error: "connection refused", Frozen: "etcd is another cluster", RejectedCount: 1,
				Rejected: []healthsync.Rejected{{Key: "/nearside/regions/eu-west/drain", Value: "yes", Why: "not a drain", Revision: 4700, Effective: "not drained"}},
				Servers:  testServers(), ServersAt: noon.Add(-12 * time.Second),
				Override: healthsync.Override{Drain: []string{"ap-southeast"}, Up: []string{"sa-east"}, Error: "line 3: no such region"},
			},
			Regions: testRegions(t),
			Zones: []Zone{
				{Name: "bet.example.", State: "ok", Serial: 2026112301, Records: 42},
				{Name: "odds.example.", State: "last good", Serial: 3, Records: 9, Faults: []string{"zones/odds.example.zone:7: no such type"}},
			},
			Geography: &Geography{Name: "DBIP-City-Lite", Built: noon.Add(-20 * 24 * time.Hour), Digest: "abc"},
			Reloads:   []Reload{{What: "zones", OK: 3, Failed: 1, Success: noon}},
			Alarms:    []string{"odds.example.: the last good version is served"},
		},
		counters: dnsserver.Counters{
			Zones:      map[string]uint64{"bet.example.": 5},
			Types:      map[uint16]uint64{1: 3, 28: 2, 65280: 4, 65281: 5},
			Rcodes:     map[int]uint64{0: 8, 3: 1, 16: 2},
			OtherType:  1,
			NoZone:     7,
			Regions:    []uint64{0, 0, 6, 0, 0, 0},
			AllDrained: 1, Withheld: 5, Dropped: 2, Truncated: 3, TCPConnections: 4,
		},
	}
}

// The texts are compared with those in testdata; -update writes them.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; got\n%s", path, got)
	}
}

func TestText(t *testing.T) {
	whole := testServer(t).status
	plain := Status{Server: whole.Server, Zones: whole.Zones}
	plain.Server.Degraded = nil
	for name, status := range map[string]Status{"status.txt": whole, "plain.txt": plain} {
		var out bytes.Buffer
		if err := status.WriteText(&out, noon); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out.String()) {
			if len(line) > 121 {
				t.Errorf("%s: %d columns: %s", name, len(line), line)
			}
		}
		golden(t, name, out.Bytes())
	}
}

// Of very many zones, only those that are not well are listed.
func TestTextManyZones(t *testing.T) {
	var s Status
	for i := range manyZones + 1 {
		s.Zones = append(s.Zones, Zone{Name: fmt.Sprintf("z%d.example.", i), State: "ok"})
	}
	s.Zones[7].State = "failed"
	var out bytes.Buffer
	if err := s.WriteText(&out, noon); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); !strings.Contains(text, "z7.example.") || strings.Contains(text, "z8.example.") {
		t.Errorf("got\n%s", text)
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(newCollector(testServer(t)))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	code, text := get(t, Admin(testServer(t)), "/metrics")
	if code != http.StatusOK {
		t.Fatalf("status %d", code)
	}
	for _, want := range []string{
		`nearside_queries_total{zone="bet.example."} 5`,
		`nearside_queries_total{zone="other"} 7`,
		`nearside_query_types_total{type="AAAA"} 2`,
		`nearside_query_types_total{type="other"} 10`,
		`nearside_responses_total{rcode="BADVERS"} 2`,
		`nearside_responses_total{rcode="NXDOMAIN"} 1`,
		`nearside_region_answers_total{region="eu-west"} 6`,
		`nearside_region_up{region="sa-east"} 1`,
		`nearside_region_up{region="eu-west"} 0`,
		`nearside_region_drained{region="us-east"} 1`,
		`nearside_region_drained{region="eu-west"} 0`,
		`nearside_state_revision 4711`,
		`nearside_state_age_seconds 312`,
		`nearside_state_frozen 1`,
		`nearside_etcd_rejected_keys 1`,
		`nearside_zones{state="last good"} 1`,
		`nearside_reloads_total{result="failed",what="zones"} 1`,
		`nearside_build_info{`,
		`process_start_time_seconds `,
		`go_goroutines `,
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("no %s", want)
		}
	}
}

func TestBusiest(t *testing.T) {
	zones := make(map[string]uint64)
	for i := range maxZoneSeries + 10 {
		zones[fmt.Sprintf("z%04d.", i)] = uint64(i)
	}
	kept := busiest(zones, 5)
	if len(kept) != maxZoneSeries+1 || kept[other] != 50 || kept["z1009."] != 1009 {
		t.Errorf("%d series, %d other", len(kept), kept[other])
	}
}

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

func TestHealth(t *testing.T) {
	f := testServer(t)
	admin := Admin(f)
	check := func(path string, code int, text string) {
		t.Helper()
		if c, body := get(t, admin, path); c != code || strings.TrimSpace(body) != text {
			t.Errorf("%s: %d %q, want %d %q", path, c, body, code, text)
		}
	}
	check("/readyz", 200, "degraded: etcd is not connected")
	f.status.Server.Degraded = nil
	check("/readyz", 200, "ok")
	f.status.Server.Phase = Starting
	check("/readyz", 503, "starting")
	f.status.Server.Phase = Stopping
	check("/readyz", 503, "stopping")
	check("/healthz", 200, "ok")
	if code, _ := get(t, admin, "/nothing"); code != 404 {
		t.Errorf("/nothing: %d", code)
	}
	if _, body := get(t, admin, "/"); !strings.Contains(body, "/metrics") {
		t.Errorf("index %q", body)
	}
}

func TestControl(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	if err := os.WriteFile(path, nil, 0o600); err != nil { // left by a server that died
		t.Fatal(err)
	}
	listener, err := ListenControl(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	f := testServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, listener, Control(f), zerolog.Nop()) }()

	client := NewClient(path)
	status, err := client.Status(ctx)
	if err != nil || !reflect.DeepEqual(status.Regions, f.status.Regions) || status.State.Revision != 4711 {
		t.Errorf("status %+v, %v", status, err)
	}
	done, err := client.Reload(ctx, ReloadRequest{Accept: true, Zone: "bet.example"})
	if err != nil || done.Summary != "2 zones" || len(done.Faults) != 1 || f.requests[0] != (ReloadRequest{true, "bet.example"}) {
		t.Errorf("reload %+v, %v, %v", done, f.requests, err)
	}
	f.err = errors.New("etcd does not answer")
	if err := client.AcceptState(ctx); err == nil || err.Error() != "etcd does not answer" || f.accepted != 1 {
		t.Errorf("accept: %v", err)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if _, err := client.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "no server runs here") {
		t.Errorf("without a server: %v", err)
	}
}

func TestControlRubbish(t *testing.T) {
	f := testServer(t)
	w := httptest.NewRecorder()
	Control(f).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/reload", strings.NewReader("{")))
	body, _ := io.ReadAll(w.Body)
	if w.Code != http.StatusConflict || len(f.requests) != 0 || !bytes.Contains(body, []byte("read the request")) {
		t.Errorf("%d %s", w.Code, body)
	}
}

// A server that hangs takes connections, since the kernel does that, and says nothing.
func TestControlHangs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	listener, err := ListenControl(path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client := NewClient(path)
	client.patience = 20 * time.Millisecond
	if _, err := client.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("status: %v", err)
	}
}

func TestListenControlLongPath(t *testing.T) {
	_, err := ListenControl("/" + strings.Repeat("a", 120))
	if err == nil || !strings.Contains(err.Error(), "shorter data_dir") {
		t.Errorf("got %v", err)
	}
}

// What is to come back waits for etcd: a time that is past says nothing.
func TestReturnThatWaits(t *testing.T) {
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for want, own := range map[string]regions.Standing{
		"on hold until etcd confirms the state":                                      {Hold: noon.Add(-1)},
		"on hold until 2026-11-23 12:00:00Z":                                         {Hold: noon},
		"40% of its clients are back, the others wait until etcd confirms the state": {Ramp: noon.Add(-1), Away: 60},
		"40% of its clients are back, all at 2026-11-23 12:00:00Z":                   {Ramp: noon, Away: 60},
	} {
		if got := strings.Join(whys(own, regions.Subject{}, noon), "; "); got != want {
			t.Errorf("it says %q, not %q", got, want)
		}
	}
}
