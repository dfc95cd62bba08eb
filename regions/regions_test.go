package regions

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"nearside/geo"
)

// table returns n regions r0, r1, ... without prefixes, all in one place.
func table(t testing.TB, n int) *Table {
	t.Helper()
	list := make([]Region, n)
	for i := range list {
		list[i].Name = fmt.Sprintf("r%d", i)
	}
	return made(t, list)
}

func made(t testing.TB, list []Region) *Table {
	t.Helper()
	table, err := New(list)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestNewErrors(t *testing.T) {
	at := func(latitude, longitude float64) []Region {
		return []Region{{Name: "a", Location: geo.Point{Latitude: latitude, Longitude: longitude}}}
	}
	with := func(prefixes ...string) []Region {
		list := []Region{{Name: "a"}, {Name: "b"}}
		for i, p := range prefixes {
			list[i%2].Prefixes = append(list[i%2].Prefixes, netip.MustParsePrefix(p))
		}
		return list
	}
	const length, letters = "a name has 1 to 63 characters", "a name has lower-case letters, digits and inner hyphens only"
	const spot = "region a: no such place as "
	for _, c := range []struct {
		list []Region
		want string // "" if there is nothing wrong
	}{
		{nil, ""},
		{make([]Region, Max+1), "65 regions: at most 64 are possible"},
		{[]Region{{Name: ""}}, `region "": ` + length},
		{[]Region{{Name: strings.Repeat("a", 64)}}, `region "` + strings.Repeat("a", 64) + `": ` + length},
		{[]Region{{Name: strings.Repeat("a", 63)}}, ""},
		{[]Region{{Name: "eu-1"}, {Name: "1"}}, ""},
		{[]Region{{Name: "EU"}}, `region "EU": ` + letters},
		{[]Region{{Name: "-eu"}}, `region "-eu": ` + letters},
		{[]Region{{Name: "eu-"}}, `region "eu-": ` + letters},
		{[]Region{{Name: "e.u"}}, `region "e.u": ` + letters},
		{[]Region{{Name: "é"}}, `region "é": ` + letters},
		{[]Region{{Name: "a"}, {Name: "b"}, {Name: "a"}}, "region a is listed twice"},
		{at(90, -180), ""},
		{at(90.5, 0), spot + "latitude 90.5, longitude 0"},
		{at(-91, 0), spot + "latitude -91, longitude 0"},
		{at(0, 180.5), spot + "latitude 0, longitude 180.5"},
		{at(0, -181), spot + "latitude 0, longitude -181"},
		{at(math.NaN(), 0), spot + "latitude NaN, longitude 0"},
		{at(0, math.Inf(1)), spot + "latitude 0, longitude +Inf"},
		{with("192.0.2.0/25", "192.0.2.128/25", "2001:db8::/33", "2001:db8:8000::/33"), ""},
		{with("192.0.2.1/24"), "region a: prefix 192.0.2.1/24 has bits set beyond its length; write 192.0.2.0/24"},
		{with("::ffff:192.0.2.0/120"), "region a: ::ffff:192.0.2.0/120 is an IPv4 prefix written as IPv6; leave out its ::ffff: part"},
		{with("192.0.2.0/24", "192.0.0.0/16"), "region a: prefix 192.0.2.0/24 overlaps 192.0.0.0/16 of region b"},
		{with("192.0.2.0/24", "192.0.2.0/26"), "region b: prefix 192.0.2.0/26 overlaps 192.0.2.0/24 of region a"},
		{with("2001:db8::/32", "192.0.2.0/24", "2001:db8:1::/48"), "region a: prefix 2001:db8:1::/48 overlaps 2001:db8::/32 of region a"},
	} {
		_, err := New(c.list)
		if got := fmt.Sprint(err); c.want != "" && got != c.want || c.want == "" && err != nil {
			t.Errorf("New says %q, not %q", got, c.want)
		}
	}
}

// The table is a copy: what the caller does to its list later changes nothing.
func TestNamed(t *testing.T) {
	list := []Region{{Name: "eu-west"}, {Name: "us-east"}, {Name: "sa-east"}}
	table := made(t, list)
	list[0].Name = "elsewhere"
	for want, name := range []string{"eu-west", "us-east", "sa-east"} {
		if id, ok := table.Named(name); !ok || id != ID(want) || table.Name(id) != name || table.Region(id).Name != name {
			t.Errorf("%s is region %d, %v", name, id, ok)
		}
	}
	for _, name := range []string{"", "eu", "EU-WEST", "elsewhere"} {
		if id, ok := table.Named(name); ok {
			t.Errorf("%q names region %d", name, id)
		}
	}
	if names := table.Names(SetOf(2, 0)); !slices.Equal(names, []string{"eu-west", "sa-east"}) {
		t.Errorf("names %v", names)
	}
}

func TestSet(t *testing.T) {
	for _, ids := range [][]ID{{}, {0}, {63}, {0, 5, 62, 63}} {
		s := SetOf(ids...)
		if got := slices.Collect(s.All()); s.Len() != len(ids) || !slices.Equal(got, ids) {
			t.Errorf("%v became %v", ids, got)
		}
		for id := range ID(Max) {
			if s.Has(id) != slices.Contains(ids, id) {
				t.Errorf("%v has %d: %v", ids, id, s.Has(id))
			}
		}
	}
	for _, n := range []int{0, 1, 63, Max} {
		if all := table(t, n).All(); all.Len() != n {
			t.Errorf("%d regions, %d in the set of all", n, all.Len())
		}
	}
}

// TestRegionOf compares with a look at every prefix.
func TestRegionOf(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		list := randomPrefixes(r)
		table := made(t, list)
		for _, addr := range probes(r, list) {
			want, announced := ID(0), false
			for i, region := range list {
				if slices.ContainsFunc(region.Prefixes, func(p netip.Prefix) bool { return p.Contains(addr) }) {
					want, announced = ID(i), true
				}
			}
			if got, ok := table.RegionOf(addr); ok != announced || got != want {
				t.Fatalf("%s is of region %d, %v, not %d, %v: %v", addr, got, ok, want, announced, list)
			}
			if mapped := netip.AddrFrom16(addr.As16()); addr.Is4() {
				if got, ok := table.RegionOf(mapped); ok != announced || got != want {
					t.Fatalf("%s is of region %d, %v, not %d, %v", mapped, got, ok, want, announced)
				}
			}
		}
	}
	if id, ok := table(t, 3).RegionOf(netip.Addr{}); ok {
		t.Errorf("no address is of region %d", id)
	}
}

// randomPrefixes returns up to eight regions with up to 40 prefixes that do not
// overlap, crowded so that many are neighbours.
func randomPrefixes(r *rand.Rand) []Region {
	list := make([]Region, 1+r.IntN(8))
	var all []netip.Prefix
	for i := range list {
		list[i].Name = fmt.Sprintf("r%d", i)
	}
	for range r.IntN(40) {
		addr := randomAddr(r)
		p := netip.PrefixFrom(addr, r.IntN(addr.BitLen()+1)).Masked()
		if !slices.ContainsFunc(all, p.Overlaps) {
			all = append(all, p)
			region := &list[r.IntN(len(list))]
			region.Prefixes = append(region.Prefixes, p)
		}
	}
	return list
}

// randomAddr differs from the others in its first and last octet alone.
func randomAddr(r *rand.Rand) netip.Addr {
	b := [16]byte{byte(r.Uint32()), 15: byte(r.Uint32())}
	if r.IntN(2) == 0 {
		return netip.AddrFrom4([4]byte{b[0], 3: b[15]})
	}
	return netip.AddrFrom16(b)
}

// probes returns random addresses and those on both sides of every border.
func probes(r *rand.Rand, list []Region) []netip.Addr {
	var addrs []netip.Addr
	for range 100 {
		addrs = append(addrs, randomAddr(r))
	}
	for _, region := range list {
		for _, p := range region.Prefixes {
			first, last := p.Addr(), p.Addr().AsSlice()
			for bit := p.Bits(); bit < p.Addr().BitLen(); bit++ {
				last[bit/8] |= 0x80 >> (bit % 8)
			}
			end, _ := netip.AddrFromSlice(last)
			for _, a := range []netip.Addr{first.Prev(), first, end, end.Next()} {
				if a.IsValid() {
					addrs = append(addrs, a)
				}
			}
		}
	}
	return addrs
}

// TestRank compares with distances by a formula of the test's own.
func TestRank(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		list := make([]Region, 1+r.IntN(12))
		for i := range list {
			// On a coarse grid, so that regions share places.
			list[i] = Region{Name: fmt.Sprintf("r%d", i), Location: geo.Point{Latitude: float64(r.IntN(5)*45 - 90), Longitude: float64(r.IntN(5)*72 - 144)}}
		}
		table := made(t, list)
		p := geo.Point{Latitude: r.Float64()*180 - 90, Longitude: r.Float64()*360 - 180}
		for _, depth := range []int{-1, 0, 1, 3, len(list), 100} {
			checkRank(t, list, p, min(max(depth, 0), len(list)), table.Rank(p, depth))
		}
	}
}

func checkRank(t *testing.T, list []Region, p geo.Point, depth int, got []ID) {
	t.Helper()
	sorted := slices.Sorted(slices.Values(got))
	for i := range list {
		if len(got) != len(list) || sorted[i] != ID(i) {
			t.Fatalf("%v does not list each of %d regions once", got, len(list))
		}
	}
	for i := 1; i < len(got); i++ {
		a, b := list[got[i-1]].Location, list[got[i]].Location
		gap := haversine(b, p) - haversine(a, p)
		switch {
		case i > depth: // both beyond the depth
			if got[i-1] > got[i] {
				t.Fatalf("beyond the depth of %d the order of %v is not the configured one", depth, got)
			}
		case gap < -1e-6:
			t.Fatalf("%v: %d is farther from %v than %d", got, got[i-1], p, got[i])
		case a == b && got[i-1] > got[i]:
			t.Fatalf("%v: %d and %d are in one place", got, got[i-1], got[i])
		}
	}
}

// haversine returns kilometres by way of the versed sine: hav x = (1 - cos x) / 2.
func haversine(a, b geo.Point) float64 {
	hav := func(degrees float64) float64 { return (1 - math.Cos(degrees*math.Pi/180)) / 2 }
	cos := func(degrees float64) float64 { return math.Cos(degrees * math.Pi / 180) }
	h := hav(b.Latitude-a.Latitude) + cos(a.Latitude)*cos(b.Latitude)*hav(b.Longitude-a.Longitude)
	return 2 * 6371.0088 * math.Atan2(math.Sqrt(h), math.Sqrt(max(0, 1-h)))
}

// Equal distances keep the configured order, also where the places differ.
func TestRankTies(t *testing.T) {
	at := func(latitude, longitude float64) geo.Point {
		return geo.Point{Latitude: latitude, Longitude: longitude}
	}
	for _, c := range []struct {
		places []geo.Point
		want   []ID
	}{
		{[]geo.Point{at(0, 10), at(0, -10), at(0, 10)}, []ID{0, 1, 2}},
		{[]geo.Point{at(0, 20), at(0, -10), at(0, 10)}, []ID{1, 2, 0}},
		{[]geo.Point{at(0, 180), at(0, -180), at(0, 179)}, []ID{2, 0, 1}},
	} {
		var list []Region
		for i, p := range c.places {
			list = append(list, Region{Name: fmt.Sprintf("r%d", i), Location: p})
		}
		if got := made(t, list).Rank(at(0, 0), 8); !slices.Equal(got, c.want) {
			t.Errorf("%v rank %v, not %v", c.places, got, c.want)
		}
	}
}

// BenchmarkRank is what each distinct record of a geo database costs.
func BenchmarkRank(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 1))
	point := func() geo.Point {
		return geo.Point{Latitude: random.Float64()*180 - 90, Longitude: random.Float64()*360 - 180}
	}
	for _, n := range []int{6, Max} {
		b.Run(fmt.Sprintf("regions=%d", n), func(b *testing.B) {
			var list []Region
			for i := range n {
				list = append(list, Region{Name: fmt.Sprintf("r%d", i), Location: point()})
			}
			table, err := New(list)
			if err != nil {
				b.Fatal(err)
			}
			points := make([]geo.Point, 1024)
			for i := range points {
				points[i] = point()
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				table.Rank(points[i%len(points)], 8)
			}
		})
	}
}
