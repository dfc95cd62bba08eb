// Package probes checks regions, and services in regions, from the outside, and
// says in etcd what this host makes of them: a vote for each.
//
// Each probe has a goroutine, which checks, enters the result and sleeps: a
// target that takes its time delays nobody else. One more goroutine tells etcd
// (tell.go). It holds the lease that makes the votes of this host count, and
// renews it only while every probe gets its turn: votes that nobody looks after
// any more do not count for long.
package probes

import (
	"crypto/x509"
	"net/netip"
	"net/url"
	"slices"
	"time"
)

// Probe is one check that is made again and again. Nobody changes it after New.
type Probe struct {
	Region  string
	Service string // "" where the vote is about the whole region

	Target *url.URL   // http, https, tcp or tls, and the host to connect to
	Host   string     // for the Host header, SNI and the certificate; "" is that of Target
	Source netip.Addr // to connect from; the zero Addr leaves it to the kernel

	Insecure  bool           // take any certificate
	Roots     *x509.CertPool // of certificates; nil is those of the system
	Statuses  []Statuses     // of HTTP that are well
	Body      string         // what must be in the first MaxBody octets of an HTTP body
	Redirects bool           // follow them

	Interval  time.Duration // between the starts of two checks
	Timeout   time.Duration // of one whole check; at most Interval
	DownAfter int           // checks in a row that fail make it down
	UpAfter   int           // checks in a row that pass make it up again
}

// Statuses is a range of HTTP status codes, both ends included.
type Statuses struct{ Low, High int }

// Default is a probe with nothing in it but the usual settings.
func Default() Probe {
	return Probe{
		Statuses: []Statuses{{200, 399}},
		Interval: 3 * time.Second, Timeout: time.Second, DownAfter: 2, UpAfter: 3,
	}
}

// Name tells a probe from the others of its region and service.
func (p *Probe) Name() string {
	if p.Host == "" {
		return p.Target.String()
	}
	return p.Target.String() + " as " + p.Host
}

func (p *Probe) expects(status int) bool {
	return slices.ContainsFunc(p.Statuses, func(s Statuses) bool { return s.Low <= status && status <= s.High })
}

// recheck is the pause before the next check while results contradict the
// status: a change is found out soon, and yet not by one hiccup alone.
func (p *Probe) recheck() time.Duration { return p.Interval / 3 }

// stalled is how long a check may take, timeout and all, on a host that has time
// for it. The result of one that took longer says nothing.
func (p *Probe) stalled() time.Duration { return p.Timeout + p.Timeout/2 + 100*time.Millisecond }

// patience is how long a probe may be without a result. One that takes longer
// does not run as it should.
func (p *Probe) patience() time.Duration { return 3*p.Interval + p.Timeout }
