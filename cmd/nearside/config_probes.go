package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"nearside/probes"
)

// maxProbes is far more than one host can run at the usual intervals.
const maxProbes = 10_000

// probeConfig is an element of `probes`.
type probeConfig struct {
	probes.Probe
	Verify bool   // certificates
	CA     string // file of certificates; "" is those of the system
}

// codes are numbers and ranges of them.
var codes = kind{tag: "!!str", also: "!!int", name: "a status such as 200, or a range such as 200-299"}

// probeSettings are the keys of one element of `probes`.
var probeSettings = []setting[probeConfig]{
	scalar("region", text, func(p *probeConfig) *string { return &p.Region }, parseName),
	scalar("service", text, func(p *probeConfig) *string { return &p.Service }, parseName),
	scalar("http", text, func(p *probeConfig) **url.URL { return &p.Target }, parseTargetURL),
	scalar("tcp", text, func(p *probeConfig) **url.URL { return &p.Target }, parseTarget("tcp")),
	scalar("tls", text, func(p *probeConfig) **url.URL { return &p.Target }, parseTarget("tls")),
	scalar("host", text, func(p *probeConfig) *string { return &p.Host }, parseHost),
	list("status", func(p *probeConfig) *[]probes.Statuses { return &p.Statuses }, parseStatuses).of(codes),
	scalar("body", text, func(p *probeConfig) *string { return &p.Body }, parseBody),
	scalar("verify", boolean, func(p *probeConfig) *bool { return &p.Verify }, parseBool),
	scalar("ca", text, func(p *probeConfig) *string { return &p.CA }, parsePath),
	scalar("redirects", boolean, func(p *probeConfig) *bool { return &p.Redirects }, parseBool),
	scalar("interval", period, func(p *probeConfig) *time.Duration { return &p.Interval }, lasting(100*time.Millisecond, time.Hour)),
	scalar("timeout", period, func(p *probeConfig) *time.Duration { return &p.Timeout }, lasting(10*time.Millisecond, time.Minute)),
	scalar("down_after", integer, func(p *probeConfig) *int { return &p.DownAfter }, between(1, 100)),
	scalar("up_after", integer, func(p *probeConfig) *int { return &p.UpAfter }, between(1, 100)),
	scalar("source", text, func(p *probeConfig) *netip.Addr { return &p.Source }, parseSource),
}

// probeFields checks the rules over several keys of a probe, and of all.
func (d *decoder) probeFields(c *Config) {
	if len(c.Probes) > maxProbes {
		d.faultAt("probes", "probes has %d elements, but one host runs %d at most", len(c.Probes), maxProbes)
		return
	}
	var names []string
	for _, r := range c.Regions {
		names = append(names, r.Name)
	}
	type identity struct{ region, service, name string }
	lines := make(map[identity]int)
	for i := range c.Probes {
		p, at := &c.Probes[i], fmt.Sprintf("probes[%d]", i)
		switch {
		case p.Region != "" && !slices.Contains(names, p.Region):
			hint := ""
			if near := nearest(p.Region, names); near != "" {
				hint = "; did you mean " + near + "?"
			}
			d.faultAt(at+".region", "%s: there is no region %q%s", at, p.Region, hint)
		case !d.given(at + ".region"):
			d.faultAt(at, "%s: region is needed", at)
		}
		d.probeService(c, p, at)
		if p.CA != "" && !filepath.IsAbs(p.CA) {
			p.CA = filepath.Join(filepath.Dir(c.File), p.CA)
		}
		if !d.probeTarget(p, at) {
			continue
		}
		d.probeKeys(p, at)
		if p.Region == "" {
			continue
		}
		id := identity{p.Region, p.Service, p.Name()}
		if first, twice := lines[id]; twice {
			d.faultAt(at, "%s: the same probe stands in line %d already", at, first)
			continue
		}
		lines[id] = d.places.of(at, d.file).line
	}
}

// probeService refuses a vote that nobody would ask for.
func (d *decoder) probeService(c *Config, p *probeConfig, at string) {
	if p.Service == "" {
		return
	}
	var names []string
	for _, s := range c.Services {
		if s.Name == p.Service {
			if p.Region != "" && len(s.Regions) > 0 && !slices.Contains(s.Regions, p.Region) {
				d.faultAt(at+".service", "%s: the service %s is not in region %s", at, s.Name, p.Region)
			}
			return
		}
		names = append(names, s.Name)
	}
	hint := ""
	if near := nearest(p.Service, names); near != "" {
		hint = "; did you mean " + near + "?"
	}
	d.faultAt(at+".service", "%s: there is no service %q%s", at, p.Service, hint)
}

// probeTarget reports whether a probe has one target that was understood.
func (d *decoder) probeTarget(p *probeConfig, at string) bool {
	targets := 0
	for _, key := range []string{".http", ".tcp", ".tls"} {
		if d.given(at + key) {
			targets++
		}
	}
	if targets != 1 {
		d.faultAt(at, "%s: write one of http, tcp and tls", at)
	}
	return targets == 1 && p.Target != nil
}

// probeKeys refuses keys that mean nothing for the target of a probe.
func (d *decoder) probeKeys(p *probeConfig, at string) {
	web := p.Target.Scheme == "http" || p.Target.Scheme == "https"
	secured := p.Target.Scheme == "tls" || p.Target.Scheme == "https" || p.Target.Scheme == "http" && p.Redirects
	for _, rule := range []struct {
		key     string
		allowed bool
		where   string
	}{
		{".host", web || secured, "http and tls"},
		{".status", web, "http"}, {".body", web, "http"}, {".redirects", web, "http"},
		{".verify", secured, "https and tls"}, {".ca", secured, "https and tls"},
	} {
		if d.given(at+rule.key) && !rule.allowed {
			d.faultAt(at+rule.key, "%s%s is for probes by %s only; leave it out", at, rule.key, rule.where)
		}
	}
	if p.CA != "" && !p.Verify && secured {
		d.faultAt(at+".ca", "%s.ca means nothing while verify is false; keep one of them", at)
	}
	if d.given(at+".status") && len(p.Statuses) == 0 && !d.refused[at+".status"] {
		d.faultAt(at+".status", "%s.status is empty: no answer would do", at)
	}
	if p.Timeout > p.Interval && !d.refused[at+".timeout"] && !d.refused[at+".interval"] {
		key := at + ".timeout"
		if !d.given(key) {
			key = at + ".interval"
		}
		d.faultAt(key, "%s: a timeout of %v is longer than the interval of %v", at, p.Timeout, p.Interval)
	}
	if to, err := netip.ParseAddr(p.Target.Hostname()); err == nil && p.Source.IsValid() && to.Unmap().Is4() != p.Source.Is4() {
		d.faultAt(at+".source", "%s.source: %s cannot connect to %s: one is IPv4 and the other IPv6", at, p.Source, to)
	}
}

// probeList returns the probes, ready to run. It reads files that only those
// who run them must have.
func (c *Config) probeList() ([]probes.Probe, error) {
	var faults Faults
	pools := make(map[string]*x509.CertPool)
	list := make([]probes.Probe, len(c.Probes))
	for i, p := range c.Probes {
		list[i] = p.Probe
		list[i].Insecure = !p.Verify
		if p.CA == "" {
			continue
		}
		pool, known := pools[p.CA]
		if !known {
			var err error
			if pool, err = readCertificates(p.CA); err != nil {
				faults = append(faults, c.fault(fmt.Sprintf("probes[%d].ca", i), "probes[%d].ca: %v", i, err))
				continue
			}
			pools[p.CA] = pool
		}
		list[i].Roots = pool
	}
	return list, faults.sorted()
}

func readCertificates(file string) (*x509.CertPool, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		return nil, fmt.Errorf("%s has no certificate; write them in PEM, as in -----BEGIN CERTIFICATE-----", file)
	}
	return pool, nil
}

// parseTargetURL takes a URL to probe.
func parseTargetURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Opaque != "":
		return nil, fmt.Errorf("%q is no URL to probe; write one such as https://192.0.2.10/healthz", s)
	case u.User != nil:
		return nil, errors.New("the URL has a name or a password, which metrics and votes would show; let the health page do without")
	case u.Fragment != "":
		return nil, fmt.Errorf("%q: what follows the # is never sent; leave it out", s)
	}
	if u.Port() != "" || strings.HasSuffix(u.Host, ":") {
		if _, err := between(1, 65535)(u.Port()); err != nil {
			return nil, fmt.Errorf("%q: port %w", s, err)
		}
	}
	return u, checkTargetHost(s, u.Hostname())
}

// parseTarget takes host:port to probe by the given scheme.
func parseTarget(scheme string) func(string) (*url.URL, error) {
	return func(s string) (*url.URL, error) {
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			return nil, fmt.Errorf("%q is no target; write one such as 192.0.2.10:443 or [2001:db8::10]:443", s)
		}
		if _, err := between(1, 65535)(port); err != nil {
			return nil, fmt.Errorf("%q: port %w", s, err)
		}
		return &url.URL{Scheme: scheme, Host: s}, checkTargetHost(s, host)
	}
}

// checkTargetHost takes addresses and host names.
func checkTargetHost(target, host string) error {
	if addr, err := netip.ParseAddr(host); err == nil {
		if addr.Is4In6() {
			return fmt.Errorf("%q: write the address as %s", target, addr.Unmap())
		}
		return nil
	}
	if _, err := parseHost(host); err != nil {
		return fmt.Errorf("%q: host %w", target, err)
	}
	return nil
}

// parseHost takes a host name: what TLS and a Host header can carry.
func parseHost(s string) (string, error) {
	if _, err := netip.ParseAddr(s); err == nil {
		return s, nil
	}
	if s == "" || len(s) > 253 {
		return "", fmt.Errorf("%q is no host name", s)
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if !hostLabel.MatchString(label) {
			return "", fmt.Errorf("%q is no host name; write one such as play.bet.example, without a port", s)
		}
	}
	return strings.ToLower(strings.TrimSuffix(s, ".")), nil
}

// parseStatuses takes one status code, or a range.
func parseStatuses(s string) (probes.Statuses, error) {
	low, high, ranged := strings.Cut(s, "-")
	if !ranged {
		high = low
	}
	code := between(100, 599)
	first, err := code(low)
	if err != nil {
		return probes.Statuses{}, err
	}
	last, err := code(high)
	if err == nil && last < first {
		err = fmt.Errorf("%s ends before it begins", s)
	}
	return probes.Statuses{Low: first, High: last}, err
}

func parseBody(s string) (string, error) {
	if s == "" || len(s) > 4096 {
		return "", fmt.Errorf("it has %d octets; write 1 to 4096 that must be in the body", len(s))
	}
	return s, nil
}

// parseSource takes an address of this host.
func parseSource(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.IsUnspecified() || addr.IsMulticast() || addr.Is4In6() {
		return addr, fmt.Errorf("%q is no address to connect from; write one of this host, such as 192.0.2.53", s)
	}
	return addr, nil
}
