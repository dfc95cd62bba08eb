package dnsserver

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"

	"nearside/zones"
)

// twin resolves by reading all records of the zone example. from top to bottom,
// in the words of RFC 1034 section 4.3.2, RFC 4592 and RFC 6672.
type twin struct {
	rrs   []dns.RR // with what stands at region labels at its owner, too
	world *world   // nil: nothing is steered
}

// records returns the RRset of a name and type; ANY is the lowest type, of those that
// are the same for everybody if there are any.
func (w *twin) records(name string, typ uint16) (set []dns.RR) {
	if typ == dns.TypeANY {
		typ = w.lowest(name)
	}
	for _, rr := range w.rrs {
		if dns.CanonicalName(rr.Header().Name) != name || rr.Header().Rrtype != typ {
			continue
		}
		if !slices.ContainsFunc(set, func(other dns.RR) bool { return canonicalText(other) == canonicalText(rr) }) {
			set = append(set, rr)
		}
	}
	return set
}

func (w *twin) lowest(name string) uint16 {
	static, any := uint16(math.MaxUint16), uint16(math.MaxUint16)
	for _, rr := range w.rrs {
		if dns.CanonicalName(rr.Header().Name) == name {
			any = min(any, rr.Header().Rrtype)
			if w.world.parts(name, rr.Header().Rrtype) == nil {
				static = min(static, rr.Header().Rrtype)
			}
		}
	}
	if static != math.MaxUint16 {
		return static
	}
	return any
}

func (w *twin) exists(name string) bool {
	return slices.ContainsFunc(w.rrs, func(rr dns.RR) bool { return dns.IsSubDomain(name, rr.Header().Name) })
}

// parents returns name and what is above it down from the apex.
func parents(name string) (list []string) {
	for i, end := 0, false; !end; i, end = dns.NextLabel(name, i) {
		if dns.IsSubDomain("example.", name[i:]) {
			list = append(list, name[i:])
		}
	}
	slices.Reverse(list)
	return list
}

// belowCut reports whether a name is delegated.
func (w *twin) belowCut(name string) bool {
	return slices.ContainsFunc(parents(name)[1:], func(n string) bool {
		return w.records(n, dns.TypeNS) != nil && !strings.HasPrefix(n, "*.")
	})
}

// source returns the name whose records answer for name: itself or a wildcard.
func (w *twin) source(name string) (string, bool) {
	if w.exists(name) {
		return name, true
	}
	encloser := "example."
	for _, n := range parents(name) {
		if w.exists(n) {
			encloser = n
		}
	}
	star := "*." + encloser
	return star, w.exists(star) && !strings.Contains("."+name, "._region.")
}

// owned returns records as if name owned them.
func owned(name string, set []dns.RR) (list []dns.RR) {
	for _, rr := range set {
		rr = dns.Copy(rr)
		rr.Header().Name = name
		list = append(list, rr)
	}
	return list
}

// resolve answers a question that is in lower case.
func (w *twin) resolve(name string, qtype uint16) *dns.Msg {
	m := &dns.Msg{MsgHdr: dns.MsgHdr{Authoritative: true}}
	seen := []string{}
	for {
		line := parents(name)
		for _, n := range line[1:] {
			if cut := w.records(n, dns.TypeNS); cut != nil && !strings.HasPrefix(n, "*.") && !(n == name && qtype == dns.TypeDS) {
				m.Authoritative = len(m.Answer) > 0
				m.Ns = cut
				m.Extra = w.additional(n, cut)
				return m
			}
		}
		next := ""
		for _, n := range line[:len(line)-1] {
			if dname := w.records(n, dns.TypeDNAME); dname != nil && next == "" {
				if !slices.ContainsFunc(m.Answer, func(rr dns.RR) bool { return canonicalText(rr) == canonicalText(dname[0]) }) {
					if len(seen) == maxChain {
						return m
					}
					m.Answer = append(m.Answer, dname...)
				}
				next = strings.TrimSuffix(name, n) + dname[0].(*dns.DNAME).Target
				if len(next)+1 > maxName { // there are no escapes in it; dns.IsDomainName takes up to 257
					m.Rcode = dns.RcodeYXDomain
					return m
				}
				if len(seen) == maxChain {
					return m
				}
				alias := &dns.CNAME{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: dname[0].Header().Ttl}, Target: next}
				m.Answer = append(m.Answer, alias)
				if qtype == dns.TypeCNAME {
					return m
				}
			}
		}
		if next == "" {
			source, found := w.source(name)
			set := w.records(source, qtype)
			alias := w.records(source, dns.TypeCNAME)
			some := true
			if found && set != nil {
				set, some = w.world.choose(source, set)
			} else if found && alias != nil && len(seen) < maxChain {
				alias, some = w.world.choose(source, alias)
			}
			switch {
			case !found:
				m.Rcode = dns.RcodeNameError
				m.Ns = w.negative(false)
				return m
			case !some:
				m.Ns = w.negative(true)
				return m
			case set != nil:
				m.Answer = append(m.Answer, owned(name, set)...)
				if qtype != dns.TypeANY {
					m.Extra = w.additional(name, set)
				}
				return m
			case alias == nil:
				m.Ns = w.negative(w.world.steers(source))
				return m
			case len(seen) == maxChain:
				return m
			}
			m.Answer = append(m.Answer, owned(name, alias)...)
			next = alias[0].(*dns.CNAME).Target
		}
		seen = append(seen, name)
		name = dns.CanonicalName(next)
		if !dns.IsSubDomain("example.", name) || slices.Contains(seen, name) {
			return m
		}
	}
}

// negative is the SOA record of NODATA and NXDOMAIN.
func (w *twin) negative(steered bool) []dns.RR {
	soa := dns.Copy(w.records("example.", dns.TypeSOA)[0]).(*dns.SOA)
	soa.Hdr.Ttl = min(soa.Hdr.Ttl, soa.Minttl)
	if steered {
		soa.Hdr.Ttl = min(soa.Hdr.Ttl, worldNegativeTTL)
	}
	return []dns.RR{soa}
}

// additional returns what the zone has of the names that records point at.
func (w *twin) additional(owner string, set []dns.RR) (list []dns.RR) {
	add := func(name string, types ...uint16) {
		if name = dns.CanonicalName(name); !dns.IsSubDomain("example.", name) {
			return
		}
		if set[0].Header().Rrtype != dns.TypeNS && w.belowCut(name) {
			return // glue is for referrals
		}
		source, _ := w.source(name)
		from, _ := w.source(owner)
		for _, typ := range types {
			if source == from && typ == set[0].Header().Rrtype {
				continue // the answer itself, or another name's by the same wildcard
			}
			if w.world.parts(source, typ) != nil {
				continue // whose would they be?
			}
			for _, rr := range owned(name, w.records(source, typ)) {
				if !slices.ContainsFunc(list, func(other dns.RR) bool { return canonicalText(other) == canonicalText(rr) }) {
					list = append(list, rr)
				}
			}
		}
	}
	for _, rr := range set {
		switch rr := rr.(type) {
		case *dns.NS:
			add(rr.Ns, dns.TypeA, dns.TypeAAAA)
		case *dns.MX:
			add(rr.Mx, dns.TypeA, dns.TypeAAAA)
		case *dns.SRV:
			add(rr.Target, dns.TypeA, dns.TypeAAAA)
		case *dns.NAPTR:
			if rr.Flags == "s" {
				add(rr.Replacement, dns.TypeSRV)
			}
		case *dns.HTTPS:
			target := rr.Target
			if target == "." {
				target = owner
			}
			add(target, dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS)
		}
	}
	return list
}

// canonicalText is a record as text in lower case: no data of the twin's zones
// has letters that count.
func canonicalText(rr dns.RR) string { return strings.ToLower(rr.String()) }

func canonicalSet(section []dns.RR) string {
	var lines []string
	for _, rr := range section {
		if rr.Header().Rrtype != dns.TypeOPT {
			lines = append(lines, canonicalText(rr))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// twinName draws from few labels, so that names meet, in letters of either case.
func twinName(random *rand.Rand) string {
	labels, name := []string{"a", "B", "*", "c"}, "example."
	if random.IntN(6) == 0 {
		name = strings.Repeat(strings.Repeat("x", 63)+".", random.IntN(4)) + name
	}
	for range random.IntN(5) {
		if label := labels[random.IntN(len(labels))]; len(label)+1+len(name)+1 <= maxName {
			name = label + "." + name
		}
	}
	return name
}

// near is one of the names, or one below it if there is such a name.
func near(random *rand.Rand, names []string) string {
	name := names[random.IntN(len(names))]
	label := []string{"", "b.", "c.a.", "*.", strings.Repeat("y", 63) + "."}[random.IntN(5)]
	if _, ok := dns.IsDomainName(label + name); !ok {
		return name
	}
	return label + name
}

// twinZone is a zone with what resolution tells apart, and its owners.
func twinZone(random *rand.Rand) (text string, owners []string) {
	var b strings.Builder
	b.WriteString("$TTL 60\nexample. SOA ns.a.example. h.invalid. 1 2 3 4 5\nexample. NS ns.invalid.\n")
	owners = []string{"a.Example."}
	for range 2 + random.IntN(14) {
		owner, target := twinName(random), twinName(random)
		if random.IntN(2) == 0 {
			target = near(random, owners)
		} else if random.IntN(3) == 0 {
			target = "ns.A.invalid."
		}
		owners = append(owners, owner)
		rdata := []string{"A 192.0.2.1", "A 192.0.2.2", "AAAA 2001:db8::1", "TXT x", "CNAME " + target, "CNAME " + target, "DNAME " + target, "NS " + target,
			"MX 1 " + target, "MX 2 " + target, "PTR " + target, "SRV 1 1 1 " + target, `NAPTR 1 1 "s" "x" "" ` + target, "HTTPS 0 " + target, "HTTPS 1 .", "DS 1 8 2 " + strings.Repeat("00", 32)}
		fmt.Fprintf(&b, "%s %s\n", owner, rdata[random.IntN(len(rdata))])
	}
	// What chance seldom makes: a long chain to somewhere, a delegation, a
	// redirection to long names, records that point at much the same.
	add := func(owner, rdata string) {
		owners = append(owners, owner)
		fmt.Fprintf(&b, "%s %s\n", owner, rdata)
	}
	switch random.IntN(4) {
	case 0:
		for i := range 12 + random.IntN(12) {
			add(fmt.Sprintf("k%d.example.", i), fmt.Sprintf("CNAME K%d.example.", i+1))
		}
	case 1:
		add("cut.example.", "NS ns.cut.example.")
		add("ns.cut.example.", "A 192.0.2.53")
		add("to.cut.a.example.", "CNAME "+near(random, []string{"cut.example."}))
	case 2:
		add("d.example.", "DNAME "+strings.Repeat(strings.Repeat("z", 63)+".", 3)+near(random, []string{"a.example.", "d.example."}))
	case 3:
		owners = append(owners, "m.example.")
		for i := range 4 {
			add("*.m.example.", fmt.Sprintf("MX %d %s", i, near(random, []string{"t.a.example.", "t.a.example.", "t.invalid."})))
		}
	}
	return b.String(), owners
}

// twins loads a zone into a responder and its twin. It returns nil if the zone
// breaks a rule.
func twins(t testing.TB, text string) (*bench, *twin) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "example.zone"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	store := zones.NewStore(zones.StoreConfig{Dir: dir, Log: zerolog.Nop()})
	view := store.Reload()
	if store.Status()[0].State != zones.StateOK {
		return nil, nil
	}
	b := &bench{r: newResponder(new(counts), new(atomic.Uint32), DefaultLimits, zerolog.Nop()), snapshot: Compile(view, nil, nil, Policy{ID: "ns1"})}
	w := new(twin)
	p := dns.NewZoneParser(strings.NewReader(text), "example.", "")
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		w.rrs = append(w.rrs, rr)
	}
	if p.Err() != nil {
		t.Fatal(p.Err())
	}
	return b, w
}

// TestTwin resolves the same in generated zones and their twins, and comes by
// every kind of answer.
func TestTwin(t *testing.T) {
	seen := make(map[string]int)
	for seed := range uint64(1000) {
		compareTwins(t, seed, seen)
	}
	for _, kind := range []string{"a zone", "answer", "chain", "CNAME of a DNAME", "NODATA", "NXDOMAIN", "YXDOMAIN", "referral", "referral behind a chain", "additional", "full chain"} {
		if seen[kind] < 20 {
			t.Errorf("%s came %d times only", kind, seen[kind])
		}
	}
}

func FuzzTwin(f *testing.F) {
	f.Add(uint64(1000))
	f.Fuzz(func(t *testing.T, seed uint64) { compareTwins(t, seed, make(map[string]int)) })
}

func compareTwins(t *testing.T, seed uint64, seen map[string]int) {
	types := []uint16{dns.TypeA, dns.TypeA, dns.TypeAAAA, dns.TypeTXT, dns.TypeCNAME, dns.TypeDNAME, dns.TypeNS, dns.TypeMX, dns.TypePTR, dns.TypeSRV, dns.TypeNAPTR, dns.TypeHTTPS, dns.TypeDS, dns.TypeANY}
	random := rand.New(rand.NewPCG(seed, 1))
	text, owners := twinZone(random)
	b, w := twins(t, text)
	if b == nil {
		return
	}
	seen["a zone"]++
	buf := make([]byte, wholeTCP)
	for range 50 {
		q := new(dns.Msg)
		name := twinName(random)
		if random.IntN(3) > 0 {
			name = near(random, owners)
		}
		q.SetQuestion(name, types[random.IntN(len(types))])
		q.RecursionDesired = false
		wire, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		n := b.r.respond(b.snapshot, buf, copy(buf, wire), netip.MustParseAddr("127.0.0.1"), true)
		got := new(dns.Msg)
		if err := got.Unpack(buf[:n]); err != nil {
			t.Fatalf("%v: %x in\n%s", err, buf[:n], text)
		}
		want := w.resolve(dns.CanonicalName(q.Question[0].Name), q.Question[0].Qtype)
		want.Response, want.Question = true, q.Question
		if got.Rcode != want.Rcode || got.Authoritative != want.Authoritative || canonicalSet(got.Answer) != canonicalSet(want.Answer) ||
			canonicalSet(got.Ns) != canonicalSet(want.Ns) || canonicalSet(got.Extra) != canonicalSet(want.Extra) {
			t.Fatalf("seed %d, %s %s: got\n%swant\n%sin\n%s", seed, q.Question[0].Name, dns.Type(q.Question[0].Qtype), inDigsWords(got), inDigsWords(want), text)
		}
		for _, kind := range kindsOf(want) {
			seen[kind]++
		}
	}
}

// kindsOf says what an answer is an example of.
func kindsOf(m *dns.Msg) []string {
	aliases, dnames, referral := 0, 0, false
	for _, rr := range slices.Concat(m.Answer, m.Ns) {
		switch rr.(type) {
		case *dns.CNAME:
			aliases++
		case *dns.DNAME:
			dnames++
		case *dns.SOA:
			referral = false
		case *dns.NS:
			referral = len(m.Ns) > 0
		}
	}
	var kinds []string
	for kind, is := range map[string]bool{
		"answer":                  len(m.Answer) > 0 && aliases == 0,
		"chain":                   aliases > 1,
		"full chain":              aliases == maxChain,
		"CNAME of a DNAME":        aliases > 0 && dnames > 0,
		"NODATA":                  m.Rcode == dns.RcodeSuccess && len(m.Ns) > 0 && !referral,
		"NXDOMAIN":                m.Rcode == dns.RcodeNameError,
		"YXDOMAIN":                m.Rcode == dns.RcodeYXDomain,
		"referral":                referral && len(m.Answer) == 0,
		"referral behind a chain": referral && aliases > 0,
		"additional":              len(m.Extra) > 0,
	} {
		if is {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}
