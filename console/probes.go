package console

import (
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"nearside/probes"
)

var (
	probeUp       = metric("probe_up", "Whether the target is up, by the rules of its probe; none before that is decided.", "region", "service", "target")
	probeDuration = metric("probe_duration_seconds", "How long the last check took.", "region", "service", "target")
	probeLastRun  = metric("probe_last_run_timestamp_seconds", "When the last check came to a result.", "region", "service", "target")
	probeResults  = metric("probe_results_total", "Checks by result: passed, failed, or void for a reason that lies on this host.", "region", "service", "target", "result")
	probesLive    = metric("probes_live", "Whether the votes of this host count.", "host")
	probesStuck   = metric("probes_stuck", "Whether a probe does not run as it should.", "host")
)

// Probing is who runs probes. Its method is called from many goroutines.
type Probing interface{ State() probes.State }

// Probes returns the handler of the admin address of a host that only probes.
func Probes(p Probing, version string) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		probeCollector{p},
	)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if stuck := p.State().Stuck; stuck != "" {
			answer(w, http.StatusServiceUnavailable, stuck)
			return
		}
		answer(w, http.StatusOK, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if s := p.State(); !s.Live {
			answer(w, http.StatusServiceUnavailable, NotLive(&s))
			return
		}
		answer(w, http.StatusOK, "ok")
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, fmt.Sprintf("nearside %s, probes of %s\n\n"+
			"/metrics  for Prometheus\n/healthz  200 while every probe gets its turn\n/readyz   200 while the votes count", version, p.State().Host))
	})
	return mux
}

// probeCollector reads the state when it is scraped.
type probeCollector struct{ from Probing }

// Describe sends nothing: which probes there are depends on the configuration.
func (c probeCollector) Describe(chan<- *prometheus.Desc) {}

// Collect sends every metric.
func (c probeCollector) Collect(out chan<- prometheus.Metric) { scrape(out).probes(c.from.State()) }

func (s scrape) probes(state probes.State) {
	s.flag(probesLive, state.Live, state.Host)
	s.flag(probesStuck, state.Stuck != "", state.Host)
	for _, r := range state.Probes {
		labels := []string{r.Region, r.Service, r.Target}
		if r.Status != probes.Unknown {
			s.flag(probeUp, r.Status == probes.Up, labels...)
		}
		if !r.Last.IsZero() {
			s.gauge(probeDuration, r.Took.Seconds(), labels...)
			s.gauge(probeLastRun, float64(r.Last.UnixMilli())/1000, labels...)
		}
		for _, of := range []struct {
			result string
			n      uint64
		}{{"passed", r.Passed}, {"failed", r.Failed}, {"void", r.Void}} {
			s.counter(probeResults, of.n, append(labels[:3:3], of.result)...)
		}
	}
}

// maxDownProbes is how many probes are listed one by one.
const maxDownProbes = 20

// writeProbes shows the probes of this process that are down; of the others, how
// many there are.
func writeProbes(out *lines, s *probes.State) {
	if s == nil {
		return
	}
	up := 0
	var down []probes.Result
	for _, r := range s.Probes {
		switch r.Status {
		case probes.Up:
			up++
		case probes.Down:
			down = append(down, r)
		}
	}
	out.printf("probes     %d, %d of them up, as %s", len(s.Probes), up, s.Host)
	if !s.Live {
		out.printf("           the votes do NOT count: %s", s.Why)
	}
	for i, r := range down {
		if i == maxDownProbes {
			out.printf("  and %d more", len(down)-i)
			break
		}
		what := r.Region
		if r.Service != "" {
			what = r.Service + " in " + r.Region
		}
		out.printf("  %s down since %s: %s", what, r.Since.UTC().Format(time.RFC3339), r.Target)
		out.printf("      %s", r.Detail)
	}
}

// NotLive says why the votes of a host do not count; "" where they do.
func NotLive(s *probes.State) string {
	if s.Live {
		return ""
	}
	return fmt.Sprintf("the votes of the probes in here do not count: %s", s.Why)
}
