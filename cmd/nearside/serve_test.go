package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"

	"nearside/console"
)

// patience is how long anything may take before a test gives up on it, on a
// machine that does other things too.
const patience = time.Minute

const serveConfig = `
server: {id: ns1, listen: ["127.0.0.1:0"]}
admin: {listen: "127.0.0.1:0"}
data_dir: data
zones: {dir: zones}
etcd: {embedded: true, embedded_listen: "http://127.0.0.1:%d"}
steering: {ttl: 7}
regions:
- {name: eu-west, location: {latitude: 53.35, longitude: -6.26}, prefixes: [192.0.2.0/26]}
- {name: us-east, location: {latitude: 39.04, longitude: -77.49}, prefixes: [198.51.100.0/26]}
`

const serveZone = `$TTL 3600
@    IN SOA ns1 hostmaster 1 3600 900 1209600 60
     IN NS  ns1
ns1  IN A   203.0.113.53
play IN A   192.0.2.10
play IN A   198.51.100.10
solo IN A   192.0.2.11
lone IN A   198.51.100.11
`

// output is written by the server and read by the test.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// running is a server that runs in this process, as `nearside serve` does.
type running struct {
	t      *testing.T
	config string
	stop   context.CancelFunc
	ended  chan int
	errors *output
}

// prepare writes a configuration with one zone and a free port for etcd.
func prepare(t *testing.T) (folder string) {
	t.Helper()
	// Not t.TempDir: with the name of the test in it, the path is too long for a socket.
	folder, err := os.MkdirTemp("", "nearside")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	put(t, filepath.Join(folder, "nearside.yaml"), fmt.Sprintf(serveConfig, l.Addr().(*net.TCPAddr).Port))
	put(t, filepath.Join(folder, "zones/bet.example.zone"), serveZone)
	return folder
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func start(t *testing.T, folder string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{t, filepath.Join(folder, "nearside.yaml"), cancel, make(chan int, 1), &output{}}
	go func() { r.ended <- run(ctx, []string{"serve", "--config", r.config}, io.Discard, r.errors) }()
	t.Cleanup(func() { r.end() })
	r.eventually("the server to start", func() error {
		select {
		case code := <-r.ended:
			r.ended <- code
			t.Fatalf("it ended with %d: %s", code, r.errors)
		default:
		}
		s, err := r.status()
		if err == nil && s.Server.Phase != console.Serving {
			err = fmt.Errorf("it is %s", s.Server.Phase)
		}
		return err
	})
	return r
}

// end stops the server and returns its exit status.
func (r *running) end() int {
	r.stop()
	select {
	case code := <-r.ended:
		r.ended <- code
		return code
	case <-time.After(patience):
		r.t.Fatal("the server does not stop")
		return 0
	}
}

// nearside runs a command for the server and returns what it prints.
func (r *running) nearside(words ...string) (string, error) {
	var out, errs bytes.Buffer
	if code := run(r.t.Context(), append(words, "--config", r.config), &out, &errs); code != 0 {
		return out.String(), fmt.Errorf("exit status %d: %s", code, errs.String())
	}
	return out.String(), nil
}

func (r *running) status() (s console.Status, err error) {
	text, err := r.nearside("status", "--json")
	if err == nil {
		err = json.Unmarshal([]byte(text), &s)
	}
	return s, err
}

// eventually tries until it works.
func (r *running) eventually(what string, try func() error) {
	r.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("waited for %s: %v\n%s", what, err, r.errors)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// answer asks for the addresses of a name, over UDP or TCP.
func (r *running) answer(network, name string) (string, error) {
	s, err := r.status()
	if err != nil {
		return "", err
	}
	client := dns.Client{Net: network, Timeout: time.Second}
	query := new(dns.Msg).SetQuestion(name, dns.TypeA)
	reply, _, err := client.ExchangeContext(r.t.Context(), query, s.Server.DNS[0])
	if err != nil {
		return "", err
	}
	answer := dns.RcodeToString[reply.Rcode]
	for _, rr := range reply.Answer {
		if a, ok := rr.(*dns.A); ok {
			answer += fmt.Sprintf(" %s/%d", a.A, a.Hdr.Ttl)
		}
	}
	return answer, nil
}

func (r *running) expect(name, want string) {
	r.t.Helper()
	r.eventually(name+" to answer "+want, func() error {
		for _, network := range []string{"udp", "tcp"} {
			if got, err := r.answer(network, name); err != nil || got != want {
				return fmt.Errorf("%s: %s %v", network, got, err)
			}
		}
		return nil
	})
}

func (r *running) get(path string) (int, string) {
	r.t.Helper()
	s, err := r.status()
	if err != nil {
		r.t.Fatal(err)
	}
	response, err := http.Get("http://" + s.Server.Admin + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// The whole way of a drain and of a zone, through the commands alone.
func TestServe(t *testing.T) {
	folder := prepare(t)
	r := start(t, folder)
	r.expect("play.bet.example.", "NOERROR 192.0.2.10/7")
	r.eventually("etcd", func() error {
		if _, body := r.get("/readyz"); body != "ok\n" {
			return fmt.Errorf("readyz: %s", body)
		}
		return nil
	})

	text, err := r.nearside("drain", "eu-west", "--reason", "uplink")
	if err != nil || !strings.Contains(text, "eu-west is drained: written to /nearside/regions/eu-west/drain at revision ") ||
		!strings.Contains(text, "it does not move names that lie in eu-west only: solo.bet.example.\n") {
		t.Fatalf("%s %v", text, err)
	}
	r.expect("play.bet.example.", "NOERROR 198.51.100.10/7")
	if text, err := r.nearside("status"); err != nil || !strings.Contains(text, `"uplink", by `) {
		t.Errorf("status %v\n%s", err, text)
	}
	if _, body := r.get("/metrics"); !strings.Contains(body, `nearside_region_drained{region="eu-west"} 1`) {
		t.Error("the drain is not in the metrics")
	}

	// A zone saved over, first well and then badly.
	put(t, filepath.Join(folder, "zones/bet.example.zone"), serveZone+"new IN A 203.0.113.9\n")
	r.expect("new.bet.example.", "NOERROR 203.0.113.9/3600")
	put(t, filepath.Join(folder, "zones/bet.example.zone"), serveZone+"new IN A 203.0.113.999\n")
	text, err = r.nearside("reload")
	if err == nil || !strings.Contains(text, "bet.example.zone:9: ") || !strings.Contains(text, "1 last good") {
		t.Errorf("reload of a bad zone: %v\n%s", err, text)
	}
	r.expect("new.bet.example.", "NOERROR 203.0.113.9/3600")

	// A restart with the bad zone and without an answer from etcd yet.
	if code := r.end(); code != 0 {
		t.Fatalf("exit status %d: %s", code, r.errors)
	}
	r = start(t, folder)
	if got, err := r.answer("udp", "play.bet.example."); err != nil || got != "NOERROR 198.51.100.10/7" {
		t.Errorf("after the restart %s %v", got, err)
	}
	r.expect("new.bet.example.", "NOERROR 203.0.113.9/3600")

	if text, err := r.nearside("undrain", "--all"); err != nil || !strings.Contains(text, "nothing is drained") {
		t.Fatalf("%s %v", text, err)
	}
	r.expect("play.bet.example.", "NOERROR 192.0.2.10/7")
	if text, err := r.nearside("undrain", "eu-west"); err != nil || !strings.Contains(text, "there was no /nearside/regions/eu-west/drain") {
		t.Errorf("%s %v", text, err)
	}

	if text, err := r.nearside("state", "accept"); err != nil || !strings.Contains(text, "nothing waited to be accepted") {
		t.Errorf("state accept: %s %v", text, err)
	}

	// The break-glass file.
	put(t, filepath.Join(folder, "data/override.yaml"), "drain: [eu-west]\n")
	r.expect("play.bet.example.", "NOERROR 198.51.100.10/7")
}

// TestConsoleLogIsPrintable: what others wrote cannot tell the terminal of the
// one who runs the server what to do.
func TestConsoleLogIsPrintable(t *testing.T) {
	const evil = "\x1b]0;x\a\x1b[2J\nfake \u009b31m\x7f"
	var plain, got bytes.Buffer
	for text, out := range map[string]*bytes.Buffer{"text": &plain, evil: &got} {
		log := zerolog.New(consoleWriter(out))
		log.Error().Str("zone", text).Err(errors.New(text)).Msg(text)
	}
	controls := func(b *bytes.Buffer) int {
		return strings.Count(strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return 0
			}
			return r
		}, b.String()), "\x00")
	}
	// What is left are the writer's own colours and line end.
	if controls(&got) != controls(&plain) {
		t.Errorf("logged %q", got.String())
	}
}

// A second server with the same data folder, and one with the same port.
func TestServeTaken(t *testing.T) {
	r := start(t, prepare(t))
	if _, err := r.nearside("serve"); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("is in use by process %d", os.Getpid())) {
		t.Errorf("same data folder: %v", err)
	}
	s, err := r.status()
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.MkdirTemp("", "nearside")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(other)
	_, err = r.nearside("serve", "--data_dir", other, "--server.listen", s.Server.DNS[0])
	if err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("same port: %v", err)
	}
	_, err = r.nearside("serve", "--data_dir", other, "--admin.listen", s.Server.Admin)
	if err == nil || !strings.Contains(err.Error(), "admin.listen") {
		t.Errorf("same admin port: %v", err)
	}
	_, err = r.nearside("serve", "--data_dir", other)
	if err == nil || !strings.Contains(err.Error(), "etcd.embedded_listen") {
		t.Errorf("same etcd port: %v", err)
	}
}

// A geo database that is bad at the start is an alarm, and the built-in one is used.
func TestServeBadDatabase(t *testing.T) {
	folder := prepare(t)
	t.Setenv("NEARSIDE_GEO_DATABASE", "zones/bet.example.zone")
	r := start(t, folder)
	r.expect("play.bet.example.", "NOERROR 192.0.2.10/7")
	s, err := r.status()
	if err != nil || s.Geography.File != "" || !strings.Contains(strings.Join(s.Alarms, "\n"), "instead DB-IP City Lite of") {
		t.Errorf("%v %+v %q", err, s.Geography, s.Alarms)
	}
}

// Without regions neither etcd nor geography is started.
func TestServePlain(t *testing.T) {
	folder := prepare(t)
	put(t, filepath.Join(folder, "nearside.yaml"), `
server: {id: ns1, listen: ["127.0.0.1:0", "[::1]:0"]}
admin: {listen: "127.0.0.1:0"}
data_dir: data
zones: {dir: zones}
`)
	r := start(t, folder)
	s, err := r.status()
	if err != nil || s.State != nil || s.Geography != nil || len(s.Server.DNS) != 2 {
		t.Errorf("%+v %v", s, err)
	}
	if code, body := r.get("/readyz"); code != 200 || body != "ok\n" {
		t.Errorf("%d %s", code, body)
	}
	got, err := r.answer("udp", "play.bet.example.")
	if err != nil || !strings.Contains(got, "192.0.2.10/3600") || !strings.Contains(got, "198.51.100.10/3600") {
		t.Errorf("%s %v", got, err)
	}
}
