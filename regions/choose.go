package regions

import (
	"encoding/binary"
	"hash/fnv"
	"math/bits"
	"net/netip"
)

// ladder is who may answer for a service: the rungs of the answer ladder, the best
// first.
type ladder struct {
	// What every choice looks at comes first: one cache line.
	order  []ID // of failover; nil: the client's
	usual  rungs
	split  Set // the regions that are open to some clients only, whatever the rung
	capped Set // the regions whose TTL is limited: caps

	spare rungs // standby regions: of on_exhausted, like last
	last  Set
	alive Set // every region that is not fully drained
	more  *limits
}

// rungs is regions that are not down.
type rungs struct {
	open    Set // up, for every client
	partial Set // up, but for a share of clients only: away
	hold    Set // returning, on hold
}

func (r rungs) all() Set { return r.open | r.partial | r.hold }

// of returns the rungs with some of their regions.
func (r rungs) of(s Set) rungs { return rungs{r.open & s, r.partial & s, r.hold & s} }

// limits is what few states have. It is read where partial or capped say so.
type limits struct {
	away [Max]uint8  // percent of clients that are sent elsewhere
	caps [Max]uint32 // seconds
}

// ladder combines what the regions and the service in them have.
func (e *evaluation) ladder(s *State, id ServiceID) ladder {
	service := &e.services[id]
	l := ladder{more: new(limits)}
	if service.Failover {
		l.order = service.order
	}
	var up rungs
	var sick Set
	for r := range e.All().All() {
		view, this := s.View(Key{id, r}), SetOf(r)
		switch {
		case view.Status&Drained != 0:
			continue
		case view.Status&sickness != 0:
			sick |= this
		case !view.Hold.IsZero():
			up.hold |= this
		case view.Away > 0:
			up.partial |= this
			l.more.away[r] = uint8(view.Away)
		default:
			up.open |= this
		}
		if view.TTL != NoCap {
			l.capped |= this
			l.more.caps[r] = view.TTL
		}
	}
	l.alive = up.all() | sick
	l.usual = up.of(service.members &^ e.standby)
	switch service.OnExhausted.Kind {
	case AnyRegion:
		l.spare = up.of(service.members & e.standby)
		l.last = sick & service.members
	case OneRegion:
		l.last = l.alive & SetOf(service.OnExhausted.Region)
	}
	l.split = l.usual.partial | l.spare.partial
	return l
}

// View returns the standing of a service in a region as queries meet it: that of the
// region counts, too, and the break-glass file.
func (s *State) View(k Key) Standing {
	v := s.Standings[s.table.Index(Key{Anyone, k.Region})]
	if k.Service != Anyone {
		own := s.Standings[s.table.Index(k)]
		v.Status |= own.Status
		v.Away = max(v.Away, own.Away)
		v.TTL = min(v.TTL, own.TTL)
		v.Hold = later(v.Hold, own.Hold)
		v.Ramp = later(v.Ramp, own.Ramp)
	}
	switch {
	case s.Inputs.ForcedDrain.Has(k.Region):
		v.Status |= Drained
	case s.Inputs.ForcedUp.Has(k.Region):
		v = Standing{TTL: NoCap}
	}
	return v
}

// Choose returns the region that answers for a client of a service with the given
// preference list, among the regions that have the records (the answer ladder). It
// returns false when none may: fully drained regions are never used.
//
// prefer lists every region once, so a member of candidates is always met.
func (s *State) Choose(prefer []ID, candidates Set, service ServiceID, client netip.Addr) (ID, bool) {
	l := &s.ladders[service]
	if l.order != nil {
		prefer = l.order
	}
	usable := l.usual.open & candidates
	if usable == 0 || l.usual.partial&candidates != 0 {
		usable = s.search(l, candidates, client)
	}
	for _, id := range prefer {
		if usable.Has(id) {
			return id, true
		}
	}
	return 0, false
}

// search returns the candidates on the best rung of a ladder.
func (s *State) search(l *ladder, candidates Set, client netip.Addr) Set {
	for _, r := range [...]*rungs{&l.usual, &l.spare} {
		if usable := s.best(l, r, candidates, client); usable != 0 {
			return usable
		}
	}
	return l.last & candidates
}

// best returns the best rung that any of the candidates stands on. A region that is
// partly used is open to some clients, and stands below that for the others.
func (s *State) best(l *ladder, r *rungs, candidates Set, client netip.Addr) Set {
	usable := r.open & candidates
	if partial := r.partial & candidates; partial != 0 {
		if usable |= s.kept(l, partial, client); usable == 0 {
			usable = partial
		}
	}
	if usable == 0 {
		usable = r.hold & candidates
	}
	return usable
}

// Left returns the candidates that Choose may come to, for whatever client.
func (s *State) Left(candidates Set, service ServiceID) Set {
	l := &s.ladders[service]
	return (l.usual.all() | l.spare.all() | l.last) & candidates
}

// Drains reports whether drains alone, the break-glass file among them, leave a
// service none of the candidates: there is none that it could use otherwise.
func (s *State) Drains(candidates Set, service ServiceID) bool {
	can := s.table.usable(&s.table.services[service]) & candidates
	return can != 0 && can&s.ladders[service].alive == 0
}

// Split reports whether some of the candidates serve a share of the clients only,
// so that neighbours of one place may get different answers.
func (s *State) Split(candidates Set, service ServiceID) bool {
	return s.ladders[service].split&candidates != 0
}

// Placeless reports whether a service does not care where its clients are.
func (s *State) Placeless(service ServiceID) bool { return s.ladders[service].order != nil }

// TTL returns how long an answer with a region may be kept, in seconds, or NoCap.
func (s *State) TTL(region ID, service ServiceID) uint32 {
	if l := &s.ladders[service]; l.capped.Has(region) {
		return l.more.caps[region]
	}
	return NoCap
}

// kept returns those of the partly used regions that this client is not sent away from.
func (s *State) kept(l *ladder, partial Set, client netip.Addr) Set {
	key := network(client)
	var kept Set
	for id := range partial.All() {
		if bucket(key, s.table.seeds[id]) >= l.more.away[id] {
			kept |= SetOf(id)
		}
	}
	return kept
}

// ScopeBits is the prefix length of the networks that are moved as a whole.
func ScopeBits(client netip.Addr) int {
	if client.Is4() {
		return 24
	}
	return 56
}

// network is the part of an address that decides on its cohort: 24 bits of an
// IPv4 address or 56 of an IPv6 one, and which of the two it is.
func network(client netip.Addr) uint64 {
	if client.Is4() {
		a := client.As4()
		return uint64(binary.BigEndian.Uint32(a[:]) >> 8)
	}
	a := client.As16()
	return binary.BigEndian.Uint64(a[:8])>>8 | 1<<63
}

// bucket puts a network into one of 100 cohorts of a region: it is sent away from
// it by a share above that.
func bucket(network, seed uint64) uint8 {
	hundredth, _ := bits.Mul64(mix(network^seed), 100)
	return uint8(hundredth)
}

// mix is the finaliser of SplitMix64 (Steele, Lea, Flood 2014), which all versions
// must share, so that servers agree.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}

// seedOf makes the cohorts of regions independent of each other. It depends on
// the name, so that the order in the configuration does not matter.
func seedOf(region string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(region))
	return h.Sum64()
}
