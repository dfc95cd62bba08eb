package probes

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"
)

// runner runs one probe. What follows the empty line belongs to the Prober's mutex.
type runner struct {
	probe   *Probe
	subject *subject
	phase   float64 // where in the interval it runs, of 0 to 1: all probes are spread over it

	health  health
	last    time.Time // when the last result came; at first, when the prober was started
	took    time.Duration
	detail  string // why the last check failed that did
	trouble string // why the newest check came to no result
	passed  uint64
	failed  uint64
	void    uint64 // checks that came to no result
}

// why says what is wrong; "" if nothing is.
func (r *runner) why() string {
	if r.health.status == Down {
		return r.detail
	}
	return ""
}

// The first checks do not wait for their place in a long interval. And yet they
// do not come all at once: a host that is too busy sees targets down that are up.
const (
	opening    = 2 * time.Second      // for the first checks of all probes,
	openingGap = 5 * time.Millisecond // or that for each of them
)

// run checks for ever. Checks begin at a fixed place in each interval, a little
// late by chance; while results contradict the status there are some between.
func (p *Prober) run(ctx context.Context, r *runner, start time.Time) {
	interval := r.probe.Interval
	base := start.Add(time.Duration(r.phase * float64(interval)))
	first := max(opening, time.Duration(len(p.runners))*openingGap)
	next := start.Add(time.Duration(r.phase * float64(min(interval, first))))
	timer := time.NewTimer(time.Until(next))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		began := time.Now()
		err := p.guarded(ctx, r.probe)
		ended := time.Now()
		if ctx.Err() != nil {
			return // it was the shutdown that cut it short
		}
		if ended.Sub(began) > r.probe.stalled() {
			err = errStalled
		}
		p.enter(r, began, ended, err)
		timer.Reset(p.next(r, base, began).Sub(ended))
	}
}

// next returns when to check after a check that began at some time: it may have
// taken longer than that.
func (p *Prober) next(r *runner, base, began time.Time) time.Time {
	p.mu.Lock()
	doubtful, took := r.health.doubtful(), r.took
	p.mu.Unlock()
	interval := r.probe.Interval
	jitter := rand.N(interval/10 + 1) // so that hosts do not keep step
	switch {
	case doubtful:
		return began.Add(took + r.probe.recheck() + jitter/3)
	case began.Before(base):
		return base.Add(jitter)
	}
	return began.Add(interval - began.Sub(base)%interval + jitter)
}

// guarded is a check in which a bug of ours ends that check alone: the process
// may be one that answers queries.
func (p *Prober) guarded(ctx context.Context, probe *Probe) (err error) {
	defer func() {
		if bug := recover(); bug != nil {
			p.config.Log.Error().Str("probe", probe.Name()).Interface("panic", bug).Bytes("stack", debug.Stack()).Msg("probe: a bug in nearside; please report it")
			err = fmt.Errorf("%w: a bug in nearside: %v", errHere, bug)
		}
	}()
	return p.check(ctx, probe)
}

// late returns why probes do not run as they should, or nil: a check that hangs,
// or that this host has not brought about for long.
func (p *Prober) late() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for _, r := range p.runners {
		if silent := now.Sub(r.last); silent > r.probe.patience() {
			why := r.trouble
			if why == "" {
				why = "the check hangs, or this host is too busy"
			}
			return fmt.Errorf("the probe %s of %s came to no result for %v: %s", r.probe.Name(), r.subject.name(), silent.Round(time.Second), why)
		}
	}
	return nil
}

// name shows a subject.
func (s *subject) name() string {
	if s.service == "" {
		return s.region
	}
	return s.service + " in " + s.region
}
