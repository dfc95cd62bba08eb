package pace_test

import (
	"testing"

	"nearside/pace"
	"nearside/pace/pacetest"
)

// TestPace: others get the core during gentle work, many times as often as during
// fast work.
func TestPace(t *testing.T) {
	turns := func(how pace.Pace) int {
		return pacetest.Turns(func() {
			p := pace.New(how)
			for range 300_000 {
				for n := range 500 {
					_ = n
				}
				p.Step()
			}
		})
	}
	fast, gentle := turns(pace.Fast), turns(pace.Gentle)
	if gentle < 5*fast+20 {
		t.Errorf("others had the core %d times, %d without rests", gentle, fast)
	}
}
