package zones

import (
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// zoneOf loads text behind the records that every zone needs.
func zoneOf(t testing.TB, text string) *Zone {
	t.Helper()
	z, faults := loadText(goodHead+text, testSteering())
	if z == nil {
		t.Fatal(faults)
	}
	return z
}

// answer is what a lookup finds, one record a line: "TTL TYPE RDATA", behind
// the region's name if it is steered.
func answer(t testing.TB, z *Zone, name string, typ uint16) string {
	t.Helper()
	qname := wireName(t, name)
	set := z.Lookup(qname, typ).Set
	if !set.Steered() {
		return recordText(t, "", recordsOf(qname, set))
	}
	var b strings.Builder
	for left := set.Regions; left != 0; left &= left - 1 {
		region := uint8(bits.TrailingZeros64(left))
		b.WriteString(recordText(t, testSteering().Name(region)+" ", recordsOf(qname, partOf(z, set, region))))
	}
	return b.String()
}

// partOf is the records of one region of a steered RRset.
func partOf(z *Zone, set RRset, region uint8) RRset {
	z.Narrow(&set, region)
	return set
}

func recordText(t testing.TB, prefix string, records []string) string {
	t.Helper()
	var b strings.Builder
	for _, record := range records {
		rr, _, err := dns.UnpackRR([]byte("\x00"+record), 0)
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Split(rr.String(), "\t") // owner, TTL, class, type, RDATA
		fmt.Fprintf(&b, "%s%s %s %s\n", prefix, fields[1], fields[3], fields[4])
	}
	return b.String()
}

// TestMeaning: what is written in a master file, and what it says.
func TestMeaning(t *testing.T) {
	for _, c := range []struct {
		title, text, name string
		typ               uint16
		want              string
	}{
		{"parentheses", "www TXT ( \"a b\" ; one\n   c )", "www", dns.TypeTXT, `60 TXT "a b" "c"`},
		{"no newline at the end", "www A 192.0.2.1", "www", dns.TypeA, "60 A 192.0.2.1"},
		{"CR LF", "www A 192.0.2.1 \r\n\r\n A 192.0.2.2\r\n", "www", dns.TypeA, "60 A 192.0.2.1\n60 A 192.0.2.2"},
		{"no owner", "www A 192.0.2.1\n\n\t; nothing\n A 192.0.2.2", "www", dns.TypeA, "60 A 192.0.2.1\n60 A 192.0.2.2"},
		{"TTL units, TTL first", "www 1h30m IN A 192.0.2.1", "www", dns.TypeA, "5400 A 192.0.2.1"},
		{"class first", "www IN 5 A 192.0.2.1", "www", dns.TypeA, "5 A 192.0.2.1"},
		{"$TTL holds from there on", "a TXT x\n$TTL 7\nb TXT x", "b", dns.TypeTXT, `7 TXT "x"`},
		{"$ORIGIN, relative", "$ORIGIN deep\nwww A 192.0.2.1", "www.deep", dns.TypeA, "60 A 192.0.2.1"},
		{"upper case", "WWW a 192.0.2.1", "www", dns.TypeA, "60 A 192.0.2.1"},
		{"case of RDATA", "www CNAME Mixed.Case.", "www", dns.TypeCNAME, "60 CNAME Mixed.Case."},
		{"an escaped dot", `a\.b TXT x`, `a\.b`, dns.TypeTXT, `60 TXT "x"`},
		{"a decimal escape", `\087ww TXT x`, "www", dns.TypeTXT, `60 TXT "x"`},
		{"a semicolon in quotes", `www TXT "v=1; (x)"`, "www", dns.TypeTXT, `60 TXT "v=1; (x)"`},
		{"an unknown type", `www TYPE65280 \# 2 abcd`, "www", 65280, `60 TYPE65280 \# 2 abcd`},
		{"a known type in generic form", `www A \# 4 c0000201`, "www", dns.TypeA, "60 A 192.0.2.1"},
		{"$GENERATE", "$TTL 9\n$GENERATE 1-9/4 h$ A 192.0.2.${1}", "h5", dns.TypeA, "9 A 192.0.2.6"},
		{"a wildcard", "*.live TXT x", "a.b.live", dns.TypeTXT, `60 TXT "x"`},
		{"duplicates but for letters", "www MX 1 Host\nwww MX 1 hOST\nwww MX 2 host", "www", dns.TypeMX, "60 MX 1 Host.example.\n60 MX 2 host.example."},
		{"duplicates", "www A 192.0.2.1\nWWW A 192.0.2.1", "www", dns.TypeA, "60 A 192.0.2.1"},
	} {
		z := zoneOf(t, c.text)
		if got := strings.TrimSpace(answer(t, z, c.name+".example.", c.typ)); got != c.want {
			t.Errorf("%s: got %q, want %q", c.title, got, c.want)
		}
	}
}

const steered = `play A 192.0.2.10
play A 198.51.100.10
play A 203.0.113.10
play 20 AAAA 2001:db8:1::10
play TXT x
svc HTTPS 1 . alpn=h2 ipv4hint=192.0.2.1
svc HTTPS 1 . alpn=h2 ipv4hint=198.51.100.10
svc A 192.0.2.1
svc A 198.51.100.10
all A 192.0.2.1
all A 198.51.100.1
all HTTPS 1 .
one A 192.0.2.1
one A 192.0.2.2
static.play A 192.0.2.1
static.play A 198.51.100.1
casino A 192.0.2.10
casino A 198.51.100.10
sub NS ns
ns A 198.51.100.53
us._region.mail MX 10 b
eu._region.mail MX 10 a
mail TXT static
eu._region.*.live CNAME eu.balancer.test.
us._region.*.live CNAME us.balancer.test.
`

// TestSteering: addresses and labels go to the regions they belong to, and TTLs
// are capped at what their service says.
func TestSteering(t *testing.T) {
	z := zoneOf(t, steered)
	for _, c := range []struct {
		name string
		typ  uint16
		want string
	}{
		{"play", dns.TypeA, "eu 30 A 192.0.2.10\nus 30 A 198.51.100.10\nap 30 A 203.0.113.10\n"},
		{"play", dns.TypeAAAA, "eu 20 AAAA 2001:db8:1::10\n"},
		{"play", dns.TypeTXT, "60 TXT \"x\"\n"},
		{"svc", dns.TypeHTTPS, "eu 30 HTTPS 1 . alpn=\"h2\" ipv4hint=\"192.0.2.1\"\nus 30 HTTPS 1 . alpn=\"h2\" ipv4hint=\"198.51.100.10\"\n"},
		{"all", dns.TypeHTTPS, "60 HTTPS 1 .\n"},
		{"ns", dns.TypeA, "60 A 192.0.2.53\n60 A 198.51.100.53\n"},
		{"one", dns.TypeA, "60 A 192.0.2.1\n60 A 192.0.2.2\n"},
		{"static.play", dns.TypeA, "60 A 192.0.2.1\n60 A 198.51.100.1\n"},
		{"mail", dns.TypeMX, "eu 30 MX 10 a.example.\nus 30 MX 10 b.example.\n"},
		{"mail", dns.TypeTXT, "60 TXT \"static\"\n"},
		{"eu._region.mail", dns.TypeMX, "60 MX 10 a.example.\n"},
		{"x.live", dns.TypeCNAME, "eu 30 CNAME eu.balancer.test.\nus 30 CNAME us.balancer.test.\n"},
		{"casino", dns.TypeA, "eu 7 A 192.0.2.10\nus 7 A 198.51.100.10\n"},
		{"x.live", dns.TypeA, "eu 30 CNAME eu.balancer.test.\nus 30 CNAME us.balancer.test.\n"},
		{"ap._region.x.live", dns.TypeCNAME, ""},
	} {
		if got := answer(t, z, c.name+".example.", c.typ); got != c.want {
			t.Errorf("%s %s: got %q, want %q", c.name, dns.Type(c.typ), got, c.want)
		}
	}
	if want := []string{"*.live.example.", "all.example.", "casino.example.", "mail.example.", "play.example.", "svc.example."}; !slices.Equal(z.steered, want) {
		t.Errorf("steered %q, want %q", z.steered, want)
	}
	if want := []OneRegion{{"one.example.", "eu"}}; !slices.Equal(z.single, want) {
		t.Errorf("in one region %q, want %q", z.single, want)
	}
}

// TestApex: the parts of the SOA record that every negative answer needs.
func TestApex(t *testing.T) {
	z := zoneOf(t, "")
	if z.Origin() != "example." || z.Serial() != 1 || z.Records() != 3 || z.Failed() {
		t.Errorf("zone %s, serial %d, %d records, failed %t", z.Origin(), z.Serial(), z.Records(), z.Failed())
	}
	if got, want := recordText(t, "", recordsOf(z.apex, *z.Negative())), "5 SOA ns.invalid. hostmaster.example. 1 2 3 4 5\n"; got != want {
		t.Errorf("negative answer %q, want %q", got, want)
	}
}

// TestAdditional: what names in the zone have comes along, for NS records glue,
// too; steered records never. Glue below its cut comes first and is required.
func TestAdditional(t *testing.T) {
	z := zoneOf(t, steered+`child NS ns
child NS NS.child
child NS ns.child
ns.child A 192.0.2.1
ns.child AAAA 2001:db8::1
mx MX 1 play
mx MX 2 one
mx MX 3 x.wild
mx MX 4 y.wild
mx MX 5 X.wild
*.wild AAAA 2001:db8::2
srv SRV 1 1 1 ns
srv SRV 2 1 1 .
naptr NAPTR 1 1 "s" "sip" "" srv
naptr NAPTR 1 1 "A" "sip" "" ns
naptr NAPTR 1 1 "u" "sip" "!x!y!" one
https HTTPS 1 .
https HTTPS 2 svcb
https A 10.0.0.1
svcb SVCB 0 https
svcb SVCB 0 ns
svcb HTTPS 1 x.invalid.
*.star HTTPS 1 .
*.star A 10.0.0.2
`)
	for _, c := range []struct {
		name string
		typ  uint16
		want string
	}{
		{"www.child", dns.TypeA, `required NS.child 60 A 192.0.2.1
required NS.child 60 AAAA 2001:db8::1
ns 60 A 192.0.2.53
ns 60 A 198.51.100.53
`},
		{"mx", dns.TypeMX, "one 60 A 192.0.2.1\none 60 A 192.0.2.2\nx.wild 60 AAAA 2001:db8::2\ny.wild 60 AAAA 2001:db8::2\n"},
		{"srv", dns.TypeSRV, "ns 60 A 192.0.2.53\nns 60 A 198.51.100.53\n"},
		{"naptr", dns.TypeNAPTR, "srv 60 SRV 1 1 1 ns.example.\nsrv 60 SRV 2 1 1 .\nns 60 A 192.0.2.53\nns 60 A 198.51.100.53\n"},
		{"https", dns.TypeHTTPS, "the owner 60 A 10.0.0.1\nsvcb 60 HTTPS 1 x.invalid.\n"},
		{"svcb", dns.TypeSVCB, "https 60 A 10.0.0.1\nns 60 A 192.0.2.53\nns 60 A 198.51.100.53\n"},
		{"longer.than.the.wildcard.star", dns.TypeHTTPS, "the owner 60 A 10.0.0.2\n"},
		{"all", dns.TypeHTTPS, ""},
	} {
		qname := wireName(t, c.name+".example.")
		set := z.Lookup(qname, c.typ).Set
		var got strings.Builder
		for i := range z.Beside(&set) {
			a := z.Additional(&set, i)
			prefix := "the owner "
			if a.Target >= 0 {
				// From there on a message has the name, as its records have it.
				msg := slices.Concat(make([]byte, header), qname[len(qname)-int(set.OwnerLength):], make([]byte, question), set.Wire)
				name, _, err := dns.UnpackDomainName(msg, header+int(set.OwnerLength)+question+a.Target)
				if err != nil {
					t.Fatal(err)
				}
				prefix = strings.TrimSuffix(name, ".example.") + " "
			}
			if a.Required {
				prefix = "required " + prefix
			}
			got.WriteString(recordText(t, prefix, recordsIn(nil, a.Set.Wire)))
		}
		if got.String() != c.want {
			t.Errorf("%s: got\n%swant\n%s", c.name, got.String(), c.want)
		}
	}
}

// TestNoAllocations: whatever is asked, a lookup leaves nothing to collect.
func TestNoAllocations(t *testing.T) {
	z := zoneOf(t, steered+"*.wild TXT x\nalias CNAME play\nredirect DNAME invalid.\nchild NS ns.child\nns.child A 192.0.2.1\n")
	view := newView([]*Zone{z})
	outcomes := make(map[Outcome]bool)
	for _, name := range []string{"", "play.", "mail.", "alias.", "a.wild.", "wild.", "no.", "deep.below.nothing.", "a.redirect.", "www.child.", "child.", "a.live."} {
		qname := wireName(t, name+"example.")
		if allocs := testing.AllocsPerRun(100, func() {
			z, _ := view.Find(qname)
			for _, qtype := range []uint16{dns.TypeA, dns.TypeMX, dns.TypeNS, dns.TypeANY} {
				r := z.Lookup(qname, qtype)
				z.Narrow(&r.Set, 1)
				for i := range z.Beside(&r.Set) {
					z.Additional(&r.Set, i)
				}
			}
		}); allocs != 0 {
			t.Errorf("%s: %v allocations", name, allocs)
		}
		outcomes[z.Lookup(qname, dns.TypeA).Outcome] = true
	}
	if len(outcomes) != int(Redirect)+1 {
		t.Errorf("only the outcomes %v were tried", outcomes)
	}
}

// bigZone has n records.
func bigZone(n int) string {
	var b strings.Builder
	b.WriteString(goodHead)
	for i := range n {
		fmt.Fprintf(&b, "host%d A 10.%d.%d.%d\n", i, i>>16, i>>8&255, i&255)
	}
	return b.String()
}

// BenchmarkLoad loads 1,000,000 records: 500,000 names with an IPv4 and an IPv6
// address each.
func BenchmarkLoad(b *testing.B) {
	const names = 500_000
	text := []byte(goodHead)
	for i := range names {
		text = fmt.Appendf(text, "host%06d IN A 10.%d.%d.%d\nhost%06d IN AAAA 2001:db8::%x:%x\n", i, i>>16, i>>8&255, i&255, i, i>>16, i&0xffff)
	}
	file := filepath.Join(b.TempDir(), "example.zone")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if z, faults := LoadFile(file, "example", Steering{}); z == nil {
			b.Fatal(faults)
		}
	}
	b.ReportMetric(float64(2*names*b.N)/b.Elapsed().Seconds(), "records/s")
}

func BenchmarkLookup(b *testing.B) {
	z, faults := loadText(bigZone(100_000)+steered, testSteering())
	if z == nil {
		b.Fatal(faults)
	}
	for _, name := range []string{"host4711", "play", "a.live", "deep.below.nothing"} {
		qname := wireName(b, name+".example.")
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				z.Lookup(qname, dns.TypeA)
			}
		})
	}
}
