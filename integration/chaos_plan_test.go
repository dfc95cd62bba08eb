package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// fault is something that breaks, and heals after a while.
type fault struct {
	kind   string
	on     string   // what it hits
	claims []string // what no other fault may hit meanwhile
	strike func()
	heal   func() // nil: it is over at once
}

// step is one entry of a plan, in time after the start of the round.
type step struct {
	at   time.Duration
	what string
	do   func()
	hits bool // it is a fault
}

type plan []step

func (p plan) String() string {
	var b strings.Builder
	for _, s := range p {
		fmt.Fprintf(&b, "  %6.2f s  %s\n", s.at.Seconds(), s.what)
	}
	return b.String()
}

const (
	roundLength     = 12 * time.Second
	longRoundLength = 75 * time.Second // every fifth: etcd is away for more than a minute
	longEvery       = 5
	faultGap        = 1500 * time.Millisecond // mean time between two faults
	actGap          = 400 * time.Millisecond  // and between two acts of people
)

// plan draws a round.
func (tr *trial) plan(random *rand.Rand, n int) (p plan) {
	length := roundLength
	if n%longEvery == 0 {
		length = longRoundLength
	}
	busy := make(map[string]time.Duration) // until when something is claimed
	add := func(f fault, from, to time.Duration) {
		for _, c := range f.claims {
			busy[c] = to + 300*time.Millisecond
		}
		tr.tally[f.kind]++
		p = append(p, step{at: from, what: f.kind + ": " + f.on, do: f.strike, hits: true})
		if f.heal != nil {
			p = append(p, step{at: to, what: "over: " + f.kind + ": " + f.on, do: f.heal})
		}
	}
	calm := time.Duration(0) // until then nothing else happens
	if f, is := tr.opening(random, n); is {
		add(f, 0, length-time.Second)
	} else if n%longEvery == 2 {
		calm = 2 * time.Second
		add(tr.deletePrefix(), 0, calm)
	}
	for at := calm + exponential(random, faultGap); at < length-2*time.Second; at += exponential(random, faultGap) {
		f := faults[random.IntN(len(faults))](tr, random)
		lasts := min(length-at, time.Second+exponential(random, length/6))
		if !slices.ContainsFunc(f.claims, func(c string) bool { return busy[c] > at }) {
			add(f, at, at+lasts)
		}
	}
	for at := calm + exponential(random, actGap); at < length; at += exponential(random, actGap) {
		what, do := tr.act(random)
		p = append(p, step{at: at, what: what, do: do})
	}
	if random.IntN(2) == 0 {
		at := calm + time.Duration(random.Int64N(int64(length/2)))
		p = append(p, step{at: at, what: "power off " + powerRegion, do: func() { tr.later(time.Minute, tr.operator.powerOff) }})
	}
	slices.SortStableFunc(p, func(a, b step) int { return int(a.at - b.at) })
	return p
}

func exponential(random *rand.Rand, mean time.Duration) time.Duration {
	return time.Duration(random.ExpFloat64() * float64(mean))
}

// opening is what some rounds begin with, while all servers agree: accidents of
// which they must all have seen the same.
func (tr *trial) opening(random *rand.Rand, n int) (fault, bool) {
	switch {
	case n%longEvery == 0:
		return tr.freeze(random), true
	case n%longEvery == 4:
		return tr.replaceStore(), true
	}
	return fault{}, false
}

// act is something that people and probes do, or see.
func (tr *trial) act(random *rand.Rand) (what string, do func()) {
	switch random.IntN(8) {
	case 0, 1:
		region, sick := probedRegions[random.IntN(len(probedRegions))], random.IntN(2) == 0
		return fmt.Sprintf("%s is sick: %v", region, sick), func() {
			for _, p := range tr.probers {
				p.sees(func(p *prober) { p.sick[region] = sick })
			}
		}
	}
	if random.IntN(6) == 0 {
		region, sick := probedMembers[random.IntN(len(probedMembers))], random.IntN(2) == 0
		return fmt.Sprintf("%s in %s is sick: %v", probedService, region, sick), func() { tr.backends.set(region, sick) }
	}
	what, task := tr.operator.act(random)
	return what, func() { tr.operator.do(task) }
}

// execute does what is planned when it is due.
func (tr *trial) execute(p plan) {
	began := tr.clock()
	tr.trouble = forever
	for _, s := range p {
		select {
		case <-time.After(s.at - (tr.clock() - began)):
		case <-tr.t.Context().Done():
			return
		}
		tr.note("%s", s.what)
		if s.hits && tr.trouble == forever {
			tr.trouble = tr.clock()
		}
		s.do()
	}
}

var allMembers = []int{0, 1, 2}

// faults are drawn with equal chances.
var faults = []func(*trial, *rand.Rand) fault{
	(*trial).cutServer, (*trial).cutServer, (*trial).cutServers, (*trial).cutMember, (*trial).cutProber,
	(*trial).killLeader, (*trial).stopMembers, (*trial).pauseMember, (*trial).slowDisk,
	(*trial).badLink, (*trial).badLink, (*trial).crashServer, (*trial).crashServer, (*trial).pauseServer,
	(*trial).compactBehind, (*trial).fullDisk, (*trial).stepClock, (*trial).breakGlass, (*trial).replaceZone, (*trial).replaceDatabase,
	(*trial).manyWrites, (*trial).leaseStorm, (*trial).blindProber, (*trial).silentRegion, (*trial).silentRegions,
	(*trial).cutWatchtower, (*trial).blindWatchtower, (*trial).pauseWatchtower, (*trial).crashWatchtower,
}

func (tr *trial) oneServer(random *rand.Rand) *target {
	return tr.servers[random.IntN(len(tr.servers))]
}

// later runs what takes its time beside the plan.
func (tr *trial) later(limit time.Duration, do func(context.Context)) {
	tr.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(tr.t.Context(), limit)
		defer cancel()
		do(ctx)
	})
}
