package dnsserver

import (
	"sync"
	"sync/atomic"

	"nearside/regions"
	"nearside/zones"
)

const (
	knownTypes = 512 // query types counted one by one; every type in use is below
	knownCodes = 24  // response codes
)

// counts are the counters of one responder. One goroutine at a time writes
// them, so an addition never waits for another core; readers sum them up.
type counts struct {
	received  atomic.Uint64 // messages
	dropped   atomic.Uint64 // messages met with silence
	lost      atomic.Uint64 // responses that the kernel did not take
	panics    atomic.Uint64 // queries that hit a bug
	limited   atomic.Uint64 // responses dropped or emptied by the rate limit
	truncated atomic.Uint64
	exhausted atomic.Uint64 // steered answers for which only drained regions were left
	rcodes    [knownCodes]atomic.Uint64
	types     [knownTypes]atomic.Uint64
	other     atomic.Uint64 // types beyond knownTypes
	regions   [regions.Max]atomic.Uint64

	perZone atomic.Pointer[zoneCounts]
	noZone  atomic.Uint64 // queries for no zone of ours
	retired retired
	_       [64]byte // keeps the next responder's counters off this one's last cache line
}

// zoneCounts counts the queries for the zones of one view, by index. It holds
// the view's origins, which also tell one view from another, and not the view
// itself: that may be most of the memory there is, and a responder that gets no
// query would keep it for ever.
type zoneCounts struct {
	origins []string
	n       []atomic.Uint64
}

// of reports whether the counters are those of the view with these origins.
func (z *zoneCounts) of(origins []string) bool {
	return z != nil && len(z.origins) == len(origins) && &z.origins[0] == &origins[0]
}

// retired keeps the counts for views that are gone.
type retired struct {
	mu    sync.Mutex // taken by the query path when a view changes: held for moments
	views []*zoneCounts

	folding sync.Mutex // never taken by the query path
	total   map[string]uint64
}

func (c *counts) rcode(code int) { c.rcodes[code].Add(1) }

func (c *counts) question(qtype uint16) {
	if qtype < knownTypes {
		c.types[qtype].Add(1)
	} else {
		c.other.Add(1)
	}
}

// zone counts a query for the zone at index of the view, -1 for none. The first
// query of a new view takes the old counters out of service, which is the one
// moment when a query pays for a reload: an allocation, however many zones.
func (c *counts) zone(v *zones.View, index int) {
	if index < 0 {
		c.noZone.Add(1)
		return
	}
	z := c.perZone.Load()
	if origins := v.Origins(); !z.of(origins) {
		z = c.retire(z, &zoneCounts{origins, make([]atomic.Uint64, len(origins))})
	}
	z.n[index].Add(1)
}

// retire takes the counters of an old view out of service.
func (c *counts) retire(old, next *zoneCounts) *zoneCounts {
	c.retired.mu.Lock()
	defer c.retired.mu.Unlock()
	if old != nil {
		c.retired.views = append(c.retired.views, old)
	}
	c.perZone.Store(next)
	return next
}

// fold adds up what has retired.
func (c *counts) fold() {
	c.retired.folding.Lock()
	defer c.retired.folding.Unlock()
	c.retired.mu.Lock()
	views := c.retired.views
	c.retired.views = nil
	c.retired.mu.Unlock()
	if c.retired.total == nil {
		c.retired.total = make(map[string]uint64)
	}
	for _, z := range views {
		z.addTo(c.retired.total)
	}
}

// Counters is what all responders together have counted since the start.
type Counters struct {
	Received  uint64            // messages
	Dropped   uint64            // messages met with silence
	Lost      uint64            // responses that the kernel did not take
	Panics    uint64            // queries that hit a bug and got SERVFAIL
	Limited   uint64            // responses dropped, or sent empty with TC, by the rate limit
	Truncated uint64            // responses with TC set
	Exhausted uint64            // steered answers for which only drained regions were left: NODATA
	Zones     map[string]uint64 // queries by origin
	NoZone    uint64            // queries for names in no zone, and of other classes: with Zones as many as there are by type
	Types     map[uint16]uint64 // queries by type
	OtherType uint64            // queries of types not told apart
	Rcodes    map[int]uint64    // responses by response code
	Regions   []uint64          // steered RRsets answered, by regions.ID

	TCPConnections int    // open now
	TCPAccepted    uint64 // since the start
	KernelDrops    uint64 // datagrams dropped because a receive buffer was full
}

// addTo adds the counters to the sum.
func (c *counts) addTo(sum *Counters) {
	sum.Received += c.received.Load()
	sum.Dropped += c.dropped.Load()
	sum.Lost += c.lost.Load()
	sum.Panics += c.panics.Load()
	sum.Limited += c.limited.Load()
	sum.Truncated += c.truncated.Load()
	sum.Exhausted += c.exhausted.Load()
	sum.OtherType += c.other.Load()
	sum.NoZone += c.noZone.Load()
	for code := range c.rcodes {
		if n := c.rcodes[code].Load(); n > 0 {
			sum.Rcodes[code] += n
		}
	}
	for qtype := range c.types {
		if n := c.types[qtype].Load(); n > 0 {
			sum.Types[uint16(qtype)] += n
		}
	}
	for id := range c.regions {
		sum.Regions[id] += c.regions[id].Load()
	}
	c.addZones(sum.Zones)
}

// addZones adds the counts by zone.
func (c *counts) addZones(sum map[string]uint64) {
	c.fold()
	c.retired.mu.Lock()
	z := c.perZone.Load()
	late := c.retired.views // a view that retired since
	c.retired.mu.Unlock()
	if z != nil {
		z.addTo(sum)
	}
	for _, z := range late {
		z.addTo(sum)
	}
	c.retired.folding.Lock()
	defer c.retired.folding.Unlock()
	for origin, n := range c.retired.total {
		sum[origin] += n
	}
}

func (z *zoneCounts) addTo(sum map[string]uint64) {
	for i, origin := range z.origins {
		if n := z.n[i].Load(); n > 0 {
			sum[origin] += n
		}
	}
}
