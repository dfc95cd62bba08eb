package main

import (
	"io"
	"testing"

	"nearside/console"
)

// The container image has `nearside status` for its health check.
func TestStatusFailsWhileQueriesAreNotAnswered(t *testing.T) {
	for phase, healthy := range map[console.Phase]bool{console.Starting: false, console.Serving: true, console.Stopping: false} {
		for _, asJSON := range []bool{false, true} {
			err := showStatus(io.Discard, console.Status{Server: console.Server{Phase: phase}}, asJSON)
			if (err == nil) != healthy {
				t.Errorf("%s, JSON %t: %v", phase, asJSON, err)
			}
		}
	}
}
