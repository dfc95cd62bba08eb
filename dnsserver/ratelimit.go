package dnsserver

import (
	"math/rand/v2"
	"net/netip"
	"sync/atomic"

	"github.com/dchest/siphash"
)

// RateLimiter bounds the responses that leave by UDP for one client prefix in
// one second, so that queries with a forged source flood nobody with our
// answers. Every slip-th response over the limit is empty and truncated instead
// of dropped: a client that is real asks again by TCP. Where as many as the limit
// were sent in that way, most of those are dropped too: what a flood makes us
// send would otherwise grow with it.
//
// It is a table of fixed size without locks. Counts are exact unless more than
// about a million prefixes are active in a second; then busy ones stay and quiet
// ones are forgotten.
type RateLimiter struct {
	perSecond uint64
	slip      uint64 // 0: all are dropped
	exempt    []netip.Prefix
	key       [2]uint64 // forgers must not know who shares a line with whom
	lines     []line
}

// Client prefixes are as long as the networks that one site has.
const (
	limitBits4 = 24
	limitBits6 = 56
)

// thin is every how many of those that slip still do, once there were as many of
// them as the limit lets pass.
const thin = 16

// limitLines is the number of lines, a power of two: 8 MB in all.
const limitLines = 1 << 17

// line is a cache line of counters. A prefix has its place in one line.
type line [8]atomic.Uint64

// A counter is who (24 bits of a hash), when (the last 16 bits of the second),
// and how many responses (24 bits).
const (
	countBits = 24
	whoShift  = 40
	countMask = 1<<countBits - 1
	whenMask  = 1<<whoShift - 1 - countMask
)

// NewRateLimiter returns a limiter, or nil if perSecond is 0: no limit.
func NewRateLimiter(perSecond, slip int, exempt []netip.Prefix) *RateLimiter {
	if perSecond == 0 {
		return nil
	}
	return &RateLimiter{
		perSecond: uint64(perSecond), slip: uint64(slip), exempt: exempt,
		key: [2]uint64{rand.Uint64(), rand.Uint64()}, lines: make([]line, limitLines),
	}
}

// verdict is what becomes of a response.
type verdict int

const (
	pass verdict = iota
	slip         // send it empty, with TC
	drop
)

// judge counts a response to from at now, in Unix seconds.
func (l *RateLimiter) judge(from netip.Addr, now uint32) verdict {
	for _, p := range l.exempt {
		if p.Contains(from) {
			return pass
		}
	}
	n := l.count(from, now)
	if n <= l.perSecond {
		return pass
	}
	over := n - l.perSecond
	if l.slip == 0 || over%l.slip != 0 {
		return drop
	}
	if slipped := over / l.slip; slipped > l.perSecond && slipped%thin != 0 {
		return drop
	}
	return slip
}

// count returns the responses for the prefix of from in this second, with this one.
func (l *RateLimiter) count(from netip.Addr, now uint32) uint64 {
	hash := l.hash(from)
	start := hash>>whoShift<<whoShift | uint64(now)<<countBits&whenMask
	counters := &l.lines[hash%limitLines]
	for {
		var least, quietest uint64 = countMask + 1, 0
		at := 0
		for i := range counters {
			c := counters[i].Load()
			if c&^countMask == start {
				return counters[i].Add(1) - start
			}
			n := c & countMask
			if c&whenMask != start&whenMask {
				n = 0 // of another second: free
			}
			if n < least {
				least, quietest, at = n, c, i
			}
		}
		if counters[at].CompareAndSwap(quietest, start+1) {
			return 1
		}
	}
}

// hash is of the client's prefix.
func (l *RateLimiter) hash(from netip.Addr) uint64 {
	if from.Is4() {
		a := from.As4()
		return siphash.Hash(l.key[0], l.key[1], a[:limitBits4/8])
	}
	a := from.As16()
	return siphash.Hash(l.key[0], l.key[1], a[:limitBits6/8])
}
