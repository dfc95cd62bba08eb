package main

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"nearside/dnsserver"
	"nearside/regions"
)

// maxTTL is the largest TTL there is, in seconds (RFC 2181 section 8).
const maxTTL = 1<<31 - 1

// Numbers are written in decimal and in no other way: YAML's 0x10, 1_000, 010
// and 1e3 mean different things to different readers.
var (
	wholeNumber   = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)
	decimalNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?$`)
	keyPrefix     = regexp.MustCompile(`^(/[A-Za-z0-9._-]+)+$`)
	hostLabel     = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$`)
)

func parseAny(s string) (string, error) { return s, nil }

func parseBool(s string) (bool, error) {
	switch s {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false", s)
}

func between(lo, hi int) func(string) (int, error) {
	return func(s string) (int, error) {
		if !wholeNumber.MatchString(s) {
			return 0, fmt.Errorf("%q is no whole number; write plain decimal digits, without a unit", s)
		}
		n, err := strconv.Atoi(s)
		if err != nil || n < lo || n > hi {
			return 0, fmt.Errorf("%s is out of range; write a number from %d to %d", s, lo, hi)
		}
		return n, nil
	}
}

// lasting takes a duration, with a unit.
func lasting(lo, hi time.Duration) func(string) (time.Duration, error) {
	return func(s string) (time.Duration, error) {
		d, err := time.ParseDuration(s)
		if err != nil {
			return 0, fmt.Errorf("%q is no duration; write a number and a unit, as in 10s or 1m30s", s)
		}
		if d < lo || d > hi {
			return 0, fmt.Errorf("%s is out of range; write a duration from %v to %v", s, lo, hi)
		}
		return d, nil
	}
}

func parseDegrees(s string) (float64, error) {
	if !decimalNumber.MatchString(s) {
		return 0, fmt.Errorf("%q is no number of degrees; write one such as -6.26", s)
	}
	return strconv.ParseFloat(s, 64)
}

func parseName(s string) (string, error) {
	if err := regions.CheckName(s); err != nil {
		return "", fmt.Errorf("%q: %w", s, err)
	}
	return s, nil
}

// parseVersion takes what fits into the one string of a TXT record.
func parseVersion(s string) (string, error) {
	if len(s) > dnsserver.MaxVersion {
		return "", fmt.Errorf("it has %d octets; write at most %d", len(s), dnsserver.MaxVersion)
	}
	return s, nil
}

func parsePath(s string) (string, error) {
	if s == "" {
		return "", fmt.Errorf("the path is empty; name a folder")
	}
	return s, nil
}

// parseListen takes host:port. The host is an address or, for every address,
// empty; port 0 lets the kernel choose.
func parseListen(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", fmt.Errorf("%q is no address and port; write one such as :53, 192.0.2.1:53 or [2001:db8::1]:53", s)
	}
	if _, err := between(0, 65535)(port); err != nil {
		return "", fmt.Errorf("%q: port %w", s, err)
	}
	if host == "" {
		return s, nil
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return "", fmt.Errorf("%q: host %q is no address; names are not looked up", s, host)
	}
	return net.JoinHostPort(addr.Unmap().String(), port), nil
}

// parseSubnet takes one element of geo.client_subnet.
func parseSubnet(s string) (string, error) {
	if s == "all" || s == "none" {
		return s, nil
	}
	if _, err := parsePrefix(s); err != nil {
		return "", fmt.Errorf("%w, or all, or none", err)
	}
	p, err := parseClients(s)
	return p.String(), err
}

// parseClients takes a prefix of clients.
func parseClients(s string) (netip.Prefix, error) {
	p, err := parsePrefix(s)
	switch {
	case err != nil:
		return p, err
	case p != p.Masked():
		return p, fmt.Errorf("prefix %s has bits set beyond its length; write %s", p, p.Masked())
	case p.Addr().Is4In6():
		return p, fmt.Errorf("%s is an IPv4 prefix written as IPv6; leave out its ::ffff: part", p)
	}
	return p, nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err == nil {
		return p, nil
	}
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		return p, fmt.Errorf("%q is an address; write a prefix such as %s/%d", s, s, addr.BitLen())
	}
	return p, fmt.Errorf("%q is no prefix; write one such as 192.0.2.0/24 or 2001:db8::/48", s)
}

func parseEmbeddedListen(s string) (string, error) {
	u, err := parseURL(s)
	switch {
	case err != nil:
		return "", err
	case u.Scheme != "http":
		return "", fmt.Errorf("%q: the embedded etcd takes no TLS; write http://, and let no network that is not trusted reach it", s)
	}
	if _, err := netip.ParseAddr(u.Hostname()); err != nil {
		return "", fmt.Errorf("%q: host %q is no address; names are not looked up", s, u.Hostname())
	}
	return s, nil
}

func parseEndpoint(s string) (string, error) {
	_, err := parseURL(s)
	return s, err
}

// parseURL takes what etcd is reached at: a scheme, a host and a port.
func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && s == u.Scheme+"://"+u.Host {
		if _, err := between(0, 65535)(u.Port()); err == nil {
			return u, nil
		}
	}
	return nil, fmt.Errorf("%q is no URL of etcd; write one such as https://192.0.2.1:2379", s)
}

func parseKeyPrefix(s string) (string, error) {
	if !keyPrefix.MatchString(s) {
		return "", fmt.Errorf("%q cannot begin keys; write one such as /nearside: begin with a slash, end without", s)
	}
	return s, nil
}

// parseOwner takes a domain name, with or without the last dot, or "*." and one
// for every name below it.
func parseOwner(s string) (string, error) {
	if strings.Contains(strings.TrimPrefix(s, "*."), "*") {
		return "", fmt.Errorf("%q: a star may only be the first label, as in *.bet.example", s)
	}
	if _, ok := dns.IsDomainName(s); !ok || s == "" || strings.ContainsAny(s, " \t\r\n") {
		return "", fmt.Errorf("%q is no domain name", s)
	}
	return dns.CanonicalName(s), nil
}
