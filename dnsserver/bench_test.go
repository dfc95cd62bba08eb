package dnsserver

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/tools/txtar"

	"nearside/geo"
	"nearside/regions"
	"nearside/zones"
)

// crowd is a bench with a zone of many random names, and the traffic for them:
// what a cache would make of one hot name is not what a server meets.
type crowd struct {
	*bench
	random  *rand.Rand
	statics []string // with an A and an AAAA record each
	steered []string // with both in six regions
	cookie  []byte   // one that is valid for crowdClient

	// Clients known by the working set: the first asks most. nil: any come.
	known4 []netip.Addr
	known6 [][16]byte
	who    *rand.Zipf // index of one of them
}

const (
	crowdSteered = 1000 // names; as many aliases, wildcards and cuts lead to and stand beside them
	crowdQueries = 1 << 20

	// The working set of a server in production: see crowd.warm.
	warmSteered = 100
	warmClients = 1 << 16
	warmZipf    = 1.1 // exponent

	coldMemory = 2 << 20 // octets, twice what the processor keeps for one core
)

// crowdClient is where queries come from that are not placed by their source.
var crowdClient = netip.MustParseAddr("185.2.100.1")

// newCrowd makes the zone with n static names.
func newCrowd(t testing.TB, n int) *crowd {
	t.Helper()
	c := &crowd{random: rand.New(rand.NewPCG(1, 2))}
	for len(c.steered) < crowdSteered {
		c.steered = append(c.steered, fmt.Sprintf("%s-%d", c.label(), len(c.steered)))
	}
	for len(c.statics) < n {
		name := fmt.Sprintf("%s%d", c.label(), len(c.statics))
		if c.random.IntN(4) == 0 {
			name = fmt.Sprintf("%s.%s%d", c.label(), c.label(), c.random.IntN(1+n/8))
		}
		c.statics = append(c.statics, name)
	}
	c.bench = newBench(t, &txtar.Archive{Files: []txtar.File{
		{Name: "regions", Data: []byte(crowdRegions)},
		{Name: "bet.example.zone", Data: []byte(c.zone())},
	}})
	c.cookie = c.newCookie(t)
	return c
}

const crowdRegions = `us-east 39.04 -77.49 198.51.100.0/26 2001:db8:1::/48
us-west 45.52 -122.68 198.51.100.64/26 2001:db8:2::/48
eu-west 53.35 -6.26 192.0.2.0/26 2001:db8:3::/48
eu-central 50.11 8.68 192.0.2.64/26 2001:db8:4::/48
ap-southeast 1.35 103.82 203.0.113.0/26 2001:db8:5::/48
sa-east -23.55 -46.63 203.0.113.64/26 2001:db8:6::/48
`

// label returns a random label of 5 to 12 letters.
func (c *crowd) label() string {
	b := make([]byte, 5+c.random.IntN(8))
	for i := range b {
		b[i] = 'a' + byte(c.random.IntN(26))
	}
	return string(b)
}

func (c *crowd) zone() string {
	var b strings.Builder
	b.WriteString("$TTL 3600\n@ IN SOA ns1 hostmaster 1 3600 900 1209600 60\n@ NS ns1\n@ NS ns2\nns1 A 10.0.0.1\nns2 A 10.0.0.2\n")
	for i, name := range c.statics {
		fmt.Fprintf(&b, "%s A 10.%d.%d.%d\n%s AAAA 2001:db8:f::%x:%x\n", name, i>>16, i>>8&255, i&255, name, i>>16, i&0xffff)
	}
	for i, name := range c.steered {
		for region, p := range []string{"198.51.100.1", "198.51.100.65", "192.0.2.1", "192.0.2.65", "203.0.113.1", "203.0.113.65"} {
			fmt.Fprintf(&b, "%s A %s\n%s AAAA 2001:db8:%d::%x\n", name, p, name, region+1, i+1)
		}
		fmt.Fprintf(&b, "alias%d CNAME %s\n*.wild%d A 10.1.1.1\ncut%d NS ns.cut%d\nns.cut%d A 10.2.2.2\ndown%d DNAME wild%d\n",
			i, name, i, i, i, i, i, i)
	}
	for i := range 30 {
		fmt.Fprintf(&b, "large TXT \"%d %s\"\n", i, strings.Repeat("x", 100))
	}
	return b.String()
}

// warm makes the clients and the names that they ask for those of production: of
// the steered names there are a hundred, and of 65,536 networks few ask much and
// most ask little (Zipf's law; the first 500 make half of the queries). Static names
// are all asked for alike.
func (c *crowd) warm() {
	c.steered = c.steered[:warmSteered]
	c.known4, c.known6 = nil, nil
	known4, known6 := make([]netip.Addr, warmClients), make([][16]byte, warmClients)
	for i := range warmClients {
		known4[i], known6[i] = c.client4(), c.client6()
	}
	c.known4, c.known6 = known4, known6
	c.who = rand.NewZipf(c.random, warmZipf, 1, warmClients-1)
}

// newCookie gets a server cookie and returns the OPT record with it.
func (c *crowd) newCookie(t testing.TB) []byte {
	t.Helper()
	buf := make([]byte, udpRoom)
	query := queryFor(t, "ns1.bet.example.", option(optionCookie, 1, 2, 3, 4, 5, 6, 7, 8))
	n := c.r.respond(c.snapshot, buf, copy(buf, query), crowdClient, false)
	return option(optionCookie, buf[n-clientCookie-serverCookie:n]...) // it ends the message
}

// kind is one kind of query.
type kind struct {
	name string
	ask  func(c *crowd) question
	// What the response must be, so that nobody measures REFUSED.
	rcode                          int
	tc                             bool
	answers, authority, additional int // records; OPT counts
}

// question is a query before it is packed.
type question struct {
	name  string // below bet.example
	qtype uint16
	opt   []byte
	from  netip.Addr // crowdClient if invalid
}

var kinds = []kind{
	{name: "static", answers: 1, ask: func(c *crowd) question { return question{name: pick(c, c.statics), qtype: c.addressType()} }},
	{name: "static-edns", answers: 1, additional: 1, ask: func(c *crowd) question {
		return question{name: pick(c, c.statics), qtype: c.addressType(), opt: plain}
	}},
	{name: "nxdomain", rcode: rcodeNXDomain, authority: 1, ask: func(c *crowd) question {
		return question{name: c.label() + "." + c.label() + "-x", qtype: c.addressType()}
	}},
	{name: "nodata", authority: 1, ask: func(c *crowd) question { return question{name: pick(c, c.statics), qtype: dns.TypeMX} }},
	{name: "referral", authority: 1, additional: 1, ask: func(c *crowd) question {
		return question{name: fmt.Sprintf("%s.cut%d", c.label(), c.random.IntN(crowdSteered)), qtype: dns.TypeA}
	}},
	{name: "wildcard", answers: 1, ask: func(c *crowd) question {
		return question{name: fmt.Sprintf("%s.wild%d", c.label(), c.random.IntN(crowdSteered)), qtype: dns.TypeA}
	}},
	{name: "dname", answers: 3, ask: func(c *crowd) question {
		return question{name: fmt.Sprintf("%s.down%d", c.label(), c.random.IntN(crowdSteered)), qtype: dns.TypeA}
	}},
	{name: "geo-by-source", answers: 1, ask: func(c *crowd) question {
		return question{name: pick(c, c.steered), qtype: c.addressType(), from: c.client4()}
	}},
	{name: "geo-by-ECS-IPv4", answers: 1, additional: 1, ask: func(c *crowd) question {
		a := c.client4().As4()
		return question{name: pick(c, c.steered), qtype: c.addressType(), opt: option(optionECS, 0, 1, 24, 0, a[0], a[1], a[2])}
	}},
	{name: "geo-by-ECS-IPv6", answers: 1, additional: 1, ask: func(c *crowd) question {
		a := c.client6()
		return question{name: pick(c, c.steered), qtype: c.addressType(), opt: option(optionECS, append([]byte{0, 2, 56, 0}, a[:7]...)...)}
	}},
	{name: "geo-by-CNAME", answers: 2, ask: func(c *crowd) question {
		return question{name: fmt.Sprintf("alias%d", c.random.IntN(crowdSteered)), qtype: c.addressType(), from: c.client4()}
	}},
	{name: "cookie", answers: 1, additional: 1, ask: func(c *crowd) question {
		return question{name: pick(c, c.statics), qtype: c.addressType(), opt: c.cookie}
	}},
	{name: "signed", rcode: rcodeNotAuth, additional: 1, ask: func(c *crowd) question {
		return question{name: pick(c, c.statics), qtype: c.addressType(), opt: signed}
	}},
	{name: "truncated", tc: true, additional: 1, ask: func(c *crowd) question {
		return question{name: "large", qtype: dns.TypeTXT, opt: plain}
	}},
}

func pick(c *crowd, names []string) string { return names[c.random.IntN(len(names))] }

func (c *crowd) addressType() uint16 {
	if c.random.IntN(2) == 0 {
		return dns.TypeAAAA
	}
	return dns.TypeA
}

// client4 returns the address of a client, out of all that are not special.
func (c *crowd) client4() netip.Addr {
	if c.known4 != nil {
		return c.known4[c.who.Uint64()]
	}
	for {
		a := netip.AddrFrom4([4]byte{1 + byte(c.random.IntN(223)), byte(c.random.Uint32()), byte(c.random.Uint32()), byte(c.random.Uint32())})
		if !a.IsPrivate() && !a.IsLoopback() {
			return a
		}
	}
}

// client6 returns the address of a client, out of those that the registries have
// given away in bulk.
func (c *crowd) client6() (a [16]byte) {
	if c.known6 != nil {
		return c.known6[c.who.Uint64()]
	}
	for i := range a {
		a[i] = byte(c.random.Uint32())
	}
	blocks := [][2]byte{{0x24, 0x08}, {0x26, 0x06}, {0x28, 0x03}, {0x2a, 0x0f}} // first octet, last of the second
	block := blocks[c.random.IntN(len(blocks))]
	a[0], a[1] = block[0], a[1]%(block[1]+1)
	return a
}

// queries are prepared queries one after the other in memory, as a network card
// would leave them there.
type queries struct {
	wire []byte
	ends []uint32
	from []netip.Addr
}

// queries returns n queries of the kinds, in random order.
func (c *crowd) queries(n int, kinds ...kind) *queries {
	q := &queries{ends: make([]uint32, 1, n+1), from: make([]netip.Addr, 0, n)}
	for range n {
		ask := kinds[c.random.IntN(len(kinds))].ask(c)
		if !ask.from.IsValid() {
			ask.from = crowdClient
		}
		q.wire = ask.append(q.wire)
		q.ends = append(q.ends, uint32(len(q.wire)))
		q.from = append(q.from, ask.from)
	}
	return q
}

func (a question) append(b []byte) []byte {
	additional := byte(0)
	if a.opt != nil {
		additional = 1
	}
	b = append(b, 0xBE, 0xEF, 0, 0, 0, 1, 0, 0, 0, 0, 0, additional)
	for label := range strings.SplitSeq(a.name, ".") {
		b = append(append(b, byte(len(label))), label...)
	}
	b = append(b, "\x03bet\x07example\x00"...)
	b = binary.BigEndian.AppendUint16(b, a.qtype)
	b = append(b, 0, classIN)
	return append(b, a.opt...)
}

func (q *queries) len() int { return len(q.from) }

func (q *queries) at(i int) ([]byte, netip.Addr) { return q.wire[q.ends[i]:q.ends[i+1]], q.from[i] }

// answer sends a query to the responder, in one of the buffers of a batch.
func (c *crowd) answer(buffers []byte, i int, msg []byte, from netip.Addr) []byte {
	buf := buffers[i%batch*udpRoom:][:udpRoom:udpRoom]
	return buf[:c.r.respond(c.snapshot, buf, copy(buf, msg), from, false)]
}

// receive takes a batch of queries, from the first on, as a worker does.
func (c *crowd) receive(buffers []byte, q *queries, first int) {
	for i := range batch {
		msg, from := q.at((first + i) % q.len())
		buf := buffers[i*udpRoom:][:udpRoom:udpRoom]
		c.r.queries[i].take(buf[:copy(buf, msg)], from)
	}
}

// answerBatch answers the batch that was received, as a worker does.
func (c *crowd) answerBatch() {
	c.r.lookAhead(c.snapshot, batch)
	for i := range batch {
		c.r.reply(c.snapshot, i, false)
	}
	c.r.rest(batch)
}

// check makes sure that a kind is answered as it should be.
func (c *crowd) check(t testing.TB, k kind) {
	t.Helper()
	q := c.queries(100, k)
	buffers := make([]byte, batch*udpRoom)
	for i := range q.len() {
		msg, from := q.at(i)
		m := new(dns.Msg)
		if err := m.Unpack(c.answer(buffers, i, msg, from)); err != nil {
			t.Fatal(err)
		}
		if m.Rcode != k.rcode || m.Truncated != k.tc || len(m.Answer) != k.answers || len(m.Ns) != k.authority || len(m.Extra) != k.additional {
			t.Fatalf("%s is answered\n%v", k.name, m)
		}
	}
}

// TestNoAllocations: a million queries of every kind leave nothing to
// collect, whatever regions are drained, in part or soon.
func TestNoAllocations(t *testing.T) {
	c := newCrowd(t, 1000)
	for _, k := range kinds {
		c.check(t, k)
	}
	q := c.queries(1<<15, kinds...)
	buffers := make([]byte, batch*udpRoom)
	for _, line := range []string{
		"restore",
		"drain us-east",
		"drain us-east us-west 50%",
		"drain eu-west eu-central at=9s",
		"drain us-east us-west eu-west eu-central ap-southeast sa-east",
	} {
		c.change(t, strings.Fields(line))
		c.snapshot = c.snapshot.WithState(c.state)
		const each = 350_016 // a multiple of batch
		before := c.counted(countReceived)
		n := mallocs(func() {
			for i := 0; i < each; i += batch {
				c.receive(buffers, q, i)
				c.answerBatch()
			}
		})
		if got := c.counted(countReceived) - before; n != 0 || got != each {
			t.Errorf("%d allocations in %d queries, of %d", n, got, each)
		}
	}
}

// mallocs returns how many objects f allocates: exactly, not a mean that rounds
// the one in a million away.
func mallocs(f func()) uint64 {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // nobody else runs meanwhile
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.Mallocs - before.Mallocs
}

// BenchmarkRespond is the whole query in process, out of a million random queries:
// from the batch that the kernel has left in the buffers to the answers in them.
// warm is with the working set of production (see crowd.warm) and nothing else
// on the processor; the targets are for that. For cold, steered names are ten times
// as many, clients are any of the world, and before each batch something else
// has used the core's caches: that is what a server meets that has little to do.
//
// Beside it stands what no server can do without, for the ratio: a query is copied
// in, one random cache line of as much memory as the zone has is read, and copied out.
func BenchmarkRespond(b *testing.B) {
	for _, size := range []int{10_000, 500_000} {
		b.Run(fmt.Sprintf("names=%d", size), func(b *testing.B) {
			c := newCrowd(b, size)
			b.Run("least", func(b *testing.B) { c.benchmarkLeast(b, size*128) })
			b.Run("cold", func(b *testing.B) { c.benchmarkKinds(b, make([]byte, coldMemory)) })
			c.warm()
			b.Run("warm", func(b *testing.B) { c.benchmarkKinds(b, nil) })
		})
	}
}

// benchmarkKinds measures each kind of query. The memory of others is read before each batch.
func (c *crowd) benchmarkKinds(b *testing.B, others []byte) {
	for _, k := range kinds {
		b.Run(k.name, func(b *testing.B) {
			c.check(b, k)
			q := c.queries(crowdQueries, k)
			buffers := make([]byte, batch*udpRoom)
			var took spans
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%batch != 0 {
					continue
				}
				for at := 0; at < len(others); at += cacheLine {
					others[at]++
				}
				c.receive(buffers, q, i)
				start := time.Now()
				c.answerBatch()
				took.add(time.Since(start))
			}
			b.ReportMetric(took.median()/batch, "ns/op")
		})
	}
}

// spans is how many of each length there were, in nanoseconds; the last stands for
// all that are longer. Their median tells what the mean hides on a machine
// that has other things to do: what a batch takes that nothing interrupts.
type spans [1 << 17]uint32

func (s *spans) add(d time.Duration) { s[min(d.Nanoseconds(), int64(len(s)-1))]++ }

func (s *spans) median() float64 {
	var all, shorter uint32
	for _, n := range s {
		all += n
	}
	for ns, n := range s {
		if shorter += n; shorter > all/2 {
			return float64(ns)
		}
	}
	return 0
}

func (c *crowd) benchmarkLeast(b *testing.B, memory int) {
	q := c.queries(crowdQueries, kinds[0])
	lines := make([]byte, memory)
	for i := 1; i < memory; i += 64 {
		lines[i] = 1 // memory that was never written is one page of zeros
	}
	where := make([]uint32, crowdQueries)
	for i := range where {
		where[i] = uint32(c.random.IntN(memory/64)) * 64
	}
	buffers := make([]byte, batch*udpRoom)
	at := uint32(0)
	for i := 0; b.Loop(); i++ {
		msg, _ := q.at(i % crowdQueries)
		buf := buffers[i%batch*udpRoom:][:udpRoom:udpRoom]
		n := copy(buf, msg)
		at = where[i%crowdQueries] + uint32(lines[at]) // which is 0: the next line waits for this one
		copy(buf[n:], lines[at:][:28])
	}
}

// BenchmarkStage is the stages of a query, one by one and warm: a processor that
// has several in flight needs less than their sum.
func BenchmarkStage(b *testing.B) {
	c := newCrowd(b, 10_000)
	buffers := make([]byte, batch*udpRoom)
	each := func(name string, k kind, stage func(q *query)) {
		b.Run(name, func(b *testing.B) {
			q := c.queries(crowdQueries, k)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				msg, from := q.at(i % crowdQueries)
				buf := buffers[i%batch*udpRoom:][:udpRoom:udpRoom]
				c.r.query = &c.r.queries[i%batch]
				c.r.take(buf[:copy(buf, msg)], from)
				stage(c.r.query)
			}
		})
	}
	static, edns, subnet := kindNamed("static"), kindNamed("static-edns"), kindNamed("geo-by-ECS-IPv4")
	parse := func(q *query) { q.read() }
	each("copy", static, func(*query) {})
	each("parse", static, parse)
	each("parse-edns", edns, parse)
	each("parse-ECS", subnet, parse)
	each("prepare", static, func(q *query) { q.prepare(c.snapshot) })
	var result zones.Result
	lookup := func(q *query) {
		q.prepare(c.snapshot)
		q.seek()
		q.zone.LookupSought(q.name(), q.hash, q.node, q.qtype, &result)
	}
	each("prepare+lookup", static, func(q *query) { lookup(q) })
	each("prepare+lookup+copy", static, func(q *query) {
		lookup(q)
		c.r.reset(c.snapshot, false)
		c.r.appendRecords(&result.Set, spot{headerSize, q.nameLen}, &c.r.answers)
	})
	each("reset+finish", static, func(q *query) {
		q.fault, q.end, q.edns = rcodeNoError, len(q.msg), false
		c.r.reset(c.snapshot, false)
		c.r.finish(false)
	})
	c.benchmarkPlaces(b)
}

// benchmarkPlaces is the two stages of steering.
func (c *crowd) benchmarkPlaces(b *testing.B) {
	var sources [1 << 16]netip.Addr
	var subnets4, subnets6 [1 << 16]client
	for i := range sources {
		sources[i] = c.client4()
		a := c.client4().As4()
		subnets4[i] = clientAt(netip.AddrFrom4([4]byte{a[0], a[1], a[2]}))
		subnets6[i] = clientAt(netip.AddrFrom16(c.client6()))
	}
	for _, by := range []struct {
		name    string
		subnets *[1 << 16]client
	}{
		{"place-by-source", new([1 << 16]client)},
		{"place-by-ECS-IPv4", &subnets4},
		{"place-by-ECS-IPv6", &subnets6},
	} {
		b.Run(by.name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				c.snapshot.places.Prefer(by.subnets[i%len(by.subnets)], sources[i%len(sources)])
			}
		})
	}
	split := c.table.NewInputs()
	for i := range split.Subjects {
		split.Subjects[i].Drain.Percent = 50
	}
	clock := regions.Clock{Now: c.now, Back: c.now}
	for _, by := range []struct {
		name  string
		state *regions.State
	}{{"choose", c.state}, {"choose-split", c.table.Evaluate(split, clock)}} {
		b.Run(by.name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				list := c.snapshot.places.list(geo.Class(i % c.snapshot.places.Classes()))
				by.state.Choose(list, regions.Set(i)&c.table.All()|1, regions.Anyone, sources[i%len(sources)])
			}
		})
	}
}

func kindNamed(name string) kind {
	return kinds[slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })]
}
