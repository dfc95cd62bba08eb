package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// region is a data center of the tests. Number i of a list announces
// 192.0.2.(16i)/28 and 2001:db8:(i+1)::/48.
type region struct {
	name                string
	latitude, longitude float64
}

var sixRegions = []region{
	{"eu-west", 53.35, -6.26},
	{"us-east", 39.04, -77.49},
	{"ap-southeast", 1.35, 103.82},
	{"us-west", 45.52, -122.68},
	{"eu-central", 50.11, 8.68},
	{"sa-east", -23.55, -46.63},
}

var twelveRegions = append(sixRegions[:len(sixRegions):len(sixRegions)], []region{
	{"eu-north", 59.33, 18.07},
	{"eu-south", 45.46, 9.19},
	{"ap-northeast", 35.68, 139.69},
	{"ap-south", 19.08, 72.88},
	{"af-south", -33.93, 18.42},
	{"au-east", -33.87, 151.21},
}...)

// regionOf returns the region whose prefixes hold address.
func regionOf(regions []region, address netip.Addr) string {
	i := -1
	if b := address.AsSlice(); address.Is4() {
		i = int(b[3]) / 16
	} else {
		i = int(b[5]) - 1
	}
	if i < 0 || i >= len(regions) {
		return "no region: " + address.String()
	}
	return regions[i].name
}

// server is a nearside with a folder of its own.
type server struct {
	*process
	host    host
	dir     string // nearside.yaml, zones/, data/
	address netip.AddrPort
	admin   netip.AddrPort

	environment []string // of its own
}

// setup is what tests choose about a server; the zero value of a field is a
// default of the tests.
type setup struct {
	host     host
	address  netip.AddrPort // loopback, some free port
	admin    netip.AddrPort
	etcd     string // the inside of the section etcd
	database string
	regions  []region // the six
	beating  []string // those of them that must show heartbeats
	ttl      int      // 30
	rules    string   // further sections
}

// newServer writes the files of a server and starts it.
func newServer(t testing.TB, s setup) *server {
	t.Helper()
	srv := prepareServer(t, s)
	srv.launch(t)
	return srv
}

// prepareServer writes the files of a server.
func prepareServer(t testing.TB, s setup) *server {
	t.Helper()
	if s.regions == nil {
		s.regions = sixRegions
	}
	if s.ttl == 0 {
		s.ttl = 30
	}
	if !s.address.IsValid() {
		s.address, s.admin = loopback(t), loopback(t)
	}
	srv := &server{host: s.host, dir: t.TempDir(), address: s.address, admin: s.admin}
	if err := os.Mkdir(srv.path("zones"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, srv.path("nearside.yaml"), configuration(s))
	write(t, srv.path("zones/bet.example.zone"), zone(s.regions))
	return srv
}

func configuration(s setup) string {
	var b strings.Builder
	fmt.Fprintf(&b, "server: {id: ns-%d, listen: [%q]}\n", s.address.Port(), s.address)
	fmt.Fprintf(&b, "admin: {listen: %q}\n", s.admin)
	fmt.Fprintf(&b, "data_dir: data\nzones: {dir: zones}\ngeo: {database: %q}\n", s.database)
	fmt.Fprintf(&b, "etcd: {%s}\nsteering: {ttl: %d}\nregions:\n", s.etcd, s.ttl)
	for i, r := range s.regions {
		fmt.Fprintf(&b, "  - {name: %s, location: {latitude: %v, longitude: %v}, prefixes: [192.0.2.%d/28, \"2001:db8:%x::/48\"], heartbeat: %v}\n",
			r.name, r.latitude, r.longitude, 16*i, i+1, slices.Contains(s.beating, r.name))
	}
	return b.String() + s.rules
}

// zone is bet.example: play is in every region.
func zone(regions []region) string {
	var b strings.Builder
	b.WriteString("$ORIGIN bet.example.\n$TTL 3600\n" +
		"@ IN SOA ns1 hostmaster 1 3600 900 1209600 60\n@ IN NS ns1\n@ IN NS ns2\n" +
		"ns1 IN A 10.53.0.2\nns2 IN A 10.53.0.3\nwww IN CNAME play\nplain IN A 198.51.100.1\n")
	for i := range regions {
		fmt.Fprintf(&b, "play 30 IN A 192.0.2.%d\nplay 30 IN AAAA 2001:db8:%x::1\n", 16*i+1, i+1)
	}
	return b.String()
}

func (s *server) path(name string) string { return filepath.Join(s.dir, name) }

// launch starts the server and waits until it answers.
func (s *server) launch(t testing.TB) {
	t.Helper()
	s.process = start(t, s.nearside("serve"))
	eventually(t, "a server that is ready", func() error {
		if err := s.failed(); err != nil {
			t.Fatalf("%v:\n%s", err, s.output)
		}
		return s.ready(t)
	})
}

// nearside is a command of the program with the server's configuration.
func (s *server) nearside(arguments ...string) *exec.Cmd {
	cmd := s.host.command(nearside, append(arguments, "--config", s.path("nearside.yaml"))...)
	cmd.Env = append(os.Environ(), s.environment...)
	return cmd
}

// ready asks /readyz. It says what it got unless that is 200.
func (s *server) ready(t testing.TB) error {
	_, err := s.get("/readyz")
	return err
}

// get reads a page of the admin address.
func (s *server) get(path string) (string, error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(_ context.Context, network, _ string) (net.Conn, error) {
		return s.host.dial(network, s.admin)
	}}
	answer, err := (&http.Client{Transport: transport, Timeout: patience}).Get("http://" + s.admin.String() + path)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, text)
	}
	return string(text), err
}

// metric returns the value of a metric without labels.
func (s *server) metric(t testing.TB, name string) int {
	t.Helper()
	page, err := s.get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(page) {
		if value, is := strings.CutPrefix(line, "nearside_"+name+" "); is {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return int(n)
		}
	}
	t.Fatalf("no metric %s in\n%s", name, page)
	return 0
}

// status is what `nearside status --json` prints, as far as tests look at it.
type status struct {
	Server struct {
		Degraded []string `json:"degraded"`
	} `json:"server"`
	Alarms []string `json:"alarms"`
	State  struct {
		Connected bool          `json:"connected"`
		Error     string        `json:"error"`
		Source    string        `json:"source"`
		Revision  int64         `json:"revision"`
		Alarms    []string      `json:"alarms"`
		Rejected  []rejectedKey `json:"rejected"`
	} `json:"state"`
	Regions []struct {
		Name  string `json:"name"`
		State string `json:"state"`
	} `json:"regions"`
	Geography struct {
		File string `json:"file"`
	} `json:"geography"`
	Zones []struct {
		Name   string   `json:"name"`
		State  string   `json:"state"`
		Serial uint32   `json:"serial"`
		Faults []string `json:"faults"`
	} `json:"zones"`
}

type rejectedKey struct {
	Key string `json:"key"`
	Why string `json:"why"`
}

func (s *server) status(t testing.TB) status {
	t.Helper()
	text := succeed(t, s.nearside("status", "--json"))
	var st status
	if err := json.Unmarshal([]byte(text), &st); err != nil {
		t.Fatalf("status: %v in\n%s", err, text)
	}
	return st
}

// client opens a client socket to the server.
func (s *server) client(t testing.TB, network string) *client {
	t.Helper()
	return newClient(t, s.host, network, s.address)
}

// caught waits until the server has applied the revision.
func (s *server) caught(t testing.TB, revision int64) {
	t.Helper()
	eventually(t, fmt.Sprintf("revision %d", revision), func() error {
		if at := s.status(t).State.Revision; at < revision {
			return fmt.Errorf("still at %d", at)
		}
		return nil
	})
}

// from returns the region that play has for a client of the subnet.
func (s *server) from(t testing.TB, c *client, subnet string) string {
	t.Helper()
	return single(t, c.ask(t, "play.bet.example.", dns.TypeA, subnet))
}
