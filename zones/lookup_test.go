package zones

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// memory is a source that holds one zone file.
type memory string

func (m memory) read(string) ([]byte, error) { return []byte(m), nil }

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

func (w twin) records(owner string, typ uint16) (n int) {
	for _, rr := range w {
		if rr.Header().Name == owner && (rr.Header().Rrtype == typ || typ == dns.TypeANY) {
			n++
		}
	}
	return n
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

func (w twin) lookup(name string, typ uint16) (outcome Outcome, owner string, count int, wildcard bool) {
	line := above(name)
	for _, n := range line[1:] {
		if w.records(n, dns.TypeNS) > 0 && !strings.HasPrefix(n, "*.") && !(n == name && typ == dns.TypeDS) {
			return Referral, n, w.records(n, dns.TypeNS), false
		}
	}
	for _, n := range line[:len(line)-1] {
		if w.records(n, dns.TypeDNAME) > 0 && !strings.HasPrefix(n, "*.") {
			return Redirect, n, 1, false
		}
	}
	source := name
	if !w.exists(name) {
		encloser := line[0]
		for _, n := range line {
			if w.exists(n) {
				encloser = n
			}
		}
		source, wildcard = "*."+encloser, true
		if !w.exists(source) || strings.Contains(name, "_region.") {
			return NXDomain, name, 0, false
		}
	}
	if n := w.records(source, typ); n > 0 {
		return Answer, name, n, wildcard
	}
	if n := w.records(source, dns.TypeCNAME); n > 0 {
		return Alias, name, n, wildcard
	}
	return NoData, name, 0, wildcard
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
	types := []uint16{dns.TypeA, dns.TypeTXT, dns.TypeCNAME, dns.TypeNS, dns.TypeDS, dns.TypeDNAME}
	seen := make(map[Outcome]int)
	zones := 0
	for range 6000 {
		text := randomZone(r)
		z, _ := loadText(text, Steering{})
		if z == nil {
			continue // it breaks a rule: TestBadZones
		}
		zones++
		var unique []string
		for line := range strings.Lines(text) {
			if !slices.Contains(unique, line) {
				unique = append(unique, line)
			}
		}
		w := newTwin(t, strings.Join(unique, ""))
		for range 20 {
			name, typ := randomName(r), types[r.IntN(len(types))]
			got := z.Lookup(wireName(t, name), typ)
			outcome, owner, count, wildcard := w.lookup(name, typ)
			seen[outcome]++
			if got.Outcome != outcome || got.Owner != len(wireName(t, owner)) || int(got.Set.Count) != count || got.Wildcard != wildcard {
				t.Fatalf("%s %s: got %+v, want outcome %d, owner %s, %d records, wildcard %t in\n%s", name, dns.Type(typ), got, outcome, owner, count, wildcard, text)
			}
		}
	}
	for o := Answer; o <= Redirect; o++ {
		if seen[o] < 100 {
			t.Errorf("outcome %d came %d times only, in %d zones", o, seen[o], zones)
		}
	}
}
