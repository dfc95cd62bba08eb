package probes

import (
	"math/rand/v2"
	"testing"
	"time"
)

// twin is what health must come to, read off the whole history.
func twin(results []bool, times []time.Time, downAfter, upAfter int) (status Status, since time.Time) {
	from := 0 // results before it led to the status
	for i, passed := range results {
		first := i // of the run of equal results that ends here
		for first > from && results[first-1] == passed {
			first--
		}
		run := i - first + 1
		next := status
		switch {
		case passed && status == Unknown:
			next, first = Up, i
		case passed && status == Down && run >= upAfter:
			next = Up
		case !passed && status != Down && run >= downAfter:
			next = Down
		}
		if next != status {
			status, since, from = next, times[first], i+1
		}
	}
	return status, since
}

func TestHealthTwin(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	changes := 0
	for range 2000 {
		downAfter, upAfter := 1+random.IntN(4), 1+random.IntN(4)
		var h health
		var results []bool
		var times []time.Time
		now := time.Unix(1e9, 0)
		likely := random.Float64()
		for range 30 {
			now = now.Add(time.Duration(random.IntN(5000)) * time.Millisecond)
			results, times = append(results, random.Float64() < likely), append(times, now)
			was := h.status
			changed := h.take(results[len(results)-1], now, downAfter, upAfter)
			status, since := twin(results, times, downAfter, upAfter)
			if h.status != status || !h.since.Equal(since) || changed != (was != status) {
				t.Fatalf("down after %d, up after %d: %v\ngot %v since %v (changed: %v), want %v since %v",
					downAfter, upAfter, results, h.status, h.since, changed, status, since)
			}
			if changed {
				changes++
			}
		}
	}
	if changes < 5000 {
		t.Errorf("only %d changes: the test tries too little", changes)
	}
}
