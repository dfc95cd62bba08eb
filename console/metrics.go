package console

import (
	"cmp"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"nearside/dnsserver"
	"nearside/regions"
	"nearside/zones"
)

// Observed is what the admin address needs of the server. Its methods are
// called from many goroutines.
type Observed interface {
	Status() Status
	Counters() dnsserver.Counters
}

// maxZoneSeries is the number of zones with a time series of their own: those
// with the most queries.
const maxZoneSeries = 1000

// other stands for everything that has no time series of its own.
const other = "other"

// metric describes one metric; help is one line.
func metric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("nearside_"+name, help, labels, nil)
}

var (
	buildInfo     = metric("build_info", "Version of nearside and of Go; always 1.", "version", "goversion", "server")
	queries       = metric("queries_total", "Queries by zone, the 1,000 busiest; other is the rest and names in no zone.", "zone")
	queryTypes    = metric("query_types_total", "Queries by type.", "type")
	responses     = metric("responses_total", "Responses by code.", "rcode")
	regionAnswers = metric("region_answers_total", "Steered answers by the region that answered.", "region")
	exhausted     = metric("exhausted_answers_total", "Steered queries that got no address: drained, as only drained regions were left; withheld, as on_exhausted has none of the others.", "cause")
	received      = metric("received_messages_total", "Messages received.")
	dropped       = metric("dropped_messages_total", "Messages met with silence: rubbish, or responses.")
	lost          = metric("lost_responses_total", "Responses that the kernel did not take.")
	panics        = metric("panics_total", "Queries that hit a bug in nearside and got SERVFAIL.")
	limited       = metric("rate_limited_responses_total", "Responses that the rate limit dropped, or sent empty with TC.")
	truncated     = metric("truncated_responses_total", "Responses that were cut and sent with TC.")
	kernelDrops   = metric("kernel_dropped_packets_total", "Datagrams that the kernel dropped because a receive buffer was full.")
	accepted      = metric("tcp_accepted_connections_total", "TCP connections accepted.")
	connections   = metric("tcp_connections", "TCP connections open now.")
	regionUp      = metric("region_up", "Whether the region serves some or all clients: neither down, drained nor on hold.", "region")
	regionDrained = metric("region_drained", "Whether an operator took the region out.", "region")
	regionAway    = metric("region_away_ratio", "Share of the region's clients that are sent elsewhere, whatever the cause.", "region")
	serviceAway   = metric("service_away_ratio", "The same by the drains and votes that a service has of its own.", "service", "region")
	regionVotes   = metric("region_votes", "Votes on the region: up, down, or stale because their probe is gone.", "region", "vote")
	heartbeats    = metric("region_heartbeats", "Heartbeats that live, where the region must have one.", "region")
	stateRevision = metric("state_revision", "Revision of etcd that the state was made from.")
	stateAge      = metric("state_age_seconds", "Seconds since etcd last confirmed the state.")
	stateFrozen   = metric("state_frozen", "Whether the state waits for `nearside state accept`.")
	connected     = metric("etcd_connected", "Whether an etcd member is being watched.")
	override      = metric("override", "Whether the break-glass file has the region out (drain) or in (up).", "region", "action")
	rejectedKeys  = metric("etcd_rejected_keys", "Keys whose newest value is not understood.")
	alarms        = metric("alarms", "Things that an operator must look at.")
	ready         = metric("ready", "Whether queries are answered.")
	degraded      = metric("degraded", "Reasons why the server serves less well than it could.")
	zoneStates    = metric("zones", "Zones by state.", "state")
	zoneFaults    = metric("zone_faults", "Faults in zone files as they are now.")
	reloads       = metric("reloads_total", "Reloads by what was read again, and by result: failed is one that found something changed and does not serve it.", "what", "result")
	reloaded      = metric("reload_success_timestamp_seconds", "When it was last read and whatever had changed was taken.", "what")
	geoInfo       = metric("geo_database_info", "The geo database; always 1.", "name", "source", "digest")
	geoBuilt      = metric("geo_database_built_timestamp_seconds", "When the geo database was made.")
)

// collector reads status and counters when it is scraped: nothing is counted twice.
type collector struct{ from Observed }

func newCollector(from Observed) collector { return collector{from} }

// Describe sends nothing: which metrics there are depends on the configuration.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect sends every metric.
func (c collector) Collect(out chan<- prometheus.Metric) {
	s := scrape(out)
	now := c.from.Status()
	s.counted(c.from.Counters(), now.Regions)
	s.status(now)
}

type scrape chan<- prometheus.Metric

func (s scrape) counter(d *prometheus.Desc, v uint64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func (s scrape) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (s scrape) flag(d *prometheus.Desc, on bool, labels ...string) {
	v := 0.0
	if on {
		v = 1
	}
	s.gauge(d, v, labels...)
}

func (s scrape) counted(c dnsserver.Counters, list []Region) {
	types := named(c.Types, func(t uint16) string { return dns.TypeToString[t] })
	types[other] += c.OtherType
	s.counters(queries, busiest(c.Zones, c.NoZone))
	s.counters(queryTypes, types)
	s.counters(responses, named(c.Rcodes, rcodeName))
	for id, r := range list {
		if id < len(c.Regions) {
			s.counter(regionAnswers, c.Regions[id], r.Name)
		}
	}
	s.counter(received, c.Received)
	s.counter(dropped, c.Dropped)
	s.counter(lost, c.Lost)
	s.counter(panics, c.Panics)
	s.counter(limited, c.Limited)
	s.counter(truncated, c.Truncated)
	s.counter(exhausted, c.AllDrained, "drained")
	s.counter(exhausted, c.Withheld, "withheld")
	s.counter(kernelDrops, c.KernelDrops)
	s.counter(accepted, c.TCPAccepted)
	s.gauge(connections, float64(c.TCPConnections))
}

func (s scrape) counters(d *prometheus.Desc, by map[string]uint64) {
	for label, n := range by {
		s.counter(d, n, label)
	}
}

// busiest keeps the zones with the most queries and sums up the rest with the
// queries for no zone.
func busiest(zones map[string]uint64, noZone uint64) map[string]uint64 {
	order := slices.SortedFunc(maps.Keys(zones), func(a, b string) int {
		return cmp.Or(cmp.Compare(zones[b], zones[a]), cmp.Compare(a, b))
	})
	kept := map[string]uint64{other: noZone}
	for i, zone := range order {
		n := zones[zone]
		if i >= maxZoneSeries {
			zone = other
		}
		kept[zone] += n
	}
	return kept
}

// named sums up by name; what has no name counts as other.
func named[K comparable](by map[K]uint64, name func(K) string) map[string]uint64 {
	sums := make(map[string]uint64, len(by))
	for key, n := range by {
		sums[cmp.Or(name(key), other)] += n
	}
	return sums
}

// rcodeName names extended response codes too. BADVERS and BADSIG share the
// number 16: a server that signs nothing means the first.
func rcodeName(code int) string {
	if code == dns.RcodeBadVers {
		return "BADVERS"
	}
	return cmp.Or(dns.RcodeToString[code], strconv.Itoa(code))
}

func (s scrape) status(now Status) {
	s.gauge(buildInfo, 1, now.Server.Version, runtime.Version(), now.Server.ID)
	s.flag(ready, now.Server.Phase == Serving)
	s.gauge(degraded, float64(len(now.Server.Degraded)))
	s.gauge(alarms, float64(len(now.Alarms)))
	for _, r := range now.Regions {
		s.region(r)
	}
	if state := now.State; state != nil {
		s.gauge(stateRevision, float64(state.Revision))
		s.gauge(stateAge, state.AgeSeconds)
		s.flag(stateFrozen, state.Frozen != "")
		s.flag(connected, state.Connected)
		s.gauge(rejectedKeys, float64(state.RejectedCount))
		for _, region := range state.Override.Drain {
			s.gauge(override, 1, region, "drain")
		}
		for _, region := range state.Override.Up {
			s.gauge(override, 1, region, "up")
		}
	}
	if now.Probes != nil {
		s.probes(*now.Probes)
	}
	s.zones(now.Zones)
	for _, r := range now.Reloads {
		s.counter(reloads, r.OK, r.What, "ok")
		s.counter(reloads, r.Failed, r.What, "failed")
		if !r.Success.IsZero() {
			s.gauge(reloaded, float64(r.Success.UnixMilli())/1000, r.What)
		}
	}
	if g := now.Geography; g != nil {
		s.gauge(geoInfo, 1, g.Name, g.Source(), g.Digest)
		s.gauge(geoBuilt, float64(g.Built.Unix()))
	}
}

func (s scrape) region(r Region) {
	s.flag(regionUp, r.Away < 100, r.Name)
	s.flag(regionDrained, strings.Contains(r.State, regions.Drained.String()), r.Name)
	s.gauge(regionAway, float64(r.Away)/100, r.Name)
	for _, service := range r.Services {
		s.gauge(serviceAway, float64(service.Away)/100, service.Service, r.Name)
	}
	up, down, stale := tally(r.Votes)
	s.gauge(regionVotes, float64(up), r.Name, "up")
	s.gauge(regionVotes, float64(down), r.Name, "down")
	s.gauge(regionVotes, float64(stale), r.Name, "stale")
	if r.Heartbeats != nil {
		s.gauge(heartbeats, float64(*r.Heartbeats), r.Name)
	}
}

func (s scrape) zones(list []Zone) {
	faults := 0
	by := make(map[string]int)
	for _, z := range list {
		by[z.State]++
		faults += len(z.Faults)
	}
	for _, state := range []string{zones.StateOK, zones.StateLastGood, zones.StateHeld, zones.StateFailed, zones.StateTwice} {
		s.gauge(zoneStates, float64(by[state]), state)
	}
	s.gauge(zoneFaults, float64(faults))
}
