package healthsync

import (
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Lists of several members, one after the other, without a network.
func TestOrder(t *testing.T) {
	type step struct {
		after    time.Duration
		cluster  uint64
		revision int64
		want     error
		frozen   bool
	}
	accepted := errors.New("nothing is wanted after `nearside state accept`")
	for name, steps := range map[string][]step{
		"a member that lags, and catches up": {
			{0, 1, 10, nil, false}, {0, 1, 9, errBehind, false}, {9 * time.Second, 1, 9, errBehind, false}, {0, 1, 10, nil, false},
			// The 10 s begin again.
			{time.Minute, 1, 8, errBehind, false}, {9 * time.Second, 1, 9, errBehind, false}, {0, 1, 12, nil, false},
		},
		"all members stay below": {
			{0, 1, 10, nil, false}, {0, 1, 9, errBehind, false}, {10 * time.Second, 1, 9, errFrozen, true}, {0, 1, 9, errFrozen, true},
			{time.Hour, 1, 1000, errFrozen, true}, // growing beyond ours proves nothing
		},
		"another cluster, then our own again": {
			{0, 1, 10, nil, false}, {0, 2, 500, errFrozen, true}, {0, 3, 11, errFrozen, true}, {0, 1, 11, nil, false},
		},
		"another cluster, then our own behind": {
			{0, 1, 10, nil, false}, {0, 2, 5, errFrozen, true}, {0, 1, 9, errBehind, true}, {0, 1, 10, nil, false},
		},
		"behind, then another cluster": {
			{0, 1, 10, nil, false}, {0, 1, 9, errBehind, false}, {10 * time.Second, 1, 9, errFrozen, true}, {0, 2, 50, errFrozen, true}, {0, 1, 10, errFrozen, true},
		},
		"accepted, then a member that lags": {
			{0, 1, 10, nil, false}, {0, 1, 9, errBehind, false}, {10 * time.Second, 1, 9, errFrozen, true}, {0, 1, 9, accepted, false}, {time.Minute, 1, 8, errBehind, false},
		},
		"the same revision again": {{0, 1, 10, nil, false}, {0, 1, 10, nil, false}},
	} {
		t.Run(name, func(t *testing.T) {
			now := new(clock)
			s := &server{t: t, folder: t.TempDir()}
			s.Sync = open(s.config("http://127.0.0.1:1"), usualPace, now.now)
			for i, step := range steps {
				now.advance(step.after)
				if step.want == accepted {
					s.accept, step.want = make(chan struct{}), nil
				}
				err := s.take(listing{cluster: step.cluster, revision: step.revision})
				if !errors.Is(err, step.want) || (s.Status().Frozen != "") != step.frozen {
					t.Fatalf("step %d: %v, frozen %q", i, err, s.Status().Frozen)
				}
				if told := s.self().Frozen; told != (err != nil) {
					t.Fatalf("step %d: others are told %t", i, told)
				}
				if err == nil && (s.cluster != step.cluster || s.revision != step.revision) {
					t.Fatalf("step %d: the state is of %x at %d", i, s.cluster, s.revision)
				}
			}
		})
	}
}

// All drains were deleted while nobody watched, and then compacted away.
func TestMassDeleteUnseen(t *testing.T) {
	folder := t.TempDir()
	e := etcd(t)
	c := client(t, e)
	put(t, c, "regions/eu-west/drain", "")
	put(t, c, "regions/us-east/drain", `{"reason":"cables"}`)
	s := serve(t, folder, time.Now, e.Endpoint())
	s.drained("eu-west", "us-east")
	s.stop()
	last := del(t, c, "", clientv3.WithPrefix())
	if _, err := c.Compact(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	s = serve(t, folder, time.Now, e.Endpoint())
	s.reached(last)
	s.drained("eu-west", "us-east")
	s.alarm("deleted at once")
	if d := s.State().Inputs.Subjects[1].Drain; d.Reason != "cables" {
		t.Errorf("the drain that is held is %+v", d)
	}
}

// Rubbish that was written over good values while nobody watched: what was in
// force is read at an earlier revision, unless that is compacted.
func TestRubbishUnseen(t *testing.T) {
	e := etcd(t)
	c := client(t, e)
	put(t, c, "regions/eu-west/drain", " true ")
	put(t, c, "regions/us-east/drain", "")
	put(t, c, "regions/us-east/drain", "maybe")
	put(t, c, "regions/eu-west/drain", "sixty")
	last := put(t, c, "regions/eu-west/drain", "50 %")
	folder := t.TempDir()
	s := serve(t, folder, time.Now, e.Endpoint())
	s.reached(last)
	s.drained("eu-west", "us-east")
	s.agreed()
	s.stop()

	// The server knows what is in force; one that starts from nothing cannot.
	if _, err := c.Compact(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	s = serve(t, folder, time.Now, e.Endpoint())
	eventually(t, "etcd", func() bool { return s.Status().Connected })
	s.drained("eu-west", "us-east")
	s.stop()
	s = serve(t, t.TempDir(), time.Now, e.Endpoint())
	s.reached(last)
	s.drained("eu-west", "us-east") // by the verdicts of the first
	s.stop()

	// Nobody knows: what the transitions tell of stays in force, and after it was left
	// to others for a while it is judged so.
	revision := del(t, c, "verdicts/", clientv3.WithPrefix())
	if _, err := c.Compact(t.Context(), revision); err != nil {
		t.Fatal(err)
	}
	s = serve(t, t.TempDir(), time.Now, e.Endpoint())
	s.reached(revision)
	eventually(t, "its own judgement", func() bool { return s.Status().RejectedCount == 2 })
	s.drained("eu-west", "us-east")
}

// Writes that nobody has seen are judged one after the other: a drain that the guard
// refuses is not in force because it was written twice.
func TestTwiceUnseen(t *testing.T) {
	e := etcd(t)
	c := client(t, e)
	folder := t.TempDir()
	for _, next := range []string{folder, t.TempDir()} { // the second starts from nothing
		put(t, c, "regions/eu-west/drain", "true")
		put(t, c, "regions/us-east/drain", "true")
		last := put(t, c, "regions/ap-southeast/drain", "50%")
		s := serve(t, folder, time.Now, e.Endpoint())
		s.reached(last)
		s.agreed()
		s.stop()
		put(t, c, "regions/ap-southeast/drain", "true")
		put(t, c, "regions/ap-southeast/drain", "60%")
		put(t, c, "regions/ap-southeast/drain", "maybe")
		last = put(t, c, "regions/ap-southeast/drain", "true")
		s = serve(t, next, time.Now, e.Endpoint())
		s.reached(last)
		s.agreed()
		s.drained("eu-west", "us-east")
		if _, v, err := ReadDrain(t.Context(), c, "/nearside", Target{Region: "ap-southeast"}); err != nil || v.Accepted || v.Effective == nil || *v.Effective != "60%" {
			t.Errorf("the verdict is %+v (%v)", v, err)
		}
		s.stop()
		folder = t.TempDir()
		del(t, c, "", clientv3.WithPrefix())
	}
}
