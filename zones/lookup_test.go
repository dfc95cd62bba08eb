package zones

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// memory is a source that holds one zone file.
type memory string

func (m memory) read(string) (text, error) { return strings.NewReader(string(m)), nil }

// loadText loads the zone example. from text.
func loadText(text string, st Steering) (*Zone, []Fault) {
	return job{source: memory(text), name: "example.zone", origin: []byte("\x07example\x00"), fixed: true, steering: st}.load()
}

// twin answers by reading all the records of a zone from top to bottom, in the
// words of RFC 1034 section 4.3.2 and RFC 4592.
type twin []dns.RR

func newTwin(t *testing.T, text string) twin {
	var list twin
	p := dns.NewZoneParser(strings.NewReader(text), "example.", "")
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		list = append(list, rr)
	}
	if p.Err() != nil {
		t.Fatal(p.Err())
	}
	return list
}

// records returns the RRset of an owner and type without the owner, sorted. A
// query for ANY gets the RRset of the lowest type.
func (w twin) records(owner string, typ uint16) []string {
	var list []string
	for _, rr := range w {
		if rr.Header().Name == owner && (rr.Header().Rrtype == typ || typ == dns.TypeANY) {
			list = append(list, recordOf(rr))
		}
	}
	slices.Sort(list)
	if typ == dns.TypeANY && len(list) > 0 {
		lowest := list[0][:2]
		list = slices.DeleteFunc(list, func(r string) bool { return r[:2] != lowest })
	}
	return slices.Compact(list)
}

// recordOf is a record as in RRset.Wire, without its owner.
func recordOf(rr dns.RR) string {
	rr = dns.Copy(rr)
	rr.Header().Name = "."
	room := make([]byte, dns.Len(rr))
	if _, err := dns.PackRR(rr, room, 0, nil, false); err != nil {
		panic(err)
	}
	return string(room[1:])
}

// recordsOf returns the records of an RRset that a lookup of qname found.
func recordsOf(qname []byte, s RRset) []string {
	return recordsIn(qname[len(qname)-int(s.OwnerLength):], s.Wire) // where "*" is a longer label, nothing points
}

func (w twin) exists(name string) bool {
	return slices.ContainsFunc(w, func(rr dns.RR) bool { return dns.IsSubDomain(name, rr.Header().Name) })
}

// above returns name and what is above it up to the apex, the apex first.
func above(name string) []string {
	var list []string
	for i, end := 0, false; !end; i, end = dns.NextLabel(name, i) {
		if dns.IsSubDomain("example.", name[i:]) {
			list = append(list, name[i:])
		}
	}
	slices.Reverse(list)
	return list
}

// found is what a lookup says.
type found struct {
	outcome  Outcome
	owner    string
	records  []string
	wildcard bool
}

func (w twin) lookup(name string, typ uint16) found {
	line := above(name)
	for _, n := range line[1:] {
		if cut := w.records(n, dns.TypeNS); cut != nil && !strings.HasPrefix(n, "*.") && !(n == name && typ == dns.TypeDS) {
			return found{Referral, n, cut, false}
		}
	}
	for _, n := range line[:len(line)-1] {
		if redirect := w.records(n, dns.TypeDNAME); redirect != nil {
			return found{Redirect, n, redirect, false}
		}
	}
	source, wildcard := name, false
	if !w.exists(name) {
		encloser := line[0]
		for _, n := range line {
			if w.exists(n) {
				encloser = n
			}
		}
		source, wildcard = "*."+encloser, true
		if !w.exists(source) || strings.Contains(name, "_region.") {
			return found{NXDomain, name, nil, false}
		}
	}
	if set := w.records(source, typ); set != nil {
		return found{Answer, name, set, wildcard}
	}
	if alias := w.records(source, dns.TypeCNAME); alias != nil {
		return found{Alias, name, alias, wildcard}
	}
	return found{NoData, name, nil, wildcard}
}

// randomName draws from few labels, so that names meet.
func randomName(r *rand.Rand) string {
	labels := []string{"a", "b", "*", "_region", "c"}
	name := "example."
	for range r.IntN(4) {
		name = labels[r.IntN(len(labels))] + "." + name
	}
	return name
}

// randomZone has names of all the kinds that lookups tell apart.
func randomZone(r *rand.Rand) string {
	rdata := []string{"A 192.0.2.1", "A 192.0.2.2", "TXT x", "AAAA 2001:db8::1", "CNAME x.invalid.", "DNAME y.invalid.", "NS ns.invalid.", "DS 1 8 2 00"}
	var b strings.Builder
	b.WriteString("$TTL 60\nexample. SOA ns.invalid. h.invalid. 1 2 3 4 5\nexample. NS ns.invalid.\n")
	for range 1 + r.IntN(7) {
		fmt.Fprintf(&b, "%s %s\n", randomName(r), rdata[r.IntN(len(rdata))])
	}
	return b.String()
}

func TestLookupAgainstTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	types := []uint16{dns.TypeA, dns.TypeTXT, dns.TypeCNAME, dns.TypeNS, dns.TypeDS, dns.TypeDNAME, dns.TypeANY}
	type kind struct {
		outcome  Outcome
		wildcard bool
	}
	seen := make(map[kind]int)
	for range 3000 {
		text := randomZone(r)
		z, _ := loadText(text, Steering{})
		if z == nil {
			continue // it breaks a rule: TestBadZones
		}
		verify(t, z)
		w := newTwin(t, text)
		for range 20 {
			name, typ := randomName(r), types[r.IntN(len(types))]
			want, res := w.lookup(name, typ), z.Lookup(wireName(t, name), typ)
			got := found{res.Outcome, name[len(name)+1-res.Owner:], recordsOf(wireName(t, name), res.Set), res.Wildcard}
			slices.Sort(got.records)
			if !reflect.DeepEqual(got, want) || int(res.Set.Count) != len(want.records) {
				t.Fatalf("%s %s: got %+v, want %+v in\n%s", name, dns.Type(typ), got, want, text)
			}
			seen[kind{want.outcome, want.wildcard}]++
		}
	}
	for _, k := range []kind{{Answer, false}, {Answer, true}, {Alias, false}, {Alias, true}, {NoData, false}, {NoData, true}, {NXDomain, false}, {Referral, false}, {Redirect, false}} {
		if seen[k] < 100 {
			t.Errorf("%+v came %d times only", k, seen[k])
		}
	}
}

// TestFindAgainstTwin: the deepest of random zones that hold a name is found.
func TestFindAgainstTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		origins := make(map[string]bool)
		for range r.IntN(6) {
			origins[[]string{".", randomName(r), randomName(r)}[r.IntN(3)]] = true
		}
		var zones []*Zone
		for _, origin := range slices.Sorted(maps.Keys(origins)) {
			wire := wireName(t, origin)
			zones = append(zones, &Zone{origin: nameText(wire), apex: wire})
		}
		view, name := newView(zones), randomName(r)
		want := -1
		for i, z := range zones {
			if dns.IsSubDomain(z.origin, name) && (want < 0 || len(z.origin) > len(zones[want].origin)) {
				want = i
			}
		}
		if _, got := view.Find(wireName(t, name)); got != want {
			t.Fatalf("%s: zone %d, want %d of %q", name, got, want, view.Origins())
		}
	}
}

// TestSteeringAgainstTwin: the parts of a steered RRset are the addresses in
// each region; a name with addresses in one region, or in none, is plain.
func TestSteeringAgainstTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	st := testSteering()
	prefixes := []string{"192.0.2.", "198.51.100.", "203.0.113."}
	name := wireName(t, "play.example.")
	for range 500 {
		text, parts := goodHead, make(map[uint8][]string)
		for range 1 + r.IntN(5) {
			region := r.IntN(len(prefixes))
			address := fmt.Sprintf("%s%d", prefixes[region], 1+r.IntN(9))
			line := "play.example. A " + address + "\n"
			if !strings.Contains(text, line) {
				parts[uint8(region)] = append(parts[uint8(region)], address)
			}
			text += line
		}
		z, faults := loadText(text, st)
		if z == nil {
			t.Fatal(faults)
		}
		verify(t, z)
		got, want := z.Lookup(name, dns.TypeA), len(parts) > 1
		if got.Set.Steered() != want || got.Steered != want || slices.Contains(z.steered, "play.example.") != want || slices.ContainsFunc(z.single, func(s OneRegion) bool { return s.Name == "play.example." }) == want {
			t.Fatalf("steered: %+v, want %t in\n%s", got, want, text)
		}
		for region := range uint8(len(prefixes)) {
			if !want {
				continue
			}
			if p := partOf(z, got.Set, region); !slices.Equal(addresses(p.Wire), parts[region]) || int(p.Count) != len(parts[region]) {
				t.Fatalf("region %d: %q, want %q in\n%s", region, addresses(p.Wire), parts[region], text)
			}
		}
	}
}

// addresses reads the A records of a wire.
func addresses(wire []byte) []string {
	var list []string
	for _, record := range recordsIn(nil, wire) {
		address, _ := netip.AddrFromSlice([]byte(record[fixed-2:]))
		list = append(list, address.String())
	}
	return list
}

// A name is found, and none is that does not exist, where another one has its tag.
func TestOtherNameSought(t *testing.T) {
	z := zoneOf(t, "www A 192.0.2.1\nmail A 192.0.2.2\n")
	other := z.Seek(Hash(wireName(t, "mail.example.")))
	if other == 0 {
		t.Fatal("mail.example. is not found")
	}
	for _, name := range []string{"www.example.", "no.example."} {
		qname := wireName(t, name)
		var got Result
		z.LookupSought(qname, Hash(qname), other, dns.TypeA, &got)
		if want := z.Lookup(qname, dns.TypeA); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}
