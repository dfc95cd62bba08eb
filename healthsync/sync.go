// Package healthsync keeps the state of the regions in step with etcd: it reads
// everything below the prefix, watches from the next revision, and turns what
// it understands into a regions.State. It never lets go of a good state: not
// when etcd is lost, not for a value it does not understand, not for a cluster
// that was rebuilt behind its back.
//
// A Sync has five goroutines. One follows a member of etcd and enters what it
// says in the ledger; one evaluates the ledger and publishes; one keeps the
// state file; one tells the other servers what this one does; and while a member is
// followed, one writes there what the servers must agree on. They meet at a mutex
// that is never held over any I/O, and wake
// each other by channels of one slot: what comes while one works is merged.
package healthsync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"nearside/journal"
	"nearside/regions"
)

// Config is what a Sync works with.
type Config struct {
	ID           string   // of this server, in verdicts and at servers/ID
	Endpoints    []string // of one etcd cluster, as URLs or host:port
	Credentials  *Credentials
	Prefix       string // of all keys, without a trailing slash: "/nearside"
	Table        *regions.Table
	StateFile    string // what was last known, for a start without etcd; written here only
	OverrideFile string // the break-glass file; need not exist
	Log          zerolog.Logger

	// Publish takes each new state, and returns once it answers queries: then other
	// servers are told so. It is called from one goroutine, in order, and must return
	// fast: later states wait for it (and are merged).
	Publish func(*regions.State)

	// Steered returns the steered names for the guard, one for each distinct pair of
	// service and regions. It must not wait. nil: no names.
	Steered func() []regions.Steered

	// Journal takes every write to an input, and every transition that clients feel,
	// from the goroutine that calls Publish. It must not wait. nil: there is none.
	Journal Journal
}

// Journal keeps what happened.
type Journal interface {
	Append(journal.Entry)
}

// pace is how long things may take. It differs in tests alone.
type pace struct {
	request  time.Duration // one request to etcd
	progress time.Duration // between two questions whether the watch is current
	silence  time.Duration // of the watched member, until another one is tried
	behind   time.Duration // that all members stay below our revision, until we freeze
	retry    time.Duration // longest pause between two rounds of the members
	accept   time.Duration // that Accept waits for etcd
	stale    time.Duration // age of the state that is an alarm
	refresh  time.Duration // of the time of confirmation in the state file
	rewrite  time.Duration // after a state file that could not be written
	modesty  time.Duration // at most this long a duty is left to other servers
	courtesy time.Duration // a duty that they can do better

	inspection time.Duration // between two looks at the other servers
	differing  time.Duration // that one may differ before it is an alarm
}

// A silent member is left after 9 s: within 10 s of its last sign of life, and
// late enough for an answer to the question put at 5 s.
var usualPace = pace{
	request: 5 * time.Second, progress: 5 * time.Second, silence: 9 * time.Second, behind: 10 * time.Second, retry: 5 * time.Second,
	accept: 10 * time.Second, stale: 30 * time.Second, refresh: 10 * time.Second, rewrite: 5 * time.Second, modesty: 100 * time.Millisecond, courtesy: courtesy,
	inspection: 15 * time.Second, differing: time.Minute,
}

// Sync follows etcd. All methods may be called concurrently.
type Sync struct {
	config   Config
	pace     pace
	now      func() time.Time
	rejected zerolog.Logger // for values that are not understood, which anybody can write fast
	opened   time.Time
	file     stateFile // of the goroutine that keeps it

	reading sync.Mutex    // one reading of the break-glass file at a time
	changed chan struct{} // wakes publish: the ledger or the break-glass file changed
	unsaved chan struct{} // wakes keep: the state file is out of date
	again   chan struct{} // wakes follow: do not wait any longer
	untold  chan struct{} // wakes announce: others should know
	duties  chan struct{} // wakes scribe: there may be something to write

	mu       sync.Mutex
	ledger   *ledger
	cluster  uint64
	revision int64 // everything up to here is in the ledger
	input    int64 // the last revision that told anything but of the servers themselves
	state    *regions.State
	served   *regions.State // the last that was published
	kept     int64          // the revision in the state file
	source   string
	frozen   *freeze
	behind   time.Time     // since when members answer with lower revisions; zero if they do not
	accept   chan struct{} // closed when an Accept was obeyed; nil if none waits
	override forced
	link     link

	confirmed time.Time // when etcd last said that this is its state; zero if never
	refreshed time.Time // when the state file was last told of it

	facts   Facts                // of this server
	fleet   []Member             // all servers, as last looked at
	fleetAt time.Time            // when that was
	differs map[string]time.Time // what of them is not as here, and since when

	overrideFault, stateFault, damage, etcdFault, scribeFault, announceFault error // alarms until they pass
}

// link is the condition of the connection.
type link struct {
	endpoint  string
	connected bool
	fault     string
	hint      string // the last that a fault had since the connection; the next fault may have none
	told      bool   // a fault since the connection was logged
}

// Open reads the state file and the break-glass file. It does not need etcd.
func Open(config Config) (*Sync, error) {
	if config.Table == nil || config.Publish == nil || len(config.Endpoints) == 0 || config.Prefix == "" || config.StateFile == "" {
		return nil, errors.New("etcd synchronisation needs a table of regions, endpoints, a prefix, a state file and somebody to publish to")
	}
	return open(config, usualPace, timeOfDay), nil
}

// timeOfDay is the clock of this machine. Integration tests build a server whose
// clock they can set.
var timeOfDay = time.Now

func open(config Config, pace pace, now func() time.Time) *Sync {
	s := &Sync{
		config: config, pace: pace, now: now, opened: now(),
		rejected: config.Log.Sample(&zerolog.BurstSampler{Burst: 20, Period: time.Second}),
		changed:  make(chan struct{}, 1), unsaved: make(chan struct{}, 1), again: make(chan struct{}, 1), duties: make(chan struct{}, 1), untold: make(chan struct{}, 1),
		source: FromNone, file: stateFile{path: config.StateFile},
	}
	s.ledger = s.newLedger()
	v, err := s.file.load()
	if err != nil {
		s.damage = err
		s.config.Log.Error().Err(err).Msg("state file")
	}
	s.restore(v)
	s.override, s.overrideFault = s.readOverride(v.Override)
	s.state = s.evaluate()
	s.served = s.state
	s.logStart()
	return s
}

func (s *Sync) newLedger() *ledger {
	return newLedger(s.config.Table, s.config.ID, s.config.Steered)
}

// restore takes over what the state file says.
func (s *Sync) restore(v saved) {
	if v.Cluster == 0 {
		return // etcd was never read
	}
	s.source, s.cluster, s.revision, s.input, s.kept, s.frozen = FromFile, v.Cluster, v.Revision, v.Revision, v.Revision, v.Frozen
	// Wall clocks may have been set between the runs: an age is never negative.
	s.confirmed = s.now().Add(-max(0, s.now().Round(0).Sub(v.Confirmed)))
	s.ledger.load(v, s.confirmed.Round(0).UTC())
}

func (s *Sync) logStart() {
	if s.source == FromNone {
		s.config.Log.Warn().Msg("no state of an earlier run: every region is served as up until etcd answers")
		return
	}
	s.config.Log.Info().Int64("revision", s.revision).Strs("drained", s.config.Table.Names(s.state.Drained())).
		Strs("down", s.config.Table.Names(s.state.Down())).Stringer("age", s.now().Sub(s.confirmed).Round(time.Second)).Msg("starting from the state file")
}

// State returns the state in force.
func (s *Sync) State() *regions.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Run follows etcd until ctx ends.
func (s *Sync) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { s.follow(ctx) })
	wg.Go(func() { s.keep(ctx) })
	wg.Go(func() { s.announce(ctx) })
	s.publish(ctx)
	wg.Wait()
}

// publish hands on a new state whenever something changed, or time changes it.
func (s *Sync) publish(ctx context.Context) {
	for {
		changed := false
		timer := time.NewTimer(s.sleep())
		select {
		case <-ctx.Done():
		case <-s.changed:
			changed = true
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
		s.mu.Lock()
		if !changed && !s.timely() {
			s.mu.Unlock()
			continue // it was for a look at the time
		}
		old := s.state
		s.state = s.evaluate()
		state, news := s.state, s.ledger.takeNews()
		s.mu.Unlock()
		s.config.Publish(state)
		s.mu.Lock()
		s.served = state
		s.mu.Unlock()
		if changed || len(state.Due)+len(news.list) > 0 { // what time alone does, it does again after a restart
			wake(s.unsaved)
		}
		wake(s.untold)
		wake(s.duties)
		s.report(old, state, news)
	}
}

// evaluate returns the state that follows from the ledger and the break-glass file.
// It judges what waited for that until now.
func (s *Sync) evaluate() *regions.State {
	clock := s.clock()
	s.ledger.settle(clock.Now)
	in := s.ledger.share()
	in.ForcedDrain = named(s.config.Table, s.override.Drain)
	in.ForcedUp = named(s.config.Table, s.override.Up)
	if s.cluster == 0 {
		for i := range in.Subjects {
			in.Subjects[i].Heartbeats = 1 // etcd was never read: who is silent is not known
		}
	}
	state := s.config.Table.Evaluate(in, clock)
	s.ledger.change(state.Due)
	state.Cluster, state.Revision = s.cluster, s.input // which stands still while nothing happens
	return state
}

// frozenAfter is the age of a state from which on time brings nothing back.
const frozenAfter = 30 * time.Second

// clock returns the time. What it brings back waits for etcd to confirm the state.
func (s *Sync) clock() regions.Clock {
	now, back := s.now(), s.confirmed.Add(frozenAfter)
	if now.Before(back) {
		back = now
	}
	// As written in etcd: without what only this process can compare.
	return regions.Clock{Now: now.Round(0).UTC(), Back: back.Round(0).UTC()}
}

// recheck is how often the time is looked at while a change is to come: clocks are
// set, and machines sleep.
const recheck = 5 * time.Second

// sleep returns how long it is until time changes the state, or may. It reads the clock
// once: what is due a moment later must not fall between two readings.
func (s *Sync) sleep() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	clock := s.clock()
	if s.timelyAt(clock) {
		return 0
	}
	wait := time.Hour
	for _, at := range []time.Time{s.state.Next, s.state.Return, s.ledger.next} {
		if at.After(clock.Now) { // else it is zero, or waits for etcd to confirm the state
			wait = min(wait, at.Sub(clock.Now), recheck)
		}
	}
	return wait
}

// timely reports whether time has changed the state.
func (s *Sync) timely() bool { return s.timelyAt(s.clock()) }

func (s *Sync) timelyAt(clock regions.Clock) bool {
	due := func(at, now time.Time) bool { return !at.IsZero() && !now.Before(at) }
	return due(s.state.Next, clock.Now) || due(s.state.Return, clock.Back) || due(s.ledger.next, clock.Now)
}

// Accept takes what etcd says now: it lifts a freeze and lets held drains go.
// An error means that etcd did not answer and that the freeze remains.
func (s *Sync) Accept() error {
	s.mu.Lock()
	if s.ledger.release() {
		wake(s.changed) // and so the duties
	}
	if s.frozen == nil {
		s.mu.Unlock()
		return nil
	}
	if s.accept == nil {
		s.accept = make(chan struct{})
	}
	accept := s.accept
	s.mu.Unlock()
	wake(s.again)
	select {
	case <-accept:
		return nil
	case <-time.After(s.pace.accept):
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.accept != accept {
		return nil // it was obeyed just now
	}
	s.accept = nil
	return fmt.Errorf("etcd did not answer within %v, so the state stays frozen: see to it that %v can be reached, then accept again",
		s.pace.accept, s.config.Endpoints)
}

// EtcdFailed raises an alarm: the embedded etcd is of no use any more.
func (s *Sync) EtcdFailed(err error) {
	err = fmt.Errorf("the embedded etcd failed: %w; the last state stays in force and cannot be changed until nearside is restarted", err)
	s.mu.Lock()
	s.etcdFault = err
	s.mu.Unlock()
	s.config.Log.Error().Msg(err.Error())
}

// ReadOverride reads the break-glass file again and publishes what follows from it.
func (s *Sync) ReadOverride() {
	s.reading.Lock()
	defer s.reading.Unlock()
	s.mu.Lock()
	last := s.override
	s.mu.Unlock()
	override, err := s.readOverride(last)
	s.mu.Lock()
	s.override, s.overrideFault = override, err
	s.mu.Unlock()
	wake(s.changed)
}

// readOverride reads the break-glass file. With an error it returns the last
// good one, which stays in force.
func (s *Sync) readOverride(last forced) (forced, error) {
	override, err := readOverride(s.config.OverrideFile, s.config.Table)
	if err != nil {
		s.config.Log.Error().Err(err).Msg("break-glass file not taken: the last good one stays in force")
		return last, err
	}
	if !slices.Equal(override.Drain, last.Drain) || !slices.Equal(override.Up, last.Up) {
		s.config.Log.Warn().Strs("drain", override.Drain).Strs("up", override.Up).Msg("break-glass file taken")
		s.append(journal.Entry{Kind: journal.Server, Event: "override", Why: override.String()})
	}
	return override, nil
}

// wake signals a goroutine that is not yet signalled.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// pause waits for d, or less if ctx ends or, where early is not nil, a signal comes.
func pause(ctx context.Context, d time.Duration, early <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-early:
	case <-timer.C:
	}
}
