package probes

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"

	"nearside/printable"
)

// Config is what a Prober works with.
type Config struct {
	Host   string // under this name it votes; see CheckHost
	Client *clientv3.Client
	Prefix string // of all keys, without a trailing slash: "/nearside"
	Log    zerolog.Logger
}

// Prober runs probes and votes. All methods may be called concurrently.
type Prober struct {
	config   Config
	check    func(context.Context, *Probe) error
	runners  []*runner
	subjects []*subject
	changed  chan struct{} // wakes tell: a vote changed
	decided  chan struct{} // closed when no subject is unknown any more

	mu        sync.Mutex
	undecided int   // subjects
	live      bool  // whether the votes count
	fault     error // why they do not
}

// subject is who is voted on: a region, or a service in a region.
type subject struct {
	region, service string
	runners         []*runner // its probes, in the order of the configuration
	vote            vote
}

// vote is what a subject gets.
type vote struct {
	status Status
	since  time.Time
	detail string // why it is down
}

// hostName keeps names out that a key or a person could not tell apart.
var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)

// CheckHost reports why a name cannot be that of a host with probes.
func CheckHost(name string) error {
	if !hostName.MatchString(name) {
		return fmt.Errorf("%q is no name for a host with probes: write 1 to 63 letters, digits, dots, hyphens and underscores, with a letter or a digit at both ends", name)
	}
	return nil
}

// New makes a Prober of probes, which differ in region, service or name.
func New(list []Probe, config Config) *Prober {
	return newProber(list, config, func(ctx context.Context, p *Probe) error { return p.Check(ctx) })
}

func newProber(list []Probe, config Config, check func(context.Context, *Probe) error) *Prober {
	p := &Prober{
		config: config, check: check,
		changed: make(chan struct{}, 1), decided: make(chan struct{}),
		fault: errors.New("not all probes have a result yet"),
	}
	type about struct{ region, service string }
	subjects := make(map[about]*subject)
	for i := range list {
		about := about{list[i].Region, list[i].Service}
		s := subjects[about]
		if s == nil {
			s = &subject{region: about.region, service: about.service}
			subjects[about] = s
			p.subjects = append(p.subjects, s)
		}
		r := &runner{probe: &list[i], subject: s, phase: float64(i) / float64(len(list))}
		s.runners = append(s.runners, r)
		p.runners = append(p.runners, r)
	}
	p.undecided = len(p.subjects)
	return p
}

// Run probes and votes until ctx ends; then the votes stop counting.
func (p *Prober) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { p.probe(ctx) })
	p.tell(ctx)
	wg.Wait()
}

// probe runs all probes until ctx ends.
func (p *Prober) probe(ctx context.Context) {
	start := time.Now()
	p.mu.Lock()
	for _, r := range p.runners {
		r.last = start
	}
	p.mu.Unlock()
	var wg sync.WaitGroup
	for _, r := range p.runners {
		wg.Go(func() { p.run(ctx, r, start) })
	}
	wg.Wait()
}

// enter takes the result of a check.
func (p *Prober) enter(r *runner, began, ended time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r.took = ended.Sub(began)
	if errors.Is(err, errHere) {
		r.void++
		r.trouble = err.Error()
		return
	}
	r.last, r.trouble = ended, ""
	if err == nil {
		r.passed++
	} else {
		r.failed++
		r.detail = printable.Cut(err.Error(), maxDetail)
	}
	if r.health.take(err == nil, began, r.probe.DownAfter, r.probe.UpAfter) {
		event := p.config.Log.Info().Str("region", r.probe.Region)
		if r.probe.Service != "" {
			event = event.Str("service", r.probe.Service)
		}
		if r.health.status == Down {
			event = event.Str("detail", r.detail)
		}
		event.Str("probe", r.probe.Name()).Msg("probe: " + r.health.status.String())
		p.judge(r.subject, r.health.since)
	}
}

// maxDetail bounds what a vote says of the reason, in octets.
const maxDetail = 200

// judge makes the vote on a subject: it is down if any of its probes is, and up
// if all are.
func (p *Prober) judge(s *subject, since time.Time) {
	next := vote{status: Up, since: since}
	for _, r := range s.runners {
		if r.health.status == Down {
			next.status = Down
			next.detail = r.probe.Name() + ": " + r.detail
			break
		}
		if r.health.status == Unknown {
			next.status = Unknown
		}
	}
	was := s.vote.status
	if next.status == was || next.status == Unknown {
		return
	}
	s.vote = next
	if was == Unknown {
		if p.undecided--; p.undecided == 0 {
			close(p.decided)
		}
	}
	wake(p.changed)
}

// wake signals a goroutine that is not yet signalled.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
