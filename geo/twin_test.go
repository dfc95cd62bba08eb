package geo

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sort"
	"testing"

	"nearside/pace"
)

// stretch is a piece of one family's address space with one class. A block of
// special-purpose addresses is a stretch of its own.
type stretch struct {
	first, last netip.Addr
	class       Class
}

// twin is the slow, obvious map that a Map must agree with: sorted stretches of
// one family without gaps, made from netip alone.
type twin []stretch

// newTwin lays the special blocks over networks, which do not overlap.
func newTwin(space netip.Prefix, networks map[netip.Prefix]Class, unknown Class, special []netip.Prefix) twin {
	// Every place where the answer can change, in order.
	edges := map[netip.Addr]bool{space.Addr(): true}
	edge := func(p netip.Prefix) {
		edges[p.Addr()] = true
		if after := lastOf(p).Next(); after.IsValid() {
			edges[after] = true
		}
	}
	for p := range networks {
		edge(p)
	}
	for _, p := range special {
		edge(p)
	}
	starts := slices.SortedFunc(maps.Keys(edges), netip.Addr.Compare)
	var t twin
	block := netip.Prefix{}
	for i, start := range starts {
		last := lastOf(space)
		if i+1 < len(starts) {
			last = starts[i+1].Prev()
		}
		class, in := unknown, netip.Prefix{}
		if p, ok := holder(start, func(p netip.Prefix) bool { _, ok := networks[p]; return ok }); ok {
			class = networks[p]
		}
		for _, p := range special {
			if p.Contains(start) {
				class, in = Special, p
			}
		}
		if n := len(t); n > 0 && t[n-1].class == class && in == block {
			t[n-1].last = last
		} else {
			t = append(t, stretch{start, last, class})
		}
		block = in
	}
	return t
}

// holder returns the prefix around a that is in a set.
func holder(a netip.Addr, has func(netip.Prefix) bool) (netip.Prefix, bool) {
	for bits := 0; bits <= a.BitLen(); bits++ {
		if p := netip.PrefixFrom(a, bits).Masked(); has(p) {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// lastOf returns the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// lookup tries every length, the widest first.
func (t twin) lookup(a netip.Addr) (Class, int) {
	i := sort.Search(len(t), func(i int) bool { return a.Less(t[i].first) }) - 1
	for bits := 0; ; bits++ {
		p := netip.PrefixFrom(a, bits).Masked()
		if !p.Addr().Less(t[i].first) && !t[i].last.Less(lastOf(p)) {
			return t[i].class, bits
		}
	}
}

// check asks the map for both ends of every stretch, their neighbours, and some
// addresses between.
func (t twin) check(tb testing.TB, m *Map) {
	tb.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	bad := 0
	for _, s := range t {
		for _, a := range []netip.Addr{s.first, s.last, s.first.Prev(), s.last.Next(), s.first.Next(), s.last.Prev(), between(random, s)} {
			if !a.IsValid() || a.Is4In6() { // mapped addresses are looked up as IPv4
				continue
			}
			wantClass, wantBits := t.lookup(a)
			if class, bits := m.Lookup(a); class != wantClass || bits != wantBits {
				tb.Errorf("%s: class %d in a /%d, want %d in a /%d", a, class, bits, wantClass, wantBits)
				if bad++; bad > 10 {
					tb.FailNow()
				}
			}
		}
	}
}

// between returns an address of s: a random one of a random prefix of its first.
func between(random *rand.Rand, s stretch) netip.Addr {
	b := lastOf(netip.PrefixFrom(s.first, random.IntN(s.first.BitLen()))).AsSlice()
	for i, low := range s.first.AsSlice() {
		b[i] = low | b[i]&byte(random.Uint32())
	}
	a, _ := netip.AddrFromSlice(b)
	if s.last.Less(a) {
		return s.last
	}
	return a
}

// listed is a source of given networks.
type listed struct{ networks []listedNetwork }

type listedNetwork struct {
	prefix netip.Prefix
	id     recordID
}

// records implements source: the country is the number.
func (l *listed) records(visit func(Record) error) error {
	highest := recordID(0)
	for _, n := range l.networks {
		highest = max(highest, n.id)
	}
	for id := range highest {
		if err := visit(Record{Country: fmt.Sprint(id + 1)}); err != nil {
			return err
		}
	}
	return nil
}

// walk implements source.
func (l *listed) walk(_ *pace.Pacer, v4 func(addr4, recordID) error, v6 func(addr6, recordID) error) error {
	at4, at6 := netip.Addr{}, netip.Addr{}
	for _, n := range l.networks {
		p := n.prefix
		at, start := &at6, func(a netip.Addr, id recordID) error { return v6(number6(a), id) }
		if p.Addr().Is4() {
			at, start = &at4, func(a netip.Addr, id recordID) error { return v4(number4(a), id) }
		}
		if at.IsValid() && *at != p.Addr() {
			if err := start(*at, uncovered); err != nil {
				return err
			}
		}
		if err := start(p.Addr(), n.id); err != nil {
			return err
		}
		*at = lastOf(p).Next()
	}
	var err error
	if at4.IsValid() {
		err = v4(number4(at4), uncovered)
	}
	if at6.IsValid() {
		err = cmp.Or(err, v6(number6(at6), uncovered))
	}
	return err
}

var (
	all4 = netip.MustParsePrefix("0.0.0.0/0")
	all6 = netip.MustParsePrefix("::/0")
	low6 = netip.MustParsePrefix("::/96")
)

// TestMapAgainstTwin compiles random networks of both families.
func TestMapAgainstTwin(t *testing.T) {
	for seed := range uint64(60) {
		checkRandom(t, seed)
	}
}

// FuzzMap looks for networks that TestMapAgainstTwin did not meet.
func FuzzMap(f *testing.F) {
	f.Add(uint64(1000))
	f.Fuzz(func(t *testing.T, seed uint64) { checkRandom(t, seed) })
}

func checkRandom(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	classes := Class(1 + random.IntN(4))
	scale := Class(1)
	if seed%3 == 0 {
		scale = 70000 // does not fit 16 bits
	}
	networks4, networks6 := randomNetworks(random, all4), randomNetworks(random, all6)
	source := &listed{}
	byFamily := []map[netip.Prefix]Class{{}, {}}
	for f, networks := range [][]netip.Prefix{networks4, networks6} {
		for _, p := range networks {
			id := recordID(1 + random.IntN(int(classes)))
			source.networks = append(source.networks, listedNetwork{p, id})
			byFamily[f][p] = Class(id) % classes * scale
		}
	}
	unknown := Class(random.IntN(int(classes))) * scale
	m, err := Compile(&Database{source: source}, func(r Record) Class {
		if r == (Record{}) {
			return unknown
		}
		var id Class
		fmt.Sscan(r.Country, &id)
		return id % classes * scale
	})
	if err != nil {
		t.Fatal(err)
	}
	checkSorted(t, m)
	newTwin(all4, byFamily[0], unknown, special4).check(t, m)
	newTwin(all6, byFamily[1], unknown, special6).check(t, m)
	if t.Failed() {
		t.Fatalf("seed %d", seed)
	}
}

// randomNetworks returns disjoint networks in order: near special blocks, near
// the ends of the space and crowded together, where the edges are.
func randomNetworks(random *rand.Rand, space netip.Prefix) []netip.Prefix {
	special, width := special4, 32
	if space.Addr().Is6() {
		special, width = special6, 128
	}
	var all []netip.Prefix
	for range 200 {
		b := make([]byte, width/8)
		switch random.IntN(4) {
		case 0:
			p := special[random.IntN(len(special))]
			a := p.Addr().Prev()
			if random.IntN(2) == 0 || !a.IsValid() {
				a = lastOf(p).Next()
			}
			if a.IsValid() {
				b = a.AsSlice()
			}
		case 1: // many in one /64 or /24
			b[0], b[len(b)-1], b[len(b)-2] = 0x2a, byte(random.Uint32()), byte(random.IntN(4))
		case 2:
			for i := range b {
				b[i] = 0xff
			}
		default:
			b[0] = 0x20
			for i := 1; i < len(b); i++ {
				b[i] = byte(random.Uint32())
			}
		}
		a, _ := netip.AddrFromSlice(b)
		all = append(all, netip.PrefixFrom(a, 2+random.IntN(width-1)).Masked())
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int { // the longest first, to keep them
		return cmp.Or(cmp.Compare(b.Bits(), a.Bits()), a.Addr().Compare(b.Addr()))
	})
	var kept []netip.Prefix
	for _, p := range all {
		if p.Addr().Is6() && p.Overlaps(low6) { // IPv4's place
			continue
		}
		if !slices.ContainsFunc(kept, p.Overlaps) {
			kept = append(kept, p)
		}
	}
	slices.SortFunc(kept, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return kept
}
