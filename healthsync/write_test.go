package healthsync

import (
	"encoding/json"
	"testing"
	"time"

	"nearside/regions"
)

// A drain that is removed without hold and ramp leaves what else is recorded.
func TestRemoveDrainNow(t *testing.T) {
	e := etcd(t)
	c := client(t, e)
	for _, test := range []struct{ was, want string }{
		{"", "up"},
		{"rubbish", "up"},
		{`{"from":"up","to":"drained","since":"2026-11-23T18:00:00Z"}`, "up"},
		{`{"from":"down","to":"up","since":"2026-11-23T18:00:00Z"}`, "up"}, // on hold
		{`{"from":"drained","to":"drained+down","since":"2026-11-23T18:00:00Z"}`, "down"},
		{`{"from":"down+expired","to":"down","since":"2026-11-23T18:00:00Z"}`, "down"},
		{`{"from":"excused","to":"drained+excused","since":"2026-11-23T18:00:00Z"}`, "excused"},
	} {
		put(t, c, "services/casino/eu/drain", "true")
		if del(t, c, "transitions/casino/eu"); test.was != "" {
			put(t, c, "transitions/casino/eu", test.was)
		}
		if _, existed, err := RemoveDrain(t.Context(), c, "/nearside", Target{Service: "casino", Region: "eu"}, "ann", true); err != nil || !existed {
			t.Fatalf("there was a drain: %v, %v", existed, err)
		}
		r, err := c.Get(t.Context(), "/nearside/transitions/casino/eu")
		if err != nil {
			t.Fatal(err)
		}
		var got recordValue
		if err := json.Unmarshal(r.Kvs[0].Value, &got); err != nil || got.From != test.want || got.To != test.want || got.Since.IsZero() {
			t.Errorf("after %s it is %s, not from and to %s", test.was, r.Kvs[0].Value, test.want)
		}
		if written, _, err := ReadDrain(t.Context(), c, "/nearside", Target{Service: "casino", Region: "eu"}); err != nil || written != 0 {
			t.Errorf("the drain is still there: %v, %v", written, err)
		}
	}
}

// The votes of who is down are not counted anew when its drain is removed.
func TestRemoveDrainOfTheSick(t *testing.T) {
	e := etcd(t)
	c := client(t, e)
	servers := fleet(t, 1, policed(t, 0, 0), time.Now, e)
	put(t, c, "probes/h1", "")
	put(t, c, "regions/eu/drain", "true")
	put(t, c, "regions/eu/health/h1", `{"status":"down","probe":"h1"}`)
	rest(t, c, servers)
	del(t, c, "probes/h1")
	if _, _, err := RemoveDrain(t.Context(), c, "/nearside", Target{Region: "eu"}, "ann", true); err != nil {
		t.Fatal(err)
	}
	rest(t, c, servers)
	if s := servers[0].State().View(regions.Key{}); s.Status != regions.Down {
		t.Errorf("eu is %v", s.Status)
	}
}

// Who drains a region while somebody undrains it is not undone.
func TestDeleteWritten(t *testing.T) {
	e := etcd(t)
	c := client(t, e)
	const key = "/nearside/regions/eu/drain"
	ours := put(t, c, "regions/eu/drain", "false")
	theirs := put(t, c, "regions/eu/drain", "true")
	for _, step := range []struct {
		written int64
		deleted bool
	}{{ours, false}, {theirs, true}, {theirs, true}} { // the last finds nothing to delete
		revision, err := deleteWritten(t.Context(), c, key, step.written)
		if err != nil || (revision > 0) != step.deleted {
			t.Errorf("as of %d it is deleted at %d, %v", step.written, revision, err)
		}
	}
}
