package integration

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// generated is a random zone that NSD, Knot, BIND and nearside all load.
type generated struct {
	origin string
	path   string
	served map[string]bool // the apexes of all zones that are loaded beside it, itself among them

	random  *rand.Rand
	lines   []string
	owners  map[string]map[uint16]uint32 // lower-case name -> type -> TTL
	order   []string                     // the owners as they came: a seed must mean one zone
	closed  map[string]uint16            // cuts (NS) and redirects (DNAME): nothing of ours stands below
	targets []string                     // names that records point at
	cuts    []string
	numbers int
}

// generate makes a batch of zones: plain ones, a parent whose children and
// grandchildren are served too, one like a TLD, and in some batches a root.
func generate(random *rand.Rand, root bool) []*generated {
	served := map[string]bool{}
	var zones []*generated
	grow := func(origin string, features int, children ...string) *generated {
		z := newGenerated(random, origin, served)
		for _, name := range children {
			z.cutAt(name)
		}
		for range features {
			z.feature()
		}
		zones = append(zones, z)
		return z
	}
	plain := batchSize - 4
	if root {
		plain--
	}
	grow("redirected.test.", 0).redirectApex()
	for i := range plain {
		grow(fmt.Sprintf("z%d.%s", i, pick(random, "test.", "Example.", "a.b.c.example.")), 3+random.IntN(12))
	}
	tld := grow("tld.", 2, "child.tld.")
	for range 30 {
		tld.cut()
	}
	grow("child.tld.", 4, "x.grand.child.tld.")
	grow("x.grand.child.tld.", 6)
	if root {
		grow(".", 3, "tld.", "example.")
	}
	return zones
}

func newGenerated(random *rand.Rand, origin string, served map[string]bool) *generated {
	z := &generated{origin: dns.CanonicalName(origin), random: random, served: served,
		owners: map[string]map[uint16]uint32{}, closed: map[string]uint16{}}
	served[z.origin] = true
	z.add(origin, "SOA", fmt.Sprintf("ns.elsewhere.invalid. host\\.master.%s %d 7200 900 1209600 %d",
		dns.Fqdn("mail."+strings.TrimPrefix(origin, ".")), random.Uint32(), pick(random, 0, 60, 900, 86400)))
	z.add(origin, "NS", z.outside())
	for range random.IntN(3) {
		z.add(origin, "NS", z.host())
	}
	return z
}

// file is a file name for the zone.
func (z *generated) file() string {
	if z.origin == "." {
		return "root.zone"
	}
	return z.origin + "zone"
}

func (z *generated) save(t testing.TB, dir string) {
	z.path = dir + "/" + z.file()
	write(t, z.path, "$ORIGIN "+z.origin+"\n$TTL 3600\n"+strings.Join(z.lines, "\n")+"\n")
}

// add adds a record, unless the zone would no longer be one that all load. It
// reports whether it did.
func (z *generated) add(owner, typ, data string) bool {
	name, code := dns.CanonicalName(owner), typeCode(typ)
	if !z.may(name, code) || !fits(name) {
		return false
	}
	if z.owners[name] == nil {
		z.owners[name] = map[uint16]uint32{}
		z.order = append(z.order, name)
	}
	ttl, known := z.owners[name][code]
	if !known { // one TTL for the RRset (RFC 2181, 5.2)
		ttl = pick[uint32](z.random, 0, 1, 30, 300, 3600, 86400, 1<<31-1)
		z.owners[name][code] = ttl
	}
	line := fmt.Sprintf("%s %d IN %s %s", owner, ttl, typ, data)
	if !slices.Contains(z.lines, line) {
		z.lines = append(z.lines, line)
	}
	return true
}

// may says whether a type may stand at a name: nothing below a redirect, glue
// alone below a cut, nothing beside a CNAME.
func (z *generated) may(name string, code uint16) bool {
	for closed, by := range z.closed {
		glue := by == dns.TypeNS && (code == dns.TypeA || code == dns.TypeAAAA)
		atCut := by == dns.TypeNS && name == closed && (code == dns.TypeNS || code == dns.TypeDS)
		if dns.IsSubDomain(closed, name) && !glue && !atCut && (by == dns.TypeNS || name != closed) {
			return false
		}
	}
	types := z.owners[name]
	_, alias := types[dns.TypeCNAME]
	_, redirect := types[dns.TypeDNAME]
	switch code {
	case dns.TypeCNAME:
		return len(types) == 0
	case dns.TypeDNAME:
		return !alias && !redirect
	case dns.TypeNS:
		return !alias && !strings.HasPrefix(name, "*.") // BIND refuses a delegated wildcard (RFC 4592, 4.2)
	}
	return !alias
}

// fits reports whether a name is one (RFC 1035, 2.3.4).
func fits(name string) bool {
	_, err := dns.PackDomainName(name, make([]byte, 255), 0, nil, false)
	return err == nil
}

func typeCode(typ string) uint16 {
	if code, ok := dns.StringToType[typ]; ok {
		return code
	}
	var code uint16
	fmt.Sscanf(typ, "TYPE%d", &code)
	return code
}

func pick[T any](random *rand.Rand, from ...T) T { return from[random.IntN(len(from))] }

// under puts a label in front of a name, unless that is full.
func under(label, name string) string {
	below := label + "." + strings.TrimPrefix(name, ".")
	if !fits(below) {
		return name
	}
	return below
}

// label makes a label that the zone has not seen.
func (z *generated) label() string {
	z.numbers++
	return fmt.Sprintf(pick(z.random, "w%d", "W%dw", "host-%d", "_p%d", "%d", "e\\.%d", "\\000%d\\255", "*%d", "\\@%d"), z.numbers)
}

// place is a name of the zone at which more may grow.
func (z *generated) place() string {
	for range 4 {
		if name := pick(z.random, z.order...); z.may(under("x", name), dns.TypeTXT) {
			return pick(z.random, name, z.origin)
		}
	}
	return z.origin
}

// fresh is a name that is not in the zone.
func (z *generated) fresh() string { return under(z.label(), z.place()) }

// host is a new name with addresses.
func (z *generated) host() string {
	name := z.fresh()
	z.addresses(name)
	return z.noted(name)
}

func (z *generated) addresses(name string) {
	for range 1 + z.random.IntN(3) {
		if z.random.IntN(4) > 0 {
			z.add(name, "A", fmt.Sprintf("192.0.2.%d", z.random.IntN(256)))
		} else {
			z.add(name, "AAAA", fmt.Sprintf("2001:db8::%x", z.random.IntN(1<<16)))
		}
	}
	z.add(name, "A", "198.51.100.1")
}

// outside is a name in no zone that is served, the root aside.
func (z *generated) outside() string {
	name := fmt.Sprintf("n%d.elsewhere.invalid.", z.random.IntN(100))
	if z.origin == "." {
		z.addresses(name)
	}
	return name
}

// noted remembers a name to ask for.
func (z *generated) noted(name string) string {
	z.targets = append(z.targets, name)
	return name
}

// target is a name to point at: of the zone, missing in it, or outside.
func (z *generated) target() string {
	switch z.random.IntN(6) {
	case 0:
		return z.outside()
	case 1:
		return z.noted(under(z.label(), pick(z.random, z.order...)))
	case 2:
		return z.host()
	case 3:
		for _, name := range z.order {
			if strings.HasPrefix(name, "*.") && z.random.IntN(3) == 0 {
				return z.noted(under(pick(z.random, "match", "a.match"), name[2:]))
			}
		}
	}
	return z.recase(z.noted(pick(z.random, z.order...)))
}

// feature adds something that a server can get wrong.
func (z *generated) feature() {
	features := []func(){
		z.plain, z.plain, z.odd, z.emptyNonTerminals, z.wildcard, z.wildcard, z.wildcardAlias, z.belowWildcard,
		z.cut, z.cut, z.cut, z.siblings, z.chain, z.chain, z.loop, z.redirect, z.redirect, z.redirects, z.tooLong,
		z.pointers, z.pointers, z.big, z.big, z.long, z.apex,
	}
	pick(z.random, features...)()
}

func (z *generated) plain() {
	name := z.host()
	z.add(name, "TXT", `"plain" "text"`)
}

// odd adds a few of the types that nobody looks at.
func (z *generated) odd() {
	name := z.fresh()
	for range 1 + z.random.IntN(4) {
		r := pick(z.random, [][2]string{
			{"TYPE65280", `\# 4 0A000001`}, {"TYPE65281", `\# 0`}, {"CAA", `0 issue "ca.example"`}, {"HINFO", `"a" "b c"`},
			{"LOC", "52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m"}, {"SSHFP", "4 2 " + strings.Repeat("ab", 32)},
			{"TLSA", "3 1 1 " + strings.Repeat("cd", 32)}, {"URI", `10 1 "https://example/"`}, {"PTR", z.target()},
			{"RP", z.outside() + " " + z.outside()}, {"AFSDB", "1 " + z.target()}, {"CERT", "1 2 3 AAEC"},
			{"APL", "1:192.0.2.0/24 !2:2001:db8::/32"}, {"EUI48", "00-00-5e-00-53-2a"}, {"DS", "1 8 2 " + strings.Repeat("ef", 32)},
			{"OPENPGPKEY", "AAEC"}, {"TXT", `"a\"b\\\200" ""`}, {"SPF", `"v=spf1 -all"`}, {"DHCID", "AAEC"}, {"NAPTR", `1 1 "" "" "" .`},
		}...)
		z.add(name, r[0], r[1])
	}
}

func (z *generated) emptyNonTerminals() {
	z.addresses(under(z.label(), under("b", under("a", z.fresh()))))
}

func (z *generated) wildcard() {
	star := under("*", pick(z.random, z.place(), z.fresh()))
	z.addresses(star)
	z.add(star, "MX", "10 "+z.target())
	z.noted(under("match", star[2:]))
}

func (z *generated) wildcardAlias() {
	star := under("*", z.fresh())
	z.add(star, "CNAME", pick(z.random, z.target(), z.target(), under("deep", star[2:])))
	z.noted(under("match", star[2:]))
}

// belowWildcard makes names, cuts and redirects below an asterisk, which is an
// ordinary label there (RFC 4592, 2.1.3 and 4.2).
func (z *generated) belowWildcard() {
	star := under("*", z.fresh())
	if z.random.IntN(2) == 0 {
		z.add(star, "TXT", `"star"`)
	}
	switch name := under(z.label(), star); z.random.IntN(4) {
	case 0:
		z.addresses(name)
	case 1:
		z.cutAt(name)
	case 2:
		z.redirectAt(name, z.target())
	case 3:
		z.redirectAt(star, z.target())
	}
}

func (z *generated) cut() { z.cutAt(z.fresh()) }

// vacant reports whether nothing stands at or below a name.
func (z *generated) vacant(name string) bool {
	return !slices.ContainsFunc(z.order, func(n string) bool { return dns.IsSubDomain(name, n) })
}

// cutAt delegates a name, with all sorts of glue.
func (z *generated) cutAt(name string) {
	if !z.vacant(name) {
		return
	}
	var glue []string
	for i := range pick(z.random, 1, 2, 3, 13) {
		ns := z.outside()
		switch z.random.IntN(4) {
		case 0:
			ns = z.host()
		case 1, 2:
			ns = under(fmt.Sprintf("ns%d", i), pick(z.random, name, under("a.b", name)))
			glue = append(glue, ns)
		}
		if !z.add(name, "NS", ns) {
			return
		}
	}
	if z.random.IntN(2) == 0 {
		z.add(name, "DS", fmt.Sprintf("%d 8 2 %s", z.random.IntN(1<<16), strings.Repeat("01", 32)))
	}
	z.closed[dns.CanonicalName(name)] = dns.TypeNS
	z.cuts = append(z.cuts, dns.CanonicalName(name))
	for _, ns := range glue {
		z.addresses(ns)
	}
	z.noted(under("below", name))
}

// siblings are two cuts that are served by names of one another.
func (z *generated) siblings() {
	at := z.place()
	one, two := under(z.label(), at), under(z.label(), at)
	if !z.vacant(one) || !z.vacant(two) || !z.add(one, "NS", under("ns", two)) || !z.add(two, "NS", under("ns", one)) {
		return
	}
	z.add(two, "NS", under("ns", two))
	for _, name := range []string{one, two} {
		z.closed[dns.CanonicalName(name)] = dns.TypeNS
		z.cuts = append(z.cuts, dns.CanonicalName(name))
	}
	z.addresses(under("ns", one))
	z.addresses(under("ns", two))
}

// chain is a row of CNAME records, mostly five at most: so far all follow it.
func (z *generated) chain() {
	name := z.fresh()
	for range pick(z.random, 0, 1, 2, 3, 3, 4, 18) {
		next := z.fresh()
		z.add(name, "CNAME", next)
		name = next
	}
	z.add(name, "CNAME", z.target())
}

func (z *generated) loop() {
	first := z.fresh()
	name := first
	for range z.random.IntN(3) {
		next := z.fresh()
		z.add(name, "CNAME", next)
		name = next
	}
	z.add(name, "CNAME", first)
}

func (z *generated) redirect() { z.redirectAt(z.fresh(), z.target()) }

// redirectAt adds a DNAME, which may have others beside it but nothing below.
func (z *generated) redirectAt(name, target string) {
	name = dns.CanonicalName(name)
	if slices.ContainsFunc(z.order, func(n string) bool { return n != name && dns.IsSubDomain(name, n) }) || !z.add(name, "DNAME", target) {
		return
	}
	if z.random.IntN(2) == 0 {
		z.addresses(name)
	}
	z.closed[name] = dns.TypeDNAME
	z.noted(under("below", name))
	z.noted(under("match", name))
}

// redirects are two or three in a row, the last to hosts, or back.
func (z *generated) redirects() {
	first, second, last := z.fresh(), z.fresh(), z.fresh()
	z.addresses(under("below", last))
	z.add(under("match", last), "CNAME", z.target())
	z.redirectAt(first, second)
	z.redirectAt(second, pick(z.random, last, last, last, under("x", first), first))
}

// tooLong is a DNAME whose results are often no names any more (YXDOMAIN).
func (z *generated) tooLong() {
	target := z.padded(z.origin, 200+z.random.IntN(40))
	name := z.fresh()
	z.redirectAt(name, target)
	for range 3 {
		z.noted(z.padded(name, 40+z.random.IntN(215)))
	}
}

// padded is name with labels in front, up to size octets in wire form.
func (z *generated) padded(name string, size int) string {
	for {
		room := size - wireLength(name) - 1
		if room < 1 {
			return name
		}
		n := min(room, 63)
		if room-n == 1 { // one octet is no label
			n--
		}
		name = under(strings.Repeat(pick(z.random, "x", "Y"), n), name)
	}
}

func wireLength(name string) int {
	n, _ := dns.PackDomainName(name, make([]byte, 255), 0, nil, false)
	return n
}

// long has names of 255 octets, and just less.
func (z *generated) long() {
	name := z.padded(z.fresh(), 255-z.random.IntN(3))
	z.addresses(name)
	z.add(z.fresh(), "CNAME", z.noted(name))
}

// pointers are records whose targets' addresses go into the additional section.
func (z *generated) pointers() {
	name := z.fresh()
	for range 1 + z.random.IntN(3) {
		to := z.target()
		r := pick(z.random, [][2]string{
			{"MX", "10 " + to}, {"MX", "0 ."}, {"SRV", "1 2 443 " + to}, {"SRV", "0 0 0 ."}, {"SVCB", "0 " + to}, {"SVCB", "1 " + to + " alpn=h2 port=8443"},
			{"HTTPS", "1 . alpn=h2,h3 ipv4hint=192.0.2.1 ipv6hint=2001:db8::1"}, {"HTTPS", "2 " + to}, {"HTTPS", "0 " + to},
			{"NAPTR", `1 2 "S" "SIP+D2U" "" ` + to}, {"NAPTR", `1 2 "s" "SIP+D2U" "" ` + z.service()}, {"NAPTR", `1 2 "a" "x" "" ` + to}, {"NAPTR", `1 2 "u" "E2U" "!^.*$!x!" .`},
		}...)
		z.add(name, r[0], r[1])
	}
	if z.random.IntN(2) == 0 {
		z.addresses(name)
	}
}

// service is a new name with SRV records.
func (z *generated) service() string {
	name := z.fresh()
	z.add(name, "SRV", "1 2 443 "+z.target())
	return z.noted(name)
}

// big is an RRset around a limit: 512, 1232, or 64 KB.
func (z *generated) big() {
	name := z.fresh()
	size := pick(z.random, 300+z.random.IntN(400), 1000+z.random.IntN(400), 3000, 60000)
	switch z.random.IntN(4) {
	case 0:
		for i := range min(size/16, 3000) {
			z.add(name, "A", fmt.Sprintf("10.1.%d.%d", i/256, i%256))
		}
	case 1:
		for i := range 1 + size/220 {
			z.add(name, "TXT", fmt.Sprintf(`"%s%d"`, strings.Repeat("t", 195), i))
		}
	case 2:
		for i := range min(1+size/40, 40) {
			z.add(name, "MX", fmt.Sprintf("%d %s", i, under(fmt.Sprintf("mx%d", i), z.origin)))
			z.add(under(fmt.Sprintf("mx%d", i), z.origin), "A", "192.0.2.25")
		}
	case 3: // names that compress well, and in the end beyond what pointers reach
		const most = 50000 // octets without compression: BIND loads no more than 65535
		for i := range min(1+size/20, most/(2*wireLength(name)+32)) {
			z.add(name, "PTR", under(fmt.Sprintf("ptr%d", i), pick(z.random, z.origin, "elsewhere.invalid.", name)))
		}
	}
}

// apex is what people have at the top of a zone.
func (z *generated) apex() {
	z.add(z.origin, "MX", "10 "+z.target())
	z.add(z.origin, "HTTPS", "1 .")
	z.add(z.origin, "TXT", `"v=spf1 -all"`)
	z.addresses(z.origin)
}

// redirectApex redirects all of a zone that has nothing but its apex (RFC 6672,
// 2.3).
func (z *generated) redirectApex() {
	z.redirectAt(z.origin, pick(z.random, "z0.test.", "child.tld.", "n1.elsewhere.invalid."))
}

// apexOf is the apex of the served zone that a name is in.
func (z *generated) apexOf(name string) string {
	apex := ""
	for served := range z.served {
		if dns.IsSubDomain(served, name) && len(served) > len(apex) {
			apex = served
		}
	}
	return apex
}

// query makes a query to the zone.
func (z *generated) query() asked {
	name := z.queryName()
	q := new(dns.Msg)
	q.SetQuestion(z.recase(name), z.queryType(name))
	q.RecursionDesired = z.random.IntN(8) == 0
	if size := pick[uint16](z.random, 0, 0, 512, 700, 1232, 1232, 4096); size > 0 {
		q.SetEdns0(size, z.random.IntN(4) == 0)
	}
	return asked{q, z.random.IntN(5) < 2}
}

// queryName is a name of the zone, or one above, below or beside.
func (z *generated) queryName() string {
	base := pick(z.random, z.order...)
	if len(z.targets) > 0 && z.random.IntN(3) == 0 {
		base = pick(z.random, z.targets...)
	}
	labels := dns.SplitDomainName(base)
	parent := dns.Fqdn(strings.Join(labels[min(1, len(labels)):], "."))
	name := base
	switch z.random.IntN(12) {
	case 0:
		name = under(pick(z.random, "nx", "a", "*", "_tcp"), base)
	case 1:
		name = under("nx", under("b", base))
	case 2, 3:
		name = under(pick(z.random, "nx", "match", "*"), parent)
	case 4:
		name = parent
	case 5:
		name = under("c", under(pick(z.random, "nx", "*"), parent))
	}
	if !fits(name) || !dns.IsSubDomain(z.origin, name) && z.random.IntN(4) > 0 {
		return base
	}
	return name
}

// queryType is mostly one that the name has.
func (z *generated) queryType(name string) uint16 {
	types := slices.Sorted(maps.Keys(z.owners[dns.CanonicalName(name)]))
	if len(types) > 0 && z.random.IntN(2) == 0 {
		return pick(z.random, types...)
	}
	return pick(z.random, dns.TypeA, dns.TypeA, dns.TypeA, dns.TypeAAAA, dns.TypeNS, dns.TypeSOA, dns.TypeMX, dns.TypeTXT, dns.TypeCNAME,
		dns.TypeDNAME, dns.TypeDS, dns.TypeDS, dns.TypeANY, dns.TypeSRV, dns.TypePTR, dns.TypeSVCB, dns.TypeHTTPS, dns.TypeNAPTR, 65280)
}

// recase now and then changes the case of letters, but not in an escape.
func (z *generated) recase(name string) string {
	if z.random.IntN(4) > 0 {
		return name
	}
	b := []byte(name)
	for i, c := range b {
		if letter := c | 0x20; letter >= 'a' && letter <= 'z' && z.random.IntN(2) == 0 {
			b[i] = c ^ 0x20
		}
	}
	return string(b)
}
