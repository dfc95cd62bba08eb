package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// position is how far somebody has read: clusters are counted in the order in
// which they replaced each other, revisions are those of one cluster.
type position struct {
	cluster  int
	revision int64
}

func (p position) before(q position) bool {
	return p.cluster < q.cluster || p.cluster == q.cluster && p.revision < q.revision
}

func (p position) String() string { return fmt.Sprintf("%d/%d", p.cluster, p.revision) }

// choices is a set of regions that may answer; none stands for an answer
// without an address.
type choices uint16

const none = 15

func only(region int) choices { return 1 << region }

func (c choices) has(region int) bool { return c&only(region) != 0 }

func (c choices) names(regions []region) string {
	var names []string
	for i := range none + 1 {
		if c.has(i) {
			names = append(names, nameOf(regions, i))
		}
	}
	return strings.Join(names, " or ")
}

func nameOf(regions []region, i int) string {
	if i == none {
		return "no address"
	}
	return regions[i].name
}

// outlook is what follows from the content since a revision.
type outlook struct {
	revision int64
	// began is when the write of that revision began. Nobody can have answered
	// from it before.
	began     time.Duration
	prospects []prospect // by service, then region
}

// history is everything that was ever written to etcd, and who may answer what
// after each revision. The first outlook of each cluster is that of nothing.
type history struct {
	clock func() time.Duration
	wall  func(time.Time) time.Duration
	note  func(format string, arguments ...any)
	fault func(format string, arguments ...any)

	mu       sync.Mutex
	orders   [][]int       // by place: in which order clients try the regions
	clusters [][]outlook   // by cluster, then in the order of revisions
	content  *content      // of the last cluster
	wrong    time.Duration // how far the clocks of servers may be wrong now
	read     int64         // the last revision of that
	latest   time.Duration // when its write began, at the earliest
	rotten   int64         // the first revision since which a drain is rubbish; 0 if none is
	rubbish  map[string]int64
	writes   map[*attempt]bool // under way, or of unknown outcome
	done     map[int64]time.Duration
}

// attempt is a write of keys that began at a time.
type attempt struct {
	began time.Duration
	keys  []string
}

// newHistory is given the clock of the trial, what that makes of the time of day,
// and whom to tell of events and of what should not be.
func newHistory(clock func() time.Duration, wall func(time.Time) time.Duration, note, fault func(string, ...any)) *history {
	h := &history{clock: clock, wall: wall, note: note, fault: fault}
	h.renew()
	return h
}

// renew begins the history of another cluster.
func (h *history) renew() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.content, h.read, h.latest, h.rubbish = newContent(h.wall, h.fault), 0, 0, make(map[string]int64)
	h.content.wrong = h.wrong
	h.writes, h.done = make(map[*attempt]bool), make(map[int64]time.Duration)
	h.clusters = append(h.clusters, nil)
	h.look(0, 0)
}

// learn sets the orders, from which everything so far is seen anew.
func (h *history) learn(orders [][]int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.orders = orders
	h.clusters = [][]outlook{nil}
	h.look(h.read, 0)
}

// err says how far the clocks of servers may be wrong from now on.
func (h *history) err(wrong time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wrong, h.content.wrong = wrong, wrong
}

// look adds an outlook if it differs from the last. The caller holds the mutex.
func (h *history) look(revision int64, began time.Duration) {
	prospects := h.content.prospects()
	outlooks := &h.clusters[len(h.clusters)-1]
	if n := len(*outlooks); n == 0 || !slices.Equal((*outlooks)[n-1].prospects, prospects) {
		*outlooks = append(*outlooks, outlook{revision, began, prospects})
	}
}

// choices returns who may answer a hearing by an outlook. The caller holds the mutex.
func (h *history) choices(o outlook, q hearing) (may choices) {
	order := h.orders[q.place]
	if s := &chaosServices[q.service]; s.failover {
		order = nil
		for _, name := range s.members {
			order = append(order, slices.IndexFunc(chaosRegions, func(r region) bool { return r.name == name }))
		}
	}
	for _, f := range q.forced {
		may |= choicesOf(o.prospects, q.service, order, q.window, f)
	}
	return may
}

// begin is called before a write, end after it if the outcome is known. A write
// that changed nothing has no revision: 0.
func (h *history) begin(keys ...string) *attempt {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := &attempt{h.clock(), keys}
	h.writes[a] = true
	return a
}

func (h *history) end(a *attempt, revision int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.writes, a)
	if revision > 0 {
		h.done[revision] = a.began
	}
}

// settle forgets writes of unknown outcome: nothing is under way.
func (h *history) settle() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.writes)
	clear(h.done)
}

// record follows etcd until ctx ends.
func (h *history) record(ctx context.Context, client *clientv3.Client) {
	for ctx.Err() == nil {
		again, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
		for response := range client.Watch(again, "\x00", clientv3.WithFromKey(), clientv3.WithRev(h.at()+1)) {
			if err := response.Err(); err != nil {
				h.note("recorder: %v", err)
				break
			}
			h.hear(response.Events)
		}
		cancel()
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (h *history) hear(events []*clientv3.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(events) > 0 {
		revision := events[0].Kv.ModRevision
		n := slices.IndexFunc(events, func(e *clientv3.Event) bool { return e.Kv.ModRevision != revision })
		if n < 0 {
			n = len(events)
		}
		// Revisions are made in order.
		h.latest = max(h.latest, h.beganAt(revision, events[:n]))
		h.content.apply(events[:n], h.latest, h.clock())
		h.smell(events[:n])
		h.mark(events[:n])
		h.read = revision
		h.look(revision, h.latest)
		events = events[n:]
	}
}

// mark notes what happened that is not noted by who did it.
func (h *history) mark(events []*clientv3.Event) {
	for _, e := range events {
		key := strings.TrimPrefix(string(e.Kv.Key), "/nearside/")
		for _, kind := range []string{"transitions/", "verdicts/", "/heartbeat/", "probes/", "/health/r"} {
			if strings.Contains(key, kind) {
				h.note("etcd: revision %d: %s %v: %.200s", e.Kv.ModRevision, key, e.Type, e.Kv.Value)
			}
		}
	}
}

// beganAt returns when the write of a revision began, at the earliest.
func (h *history) beganAt(revision int64, events []*clientv3.Event) time.Duration {
	if began, known := h.done[revision]; known {
		return began
	}
	began := forever
	for a := range h.writes {
		if slices.ContainsFunc(events, func(e *clientv3.Event) bool { return slices.Contains(a.keys, string(e.Kv.Key)) }) {
			began = min(began, a.began)
		}
	}
	if began == forever {
		return 0 // somebody else's: no telling
	}
	return began
}

// smell keeps account of drains whose newest value is rubbish: a server that
// starts without a memory reads the value before, which must not be compacted.
func (h *history) smell(events []*clientv3.Event) {
	for _, e := range events {
		key := string(e.Kv.Key)
		if e.Type == clientv3.EventTypePut && isRubbish(string(e.Kv.Value)) {
			if _, before := h.rubbish[key]; !before {
				h.rubbish[key] = e.Kv.ModRevision
			}
		} else {
			delete(h.rubbish, key)
		}
	}
	h.rotten = 0
	for _, revision := range h.rubbish {
		if h.rotten == 0 || revision < h.rotten {
			h.rotten = revision
		}
	}
}

// at returns the last revision that was read.
func (h *history) at() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.read
}

// compactable returns the last revision that nobody needs any more.
func (h *history) compactable() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.rotten > 0 {
		return h.rotten - 1
	}
	return h.read
}

// hearing is what somebody asked for and got an answer to.
type hearing struct {
	service, place int
	floor          position // what the server had applied at least
	last           int      // it has taken no cluster after this one
	forced         []forced // one of these was in force there
	window                  // when it looked
}

// unforced is what is in force where there is no break-glass file.
var unforced = []forced{{}}

// allowed returns who may answer a hearing.
func (h *history) allowed(q hearing) (may choices) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.each(q, func(o outlook) bool {
		may |= h.choices(o, q)
		return true
	})
	return may
}

// explains reports whether a region may answer a hearing.
func (h *history) explains(q hearing, region int) (found bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.each(q, func(o outlook) bool {
		found = h.choices(o, q).has(region)
		return !found
	})
	return found
}

// each calls do with the outlooks from which a hearing may have been answered,
// until it returns false. The caller holds the mutex.
func (h *history) each(q hearing, do func(outlook) bool) {
	for cluster := q.floor.cluster; cluster <= q.last; cluster++ {
		outlooks, first := h.clusters[cluster], 0
		if cluster == q.floor.cluster {
			first = h.seen(q.floor)
		}
		for i, o := range outlooks[first:] {
			if (i == 0 || o.began <= q.to) && !do(o) {
				return
			}
		}
	}
}

// behind returns for how long, when a query was sent, the region had been out
// of it by what was written to the last cluster.
func (h *history) behind(q hearing, region int) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	since := q.from
	for _, o := range slices.Backward(h.clusters[q.last]) {
		if o.began > q.to {
			continue
		}
		longer := q
		longer.from = min(q.from, o.began)
		if h.choices(o, longer).has(region) {
			break
		}
		since = min(since, o.began)
	}
	return q.from - since
}

// seen returns the number of the outlook at a position.
func (h *history) seen(p position) int {
	outlooks := h.clusters[p.cluster]
	i, _ := slices.BinarySearchFunc(outlooks, p.revision+1, func(v outlook, revision int64) int {
		return int(v.revision - revision)
	})
	return max(0, i-1)
}

// planned returns when a drain begins that certainly takes the region from a
// service, by all that was written until a hearing was answered; 0 if there is none.
func (h *history) planned(q hearing, region int) (at time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var last *outlook
	several := false
	h.each(q, func(o outlook) bool {
		several = last != nil
		last = &o
		return !several
	})
	if several || last == nil {
		return 0
	}
	for _, i := range []int{region, q.service*len(chaosRegions) + region} {
		if p := last.prospects[i]; p.n == 1 && p.drains[0].percent == 100 && p.drains[0].at > q.to {
			at = p.drains[0].at
		}
	}
	return at
}

// same reports whether the same follows from both positions, whatever else may
// have been seen since they were recorded.
func (h *history) same(p, q position) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.cluster != q.cluster {
		return false
	}
	outlooks := h.clusters[p.cluster]
	return slices.EqualFunc(outlooks[h.seen(p)].prospects, outlooks[h.seen(q)].prospects, func(a, b prospect) bool {
		a.disturbed, b.disturbed = false, false
		return a == b
	})
}

// now returns who may answer at this moment by all that was read.
func (h *history) now(service, place int) choices {
	h.mu.Lock()
	defer h.mu.Unlock()
	outlooks, now := h.clusters[len(h.clusters)-1], h.clock()
	return h.choices(outlooks[len(outlooks)-1], hearing{service: service, place: place, forced: unforced, window: at(now, now)})
}

// restless says what is not recorded yet, or will change by itself. If there is
// nothing, nobody knows more than what is recorded.
func (h *history) restless() string {
	const doubt = 100 * time.Millisecond
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.clock() - doubt
	for i := range h.content.subjects {
		s := &h.content.subjects[i]
		out := s.isDrained().or(s.sick)
		what := ""
		switch {
		case s.pending || s.n != 1:
			what = "there is no verdict"
		case now < max(s.drains[0].at, s.drains[0].until), now < s.since+chaosHold+chaosRamp:
			what = "it is on its way"
		case s.sick == unsure:
			what = "it may be sick"
		case s.drains[0].until > 0 && strings.Contains(s.to, "drained"), out != unsure && (out == yes) != isOut(s.to):
			what = "out: " + []string{"no", "yes", "unsure"}[out]
		}
		if what != "" {
			return fmt.Sprintf("%s %s: %s; as recorded it is %s", chaosServices[i/len(chaosRegions)].owner, chaosRegions[i%len(chaosRegions)].name, what, s.to)
		}
	}
	for i := range h.content.subjects {
		h.content.subjects[i].disturbed, h.content.subjects[i].moved = false, false
	}
	h.look(h.read, h.latest)
	return ""
}
