package geo

import (
	"encoding/binary"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/oschwald/maxminddb-golang/v2"

	"nearside/pace"
)

// byCountry classifies by country: 0 is unknown.
func byCountry(r Record) Class { return countryClass(r.Country) }

func countryClass(code string) Class {
	if code == "" {
		return 0
	}
	return Class(code[0]-'A')*26 + Class(code[1]-'A') + 1
}

// TestSampleAgainstTwin compares a map of a real database with what its
// networks say, read one by one.
func TestSampleAgainstTwin(t *testing.T) {
	path := testData(t, "dbip/dbip-city-sample.mmdb")
	db, err := Open(path, pace.Fast)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Compile(db, byCountry)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := maxminddb.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	v4, v6 := map[netip.Prefix]Class{}, map[netip.Prefix]Class{}
	for network := range reader.Networks() {
		var code string
		if err := network.DecodePath(&code, "country", "iso_code"); err != nil {
			t.Fatal(err)
		}
		if p := network.Prefix(); p.Addr().Is4() {
			v4[p] = countryClass(code)
		} else {
			v6[p] = countryClass(code)
		}
	}
	if len(v4) < 10000 || len(v6) < 10000 {
		t.Fatalf("%d and %d networks met", len(v4), len(v6))
	}
	newTwin(all4, v4, 0, special4).check(t, m)
	newTwin(all6, v6, 0, special6).check(t, m)
}

func TestBuiltin(t *testing.T) {
	db, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	if db.Name() != "DB-IP City Lite" || db.Built().Year() < 2026 || len(db.Digest()) != 64 {
		t.Errorf("%s of %s, digest %s", db.Name(), db.Built(), db.Digest())
	}
	var records []Record
	m, err := Compile(db, func(r Record) Class {
		if slices.Contains(records, r) {
			t.Errorf("%+v is classified twice", r)
		}
		records = append(records, r)
		return Class(len(records) - 1)
	})
	if err != nil {
		t.Fatal(err)
	}
	if records[0] != (Record{}) || len(records) < 500 {
		t.Errorf("%d records, the first %+v", len(records), records[0])
	}
	for a, want := range map[string]string{
		"8.8.8.8": "US", "193.0.6.139": "NL", "133.11.0.1": "JP", "200.160.2.3": "BR São Paulo",
		"2001:67c:2e8:22::c100:68b": "NL", "2a00:1450:4001::1": "DE", "10.0.0.1": "special", "2001:db8::1": "special", "::ffff:10.0.0.1": "special",
	} {
		class, _ := m.Lookup(netip.MustParseAddr(a))
		got := "special"
		if class != Special {
			got = records[class].Country + " " + records[class].Subdivision
			if !records[class].Located {
				t.Errorf("%s: no place", a)
			}
		}
		if !strings.HasPrefix(got, want[:2]) {
			t.Errorf("%s: %s, want %s", a, got, want)
		}
	}
}

// TestEdges looks up both ends of the ranges of a whole database, of one in
// eleven of the built-in one: the prefix must lie in the range, and the next
// wider one must not.
func TestEdges(t *testing.T) {
	for name, open := range databases() {
		db, err := open()
		if err != nil {
			t.Fatal(err)
		}
		classify := byRanking()
		m, err := Compile(db, classify)
		if err != nil {
			t.Fatal(err)
		}
		v4, v6, err := cut(db, classify, pace.New(pace.Fast))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for first, last := range stretches(v4, v6) {
			if n++; n%11 != 0 && name == "built-in" {
				continue
			}
			if first.Is4() != first.Prev().Is4() || last.Is4() != last.Next().Is4() {
				continue // next to the end of the space
			}
			for _, a := range []netip.Addr{first, last} {
				class, bits := m.Lookup(a)
				p := netip.PrefixFrom(a, bits).Masked()
				wider := netip.PrefixFrom(a, bits-1).Masked()
				inside := !p.Addr().Less(first) && !last.Less(lastOf(p))
				if widest := wider.Addr().Less(first) || last.Less(lastOf(wider)); !inside || !widest {
					t.Fatalf("%s: %s in %s-%s: a /%d", name, a, first, last, bits)
				}
				if _, is := db.source.(*mmdb); is && class != Special && class != classify(db.lookup(t, a)) {
					t.Fatalf("%s: %s: class %d, the database says %+v", name, a, class, db.lookup(t, a))
				}
			}
		}
		t.Logf("%s: %d ranges", name, n)
	}
}

// stretches yields the first and the last address of every range, but for the
// /64s of several classes.
func stretches(v4 *ranges[addr4], v6 *ranges[addr6]) iter.Seq2[netip.Addr, netip.Addr] {
	from4 := func(a uint32) netip.Addr { return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, a))) }
	from6 := func(hi, lo uint64) netip.Addr {
		return netip.AddrFrom16([16]byte(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, hi), lo)))
	}
	return func(yield func(first, last netip.Addr) bool) {
		s4 := &spans[addr4]{v4.starts, v4.classes}
		for i := range s4.starts.len() {
			if first, last := s4.bounds(i); !yield(from4(uint32(first)), from4(uint32(last))) {
				return
			}
		}
		s6 := new(table6).halve(v6, pace.New(pace.Fast))
		for i := range s6.starts.len() {
			first, last := s6.bounds(i)
			if s6.classes.at(i) != mixed && !yield(from6(first, 0), from6(last, 1<<64-1)) {
				return
			}
		}
	}
}

func TestSpecialBlocks(t *testing.T) {
	db, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	m, err := Compile(db, func(Record) Class { return 7 }) // no edges but those of the blocks
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range append(slices.Clone(special4), special6...) {
		for _, a := range []netip.Addr{p.Addr(), lastOf(p)} {
			if class, bits := m.Lookup(a); !a.Is4In6() && (class != Special || bits != p.Bits()) {
				t.Errorf("%s: class %d in a /%d, want special in a /%d", a, class, bits, p.Bits())
			}
		}
	}
	if class, bits := m.Lookup6(0, 0xffff<<32); class != Special || bits != 96 {
		t.Errorf("mapped addresses, as IPv6: class %d in a /%d", class, bits)
	}
	for _, a := range []string{"8.8.8.8", "64:ff9b::8.8.8.8", "2a00::", "::2"} {
		if class, _ := m.Lookup(netip.MustParseAddr(a)); class != 7 {
			t.Errorf("%s: class %d", a, class)
		}
	}
}

func TestClassOutOfRange(t *testing.T) {
	db, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []Class{Special, mixed, maxClasses} {
		if _, err := Compile(db, func(Record) Class { return c }); err == nil {
			t.Errorf("class %d was accepted", c)
		}
	}
	m, err := Compile(db, func(Record) Class { return maxClasses - 1 })
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"8.8.8.8", "2a00::", "64:ff9b::"} {
		if c, _ := m.Lookup(netip.MustParseAddr(a)); c != maxClasses-1 {
			t.Errorf("%s: class %d, want %d", a, c, maxClasses-1)
		}
	}
}

// TestWholeSpace looks up in tables of a single range.
func TestWholeSpace(t *testing.T) {
	t4, t6 := newTable4(newRanges(3, nil, bounds4), pace.New(pace.Fast)), newTable6(newRanges(3, nil, bounds6), pace.New(pace.Fast))
	for _, a := range []uint64{0, 1, 1<<32 - 1, 1<<64 - 1} {
		if c, bits := t4.lookup(addr4(a)); c != 3 || bits != 0 {
			t.Errorf("%x: class %d in a /%d", a, c, bits)
		}
		if c, bits := t6.lookup(a, a); c != 3 || bits != 0 {
			t.Errorf("%x: class %d in a /%d", a, c, bits)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	m := builtinMap(t)
	mapped := netip.MustParseAddr("::ffff:8.8.8.8")
	n := testing.AllocsPerRun(100, func() {
		m.Lookup4(0x08080808)
		m.Lookup6(0x2a00145040010000, 1)
		m.Lookup6(0, 1)
		m.Lookup(mapped)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func builtinMap(tb testing.TB) *Map {
	tb.Helper()
	db, err := Builtin()
	if err != nil {
		tb.Fatal(err)
	}
	m, err := Compile(db, byCountry)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// FuzzOpen feeds databases that are damaged; what passes must compile, and look
// up without harm.
func FuzzOpen(f *testing.F) {
	f.Add([]byte("\xab\xcd\xefMaxMind.com"))
	f.Add(smallDatabase())
	f.Fuzz(func(t *testing.T, content []byte) {
		db, err := parse(content, pace.New(pace.Fast))
		if err != nil {
			return
		}
		m, err := Compile(db, byCountry)
		if err != nil {
			return
		}
		checkSorted(t, m)
		m.Lookup4(0)
		m.Lookup4(1<<32 - 1)
		m.Lookup6(1<<64-1, 1<<64-1)
	})
}

// smallDatabase is a database of IPv4 with 0.0.0.0/1 in DE and 128.0.0.0/1 at
// 1, 2 (as text) in FR.
func smallDatabase() []byte {
	text := func(s string) string { return string(rune(2<<5|len(s))) + s }
	uint16 := func(b byte) string { return "\xa1" + string([]byte{b}) }
	var b strings.Builder
	first := "\xe1" + text("country_code") + text("DE")
	b.Write([]byte{0, 0, 1 + 16, 0, 0, byte(1 + 16 + len(first))}) // one node of two records
	b.WriteString(strings.Repeat("\x00", 16))
	b.WriteString(first)
	b.WriteString("\xe3" + text("country_code") + text("FR") + text("latitude") + text("1") + text("longitude") + text("2.0"))
	b.WriteString("\xab\xcd\xefMaxMind.com\xe7")
	b.WriteString(text("node_count") + uint16(1) + text("record_size") + uint16(24) + text("ip_version") + uint16(4))
	b.WriteString(text("binary_format_major_version") + uint16(2) + text("binary_format_minor_version") + uint16(0))
	b.WriteString(text("build_epoch") + "\x01\x02\x07" + text("database_type") + text("small"))
	return []byte(b.String())
}

func TestSmallDatabase(t *testing.T) {
	db, err := parse(smallDatabase(), pace.New(pace.Fast))
	if err != nil {
		t.Fatal(err)
	}
	germany, _ := Centre("DE", "")
	if got := db.lookup(t, netip.MustParseAddr("1.1.1.1")); got != (Record{"DE", "", germany, true}) {
		t.Errorf("%+v", got)
	}
	if got := db.lookup(t, netip.MustParseAddr("200.1.1.1")); got != (Record{"FR", "", Point{1, 2}, true}) {
		t.Errorf("%+v", got)
	}
	if db.Name() != "small" || db.Built().Unix() != 7 {
		t.Errorf("%s of %s", db.Name(), db.Built())
	}
	m, err := Compile(db, byCountry)
	if err != nil {
		t.Fatal(err)
	}
	if c, _ := m.Lookup6(0x2a00<<48, 0); c != 0 {
		t.Errorf("the family it lacks: class %d", c)
	}
}

// FuzzUnpack feeds ranges of the built-in format.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte{0, 1, 0x80, 0x02, 0}, []byte{5, 1})
	f.Add([]byte{0x80}, []byte{0, 2})
	f.Fuzz(func(t *testing.T, v4, v6 []byte) {
		p := &packed{v4: v4, v6: v6, list: []Record{{}, {Country: "DE"}, {Country: "FR"}}}
		m, err := Compile(&Database{source: p}, byCountry)
		if err != nil {
			return
		}
		checkSorted(t, m)
	})
}

// checkSorted makes sure of what a search relies on: in a stretch, starts ascend, none
// twice, and the words of the stretches are all there are.
func checkSorted(tb testing.TB, m *Map) {
	tb.Helper()
	checkTable(tb, &m.v4)
	checkTable(tb, &m.v6.global)
}

func checkTable[W word](tb testing.TB, t *table[W]) {
	tb.Helper()
	at := 1
	for n, e := range t.index {
		if e&whole != 0 {
			continue
		}
		if int(e) != at {
			tb.Fatalf("stretch %d is at word %d, not behind the one before, at %d", n, e, at)
		}
		others := int(t.words[at] >> t.upper)
		if others == 0 {
			tb.Fatalf("stretch %d is whole, and has words", n)
		}
		start := W(0)
		for _, w := range t.words[at+1:][:others] {
			if w>>t.upper <= start {
				tb.Fatalf("stretch %d has a range at %x behind that at %x", n, w>>t.upper, start)
			}
			start = w >> t.upper
		}
		at += 1 + others
	}
	if at != len(t.words) {
		tb.Fatalf("%d words, %d used", len(t.words), at)
	}
}

func TestUnpackRefuses(t *testing.T) {
	for name, b := range map[string][]byte{
		"cut in a step":    {0x80},
		"cut before class": {1},
		"no such class":    {0, 9},
		"twice one start":  {0, 1, 0, 0},
		"beyond the end":   {0xff, 0xff, 0xff, 0xff, 0x1f, 1},
		"overflow":         {5, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0},
	} {
		p := &packed{v4: b, list: []Record{{}, {}}}
		if _, err := Compile(&Database{source: p}, byCountry); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
