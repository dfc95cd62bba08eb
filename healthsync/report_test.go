package healthsync

import (
	"testing"
	"time"

	"nearside/regions"
)

// Whoever drained a region is not who undrained it.
func TestDrainNews(t *testing.T) {
	soon := time.Now().Add(time.Minute)
	up, drained := regions.Standing{}, regions.Standing{Status: regions.Drained, Away: 100}
	hold, ramp, part := regions.Standing{Hold: soon}, regions.Standing{Ramp: soon, Away: 40}, regions.Standing{Away: 40}
	ann, none := regions.Drain{Percent: 100, Reason: "uplink", By: "ann", Until: soon}, regions.Drain{}
	few := regions.Drain{Percent: 40, Reason: "load", By: "cy"}
	for _, c := range []struct {
		what       string
		was, is    regions.Standing
		old, drain regions.Drain
		why, by    string
	}{
		{"a drain", up, drained, none, ann, "uplink", "ann"},
		{"a drain that begins by itself", up, drained, ann, ann, "uplink", "ann"},
		{"a deletion", drained, ramp, ann, none, "its drain is gone", ""},
		{"a deletion of a share", part, up, few, none, "its drain is gone", ""},
		{"an undrain that says whose", drained, ramp, ann, regions.Drain{By: "bob", Reason: "repaired"}, "repaired", "bob"},
		{"a smaller drain", drained, part, ann, few, "load", "cy"},
		{"the end of a drain by itself", drained, hold, ann, ann, "its drain has ended by itself", ""},
		{"a drain that is put off", drained, ramp, ann, regions.Drain{Percent: 100, By: "bob", At: soon}, "its drain was written again", "bob"},
		{"the end of a hold", hold, ramp, ann, ann, "", ""},
		{"the end of a ramp", ramp, up, none, none, "", ""},
	} {
		if why, by := drainNews(c.was, c.is, c.old, c.drain); why != c.why || by != c.by {
			t.Errorf("%s is %q by %q, not %q by %q", c.what, why, by, c.why, c.by)
		}
	}
}
