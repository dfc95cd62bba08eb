// Package dnsserver answers queries. A query is answered from one immutable
// Snapshot, on wire bytes, in the buffer it arrived in: no allocation, no lock,
// no log line, no system call but receive and send.
package dnsserver

import (
	"net/netip"

	"nearside/regions"
	"nearside/zones"
)

// Policy is the part of the configuration that decides answers.
type Policy struct {
	// Believed lists the resolvers whose ECS option counts (RFC 7871, 11.1).
	Believed []netip.Prefix
	// NegativeTTL caps the TTL, in seconds, of the SOA in the NODATA that a
	// steered name gives when every region it has is drained.
	NegativeTTL uint32
	// ID and Version are told to whoever asks (NSID, and TXT of class CH); ""
	// is a secret. Which state answers come from is told by whoever tells the ID.
	ID, Version string
	// Limiter bounds responses by UDP; nil is no limit.
	Limiter *RateLimiter
}

// believes reports whether the ECS option of a query from addr counts.
func (p *Policy) believes(addr netip.Addr) bool {
	for _, prefix := range p.Believed {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// Snapshot is everything that decides an answer. It is immutable: a query that
// has loaded it cannot see a newer zone, map or state.
type Snapshot struct {
	zones  *zones.View
	places *Places // nil without regions: nothing is steered then
	state  *regions.State
	policy Policy

	secrets   *Secrets // nil: no cookies
	stateText string   // TXT of state.nearside, class CH
}

// Compile joins zones, clients map and state into a snapshot. The parts are
// compiled already (records to wire form with a variant per region, addresses to
// preference lists), so this is cheap. places and st are nil without regions.
func Compile(v *zones.View, places *Places, st *regions.State, policy Policy) *Snapshot {
	return (&Snapshot{zones: v, places: places, policy: policy}).WithState(st)
}

// WithState returns the snapshot with another state: what a drain costs.
func (s *Snapshot) WithState(st *regions.State) *Snapshot {
	next := *s
	next.state = st
	next.stateText = ""
	if st != nil && s.policy.ID != "" {
		next.stateText = ToldOf(s.policy.ID, st).String()
	}
	return &next
}

// WithSecrets returns the snapshot with other secrets for cookies.
func (s *Snapshot) WithSecrets(secrets *Secrets) *Snapshot {
	next := *s
	next.secrets = secrets
	return &next
}

// WithZones returns the snapshot with other zones.
func (s *Snapshot) WithZones(v *zones.View) *Snapshot {
	next := *s
	next.zones = v
	return &next
}

// WithPlaces returns the snapshot with another clients map.
func (s *Snapshot) WithPlaces(p *Places) *Snapshot {
	next := *s
	next.places = p
	return &next
}
