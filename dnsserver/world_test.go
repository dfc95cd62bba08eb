package dnsserver

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"

	"nearside/geo"
	"nearside/regions"
	"nearside/zones"
)

// world is what the twin knows of steering: regions, services, how they are, and
// who asks. Region i has the prefixes 10.0.i.0/24 and 2001:db8:(i+1)::/48.
type world struct {
	*twin
	standby  []bool // by region
	services []worldService
	moods    map[string]mood // by "region", or "service/region"

	places         *Places
	subnet, source netip.Addr // as of the question; no subnet is invalid

	scope int             // of the answer so far
	ede   string          // why it has none
	seen  map[string]bool // what it is an example of
}

type worldService struct {
	name     string
	names    []string
	regions  []int
	failover bool
	ttl      uint32
	last     string // on_exhausted: any, none, or a region's name
}

// mood is how a region is, or a service in it.
type mood struct {
	away   int // percent of its clients that a drain sends elsewhere
	down   bool
	hold   bool
	ramped int // percent of its clients that are back
	begins int // seconds until a drain of all begins; 0: none is planned
}

const (
	worldRegions     = 4
	worldHold        = 60  // seconds
	worldRamp        = 100 // seconds: one for each percent
	worldTTL         = 30
	worldNegativeTTL = 3
)

var worldTime = time.Unix(1e9, 0)

func worldRegion(i int) string { return fmt.Sprintf("r%d", i) }

// regionsOf returns the regions of the addresses in a record.
func regionsOf(rr dns.RR) (list []int) {
	at := func(address string) {
		for i := range worldRegions {
			if strings.HasPrefix(address, fmt.Sprintf("10.0.%d.", i)) || strings.HasPrefix(address, fmt.Sprintf("2001:db8:%d:", i+1)) {
				list = append(list, i)
			}
		}
	}
	switch rr := rr.(type) {
	case *dns.A:
		at(rr.A.String())
	case *dns.AAAA:
		at(rr.AAAA.String())
	case *dns.HTTPS:
		for _, v := range rr.Value {
			if v.Key() == dns.SVCB_IPV4HINT {
				at(v.String())
			}
		}
	}
	return list
}

// parts returns the records that each region has of a type at a name, nil if they
// are the same for everybody.
func (w *world) parts(owner string, typ uint16) map[int][]dns.RR {
	if w == nil {
		return nil
	}
	parts := make(map[int][]dns.RR)
	all := make(map[int]bool)
	var anywhere []dns.RR
	for _, rr := range w.rrs {
		name := dns.CanonicalName(rr.Header().Name)
		for i := range worldRegions {
			if name == worldRegion(i)+"._region."+owner && rr.Header().Rrtype == typ {
				parts[i] = append(parts[i], rr)
			}
		}
	}
	if len(parts) > 0 {
		return parts
	}
	for _, rr := range w.rrs {
		if dns.CanonicalName(rr.Header().Name) != owner {
			continue
		}
		in := regionsOf(rr)
		for _, i := range in {
			all[i] = true
			if rr.Header().Rrtype == typ {
				parts[i] = append(parts[i], rr)
			}
		}
		if in == nil && rr.Header().Rrtype == typ {
			anywhere = append(anywhere, rr)
		}
	}
	if len(all) < 2 || len(parts) == 0 {
		return nil
	}
	if anywhere != nil {
		for i := range all {
			parts[i] = append(parts[i], anywhere...)
		}
	}
	return parts
}

// steers reports whether a name has anything that depends on the region.
func (w *world) steers(owner string) bool {
	return w != nil && slices.ContainsFunc(w.rrs, func(rr dns.RR) bool {
		return dns.CanonicalName(rr.Header().Name) == owner && w.parts(owner, rr.Header().Rrtype) != nil
	})
}

// choose returns what the client gets of an RRset.
func (w *world) choose(owner string, set []dns.RR) ([]dns.RR, bool) {
	parts := w.parts(owner, set[0].Header().Rrtype)
	if parts == nil {
		return set, true
	}
	s := w.serviceOf(owner)
	list, client, scope := w.place()
	split := false
	for i := range parts {
		split = split || w.split(s, i)
	}
	switch special := w.subnet.IsValid() && client != w.subnet; {
	case s.failover && !split:
		scope = 0
	case special || !split:
	case s.failover:
		scope = bitsMoved(client)
	default:
		scope = max(scope, bitsMoved(client))
	}
	w.scope = max(w.scope, scope)
	if s.failover {
		list = append(slices.Clone(s.regions), list...)
	}
	best, region := never, 0
	for _, i := range list {
		if class := w.class(s, i, client); parts[i] != nil && class < best {
			best, region = class, i
		}
	}
	w.note(s, parts, best, split)
	if best == never {
		return nil, false
	}
	return w.capped(parts[region], s, region), true
}

// capped returns records with the TTL that they have for a region.
func (w *world) capped(set []dns.RR, s worldService, region int) (list []dns.RR) {
	for _, rr := range set {
		rr = dns.Copy(rr)
		ttl := &rr.Header().Ttl
		*ttl = min(*ttl, s.ttl)
		if begins := w.mood(s, region).begins; begins != 0 && uint32(begins) < *ttl {
			*ttl = uint32(begins)
			w.seen["capped"] = true
		}
		list = append(list, rr)
	}
	return list
}

// note says why there is no answer, and what the answer is an example of.
func (w *world) note(s worldService, parts map[int][]dns.RR, class int, split bool) {
	w.seen[fmt.Sprintf("class %d", class)] = true
	w.seen["split"] = w.seen["split"] || split
	w.seen["failover"] = w.seen["failover"] || s.failover
	if class != never {
		return
	}
	w.ede = noneMay.text
	possible, drained := 0, 0
	for i := range parts {
		if slices.Contains(s.regions, i) && (s.last == "any" || !w.standby[i]) || s.last == worldRegion(i) {
			possible++
			if w.mood(s, i).away == 100 {
				drained++
			}
		}
	}
	if possible > 0 && drained == possible {
		w.ede = allDrained.text
	}
	w.seen[w.ede] = true
}

// serviceOf returns the service that lists a name, or the longest asterisk above it.
func (w *world) serviceOf(owner string) worldService {
	best, length := w.services[0], 0
	for _, s := range w.services {
		for _, name := range s.names {
			if name == owner {
				return s
			}
			if below, is := strings.CutPrefix(name, "*"); is && strings.HasSuffix(owner, below) && len(name) > length {
				best, length = s, len(name)
			}
		}
	}
	return best
}

// place returns the preference list of whoever decides about the place, who that is,
// and the scope. The clients map has a twin of its own, in package geo.
func (w *world) place() (list []int, client netip.Addr, scope int) {
	client = w.source
	if w.subnet.IsValid() {
		var class geo.Class
		if class, scope = w.places.lookup(clientAt(w.subnet)); class != geo.Special {
			client = w.subnet
		}
	}
	class, _ := w.places.lookup(clientAt(client))
	for _, id := range w.places.list(class) {
		list = append(list, int(id))
	}
	return list, client, scope
}

// mood returns how a service is in a region: as ill as either is.
func (w *world) mood(s worldService, region int) mood {
	all, own := w.moods[worldRegion(region)], w.moods[s.name+"/"+worldRegion(region)]
	if s.name == "" {
		own = mood{ramped: 100}
	}
	begins := max(all.begins, own.begins)
	if all.begins != 0 && own.begins != 0 {
		begins = min(all.begins, own.begins)
	}
	return mood{max(all.away, own.away), all.down || own.down, all.hold || own.hold, min(all.ramped, own.ramped), begins}
}

// never is the class of what may not answer.
const never = 8

// class is the rung on which a region stands for a client of a service: 1 to 3 as
// they are in the design; 4 to 6 the same of standby regions, or 4 for the region that
// on_exhausted names; 7 for what is down.
func (w *world) class(s worldService, region int, client netip.Addr) int {
	m := w.mood(s, region)
	if m.away == 100 {
		return never
	}
	class := 1
	switch {
	case m.down:
		class = 7
	case m.hold:
		class = 3
	case cohort(client, worldRegion(region)) < max(m.away, 100-m.ramped):
		class = 2
	}
	member := slices.Contains(s.regions, region)
	switch {
	case member && !w.standby[region] && class <= 3:
		return class
	case s.last == worldRegion(region):
		return 4
	case !member || s.last != "any":
		return never
	case class <= 3:
		return class + 3
	}
	return class
}

// split reports whether a region is open to some clients of a service only.
func (w *world) split(s worldService, region int) bool {
	m := w.mood(s, region)
	used := slices.Contains(s.regions, region) && (!w.standby[region] || s.last == "any")
	return used && m.away != 100 && !m.down && !m.hold && (m.away > 0 || m.ramped < 100)
}

// bitsMoved is how many bits of an address decide about its cohort.
func bitsMoved(client netip.Addr) int {
	if client.Is4() {
		return 24
	}
	return 56
}

// cohort is the percent at which a client is moved from a region, less one.
func cohort(client netip.Addr, region string) int {
	bits := uint64(0)
	for _, octet := range client.AsSlice()[:bitsMoved(client)/8] {
		bits = bits<<8 | uint64(octet)
	}
	if client.Is6() {
		bits |= 1 << 63
	}
	name := fnv.New64a()
	name.Write([]byte(region))
	x := bits ^ name.Sum64()
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	x ^= x >> 31
	return int(x >> 32 * 100 >> 32)
}

// newWorld makes regions and services in random moods, for steered names of a zone
// that has these owners already, and the records of those names.
func newWorld(random *rand.Rand, owners []string) (w *world, text string, all []string) {
	w = &world{moods: make(map[string]mood)}
	text, steered := steeredNames(random, owners)
	for range worldRegions {
		w.standby = append(w.standby, random.IntN(2) == 0)
	}
	w.services = []worldService{{regions: []int{0, 1, 2, 3}, ttl: worldTTL, last: "any"}}
	for i, names := range [][]string{slices.Compact([]string{steered[0], "*.w.example."}), {"*.example."}} {
		if random.IntN(3) == 0 {
			continue
		}
		s := worldService{name: fmt.Sprintf("s%d", i), names: names, failover: random.IntN(3) == 0, ttl: []uint32{7, worldTTL, 300}[random.IntN(3)]}
		s.regions = random.Perm(worldRegions)[:1+random.IntN(worldRegions)]
		s.last = []string{"any", "none", worldRegion(random.IntN(worldRegions))}[random.IntN(3)]
		w.services = append(w.services, s)
	}
	gloom, dusk := random.Float64(), random.IntN(3) == 0 // or standby regions alone are left
	for _, s := range w.services {
		for i := range worldRegions {
			key := worldRegion(i)
			if s.name != "" {
				key = s.name + "/" + key
			}
			w.moods[key] = randomMood(random, gloom)
			if dusk && s.name == "" {
				w.moods[key] = mood{down: !w.standby[i], away: random.IntN(100), hold: random.IntN(4) == 0, ramped: 100}
			}
		}
		gloom *= random.Float64()
	}
	return w, text, append(steered, owners...)
}

func randomMood(random *rand.Rand, gloom float64) mood {
	m := mood{ramped: 100}
	if random.Float64() < gloom {
		m.away = []int{100, 100, 1 + random.IntN(99)}[random.IntN(3)]
	} else if random.IntN(4) == 0 {
		m.begins = 1 + random.IntN(40)
	}
	if random.Float64() < gloom {
		switch random.IntN(3) {
		case 0:
			m.down = true
		case 1:
			m.hold = true
		case 2:
			m.ramped = random.IntN(100)
		}
	}
	return m
}

// steeredNames writes records of steered names, and some that lead to them.
func steeredNames(random *rand.Rand, owners []string) (text string, steered []string) {
	var b strings.Builder
	steered = []string{"s.example.", "t.example.", "*.w.example.", "u.s.example."}
	random.Shuffle(len(steered), func(i, j int) { steered[i], steered[j] = steered[j], steered[i] })
	for _, owner := range steered {
		some := random.Perm(worldRegions)[:2+random.IntN(worldRegions-1)]
		if form := random.IntN(5); form > 1 {
			byAddress(random, &b, owner, some)
		} else {
			targets := [][]string{steered, owners}[random.IntN(2)]
			for _, i := range some {
				rdata := []string{fmt.Sprintf("MX %d %s\n%s TXT %[1]d", i, near(random, steered), worldRegion(i)+"._region."+owner), "CNAME " + near(random, targets)}[form]
				fmt.Fprintf(&b, "%s._region.%s %s\n", worldRegion(i), owner, rdata)
			}
		}
	}
	fmt.Fprintf(&b, "al.example. CNAME %s\nam.example. CNAME al.example.\ndd.example. DNAME w.example.\nmx.example. MX 1 %s\nmx.example. HTTPS 0 %s\n",
		near(random, steered), near(random, steered), near(random, steered))
	return b.String(), append(steered, "al.example.", "am.example.", "x.w.example.", "x.dd.example.", "mx.example.", "r0._region.s.example.", "r0._region.x.w.example.")
}

// byAddress writes addresses in some regions, the second type in fewer perhaps.
func byAddress(random *rand.Rand, b *strings.Builder, owner string, some []int) {
	for n, i := range some {
		fmt.Fprintf(b, "%s A 10.0.%d.1\n", owner, i)
		if random.IntN(2) == 0 {
			fmt.Fprintf(b, "%s A 10.0.%d.2\n", owner, i)
		}
		if n == 0 || random.IntN(2) == 0 {
			fmt.Fprintf(b, "%s 20 AAAA 2001:db8:%x::1\n", owner, i+1)
		}
		if random.IntN(3) == 0 {
			fmt.Fprintf(b, "%s HTTPS 1 . ipv4hint=10.0.%d.1\n", owner, i)
		}
	}
	if random.IntN(3) == 0 {
		fmt.Fprintf(b, "%s HTTPS 2 .\n", owner)
	}
	if random.IntN(2) == 0 {
		fmt.Fprintf(b, "%s TXT static\n", owner)
	}
}

// worldPlaces is the clients map for the regions, which lie on four continents.
var worldPlaces = sync.OnceValues(func() (*Places, error) {
	table, err := regions.New(worldList(make([]bool, worldRegions)))
	if err != nil {
		return nil, err
	}
	db, err := builtin()
	if err != nil {
		return nil, err
	}
	return BuildPlaces(db, table, 8)
})

func worldList(standby []bool) (list []regions.Region) {
	for i, at := range []geo.Point{{Latitude: 39, Longitude: -77}, {Latitude: 53, Longitude: -6}, {Latitude: 1, Longitude: 104}, {Latitude: -24, Longitude: -47}} {
		list = append(list, regions.Region{Name: worldRegion(i), Location: at, Standby: standby[i], Prefixes: []netip.Prefix{
			netip.MustParsePrefix(fmt.Sprintf("10.0.%d.0/24", i)), netip.MustParsePrefix(fmt.Sprintf("2001:db8:%d::/48", i+1))}})
	}
	return list
}

// table returns the world as the server has it configured.
func (w *world) table(t testing.TB) *regions.Table {
	table, err := regions.New(worldList(w.standby))
	if err != nil {
		t.Fatal(err)
	}
	var list []regions.Service
	for _, s := range w.services[1:] {
		service := regions.Service{Name: s.name, Names: s.names, Failover: s.failover, TTL: s.ttl, OnExhausted: readExhausted(t, table, s.last)}
		for _, i := range s.regions {
			service.Regions = append(service.Regions, regions.ID(i))
		}
		list = append(list, service)
	}
	table, err = table.With(list, regions.Policy{MaxOut: 100, TTL: worldTTL, Hold: worldHold * time.Second, Ramp: worldRamp * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// state returns the state of a world in these moods.
func (w *world) state(t testing.TB, table *regions.Table) *regions.State {
	h := &health{table: table, inputs: table.NewInputs(), now: worldTime}
	for key, m := range w.moods {
		s := &h.inputs.Subjects[table.Index(h.key(t, key))]
		s.Drain.Percent = m.away
		if m.begins > 0 {
			s.Drain = regions.Drain{Percent: 100, At: worldTime.Add(time.Duration(m.begins) * time.Second)}
		}
		switch {
		case m.down:
			s.Votes = map[string]regions.Vote{"a": {Down: true}, "b": {Down: true}, "c": {}}
		case m.hold:
			s.Record = regions.Record{From: regions.Down, Since: worldTime.Add(-worldHold / 2 * time.Second)}
		case m.ramped < 100:
			s.Record = regions.Record{From: regions.Down, Since: worldTime.Add(-time.Duration(worldHold+m.ramped) * time.Second)}
		}
	}
	h.evaluate()
	return h.state
}

// worldTwins loads a zone into a responder and its twin, nil if it breaks a rule.
func worldTwins(t testing.TB, text string, w *world) *bench {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "example.zone"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	table := w.table(t)
	store := zones.NewStore(zones.StoreConfig{Dir: dir, Steering: Steering(table, nil), Log: zerolog.Nop()})
	view := store.Reload()
	if store.Status()[0].State != zones.StateOK {
		return nil
	}
	places, err := worldPlaces()
	if err != nil {
		t.Fatal(err)
	}
	w.places, w.twin = places, &twin{world: w}
	p := dns.NewZoneParser(strings.NewReader(text), "example.", "")
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		w.rrs = append(w.rrs, rr)
		label, owner, labelled := strings.Cut(rr.Header().Name, "._region.")
		if labelled && len(label) == 2 {
			w.rrs = append(w.rrs, owned(owner, []dns.RR{rr})...)
		}
	}
	if p.Err() != nil {
		t.Fatal(p.Err())
	}
	policy := Policy{Believed: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}, NegativeTTL: worldNegativeTTL}
	return &bench{r: newResponder(new(counts), new(atomic.Uint32), DefaultLimits, zerolog.Nop()), snapshot: Compile(view, places, w.state(t, table), policy)}
}
