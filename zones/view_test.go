package zones

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
)

// viewOf makes the view of these zones, which must be good.
func viewOf(t *testing.T, texts map[string]string) *View {
	t.Helper()
	var list []*Zone
	for _, origin := range slices.Sorted(maps.Keys(texts)) {
		text := texts[origin]
		wire, err := parseOrigin(origin)
		if err != nil {
			t.Fatal(err)
		}
		z, faults := job{source: memory(text), name: origin, origin: wire, fixed: true, steering: testSteering()}.load()
		if z == nil {
			t.Fatalf("%s: %v", origin, faults)
		}
		list = append(list, z)
	}
	return newView(list)
}

const head = "$TTL 60\n@ SOA ns.b.example. h 1 2 3 4 5\n"

func TestExhausted(t *testing.T) {
	v := steeredView(t)
	const eu, us, ap = 1, 2, 4
	for _, c := range []struct {
		drained uint64
		n       int
		name    string
	}{
		{0, 0, ""}, {eu, 0, ""}, {ap, 0, ""}, {eu | us, 4, "casino.b.example."}, {us | ap, 1, "x.b.example."}, {eu | ap, 0, ""}, {eu | us | ap, 5, "x.b.example."},
	} {
		left := func(_ uint16, regions uint64) bool { return regions&^c.drained != 0 }
		if n, name := v.Exhausted(left); n != c.n || name != c.name {
			t.Errorf("with %b drained: %d, %q, want %d, %q", c.drained, n, name, c.n, c.name)
		}
	}
}

func steeredView(t *testing.T) *View {
	return viewOf(t, map[string]string{
		"a.example": head + "@ NS ns.c.example.\nx A 192.0.2.1\nx A 198.51.100.1\ny A 192.0.2.1\n",
		"b.example": head + "@ NS ns.c.example.\ncasino A 192.0.2.1\ncasino A 198.51.100.1\ncasino AAAA 2001:db8:1::1\ncasino AAAA 2001:db8:2::1\nx A 198.51.100.1\nx A 203.0.113.1\n",
		"c.example": head + "@ NS ns.d.example.\neu._region.z TXT x\nus._region.z TXT y\n",
	})
}

// Each kind of steered RRsets is there once, with all zones, also after one changed.
func TestSpreads(t *testing.T) {
	v := steeredView(t)
	want := []Spread{
		{0, 0b011, "x.a.example.", 2}, // z.c.example. is the other
		{MaxServices - 1, 0b011, "casino.b.example.", 2},
		{0, 0b110, "x.b.example.", 1},
	}
	if got := v.Spreads(); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	plain := viewOf(t, map[string]string{"b.example": head + "@ NS ns.c.example.\n"}).zones[0]
	if got, want := v.with([]*member{{index: 1, zone: plain}}).Spreads(), want[:1]; !slices.Equal(got, want) {
		t.Errorf("%+v without b.example., want %+v", got, want)
	}
	if got := v.Spreads(); !slices.Equal(got, want) {
		t.Errorf("the old view has now %+v, want %+v", got, want)
	}
}

// TestFind holds Find against a walk over all zones.
func TestFind(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	name := func(labels int) string {
		text := ""
		for range labels {
			text += string(rune('a'+random.IntN(3))) + "."
		}
		return text
	}
	for range 300 {
		byOrigin := make(map[string]*Zone)
		for range random.IntN(8) {
			origin := name(1 + random.IntN(3))
			byOrigin[origin] = &Zone{origin: origin, apex: wireName(t, origin)}
		}
		if random.IntN(4) == 0 {
			byOrigin["."] = &Zone{origin: ".", apex: []byte{0}}
		}
		v := newView(slices.Collect(maps.Values(byOrigin)))
		for range 20 {
			qname := wireName(t, name(1+random.IntN(4)))
			var want *Zone
			for _, z := range byOrigin {
				if under(qname, z.apex) && (want == nil || len(z.apex) > len(want.apex)) {
					want = z
				}
			}
			got, index := v.Find(qname)
			if got != want || want == nil && index != -1 || want != nil && v.zones[index] != want {
				t.Fatalf("%q: got %v at %d, want %v", qname, got, index, want)
			}
		}
	}
}

// BenchmarkFind is the search for the zone of a name two labels below its apex,
// among as many zones as the name says.
func BenchmarkFind(b *testing.B) {
	for _, n := range []int{1, 1000, 100_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			zones, names := make([]*Zone, n), make([][]byte, n)
			for i := range zones {
				names[i] = wireName(b, fmt.Sprintf("www.shop.z%d.example.", i))
				zones[i] = &Zone{apex: names[i][len("\x03www\x04shop"):]}
			}
			v := newView(zones)
			rand.Shuffle(n, func(i, j int) { names[i], names[j] = names[j], names[i] })
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if z, _ := v.Find(names[i%n]); z == nil {
					b.Fatal("no zone")
				}
			}
		})
	}
}

// BenchmarkSpreads is what the first drain after a reload pays for many zones.
func BenchmarkSpreads(b *testing.B) {
	list := make([]*Zone, 100_000)
	for i := range list {
		list[i] = &Zone{spreads: []Spread{{0, 0b111, "play.example.", 2}, {uint16(i % 50), 0b011, "casino.example.", 2}}}
	}
	b.ReportAllocs()
	for b.Loop() {
		spreadsOf(list)
	}
}
