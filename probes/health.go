package probes

import (
	"fmt"
	"time"
)

// Status is what somebody is found to be.
type Status uint8

// Unknown is the status before the first checks have decided.
const (
	Unknown Status = iota
	Up
	Down
)

func (s Status) String() string { return [...]string{"unknown", "up", "down"}[s] }

// MarshalText writes the status as its word.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *Status) UnmarshalText(text []byte) error {
	for *s = Unknown; *s <= Down; *s++ {
		if s.String() == string(text) {
			return nil
		}
	}
	return fmt.Errorf("%q is no status", text)
}

// health is what the results of a probe add up to. It asks no clock.
type health struct {
	status Status
	since  time.Time // when the first of the results came that made it so
	streak int       // results in a row that contradict status
	begun  time.Time // when the first of those came
}

// take adds a result that came at now, and reports whether it changed the status.
// At the start one pass is enough: who was never seen down has nothing to prove.
func (h *health) take(passed bool, now time.Time, downAfter, upAfter int) (changed bool) {
	if (passed && h.status == Up) || (!passed && h.status == Down) {
		h.streak = 0
		return false
	}
	if h.streak == 0 || (passed && h.status == Unknown) {
		h.begun = now
	}
	h.streak++
	next, needed := Down, downAfter
	switch {
	case passed && h.status == Unknown:
		next, needed = Up, 1
	case passed:
		next, needed = Up, upAfter
	}
	if h.streak < needed {
		return false
	}
	*h = health{status: next, since: h.begun}
	return true
}

// doubtful reports whether the next result may change the status.
func (h *health) doubtful() bool { return h.status == Unknown || h.streak > 0 }
