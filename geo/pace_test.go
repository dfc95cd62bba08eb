package geo

import (
	"testing"

	"nearside/pace"
	"nearside/pace/pacetest"
)

// TestPace: others get the core while a database is compiled, if that is asked for.
func TestPace(t *testing.T) {
	db, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	turns := func(how pace.Pace) int {
		return pacetest.Turns(func() {
			if _, err := Compile(&Database{source: db.source, pace: how}, byCountry); err != nil {
				t.Error(err)
			}
		})
	}
	if fast, gentle := turns(pace.Fast), turns(pace.Gentle); gentle < 5*fast+20 {
		t.Errorf("others had the core %d times, %d without rests", gentle, fast)
	}
}
