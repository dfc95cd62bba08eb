package healthsync

import (
	"testing"
	"time"

	"nearside/regions"
)

// BenchmarkPublish measures the way from before `put` is sent to an embedded
// etcd until the state that follows from it is handed on.
func BenchmarkPublish(b *testing.B) {
	e := etcd(b)
	c := client(b, e)
	published := make(chan *regions.State, 16)
	s := &server{t: b, folder: b.TempDir()}
	config := s.config(e.Endpoint())
	config.Publish = func(state *regions.State) { published <- state }
	s.Sync = open(config, usualPace, time.Now)
	s.run()
	<-published // the list
	slowest := time.Duration(0)
	for i := 0; b.Loop(); i++ {
		start := time.Now()
		on := i%2 == 0
		d := regions.Drain{}
		if on {
			d.Percent = 100
		}
		if _, err := WriteDrain(b.Context(), c, "/nearside", Target{Region: "eu-west"}, d); err != nil {
			b.Fatal(err)
		}
		for state := range published {
			if state.Drained().Has(0) == on {
				break
			}
		}
		slowest = max(slowest, time.Since(start))
	}
	b.ReportMetric(float64(slowest.Microseconds())/1000, "slowest-ms")
}
