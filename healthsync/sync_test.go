package healthsync

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"nearside/regions"
)

func TestListAndWatch(t *testing.T) {
	e := etcd(t)
	c := client(t, e)
	put(t, c, "regions/eu-west/drain", "")
	put(t, c, "servers/ns9", "anything")
	if _, err := c.Put(t.Context(), "/nearsideways", "beside the prefix"); err != nil {
		t.Fatal(err)
	}
	s := serve(t, t.TempDir(), time.Now, e.Endpoint())
	s.drained("eu-west")

	put(t, c, "regions/us-east/drain", `{"reason":"cables","by":"ann"}`)
	s.drained("eu-west", "us-east")
	id, _ := s.Sync.config.Table.Named("us-east")
	if d := s.State().Inputs.Subjects[id].Drain; d != (regions.Drain{Percent: 100, Reason: "cables", By: "ann"}) {
		t.Errorf("the drain is %+v", d)
	}
	put(t, c, "regions/us-east/drain", "false")
	s.drained("eu-west")
	del(t, c, "regions/eu-west/drain")
	s.drained()

	put(t, c, "regions/ap-southeast/health/p1", "down")
	put(t, c, "regions/ap-southeast/health/p2", "down")
	last := put(t, c, "regions/ap-southeast/health/p3", `{"status":"up"}`)
	s.reached(last)
	if down := s.State().Down(); down != regions.SetOf(2) {
		t.Errorf("down by two of three votes: %b", down)
	}
	s.reached(del(t, c, "regions/ap-southeast/health/p1"))
	if st := s.State(); st.Down() != regions.SetOf(2) || st.Tied() != regions.SetOf(2) {
		t.Errorf("a tie keeps a region down: %b, tied %b", st.Down(), st.Tied())
	}
	s.alarm("though no majority of live votes says so")
	if st := s.Status(); !st.Connected || st.Source != FromEtcd || st.RejectedCount != 0 || st.AgeSeconds > 5 || st.Cluster == "" {
		t.Errorf("status %+v", st)
	}
	s.inOrder()
}

// inOrder checks that revisions never went back within what was published.
func (s *server) inOrder() {
	s.t.Helper()
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for i := 1; i < len(s.published); i++ {
		if s.published[i].Revision < s.published[i-1].Revision {
			s.t.Errorf("revision %d was published after %d", s.published[i].Revision, s.published[i-1].Revision)
		}
	}
}

func TestRestartWithoutEtcd(t *testing.T) {
	folder := t.TempDir()
	e := etcd(t)
	c := client(t, e)
	now := new(clock)
	s := serve(t, folder, now.now, e.Endpoint())
	put(t, c, "regions/eu-west/drain", "true")
	put(t, c, "regions/atlantis/drain", "true")
	put(t, c, "regions/us-east/health/a", "down")
	s.reached(put(t, c, "regions/us-east/health/b", "down"))
	last := put(t, c, "regions/us-east/health/b", "up") // a tie: stays down
	s.reached(last)
	s.stop()
	e.Close()

	now.advance(time.Hour)
	s = serve(t, folder, now.now, e.Endpoint())
	st := s.State()
	if st.Revision < last || st.Drained() != regions.SetOf(0) || st.Down() != regions.SetOf(1) || st.Tied() != regions.SetOf(1) {
		t.Errorf("restarted with %+v", st)
	}
	status := s.Status()
	if status.Source != FromFile || status.AgeSeconds < 3600 || status.AgeSeconds > 3660 || status.Connected {
		t.Errorf("status %+v", status)
	}
	if len(status.Rejected) != 1 || !strings.Contains(status.Rejected[0].Why, "eu-west, us-east, ap-southeast") {
		t.Errorf("rejected: %+v", status.Rejected)
	}
	s.alarm("has not confirmed the state")
	eventually(t, "an error", func() bool { return s.Status().Error != "" })
	s.stop()

	// The region comes into the configuration: its drain is there at once.
	s = &server{t: t, folder: folder}
	config := s.config(e.Endpoint())
	list := []regions.Region{{Name: "atlantis"}, {Name: "us-east"}}
	var err error
	if config.Table, err = regions.New(list); err != nil {
		t.Fatal(err)
	}
	again := open(config, quickPace(), now.now)
	if st := again.State(); st.Drained() != regions.SetOf(0) || st.Down() != regions.SetOf(1) {
		t.Errorf("with another configuration: %+v", st)
	}
}

func TestFirstStartWithoutEtcd(t *testing.T) {
	now := new(clock)
	s := serve(t, t.TempDir(), now.now, "http://127.0.0.1:1")
	if st := s.State(); st.Usual(regions.Anyone) != s.Sync.config.Table.All() || st.Revision != 0 || st.Cluster != 0 {
		t.Errorf("first start: %+v", st)
	}
	if st := s.Status(); st.Source != FromNone {
		t.Errorf("source %s", st.Source)
	}
	now.advance(time.Minute)
	s.alarm("never reached")
}

// A watch that was cut off while etcd went on, deleted and compacted.
func TestCompactedGap(t *testing.T) {
	folder := t.TempDir()
	e := etcd(t)
	c := client(t, e)
	put(t, c, "regions/eu-west/drain", "")
	put(t, c, "regions/us-east/drain", "")
	s := serve(t, folder, time.Now, e.Endpoint())
	s.drained("eu-west", "us-east")
	s.stop()

	del(t, c, "regions/eu-west/drain")
	put(t, c, "regions/ap-southeast/drain", "")
	last := put(t, c, "regions/us-east/drain", "50 %")
	if _, err := c.Compact(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	s = serve(t, folder, time.Now, e.Endpoint())
	s.drained("us-east", "ap-southeast")
	if st := s.Status(); len(st.HeldDrains) != 0 {
		t.Errorf("held: %v", st.HeldDrains)
	}
	s.inOrder()
}

// A watch at a compacted revision ends with an error; the next session lists.
func TestCompactedWatch(t *testing.T) {
	e := etcd(t)
	c := client(t, e)
	s := &server{t: t, folder: t.TempDir()}
	s.Sync = open(s.config(e.Endpoint()), quickPace(), time.Now)
	old := put(t, c, "regions/eu-west/drain", "")
	last := put(t, c, "regions/us-east/drain", "")
	if _, err := c.Compact(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err := s.watch(ctx, c, listing{revision: old - 1})
	if err == nil || !strings.Contains(err.Error(), "compacted") {
		t.Errorf("watching from a compacted revision: %v", err)
	}
}

func TestMemberLost(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "etcd")
	e, err := StartEmbedded(t.Context(), folder, "http://127.0.0.1:0", testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, t.TempDir(), time.Now, "http://127.0.0.1:1", e.Endpoint())
	c := client(t, e)
	put(t, c, "regions/eu-west/drain", "")
	s.drained("eu-west")
	e.Close()
	eventually(t, "loss", func() bool { return !s.Status().Connected })
	s.drained("eu-west")
	if e, err = StartEmbedded(t.Context(), folder, e.Endpoint(), testLog(t)); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	put(t, client(t, e), "regions/us-east/drain", "")
	s.drained("eu-west", "us-east")
}

func TestRestoredCluster(t *testing.T) {
	folder := t.TempDir()
	now := new(clock)
	first := etcd(t)
	c := client(t, first)
	s := serve(t, folder, now.now, first.Endpoint())
	for range 20 {
		put(t, c, "regions/eu-west/drain", "")
	}
	s.reached(put(t, c, "regions/eu-west/drain", "")) // the first is enough for the drain, not for the revision
	s.stop()
	first.Close()

	// The data is gone: the same cluster id, but from the beginning.
	second, err := StartEmbedded(t.Context(), filepath.Join(t.TempDir(), "etcd"), first.Endpoint(), testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	c = client(t, second)
	put(t, c, "regions/us-east/drain", "")
	s = serve(t, folder, now.now, second.Endpoint())
	eventually(t, "the lower revision", func() bool { return strings.Contains(s.Status().Error, "below") })
	if s.Status().Frozen != "" {
		t.Error("frozen before 10 s have passed")
	}
	follows := func(frozen, ahead bool) {
		t.Helper()
		eventually(t, "what others are told", func() bool {
			list, cluster, err := Fleet(t.Context(), c, "/nearside")
			return err == nil && len(list) == 1 && list[0].Frozen == frozen && list[0].Ahead == ahead && list[0].Follows(cluster) == !(frozen || ahead)
		})
	}
	follows(true, true)
	now.advance(11 * time.Second)
	s.alarm("frozen")
	s.drained("eu-west")
	follows(true, true)

	// Its revision grows beyond ours, and we are started again: still frozen.
	for range 40 {
		put(t, c, "regions/us-east/drain", "")
	}
	s.stop()
	s = serve(t, folder, now.now, second.Endpoint())
	eventually(t, "a refusal", func() bool { return strings.Contains(s.Status().Error, "frozen") })
	s.drained("eu-west")
	follows(true, false)
	if err := s.Accept(); err != nil {
		t.Fatal(err)
	}
	s.drained("us-east")
	if st := s.Status(); st.Frozen != "" || len(st.HeldDrains) != 0 {
		t.Errorf("after Accept: %+v", st)
	}
	follows(false, false)
}

// The state comes from a cluster that is not the one that answers.
func TestOtherCluster(t *testing.T) {
	folder := t.TempDir()
	e := etcd(t)
	c := client(t, e)
	s := serve(t, folder, time.Now, e.Endpoint())
	put(t, c, "regions/eu-west/drain", "")
	put(t, c, "regions/us-east/drain", "")
	s.drained("eu-west", "us-east")
	s.stop()
	v, err := readState(filepath.Join(folder, "state"))
	if err != nil {
		t.Fatal(err)
	}
	own := v.Cluster
	v.Cluster, v.Revision = 0xbad, 1
	rewrite(t, folder, v)
	del(t, c, "regions/", clientv3.WithPrefix())

	s = serve(t, folder, time.Now, e.Endpoint())
	s.alarm(fmt.Sprintf("etcd is the cluster %x, the state is from the cluster bad", own))
	s.drained("eu-west", "us-east")
	if err := s.Accept(); err != nil {
		t.Fatal(err)
	}
	s.drained()
	put(t, c, "regions/us-east/drain", "")
	s.drained("us-east")
}

func TestAcceptWithoutEtcd(t *testing.T) {
	t.Parallel() // it waits
	folder := t.TempDir()
	rewrite(t, folder, saved{Cluster: 1, Revision: 5, Frozen: &freeze{Why: "for the test"}})
	s := serve(t, folder, time.Now, "http://127.0.0.1:1")
	if err := s.Accept(); err == nil || !strings.Contains(err.Error(), "stays frozen") {
		t.Errorf("Accept without etcd: %v", err)
	}
	if st := s.Status(); st.Frozen != "for the test" {
		t.Errorf("frozen: %q", st.Frozen)
	}
}

func rewrite(t *testing.T, folder string, v saved) {
	t.Helper()
	content, err := v.encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := (&stateFile{path: filepath.Join(folder, "state")}).store(content); err != nil {
		t.Fatal(err)
	}
}

func TestMassDelete(t *testing.T) {
	folder := t.TempDir()
	e := etcd(t)
	c := client(t, e)
	s := serve(t, folder, time.Now, e.Endpoint())
	put(t, c, "regions/eu-west/drain", "")
	put(t, c, "regions/us-east/drain", "")
	s.drained("eu-west", "us-east")
	s.reached(del(t, c, "", clientv3.WithPrefix()))
	s.drained("eu-west", "us-east")
	s.alarm("deleted at once")

	// Everything else goes on, and what is held counts for the guard.
	s.reached(put(t, c, "regions/ap-southeast/drain", ""))
	s.drained("eu-west", "us-east")
	put(t, c, "regions/ap-southeast/drain", `{"force":true}`)
	s.drained("eu-west", "us-east", "ap-southeast")
	s.reached(del(t, c, "regions/ap-southeast/drain"))
	s.drained("eu-west", "us-east")
	// One is written again: it is an ordinary key from now on.
	s.reached(put(t, c, "regions/eu-west/drain", "false"))
	s.drained("us-east")
	s.stop()

	s = serve(t, folder, time.Now, e.Endpoint())
	eventually(t, "etcd", func() bool { return s.Status().Connected })
	s.drained("us-east")
	if held := s.Status().HeldDrains; len(held) != 1 || held[0] != "us-east" {
		t.Errorf("held after a restart: %v", held)
	}
	if err := s.Accept(); err != nil {
		t.Fatal(err)
	}
	s.drained()
}

// `undrain --all` writes false first; single deletions are deliberate too.
func TestDeliberateDelete(t *testing.T) {
	e := etcd(t)
	c := client(t, e)
	s := serve(t, t.TempDir(), time.Now, e.Endpoint())
	for range 20 {
		put(t, c, "regions/eu-west/drain", "")
		put(t, c, "regions/us-east/drain", "")
		del(t, c, "regions/eu-west/drain")
		s.reached(del(t, c, "regions/us-east/drain"))
		s.drained()
	}
	put(t, c, "regions/eu-west/drain", "")
	put(t, c, "regions/us-east/drain", "")
	put(t, c, "regions/eu-west/drain", "false")
	put(t, c, "regions/us-east/drain", "false")
	s.reached(del(t, c, "regions/", clientv3.WithPrefix()))
	s.drained()
	if held := s.Status().HeldDrains; len(held) != 0 {
		t.Errorf("held: %v", held)
	}
}

// Everything that waits while a state is published becomes one more state.
func TestMergedBurst(t *testing.T) {
	e := etcd(t)
	c := client(t, e)
	s := &server{t: t, folder: t.TempDir()}
	config := s.config(e.Endpoint())
	started, goOn := make(chan struct{}, 1), make(chan struct{})
	count := config.Publish
	config.Publish = func(state *regions.State) {
		select {
		case started <- struct{}{}:
		default:
		}
		<-goOn
		count(state)
	}
	s.Sync = open(config, quickPace(), time.Now)
	s.run()
	<-started // the list is being published
	var last int64
	for i := range 300 {
		last = put(t, c, "regions/eu-west/drain", []string{"true", "false"}[i%2])
	}
	last = put(t, c, "regions/us-east/drain", "")
	eventually(t, "the burst", func() bool { return s.Status().Revision >= last })
	close(goOn)
	eventually(t, "publication", func() bool { s.mutex.Lock(); defer s.mutex.Unlock(); return len(s.published) >= 2 })
	s.drained("us-east")
	s.mutex.Lock()
	second := s.published[1].Revision // more may follow: where the watch is slow, the list is read again
	s.mutex.Unlock()
	if second < last {
		t.Errorf("a state of revision %d was published before the last one, %d", second, last)
	}
	s.inOrder()
}

// A list of many pages, values of the largest size among them.
func TestManyKeys(t *testing.T) {
	e := etcd(t)
	c := client(t, e)
	const keys = 3000
	for i := 0; i < keys; i += 100 {
		var ops []clientv3.Op
		for j := i; j < i+100; j++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("/nearside/regions/us-east/health/r%05d", j), "down"))
		}
		if _, err := c.Txn(t.Context()).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		put(t, c, fmt.Sprintf("regions/eu-west/health/big%d", i), strings.Repeat("x", 1_400_000))
	}
	last := put(t, c, "regions/us-east/drain", "")
	s := serve(t, t.TempDir(), time.Now, e.Endpoint())
	s.reached(last)
	st := s.State()
	if len(st.Inputs.Subjects[1].Votes) != keys || st.Down() != regions.SetOf(1) || st.Drained() != regions.SetOf(1) {
		t.Errorf("%d votes, down %b, drained %b", len(st.Inputs.Subjects[1].Votes), st.Down(), st.Drained())
	}
	if status := s.Status(); status.RejectedCount != 5 {
		t.Errorf("%d rejected", status.RejectedCount)
	}
}

// What is due between two readings of the clock is not slept over.
func TestSleep(t *testing.T) {
	began := time.Now()
	read := 0
	s := &server{t: t, folder: t.TempDir()}
	s.Sync = open(s.config("127.0.0.1:1"), quickPace(), func() time.Time {
		read++
		return began.Add(time.Duration(read) * time.Millisecond)
	})
	s.confirmed = began
	for after := range 10 {
		due := began.Add(time.Duration(read+after)*time.Millisecond + time.Microsecond)
		for _, state := range []regions.State{{Next: due}, {Return: due}} {
			s.state = &state
			if wait := s.sleep(); wait > recheck {
				t.Errorf("what is due %d readings later is slept over for %v", after, wait)
			}
		}
	}
}
