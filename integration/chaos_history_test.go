package integration

import (
	"context"
	"encoding/json"
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

// standing is what votes make of a region. A tie leaves it as it was, which
// depends on who saw what: the model does not know then.
type standing int

const (
	isUp standing = iota
	isDown
	unsure
)

// content is what etcd holds, as docs/state.md has it read: the slow and
// obvious way.
type content struct {
	drained map[string]bool            // by region; false: there is a key that says so
	held    map[string]bool            // drains that were all deleted at once
	votes   map[string]map[string]bool // by region and reporter: down
}

func newContent() *content {
	return &content{drained: make(map[string]bool), held: make(map[string]bool), votes: make(map[string]map[string]bool)}
}

// apply enters what happened at one revision.
func (c *content) apply(events []*clientv3.Event) {
	var lost []string
	for _, e := range events {
		key, ours := strings.CutPrefix(string(e.Kv.Key), "/nearside/regions/")
		if !ours {
			continue
		}
		parts := strings.Split(key, "/")
		deleted := e.Type == clientv3.EventTypeDelete
		switch {
		case len(parts) == 2 && parts[1] == "drain" && deleted:
			if c.drained[parts[0]] {
				lost = append(lost, parts[0])
			}
			delete(c.drained, parts[0])
		case len(parts) == 2 && parts[1] == "drain":
			if on, understood := meansDrain(string(e.Kv.Value)); understood {
				c.drained[parts[0]] = on
			} else if c.held[parts[0]] {
				c.drained[parts[0]] = true // as before
			}
			delete(c.held, parts[0])
		case len(parts) == 3 && parts[1] == "health" && deleted:
			delete(c.votes[parts[0]], parts[2])
		case len(parts) == 3 && parts[1] == "health":
			if down, understood := meansDown(string(e.Kv.Value)); understood {
				if c.votes[parts[0]] == nil {
					c.votes[parts[0]] = make(map[string]bool)
				}
				c.votes[parts[0]][parts[2]] = down
			}
		}
	}
	if len(lost) > 1 && !slices.ContainsFunc(chaosRegions, func(r region) bool { return c.drained[r.name] }) {
		for _, name := range lost {
			c.held[name] = true
		}
	}
}

func meansDrain(value string) (on, understood bool) {
	if isRubbish(value) {
		return false, false
	}
	switch value {
	case "", "true", "100%":
		return true, true
	case "false", "0%":
		return false, true
	}
	var fields struct{ Reason, By string }
	return true, json.Unmarshal([]byte(value), &fields) == nil
}

func meansDown(value string) (down, understood bool) {
	if isRubbish(value) || value == "" {
		return false, false
	}
	fields := struct{ Status string }{value}
	if value[0] == '{' && json.Unmarshal([]byte(value), &fields) != nil {
		return false, false
	}
	return fields.Status == "down", fields.Status == "down" || fields.Status == "up"
}

func isRubbish(value string) bool {
	for _, r := range rubbish {
		if value == r && r != "" {
			return true
		}
	}
	return false
}

// standing counts votes: more than half decide, and where there are two
// reporters both.
func (c *content) standing(name string) standing {
	votes, down := c.votes[name], 0
	for _, says := range votes {
		if says {
			down++
		}
	}
	switch {
	case len(votes) == 0 || 2*(len(votes)-down) > len(votes):
		return isUp
	case 2*down > len(votes):
		return isDown
	}
	return unsure
}

// choices returns who may answer a client who tries the regions in that order:
// the first that is up, else the first that is down but not drained.
func (c *content) choices(order []int) (may choices) {
	for _, class := range [][]standing{{isUp, unsure}, {isDown, unsure}} {
		for _, i := range order {
			name := chaosRegions[i].name
			if s := c.standing(name); !c.drained[name] && !c.held[name] && slices.Contains(class, s) {
				may |= only(i)
				if s != unsure {
					return may
				}
			}
		}
	}
	if may == 0 {
		may = only(none)
	}
	return may
}

// outlook is what follows from the content since a revision.
type outlook struct {
	revision int64
	// began is when the write of that revision began. Nobody can have answered
	// from it before.
	began time.Duration
	may   []choices // by place
}

// history is everything that was ever written to etcd, and who may answer what
// after each revision. The first outlook of each cluster is that of nothing.
type history struct {
	clock func() time.Duration
	note  func(format string, arguments ...any)

	mu       sync.Mutex
	orders   [][]int     // by place: in which order clients try the regions
	clusters [][]outlook // by cluster, then in the order of revisions
	content  *content    // of the last cluster
	read     int64       // the last revision of that
	rotten   int64       // the first revision since which a drain is rubbish; 0 if none is
	rubbish  map[string]int64
	writes   map[*attempt]bool // under way, or of unknown outcome
	done     map[int64]time.Duration
}

// attempt is a write of keys that began at a time.
type attempt struct {
	began time.Duration
	keys  []string
}

func newHistory(clock func() time.Duration, note func(string, ...any)) *history {
	h := &history{clock: clock, note: note}
	h.renew()
	return h
}

// renew begins the history of another cluster.
func (h *history) renew() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.content, h.read, h.rubbish = newContent(), 0, make(map[string]int64)
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

// look adds an outlook if it differs from the last. The caller holds the mutex.
func (h *history) look(revision int64, began time.Duration) {
	may := make([]choices, len(h.orders))
	for i, order := range h.orders {
		may[i] = h.content.choices(order)
	}
	outlooks := &h.clusters[len(h.clusters)-1]
	if n := len(*outlooks); n == 0 || !slices.Equal((*outlooks)[n-1].may, may) {
		*outlooks = append(*outlooks, outlook{revision, began, may})
	}
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
		h.content.apply(events[:n])
		h.smell(events[:n])
		h.read = revision
		h.look(revision, h.beganAt(revision, events[:n]))
		events = events[n:]
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

// allowed returns who may answer at a time, by somebody who has read up to
// floor at least and no cluster after last.
func (h *history) allowed(place int, floor position, last int, at time.Duration) (may choices) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for cluster := floor.cluster; cluster <= last; cluster++ {
		outlooks := h.clusters[cluster]
		first := 0
		if cluster == floor.cluster {
			first = h.seen(floor)
		}
		for i, v := range outlooks[first:] {
			if i == 0 || v.began <= at {
				may |= v.may[place]
			}
		}
	}
	return may
}

// behind returns for how long, at a time, the region had been out of the
// question by what was written to a cluster.
func (h *history) behind(cluster, place, region int, at time.Duration) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	since := at
	for _, o := range slices.Backward(h.clusters[cluster]) {
		if o.began > at {
			continue
		}
		if o.may[place].has(region) {
			break
		}
		if o.began > 0 { // else there is no telling
			since = o.began
		}
	}
	return at - since
}

// seen returns the number of the outlook at a position.
func (h *history) seen(p position) int {
	outlooks := h.clusters[p.cluster]
	i, _ := slices.BinarySearchFunc(outlooks, p.revision+1, func(v outlook, revision int64) int {
		return int(v.revision - revision)
	})
	return max(0, i-1)
}

// same reports whether the same follows from both positions.
func (h *history) same(p, q position) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return p.cluster == q.cluster && h.seen(p) == h.seen(q)
}

// latest returns who may answer by all that was read.
func (h *history) latest(place int) choices {
	h.mu.Lock()
	defer h.mu.Unlock()
	outlooks := h.clusters[len(h.clusters)-1]
	return outlooks[len(outlooks)-1].may[place]
}
