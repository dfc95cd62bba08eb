package integration

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

var (
	differentialSeed    = flag.Uint64("seed", 1, "TestDifferential: what its zones and queries grow from")
	differentialZones   = flag.Int("zones", 200, "TestDifferential: how many zones")
	differentialQueries = flag.Int("queries", 100, "TestDifferential: how many queries to each zone")
)

// batchSize is how many zones the servers hold at a time.
const batchSize = 10

// TestDifferential loads generated zones into nearside, NSD, Knot and BIND and
// asks all of them the same. What those three agree on is right, unless the
// table `accepted` says why not.
func TestDifferential(t *testing.T) {
	t.Parallel()
	t.Logf("to see this again: make differential SEED=%d ZONES=%d QUERIES=%d", *differentialSeed, *differentialZones, *differentialQueries)
	sum := new(tally)
	for n := 0; n*batchSize < *differentialZones; n++ {
		t.Run(fmt.Sprintf("batch%d", n), func(t *testing.T) { differBatch(t, n, sum) })
	}
	t.Logf("%d zones, %d queries: %s", sum.zones, sum.queries, sum)
	// A generator that asks what the three quarrel about proves nothing.
	if sum.agreed*10 < sum.queries*8 {
		t.Errorf("NSD, Knot and BIND agree on %d of %d queries only", sum.agreed, sum.queries)
	}
}

// differBatch compares the answers about the zones of one batch.
func differBatch(t *testing.T, n int, sum *tally) {
	random := rand.New(rand.NewPCG(*differentialSeed, uint64(n)))
	dir, err := os.MkdirTemp("", "nearside-differential-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() { // the report names the zone files
			os.RemoveAll(dir)
		}
	})
	zones := generate(random, n%3 == 1)
	for _, z := range zones {
		z.save(t, dir)
	}
	peers := newPeers(t, dir, zones)
	shown := 0
	for _, z := range zones {
		sum.zones++
		for range *differentialQueries {
			c := compare(t, peers, z, z.query())
			sum.add(c)
			if len(c.differences) == 0 {
				continue
			}
			if shown++; shown <= 5 {
				t.Errorf("%s\nseed %d, %s", c, *differentialSeed, z.path)
			} else {
				t.Errorf("%s: %s, %s", c.asked, strings.Join(c.differences, "; "), z.path)
			}
		}
	}
}

// asked is a query and the way it goes.
type asked struct {
	*dns.Msg
	stream bool
}

func (a asked) String() string { return digCommand(a.Msg, a.stream) }

// limit is how long a response may be: by UDP what the client takes, and 1232
// octets at most.
func (a asked) limit() int {
	if a.stream {
		return dns.MaxMsgSize
	}
	if o := a.IsEdns0(); o != nil {
		return int(min(max(o.UDPSize(), dns.MinMsgSize), 1232))
	}
	return dns.MinMsgSize
}

// comparison is one query and what became of it.
type comparison struct {
	asked
	zone        *generated
	peers       []*peer
	replies     []reply // as they came
	whole       []reply // where another gave up for want of room and we did not: what it says by TCP
	views       []view  // what counts in them
	differences []string
	excused     []string // names of accepted differences
	agreed      bool     // the three agreed on everything
}

// compare asks everybody and judges our answer.
func compare(t testing.TB, peers []*peer, z *generated, a asked) *comparison {
	c := &comparison{asked: a, zone: z, peers: peers, agreed: true}
	for _, p := range peers {
		c.replies = append(c.replies, p.ask(t, a.Msg, a.stream))
	}
	c.whole = slices.Clone(c.replies)
	for i := range c.whole {
		if i != ours && c.whole[i].Truncated && !c.whole[ours].Truncated {
			c.whole[i] = peers[i].ask(t, a.Msg, true)
			c.whole[i].Truncated = true
		}
		c.views = append(c.views, look(c.whole[i].Msg, z))
	}
	c.judge()
	c.judgeAdditional(t)
	c.judgeOurs()
	c.judgeSize()
	return c
}

// A view is what counts in a response, aspect by aspect, in comparable form.
type view [aspects]string

const (
	question = iota
	rcode
	flags
	edns
	truncation
	answer
	authority
	aspects
	additional = aspects // judged record by record
)

var aspectNames = [aspects]string{"question", "rcode", "flags", "EDNS", "TC", "answer", "authority"}

// look normalises a response. Records are compared as sets and without regard
// to letter case in names; NS records of a zone's own apex in the authority
// section are left out: that courtesy is optional (RFC 1034, 4.3.2, wants it in
// referrals alone) and only some give it.
func look(m *dns.Msg, z *generated) view {
	var v view
	for _, q := range m.Question {
		v[question] += q.String()
	}
	v[rcode] = dns.RcodeToString[m.Rcode]
	v[flags] = fmt.Sprint("opcode ", m.Opcode, " QR ", m.Response, " AA ", m.Authoritative, " RD ", m.RecursionDesired,
		" RA ", m.RecursionAvailable, " AD ", m.AuthenticatedData, " CD ", m.CheckingDisabled)
	if o := m.IsEdns0(); o != nil {
		v[edns] = fmt.Sprint("version ", o.Version(), " DO ", o.Do())
	}
	v[truncation] = fmt.Sprint(m.Truncated)
	v[answer] = set(m.Answer)
	v[authority] = set(slices.DeleteFunc(slices.Clone(m.Ns), func(rr dns.RR) bool {
		return rr.Header().Rrtype == dns.TypeNS && z.served[dns.CanonicalName(rr.Header().Name)]
	}))
	return v
}

// judge compares aspect by aspect. Where the three agree, we must too; where
// they do not, at least one of them must be on our side.
func (c *comparison) judge() {
	for aspect := range aspects {
		if c.replies[ours].Truncated && aspect > truncation {
			return // parts of an answer tell nothing: the client asks again
		}
		theirs := c.views[ours+1:]
		agree := slices.ContainsFunc(theirs, func(v view) bool { return v[aspect] == c.views[ours][aspect] })
		unanimous := !slices.ContainsFunc(theirs[1:], func(v view) bool { return v[aspect] != theirs[0][aspect] })
		c.agreed = c.agreed && unanimous
		switch {
		case agree:
		case unanimous:
			c.differ(aspect, nil, aspectNames[aspect]+": NSD, Knot and BIND agree on another")
		default:
			c.differ(aspect, nil, aspectNames[aspect]+": like none of the three")
		}
	}
}

// differ notes a difference, unless it is an accepted one.
func (c *comparison) differ(aspect int, rr dns.RR, text string) {
	for _, a := range accepted {
		if a.explains(c, aspect, rr) {
			c.excused = append(c.excused, a.name)
			return
		}
	}
	c.differences = append(c.differences, text)
}

// judgeAdditional asks for what all three add, and nothing that none of them
// does, given room: what is optional may be left out.
func (c *comparison) judgeAdditional(t testing.TB) {
	mine := c.whole[ours]
	if mine.Truncated {
		return
	}
	adds := func(r reply, rr dns.RR) bool {
		return slices.ContainsFunc(r.Extra, func(other dns.RR) bool { return canonical(rr) == canonical(other) })
	}
	theirs := c.whole[ours+1:]
	for _, rr := range theirs[0].Extra {
		all := !slices.ContainsFunc(theirs, func(r reply) bool { return !adds(r, rr) })
		room := mine.size+dns.Len(rr) <= c.limit()
		if rr.Header().Rrtype != dns.TypeOPT && all && !adds(mine, rr) && (room || inDomainGlue(mine.Msg, rr)) {
			c.differ(additional, rr, "missing in additional: "+rr.String())
		}
	}
	for _, rr := range mine.Extra {
		if rr.Header().Rrtype == dns.TypeOPT || slices.ContainsFunc(theirs, func(r reply) bool { return adds(r, rr) || r.Truncated }) {
			continue
		}
		roomy := func(p *peer) bool { return adds(p.ask(t, c.Msg, true), rr) }
		if c.stream || !slices.ContainsFunc(c.peers[ours+1:], roomy) {
			c.differ(additional, rr, "nobody else has in additional: "+rr.String())
		}
	}
}

// inDomainGlue reports whether rr is an address at or below the cut of a
// referral: that is not optional (RFC 9471).
func inDomainGlue(m *dns.Msg, rr dns.RR) bool {
	return slices.ContainsFunc(m.Ns, func(ns dns.RR) bool {
		return ns.Header().Rrtype == dns.TypeNS && dns.IsSubDomain(ns.Header().Name, rr.Header().Name)
	})
}

// judgeOurs looks for what is wrong whatever others do.
func (c *comparison) judgeOurs() {
	mine := c.replies[ours]
	if mine.size > c.limit() {
		c.differences = append(c.differences, fmt.Sprintf("%d octets where %d are the limit", mine.size, c.limit()))
	}
	for _, section := range [][]dns.RR{mine.Answer, mine.Ns, mine.Extra} {
		seen := map[string]bool{}
		for _, rr := range section {
			if text := canonical(rr); seen[text] {
				c.differences = append(c.differences, "twice: "+text)
			} else {
				seen[text] = true
			}
		}
	}
}

// judgeSize asks for no more octets than those take that say the same, give or
// take what only a query could tell: compression is compiled with the zone, so
// that it points to the owner, the zone or the cut, but not to labels that the
// question has below it, and a root that owns records is a pointer, too.
func (c *comparison) judgeSize() {
	records := func(r reply) [3]string { return [3]string{set(r.Answer), set(r.Ns), set(r.Extra)} }
	mine, largest := c.replies[ours], 0
	for _, r := range c.replies[ours+1:] {
		if records(r) != records(mine) {
			return
		}
		largest = max(largest, r.size)
	}
	slack := wireLength(c.Question[0].Name) + len(mine.Answer) + len(mine.Ns) + len(mine.Extra)
	if mine.size > largest+slack {
		c.differences = append(c.differences, fmt.Sprintf("%d octets, and the largest of the others has %d", mine.size, largest))
	}
}

// String is the query and the answers in dig's words.
func (c *comparison) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s: %s\n", strings.Join(c.differences, "\n"), c.zone.origin, c.asked)
	for i, p := range c.peers {
		fmt.Fprintf(&b, "---- %s, %d octets\n%s", p.name, c.replies[i].size, c.replies[i])
	}
	return b.String()
}

// digCommand is how a person asks the same.
func digCommand(q *dns.Msg, stream bool) string {
	words := []string{"dig", "+norecurse", "+nocookie"}
	if stream {
		words = append(words, "+tcp")
	} else {
		words = append(words, "+ignore")
	}
	if o := q.IsEdns0(); o == nil {
		words = append(words, "+noedns")
	} else {
		words = append(words, fmt.Sprintf("+bufsize=%d", o.UDPSize()))
		if o.Do() {
			words = append(words, "+dnssec")
		}
	}
	return strings.Join(append(words, "'"+q.Question[0].Name+"'", dns.Type(q.Question[0].Qtype).String()), " ")
}

// set is a section without order and repetition.
func set(section []dns.RR) string {
	var lines []string
	for _, rr := range section {
		lines = append(lines, canonical(rr))
	}
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), "\n")
}

// canonical is a record as text, its names in lower case.
func canonical(rr dns.RR) string {
	rr = dns.Copy(rr)
	rr.Header().Name = dns.CanonicalName(rr.Header().Name)
	for _, name := range namesIn(rr) {
		*name = dns.CanonicalName(*name)
	}
	return rr.String()
}

// namesIn are the names in the data of a record.
func namesIn(rr dns.RR) []*string {
	switch rr := rr.(type) {
	case *dns.NS:
		return []*string{&rr.Ns}
	case *dns.CNAME:
		return []*string{&rr.Target}
	case *dns.DNAME:
		return []*string{&rr.Target}
	case *dns.PTR:
		return []*string{&rr.Ptr}
	case *dns.MX:
		return []*string{&rr.Mx}
	case *dns.SRV:
		return []*string{&rr.Target}
	case *dns.NAPTR:
		return []*string{&rr.Replacement}
	case *dns.SVCB:
		return []*string{&rr.Target}
	case *dns.HTTPS:
		return []*string{&rr.Target}
	case *dns.SOA:
		return []*string{&rr.Ns, &rr.Mbox}
	case *dns.RP:
		return []*string{&rr.Mbox, &rr.Txt}
	case *dns.AFSDB:
		return []*string{&rr.Hostname}
	}
	return nil
}

// tally counts.
type tally struct {
	zones, queries, agreed, different int
	excused                           map[string]int
}

func (s *tally) add(c *comparison) {
	s.queries++
	if c.agreed {
		s.agreed++
	}
	if len(c.differences) > 0 {
		s.different++
	}
	for _, name := range c.excused {
		if s.excused == nil {
			s.excused = map[string]int{}
		}
		s.excused[name]++
	}
}

func (s *tally) String() string {
	words := []string{fmt.Sprintf("NSD, Knot and BIND agree wholly on %d; %d unexplained differences", s.agreed, s.different)}
	for name, n := range s.excused {
		words = append(words, fmt.Sprintf("%d times %s", n, name))
	}
	slices.SortFunc(words[1:], cmp.Compare)
	return strings.Join(words, "; ")
}
