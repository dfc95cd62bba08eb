package geo

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestPace: a database is compiled with rests if that is asked for, and without
// any otherwise.
func TestPace(t *testing.T) {
	db, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	for pace, want := range map[Pace]time.Duration{Fast: 0, Gentle: rest} { // work takes no time in a bubble: one stint
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			if _, err := Compile(&Database{source: db.source, pace: pace}, byCountry); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took != want {
				t.Errorf("pace %d: it rested for %v, not %v", pace, took, want)
			}
		})
	}
}
