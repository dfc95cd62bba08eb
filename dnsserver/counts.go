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

// counter is one of the numbers that a responder keeps, zones apart.
type counter uint16

const (
	countReceived   counter = iota // messages
	countDropped                   // messages met with silence
	countLost                      // responses that the kernel did not take
	countPanics                    // queries that hit a bug
	countLimited                   // responses dropped or emptied by the rate limit
	countTruncated                 // responses with TC set
	countAllDrained                // steered answers for which only drained regions were left
	countWithheld                  // those for which on_exhausted left none of the others
	countOther                     // queries of types beyond knownTypes
	countNoZone                    // queries for no zone of ours
	countRcode                     // the first of knownCodes
	countType       = countRcode + knownCodes
	countRegion     = countType + knownTypes // the first of regions.Max
	counters        = countRegion + regions.Max
)

// counts are the counters of one responder. One goroutine at a time writes them,
// in memory of its own: an addition that others could see would wait for all
// stores before it. Readers sum up what was published, once for each batch.
type counts struct {
	tally   [counters]uint32 // not yet published
	changed [counters]counter
	n       int // of changed
	run     zoneRun

	published [counters]atomic.Uint64

	perZone atomic.Pointer[zoneCounts]
	retired retired
	_       [cacheLine]byte // keeps the next responder's counters off this one's last cache line
}

// zoneRun is queries for one zone in a row, not yet published.
type zoneRun struct {
	n     uint32
	index int
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

// add counts n at once.
func (c *counts) add(i counter, n int) {
	if c.tally[i] == 0 {
		c.changed[c.n] = i
		c.n++
	}
	c.tally[i] += uint32(n)
}

// note counts what is rare: readers see it at once. It returns the sum.
func (c *counts) note(i counter, n int) uint64 { return c.published[i].Add(uint64(n)) }

// publish lets readers see what was counted.
func (c *counts) publish() {
	for _, i := range c.changed[:c.n] {
		c.published[i].Add(uint64(c.tally[i]))
		c.tally[i] = 0
	}
	c.n = 0
	c.publishZone()
}

// load returns a counter as it was last published.
func (c *counts) load(i counter) uint64 { return c.published[i].Load() }

func (c *counts) rcode(code int) { c.add(countRcode+counter(code), 1) }

func (c *counts) region(id regions.ID) { c.add(countRegion+counter(id), 1) }

func (c *counts) question(qtype uint16) {
	if qtype < knownTypes {
		c.add(countType+counter(qtype), 1)
	} else {
		c.add(countOther, 1)
	}
}

// zone counts a query for the zone at index of the view, -1 for none. All between
// two publications are for zones of one view. The first query of a new view takes
// the old counters out of service, which is the one moment when a query pays for a
// reload: an allocation, however many zones.
func (c *counts) zone(v *zones.View, index int) {
	if index < 0 {
		c.add(countNoZone, 1)
		return
	}
	if c.run.n == 0 || c.run.index != index {
		c.publishZone()
		c.run.index = index
		if z := c.perZone.Load(); !z.of(v.Origins()) {
			c.retire(z, &zoneCounts{v.Origins(), make([]atomic.Uint64, len(v.Origins()))})
		}
	}
	c.run.n++
}

func (c *counts) publishZone() {
	if c.run.n > 0 {
		c.perZone.Load().n[c.run.index].Add(uint64(c.run.n))
		c.run.n = 0
	}
}

// retire takes the counters of an old view out of service.
func (c *counts) retire(old, next *zoneCounts) {
	c.retired.mu.Lock()
	defer c.retired.mu.Unlock()
	if old != nil {
		c.retired.views = append(c.retired.views, old)
	}
	c.perZone.Store(next)
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
	Received   uint64            // messages
	Dropped    uint64            // messages met with silence
	Lost       uint64            // responses that the kernel did not take
	Panics     uint64            // queries that hit a bug and got SERVFAIL
	Limited    uint64            // responses dropped, or sent empty with TC, by the rate limit
	Truncated  uint64            // responses with TC set
	AllDrained uint64            // NODATA of steered names for which only drained regions were left
	Withheld   uint64            // NODATA of steered names for which others were left, but on_exhausted has none of them
	Zones      map[string]uint64 // queries by origin
	NoZone     uint64            // queries for names in no zone, and of other classes: with Zones as many as there are by type
	Types      map[uint16]uint64 // queries by type
	OtherType  uint64            // queries of types not told apart
	Rcodes     map[int]uint64    // responses by response code
	Regions    []uint64          // steered RRsets answered, by regions.ID

	TCPConnections int    // open now
	TCPAccepted    uint64 // since the start
	KernelDrops    uint64 // datagrams dropped because a receive buffer was full
}

// addTo adds the counters to the sum.
func (c *counts) addTo(sum *Counters) {
	sum.Received += c.load(countReceived)
	sum.Dropped += c.load(countDropped)
	sum.Lost += c.load(countLost)
	sum.Panics += c.load(countPanics)
	sum.Limited += c.load(countLimited)
	sum.Truncated += c.load(countTruncated)
	sum.AllDrained += c.load(countAllDrained)
	sum.Withheld += c.load(countWithheld)
	sum.OtherType += c.load(countOther)
	sum.NoZone += c.load(countNoZone)
	for code := range knownCodes {
		if n := c.load(countRcode + counter(code)); n > 0 {
			sum.Rcodes[code] += n
		}
	}
	for qtype := range knownTypes {
		if n := c.load(countType + counter(qtype)); n > 0 {
			sum.Types[uint16(qtype)] += n
		}
	}
	for id := range sum.Regions {
		sum.Regions[id] += c.load(countRegion + counter(id))
	}
	c.addZones(sum.Zones)
}

// addZones adds the counts by zone. Nothing is folded meanwhile, or a view could be
// counted twice: by itself, and in the total.
func (c *counts) addZones(sum map[string]uint64) {
	c.retired.folding.Lock()
	defer c.retired.folding.Unlock()
	c.retired.mu.Lock()
	z := c.perZone.Load()
	late := c.retired.views // not folded yet
	c.retired.mu.Unlock()
	if z != nil {
		z.addTo(sum)
	}
	for _, z := range late {
		z.addTo(sum)
	}
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
