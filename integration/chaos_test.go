package integration

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	clientv3 "go.etcd.io/etcd/client/v3"
)

var (
	chaosSeed     = flag.Uint64("chaos.seed", 1, "TestChaos: what the schedule is drawn from")
	chaosDuration = flag.Duration("chaos.duration", 30*time.Second, "TestChaos: how long it goes on breaking things")
)

// chaosRegions are those of the trial. Etcd never sends anybody to the spare two,
// which stay drained, and the quiet one is always up there: votes on it are many,
// and all alike. One is drained to be powered off, and by nobody else.
var (
	chaosRegions  = twelveRegions[:8]
	busyRegions   = []string{"eu-west", "us-east", "ap-southeast", "us-west"}
	probedRegions = append(busyRegions[:4:4], powerRegion)
	spareRegions  = []string{"sa-east", "eu-south"}
	quietRegion   = "eu-north"
	powerRegion   = "eu-central"
)

const (
	restLimit  = 30 * time.Second // from then until all that is to be recorded is
	healLimit  = 30 * time.Second // from the end of all faults until etcd takes writes
	agreeLimit = 20 * time.Second // until all servers have applied one
	promptly   = time.Second      // from a write to answers that follow it, while nothing is broken
)

// TestChaos breaks whatever can break around three servers, while operators and
// probes go on, and looks at every answer. Rounds of faults end in a silence, in
// which the servers must come to agree with etcd and with each other.
func TestChaos(t *testing.T) {
	t.Parallel()
	tr := newTrial(t)
	defer tr.tell() // however it ends
	tr.begin()
	for n := 1; n == 1 || tr.clock() < *chaosDuration && !tr.broken(); n++ {
		tr.round(n)
	}
	tr.end()
}

// trial is one run.
type trial struct {
	t       *testing.T
	started time.Time
	papers  string // the folder of what is written down
	events  *os.File
	stop    context.CancelFunc
	wait    sync.WaitGroup // for what goes on until the end
	tasks   sync.WaitGroup // for what is begun in a round
	stalls  spans          // when this program was not run
	pauses  spans          // when a server that nothing is done to did not answer

	network     *network
	outside     *node // where players and operators are, whom nobody cuts off
	members     []*node
	store       *cluster
	history     *history
	servers     []*target
	probers     []*prober
	agents      []*agent
	backends    *backends
	watchtowers []*watchtower
	operator    *operator
	etcd        *clientv3.Client // of the operator
	recording   context.CancelFunc
	database    string // content of the geo database; empty: the built-in one

	mu       sync.Mutex
	clusters []string // ids
	breaches []string
	trouble  time.Duration  // when the first fault of the round struck
	last     string         // the plan of the last round
	tally    map[string]int // of faults, by kind
	off      []span         // when the region that is powered off was
	agreed   []time.Duration
	first    []vitals // of the servers, when it was quiet for the first time
}

func newTrial(t *testing.T) *trial {
	tr := &trial{t: t, started: time.Now(), papers: t.ArtifactDir(), tally: make(map[string]int)}
	var err error
	if tr.events, err = os.Create(filepath.Join(tr.papers, "events.log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.events.Close() })
	tr.history = newHistory(tr.clock, func(at time.Time) time.Duration { return at.Sub(tr.started.Round(0)) }, tr.note, tr.breach)
	tr.network = newNetwork(t)
	tr.outside = tr.network.plug(t, "outside", "10.66.0.1")
	tr.store = &cluster{host: tr.outside.host}
	for i := range 3 {
		m := tr.network.plug(t, fmt.Sprintf("m%d", i+1), fmt.Sprintf("10.66.0.1%d", i+1))
		tr.members = append(tr.members, m)
		tr.store.add(t, m.host, "http", m.port(2379), m.port(2380))
	}
	tr.store.begin(t)
	tr.etcd = tr.outside.etcdClient(t, tr.store.clients)
	tr.record()
	if content, err := os.ReadFile("../../shared/testdata/geoip/dbip/dbip-city-sample.mmdb"); err == nil {
		tr.database = string(content)
	} else {
		t.Logf("the database is never replaced: %v", err)
	}
	for i := range 3 {
		tr.servers = append(tr.servers, newTarget(tr, i))
	}
	for i := range 3 {
		tr.probers = append(tr.probers, newProber(tr, i))
	}
	tr.backends = newBackends(tr)
	for i := range 3 {
		tr.watchtowers = append(tr.watchtowers, newWatchtower(tr, i))
	}
	tr.operator = newOperator(tr)
	return tr
}

// newTarget starts a server. The last one reaches etcd by way of relays.
func newTarget(tr *trial, i int) *target {
	g := &target{name: fmt.Sprintf("ns%d", i+1), trial: tr}
	g.node = tr.network.plug(tr.t, g.name, fmt.Sprintf("10.66.0.2%d", i+1))
	g.web = &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DialContext: tr.outside.dialContext}}
	endpoints := tr.store.clients
	if i == 2 {
		endpoints = nil
		for j, m := range tr.members {
			r := newRelay(tr.t, g.node.host, g.node.port(uint16(2371+j)), m.port(2379))
			g.links = append(g.links, r)
			endpoints = append(endpoints, "http://"+r.from.String())
		}
	}
	s := setup{host: g.node.host, address: g.node.port(uint16(5301 + i)), admin: g.node.port(8053), regions: chaosRegions,
		etcd: (&cluster{clients: endpoints}).settings(), ttl: int(chaosTTL.Seconds()), beating: beatingRegions, rules: chaosRules()}
	if tr.database != "" {
		s.database = "city.mmdb"
	}
	g.server = prepareServer(tr.t, s)
	write(tr.t, g.path("zones/bet.example.zone"), chaosZone())
	if tr.database != "" {
		write(tr.t, g.path(s.database), tr.database)
	}
	if err := errors.Join(g.mountDisk(), g.newClock()); err != nil {
		tr.t.Fatal(err)
	}
	g.launch(tr.t)
	g.load = newLoad(tr, g)
	return g
}

func (tr *trial) clock() time.Duration { return time.Since(tr.started) }

// note writes an event down.
func (tr *trial) note(format string, arguments ...any) {
	fmt.Fprintf(tr.events, "%10.3f  %s\n", tr.clock().Seconds(), fmt.Sprintf(format, arguments...))
}

// breach notes that an invariant is broken.
func (tr *trial) breach(format string, arguments ...any) {
	tr.note("BROKEN: "+format, arguments...)
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.breaches = append(tr.breaches, fmt.Sprintf("%.3f: ", tr.clock().Seconds())+fmt.Sprintf(format, arguments...))
}

func (tr *trial) broken() bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return len(tr.breaches) > 0
}

// record begins to follow a cluster.
func (tr *trial) record() {
	ctx, cancel := context.WithCancel(context.Background())
	response, err := tr.etcd.Get(ctx, "/ready")
	if err != nil {
		tr.t.Fatal(err)
	}
	tr.mu.Lock()
	tr.clusters = append(tr.clusters, strconv.FormatUint(response.Header.ClusterId, 10))
	tr.mu.Unlock()
	done := make(chan struct{})
	go func() {
		tr.history.record(ctx, tr.etcd)
		close(done)
	}()
	tr.recording = func() {
		cancel()
		<-done
	}
	tr.t.Cleanup(tr.recording)
}

// clusterNumber returns which cluster it is by its id.
func (tr *trial) clusterNumber(id string) int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return max(0, slices.Index(tr.clusters, id))
}

// begin brings the servers into their first state, learns in which order each
// place tries the regions, and starts the load.
func (tr *trial) begin() {
	ctx, stop := context.WithCancel(context.Background())
	tr.stop = stop
	tr.t.Cleanup(stop)
	for _, name := range beatingRegions {
		a := &agent{trial: tr, region: name}
		tr.agents = append(tr.agents, a)
		tr.wait.Go(func() { a.run(ctx) })
	}
	for _, a := range tr.agents {
		a.finish()
	}
	for _, name := range spareRegions {
		tr.operator.drain(name, "")
	}
	for i := range 100 {
		tr.operator.put("/nearside/regions/"+quietRegion+"/health/noise-"+strconv.Itoa(i), "up")
	}
	tr.learnOrders()
	go watchStalls(ctx, tr.clock, &tr.stalls)
	tr.watchCanary(ctx)
	for _, p := range tr.probers {
		tr.wait.Go(func() { p.run(ctx) })
	}
	tr.wait.Go(func() { tr.operator.run(ctx) })
	tr.wait.Go(func() { tr.tick(ctx) })
	tr.silence()
	for _, g := range tr.servers {
		tr.wait.Go(func() { g.poll(ctx) })
		tr.wait.Go(func() { g.load.run(ctx) })
	}
}

// learnOrders drains one region after another. That each is the next nearest
// is for TestNearest to say.
func (tr *trial) learnOrders() {
	s := tr.servers[0].server
	c := newClient(tr.t, tr.outside.host, "udp", s.address)
	orders := make([][]int, len(places))
	for place, subnet := range places {
		for _, r := range chaosRegions {
			tr.operator.undrain(r.name)
		}
		for range chaosRegions {
			// An attempt of our own makes sure that what it did before is applied.
			agree(tr.t, []*server{s}, tr.operator.put("/nearside/regions/"+quietRegion+"/health/noise-0", "up"))
			name := s.from(tr.t, c, subnet)
			orders[place] = append(orders[place], slices.IndexFunc(chaosRegions, func(r region) bool { return r.name == name }))
			tr.operator.drain(name, `{"force": true}`)
		}
	}
	for _, name := range append([]string{quietRegion}, probedRegions...) {
		tr.operator.undrain(name)
	}
	tr.history.learn(orders)
}

// round breaks things for a while, heals all of it, and waits for agreement.
func (tr *trial) round(n int) {
	random := rand.New(rand.NewPCG(*chaosSeed, uint64(n)))
	plan := tr.plan(random, n)
	tr.last = fmt.Sprintf("round %d of seed %d:\n%s", n, *chaosSeed, plan)
	tr.note("%s", tr.last)
	tr.execute(plan)
	tr.silence()
	tr.judge()
}

// silence waits until the servers agree with etcd and with each other.
func (tr *trial) silence() {
	quiet := tr.clock()
	within(tr.t, healLimit, "etcd that takes writes", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := tr.etcd.Put(ctx, "/ready", "")
		return err
	})
	tr.note("quiet: etcd takes writes after %v", (tr.clock() - quiet).Round(time.Millisecond))
	tr.tasks.Wait()
	tr.operator.finish()
	for _, p := range tr.probers {
		p.finish()
	}
	for _, a := range tr.agents {
		a.finish()
	}
	for _, w := range tr.watchtowers {
		w.finish(tr)
	}
	now := len(tr.clusters) - 1
	for _, g := range tr.servers {
		if at, _ := g.applied(); at.cluster < now {
			g.accept(now)
		}
	}
	revision := tr.operator.put("/nearside/regions/"+quietRegion+"/health/noise-0", "up")
	eventually(tr.t, "a recorder that has read all", func() error {
		if at := tr.history.at(); at < revision {
			return fmt.Errorf("at %d of %d", at, revision)
		}
		return nil
	})
	tr.history.settle()
	began := tr.clock()
	for _, g := range tr.servers {
		tr.awaitAgreement(g, revision, began)
	}
	tr.mu.Lock()
	tr.agreed = append(tr.agreed, tr.clock()-began)
	tr.mu.Unlock()
	tr.note("quiet: agreed after %v", (tr.clock() - began).Round(time.Millisecond))
	tr.awaitRest(began)
	for _, g := range tr.servers {
		wait(tr.t.Context(), g.composed()-tr.clock())
	}
	tr.history.err(0)
	var first []string
	for _, g := range tr.servers {
		answers := tr.compare(g)
		if first == nil {
			first = answers
		}
		for i := range first {
			if first[i] != answers[i] {
				tr.breach("when all is quiet, %s answers %q, and %s %q", tr.servers[0].name, first[i], g.name, answers[i])
			}
		}
	}
	tr.examine()
}

func (tr *trial) awaitAgreement(g *target, revision int64, began time.Duration) {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for ; ; <-again.C {
		v, err := g.examine()
		if err == nil && v.revision >= revision {
			return
		}
		if tr.clock()-began > agreeLimit {
			tr.breach("%s has not applied revision %d within %v of quiet: at %d, %v", g.name, revision, agreeLimit, v.revision, err)
			return
		}
	}
}

// awaitRest waits until what is to be recorded in etcd is, and no time changes
// anything any more.
func (tr *trial) awaitRest(began time.Duration) {
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for ; ; <-again.C {
		restless := tr.history.restless()
		if restless == "" {
			return
		}
		if tr.clock()-began > restLimit {
			tr.breach("not at rest within %v of quiet: %s", restLimit, restless)
			return
		}
	}
}

// compare asks the server for every service and place, by both protocols, and
// returns its answers, and those for players in many networks of one place.
func (tr *trial) compare(g *target) (answers []string) {
	ask := func(c *client, owner, subnet string, qtype uint16) string {
		answer, err := c.exchange(query(owner+".bet.example.", qtype, subnet))
		if err != nil {
			tr.breach("%s, when all is quiet: %v", g.name, err)
			return "nothing"
		}
		got := nameOf(chaosRegions, none)
		if found := addresses(answer); len(found) == 1 {
			got = regionOf(chaosRegions, found[0])
		}
		answers = append(answers, fmt.Sprintf("%s from %q: %s", owner, subnet, got))
		return got
	}
	for _, network := range []string{"udp", "tcp"} {
		c := newClient(tr.t, tr.outside.host, network, g.address)
		for service, s := range chaosServices {
			for place, subnet := range places {
				for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
					got, want := ask(c, s.owner, subnet, qtype), tr.history.now(service, place).names(chaosRegions)
					if got != "nothing" && !slices.Contains(strings.Split(want, " or "), got) {
						tr.breach("%s, when all is quiet: %s for a client in %q is on %s, by etcd on %s", g.name, s.owner, subnet, got, want)
					}
				}
			}
			for i := range 40 {
				ask(c, s.owner, fmt.Sprintf("193.1.%d.0/24", i), dns.TypeA)
			}
		}
		c.conn.Close()
	}
	return answers
}

// judge compares every answer since the last time with what etcd held.
func (tr *trial) judge() {
	for _, g := range tr.servers {
		judged, wrong, behind := 0, 0, time.Duration(0)
		for _, s := range g.load.sighted() {
			judged++
			q := tr.hearing(g, s)
			tr.judgePower(g, s)
			if !tr.history.explains(q, s.region) {
				if wrong++; wrong <= 5 {
					tr.breach("%s: a client in %q got %s for %s at %.3f, %v after the query; the server had applied %v, since when it can be %s alone",
						g.name, places[q.place], nameOf(chaosRegions, s.region), chaosServices[q.service].owner, s.got.Seconds(), s.got-s.sent, s.floor,
						tr.history.allowed(q).names(chaosRegions))
				}
				continue
			}
			if len(q.forced) > 1 || q.forced[0] != (forced{}) {
				continue // the rest is about what etcd says
			}
			if at := tr.history.planned(q, s.region); at > 0 && s.ttl > at-q.from+time.Second {
				tr.breach("%s: an answer with %s at %.3f may be kept for %v, and its drain begins at %.3f", g.name, nameOf(chaosRegions, s.region), s.sent.Seconds(), s.ttl, at.Seconds())
			}
			late := tr.history.behind(q, s.region)
			if s.sent < tr.trouble && late-tr.still(s.sent-late, s.sent) > promptly {
				tr.breach("%s: nothing had struck, and at %.3f a client in %q still got %s for %s, %v behind etcd",
					g.name, s.sent.Seconds(), places[q.place], nameOf(chaosRegions, s.region), chaosServices[q.service].owner, late)
			}
			behind = max(behind, late)
		}
		tr.note("%s: %d answers judged, %d wrong; the oldest was %v behind etcd", g.name, judged, wrong, behind.Round(time.Millisecond))
		g.settle()
		g.behind = append(g.behind, behind.Round(time.Millisecond))
	}
}

// hearing is what an answer is to be judged by. Servers look at their clocks
// when they are run.
func (tr *trial) hearing(g *target, s sighting) hearing {
	const late = 500 * time.Millisecond
	i := g.load.inquiries[s.inquiry]
	from := min(g.idle(s.sent), s.sent-tr.still(s.sent-3*time.Second, s.got)) - late
	w := window{from, s.got, min(from, s.back-late), min(s.got, g.confirmed(s.got)+frozenAfter+late)}
	// What brings regions back may still count from a clock as it was before.
	least, most := g.wrong(from-recheck, s.got)
	w.from, w.to = w.from+least, w.to+most
	least, most = g.wrong(w.back-frozenAfter-recheck, s.got)
	w.back, w.ahead = w.back+least, w.ahead+most
	return hearing{service: i.service, place: i.place, floor: s.floor, last: s.last, forced: g.forced(from, s.got), window: w}
}

// judgePower looks for answers with the region that was safe to power off.
func (tr *trial) judgePower(g *target, s sighting) {
	if chaosRegions[s.region%none].name != powerRegion || s.region == none {
		return
	}
	tr.mu.Lock()
	off := slices.Clone(tr.off)
	tr.mu.Unlock()
	for _, o := range off {
		if o.from <= s.sent && s.got <= o.to && !g.brokeLately(o.from) {
			tr.breach("%s: %s was safe to power off at %.3f, and at %.3f a client got it", g.name, powerRegion, o.from.Seconds(), s.sent.Seconds())
		}
	}
}

// examine looks at the processes.
func (tr *trial) examine() {
	const moreMemory, moreGoroutines = 96 << 20, 50
	var all []vitals
	for _, g := range tr.servers {
		v, err := g.examine()
		if err != nil {
			tr.breach("%s, when all is quiet: %v", g.name, err)
		}
		if v.panics > 0 {
			tr.breach("%s: %d queries hit a bug", g.name, v.panics)
		}
		tr.note("%s: %d MB, %d goroutines", g.name, v.memory>>20, v.goroutines)
		all = append(all, v)
	}
	if tr.first == nil {
		tr.first = all
	}
	for i, v := range all {
		if was := tr.first[i]; v.memory > 2*was.memory+moreMemory || v.goroutines > was.goroutines+moreGoroutines {
			tr.breach("%s: from %+v to %+v", tr.servers[i].name, was, v)
		}
	}
}

// end stops everything.
func (tr *trial) end() {
	tr.stop()
	tr.wait.Wait()
	for _, g := range tr.servers {
		g.stop(tr.t)
		g.read()
		l := g.load
		tr.t.Logf("%s: %d queries, %d answered, %d late or not at all while it was stopped, %d late with the machine; the slowest of the rest %v; by round, at most so far behind etcd: %v",
			g.name, l.sent, l.answered, l.excused, l.slow, l.worst.Round(time.Millisecond), g.behind)
	}
	tr.t.Logf("agreed after %v", tr.agreed)
}

// tell says what was done, and what was broken by it.
func (tr *trial) tell() {
	var kinds []string
	for kind, n := range tr.tally {
		kinds = append(kinds, fmt.Sprintf("%d x %s", n, kind))
	}
	slices.Sort(kinds)
	tr.t.Logf("seed %d, %v: %s", *chaosSeed, tr.clock().Round(time.Second), strings.Join(kinds, ", "))
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, b := range tr.breaches[:min(len(tr.breaches), 50)] {
		tr.t.Errorf("%s", b)
	}
	if tr.t.Failed() {
		text, _ := os.ReadFile(tr.events.Name())
		tr.t.Logf("%d broken invariants, in %s%s ends with:\n%s", len(tr.breaches), tr.last, tr.events.Name(), lastLines(string(text), 200))
	}
}
