package dnsserver

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
)

// The limiter against a map, over clients of few prefixes and a clock that runs.
func TestRateLimiterCounts(t *testing.T) {
	l := NewRateLimiter(5, 2, nil)
	random := rand.New(rand.NewPCG(1, 2))
	type key struct {
		prefix netip.Prefix
		now    uint32
	}
	counts := make(map[key]uint64)
	now := uint32(0xFFFF - 2) // the 16 bits that are kept wrap
	for i := range 200_000 {
		if i%20_000 == 0 {
			now++
		}
		from, bits := netip.AddrFrom4([4]byte{10, byte(random.IntN(4)), byte(random.IntN(64)), byte(random.IntN(256))}), limitBits4
		if random.IntN(2) == 0 {
			from, bits = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 0, byte(random.IntN(100)), byte(random.IntN(256)), 15: byte(i)}), limitBits6
		}
		prefix, _ := from.Prefix(bits)
		counts[key{prefix, now}]++
		if got, want := l.count(from, now), counts[key{prefix, now}]; got != want {
			t.Fatalf("response %d to %s at %d: counted %d, want %d", i, prefix, now, got, want)
		}
	}
}

func TestRateLimiterConcurrent(t *testing.T) {
	l := NewRateLimiter(1000, 0, nil)
	var wait sync.WaitGroup
	var mu sync.Mutex
	passed := 0
	for range 8 {
		wait.Go(func() {
			n := 0
			for range 1000 {
				if l.judge(rfc9018Addr, 1) == pass {
					n++
				}
			}
			mu.Lock()
			defer mu.Unlock()
			passed += n
		})
	}
	wait.Wait()
	if passed != 1000 {
		t.Errorf("%d of 8,000 responses passed a limit of 1,000", passed)
	}
}

// More prefixes than there is room for: a busy one stays counted.
func TestRateLimiterCrowded(t *testing.T) {
	l := NewRateLimiter(100, 0, nil)
	victim := netip.MustParseAddr("192.0.2.1")
	passed := 0
	for i := range 300_000 {
		if l.judge(victim, 7) == pass {
			passed++
		}
		for j := range 10 {
			l.judge(netip.AddrFrom4([4]byte{byte(j), byte(i >> 16), byte(i >> 8), byte(i)}), 7)
		}
	}
	if passed != 100 {
		t.Errorf("%d responses passed a limit of 100", passed)
	}
}

func TestRateLimit(t *testing.T) {
	b := steeredBench(t)
	exempt := netip.MustParsePrefix("203.0.113.0/28")
	b.snapshot.policy.Limiter = NewRateLimiter(10, 2, []netip.Prefix{exempt})
	buf := make([]byte, udpRoom)
	ask := func(from string, msg []byte) (octets int, truncated bool) {
		n := b.r.respond(b.snapshot, buf, copy(buf, msg), netip.MustParseAddr(from), false)
		return n, n > 0 && buf[2]&flagTC != 0
	}
	query := queryFor(t, "play.bet.example.", nil)
	answers, empty := 0, 0
	for i := range 110 {
		switch n, truncated := ask(fmt.Sprintf("192.0.2.%d", i), query); {
		case truncated:
			empty++
			if n != len(query) {
				t.Fatalf("a response over the limit has %d octets, the query %d", n, len(query))
			}
		case n > 0:
			answers++
		}
	}
	if answers != 10 || empty != 10+3 { // of 50 that slip the first 10, the 16th, the 32nd and the 48th
		t.Errorf("%d answers and %d empty responses, want 10 and 13", answers, empty)
	}
	if n := b.counted(countLimited); n != 100 {
		t.Errorf("%d counted, want 100", n)
	}
	malformed := packet(0, 1, 0, 0, 0)
	if n, _ := ask("192.0.2.1", malformed); n != 0 {
		t.Error("errors are not limited")
	}
	for i := range 20 {
		if n, truncated := ask("203.0.113.1", query); n == 0 || truncated {
			t.Errorf("query %d of an exempt client: %d octets, TC %v", i, n, truncated)
		}
	}
	if n, truncated := ask("198.51.100.1", query); n == 0 || truncated {
		t.Errorf("another client: %d octets, TC %v", n, truncated)
	}
	stream := make([]byte, wholeTCP)
	if n := b.r.respond(b.snapshot, stream, copy(stream, query), netip.MustParseAddr("192.0.2.1"), true); n == 0 || stream[2]&flagTC != 0 {
		t.Errorf("by TCP: %d octets", n)
	}

	// A valid cookie proves that the address is no forgery; another one does not.
	own := hexCookie(t, "2464c4abcf10c957")
	made := own.append(nil, b.snapshot.secrets, netip.MustParseAddr("192.0.2.1"), rfc9018Time)[4:]
	proven := queryFor(t, "play.bet.example.", option(optionCookie, made...))
	for range 20 {
		if n, truncated := ask("192.0.2.1", proven); n == 0 || truncated {
			t.Fatal("a client with a valid cookie is limited")
		}
	}
	if n, truncated := ask("192.0.2.2", proven); n > 0 && !truncated {
		t.Error("the cookie of another address passes the limit")
	}
}

func BenchmarkRateLimiter(b *testing.B) {
	l := NewRateLimiter(200, 2, nil)
	addr := [4]byte{192, 0, 2, 1}
	for i := 0; b.Loop(); i++ {
		addr[2] = byte(i)
		l.judge(netip.AddrFrom4(addr), 1)
	}
}
