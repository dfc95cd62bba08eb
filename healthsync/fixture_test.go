package healthsync

import (
	"context"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"

	"nearside/geo"
	"nearside/regions"
)

// table returns three regions: eu-west, us-east, ap-southeast.
func table(t testing.TB) *regions.Table {
	t.Helper()
	table, err := regions.New([]regions.Region{
		{Name: "eu-west", Location: geo.Point{Latitude: 53.35, Longitude: -6.26}},
		{Name: "us-east", Location: geo.Point{Latitude: 39.04, Longitude: -77.49}},
		{Name: "ap-southeast", Location: geo.Point{Latitude: 1.35, Longitude: 103.82}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// etcd starts an embedded etcd for the test.
func etcd(t testing.TB) *Embedded {
	t.Helper()
	e, err := StartEmbedded(t.Context(), filepath.Join(t.TempDir(), "etcd"), "http://127.0.0.1:0", testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// client connects to an etcd for the test's own writes.
func client(t testing.TB, e *Embedded) *clientv3.Client {
	t.Helper()
	c, err := Connect([]string{e.Endpoint()}, nil, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// put writes below the prefix; del deletes. Both return the revision.
func put(t testing.TB, c *clientv3.Client, key, value string) int64 {
	t.Helper()
	r, err := c.Put(t.Context(), "/nearside/"+key, value)
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.Revision
}

func del(t testing.TB, c *clientv3.Client, key string, options ...clientv3.OpOption) int64 {
	t.Helper()
	r, err := c.Delete(t.Context(), "/nearside/"+key, options...)
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.Revision
}

// server is a Sync at work, with what it published.
type server struct {
	*Sync
	t      testing.TB
	folder string
	stop   func() // ends Run and waits for it

	mutex     sync.Mutex
	published []*regions.State
}

// config returns what a server in folder works with.
func (s *server) config(endpoints ...string) Config {
	return Config{
		Endpoints: endpoints, Prefix: "/nearside", Table: table(s.t), Log: testLog(s.t),
		StateFile:    filepath.Join(s.folder, "state"),
		OverrideFile: filepath.Join(s.folder, "override.yaml"),
		Publish: func(state *regions.State) {
			s.mutex.Lock()
			defer s.mutex.Unlock()
			s.published = append(s.published, state)
		},
	}
}

// clock is a time that tests can move on.
type clock struct {
	mu     sync.Mutex
	offset time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

// quickPace makes tests short where they wait for a silence or a retry.
func quickPace() pace {
	p := usualPace
	p.request, p.progress, p.silence, p.retry, p.accept, p.rewrite = time.Second, 100*time.Millisecond, 500*time.Millisecond, 50*time.Millisecond, 2*time.Second, 50*time.Millisecond
	p.refresh, p.modesty, p.courtesy = 0, 5*time.Millisecond, 50*time.Millisecond
	p.inspection, p.differing = 250*time.Millisecond, 500*time.Millisecond
	return p
}

// serve opens a server whose files are in folder and runs it.
func serve(t testing.TB, folder string, now func() time.Time, endpoints ...string) *server {
	t.Helper()
	s := &server{t: t, folder: folder}
	s.Sync = open(s.config(endpoints...), quickPace(), now)
	s.run()
	return s
}

func (s *server) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	s.stop = sync.OnceFunc(func() { cancel(); <-done })
	s.t.Cleanup(s.stop)
}

// patience is how long anything may take before a test gives up on it, on a
// machine that does other things too.
const patience = time.Minute

// eventually waits until the condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(patience)
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		case <-poll.C:
		}
	}
}

// drained waits until exactly these regions are drained.
func (s *server) drained(names ...string) {
	s.t.Helper()
	eventually(s.t, "drained: "+strings.Join(names, " "), func() bool {
		return slices.Equal(s.Sync.config.Table.Names(s.State().Drained()), names)
	})
}

// reached waits until everything up to the revision is applied and published.
func (s *server) reached(revision int64) {
	s.t.Helper()
	eventually(s.t, "the revision", func() bool { return s.State().Revision >= revision })
}

// agreed waits until everything that the servers must agree on is in etcd.
func (s *server) agreed() {
	s.t.Helper()
	eventually(s.t, "agreement", func() bool {
		s.Sync.mu.Lock()
		defer s.Sync.mu.Unlock()
		return len(s.ledger.due(1)) == 0
	})
}

// alarm waits for an alarm with the given words.
func (s *server) alarm(words string) {
	s.t.Helper()
	eventually(s.t, "alarm: "+words, func() bool {
		return slices.ContainsFunc(s.Status().Alarms, func(a string) bool { return strings.Contains(a, words) })
	})
}

func testLog(t testing.TB) zerolog.Logger {
	if !testing.Verbose() {
		return zerolog.New(io.Discard)
	}
	return zerolog.New(zerolog.NewTestWriter(t))
}
