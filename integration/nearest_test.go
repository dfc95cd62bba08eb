package integration

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/miekg/dns"
	"github.com/oschwald/maxminddb-golang/v2"
)

// The number of client subnets that are asked for, half of them IPv6.
const subnets = 10_000

// configuredDepth is geo.depth's default: how many regions are ranked by
// distance. Those beyond follow in the configured order.
const configuredDepth = 8

// TestNearest asks for thousands of client subnets and compares with an atlas,
// which is slow and obvious and reads the database in its own way.
func TestNearest(t *testing.T) {
	t.Parallel()
	path := sample(t)
	for _, regions := range [][]region{sixRegions, twelveRegions} {
		t.Run(fmt.Sprintf("%d regions", len(regions)), func(t *testing.T) {
			t.Parallel()
			db, err := maxminddb.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			store := newCluster(t, thisMachine, 1)
			s := newServer(t, setup{etcd: store.settings(), database: path, regions: regions})
			a := &atlas{db: db, regions: regions}
			asked := a.subnets(t)

			compareAll(t, s, a, asked)
			// The second is where most clients of the first would go.
			etcd := store.client(t)
			put(t, etcd, "/nearside/regions/us-east/drain", "")
			s.caught(t, put(t, etcd, "/nearside/regions/eu-central/drain", ""))
			a.drained = []string{"us-east", "eu-central"}
			compareAll(t, s, a, asked)
		})
	}
}

// sample returns the path of the sample of DB-IP City.
func sample(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../shared/testdata/geoip/dbip/dbip-city-sample.mmdb")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		t.Skip("the sample of DB-IP City is not on this machine: ../shared/testdata/geoip/dbip")
	}
	return path
}

// TestBadDatabase: a database saved over a good one, then a restart, changes no
// answer.
func TestBadDatabase(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(sample(t))
	if err != nil {
		t.Fatal(err)
	}
	database := filepath.Join(t.TempDir(), "city.mmdb")
	write(t, database, string(content))
	store := newCluster(t, thisMachine, 1)
	s := newServer(t, setup{etcd: store.settings(), database: database})
	before := panel(t, s)
	eventually(t, "the database in data_dir", func() error {
		_, err := os.Stat(s.path("data/geo.mmdb"))
		return err
	})
	write(t, database, string(content[:len(content)/2]))
	eventually(t, "an alarm", func() error {
		if st := s.status(t); len(st.Server.Degraded) == 0 {
			return errors.New("none")
		}
		return nil
	})
	samePanel(t, s, before, "with a damaged database")
	s.stop(t)
	s.launch(t)
	samePanel(t, s, before, "with a damaged database, after a restart")
	st := s.status(t)
	if len(st.Server.Degraded) == 0 {
		t.Error("status hides that the database is damaged")
	}
	if want := s.path("data/geo.mmdb"); st.Geography.File != want {
		t.Errorf("the database in force is %q, want %s", st.Geography.File, want)
	}
}

// compareAll asks for A and AAAA from every subnet and compares the answers.
func compareAll(t *testing.T, s *server, a *atlas, asked []netip.Prefix) {
	t.Helper()
	c := s.client(t, "udp")
	wrong := 0
	for _, subnet := range asked {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
			answer := c.ask(t, "play.bet.example.", qtype, subnet.String())
			if err := a.compare(subnet, answer); err != nil {
				if wrong++; wrong <= 20 {
					t.Errorf("%s from %s: %v", dns.TypeToString[qtype], subnet, err)
				}
			}
		}
	}
	t.Logf("%d regions, drained %v: %d answers, %d wrong", len(a.regions), a.drained, 2*len(asked), wrong)
}

// atlas says where clients are and what is near, by brute force.
type atlas struct {
	db      *maxminddb.Reader
	regions []region
	drained []string
	random  *rand.Rand
}

// subnets picks subnets at random from the networks of the database. Most have
// the lengths that resolvers send, some any length.
func (a *atlas) subnets(t *testing.T) []netip.Prefix {
	var v4, v6 []netip.Prefix
	for result := range a.db.Networks() {
		if _, located := a.place(result); !located {
			t.Fatalf("%s has no coordinates in the sample", result.Prefix())
		}
		if p := result.Prefix(); p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	a.random = rand.New(rand.NewPCG(seed, 0))
	picked := make([]netip.Prefix, subnets)
	for i := range picked {
		from, usual, shortest := v4, 24, 8
		if i%2 == 1 {
			from, usual, shortest = v6, 56, 20
		}
		address := a.within(from[a.random.IntN(len(from))])
		bits := usual
		if a.random.IntN(4) == 0 {
			bits = shortest + a.random.IntN(address.BitLen()-shortest+1)
		}
		picked[i], _ = address.Prefix(bits)
	}
	return picked
}

// within returns a random address of p.
func (a *atlas) within(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= byte(a.random.IntN(2)) << (7 - i%8)
	}
	address, _ := netip.AddrFromSlice(b)
	return address
}

// last returns the last address of p.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	address, _ := netip.AddrFromSlice(b)
	return address
}

// vector is a point on the unit sphere.
type vector [3]float64

func onSphere(latitude, longitude float64) vector {
	sinLat, cosLat := math.Sincos(latitude * math.Pi / 180)
	sinLon, cosLon := math.Sincos(longitude * math.Pi / 180)
	return vector{cosLat * cosLon, cosLat * sinLon, sinLat}
}

// kilometres is the length of the arc between v and w: the angle from the cross
// and the dot product, which is exact for near points and far ones.
func (v vector) kilometres(w vector) float64 {
	cross := vector{v[1]*w[2] - v[2]*w[1], v[2]*w[0] - v[0]*w[2], v[0]*w[1] - v[1]*w[0]}
	dot := v[0]*w[0] + v[1]*w[1] + v[2]*w[2]
	return 6371.0088 * math.Atan2(math.Hypot(math.Hypot(cross[0], cross[1]), cross[2]), dot)
}

// place returns where a network of the database is.
func (a *atlas) place(r maxminddb.Result) (vector, bool) {
	var latitude, longitude *float64
	if r.DecodePath(&latitude, "location", "latitude") != nil || r.DecodePath(&longitude, "location", "longitude") != nil ||
		latitude == nil || longitude == nil {
		return vector{}, false
	}
	return onSphere(*latitude, *longitude), true
}

// preference returns the numbers of the regions in the order in which a client
// should try them, and how far they are; without a place, the configured order.
func (a *atlas) preference(r maxminddb.Result) (order []int, distance []float64) {
	for i := range a.regions {
		order = append(order, i)
	}
	at, located := a.place(r)
	if !located {
		return order, nil
	}
	for _, region := range a.regions {
		distance = append(distance, at.kilometres(onSphere(region.latitude, region.longitude)))
	}
	slices.SortStableFunc(order, func(i, j int) int {
		if distance[i] < distance[j] {
			return -1
		}
		return 1
	})
	slices.Sort(order[min(configuredDepth, len(order)):])
	return order, distance
}

// mustServe reports why the named region is not right for a client at address: another
// region that is not drained is nearer by more than a millimetre.
func (a *atlas) mustServe(address netip.Addr, name string) error {
	order, distance := a.preference(a.lookup(address))
	got := slices.IndexFunc(a.regions, func(r region) bool { return r.name == name })
	if got < 0 || slices.Contains(a.drained, name) {
		return fmt.Errorf("%s is on %s", address, name)
	}
	for _, i := range order {
		if slices.Contains(a.drained, a.regions[i].name) {
			continue
		}
		if i == got || distance != nil && distance[got]-distance[i] <= 1e-6 {
			return nil
		}
		return fmt.Errorf("%s is on %s, though %s comes first (kilometres: %.6v)", address, name, a.regions[i].name, distance)
	}
	return errors.New("every region is drained")
}

// lookup finds an address in the database. Special-purpose blocks say nothing.
func (a *atlas) lookup(address netip.Addr) maxminddb.Result {
	if _, special := specialBlock(address); special {
		return maxminddb.Result{}
	}
	return a.db.Lookup(address)
}

// compare reports what is wrong with an answer for a client subnet.
func (a *atlas) compare(subnet netip.Prefix, answer *dns.Msg) error {
	found := addresses(answer)
	if len(found) != 1 {
		return fmt.Errorf("%d addresses", len(found))
	}
	got := regionOf(a.regions, found[0])
	if err := a.mustServe(subnet.Addr(), got); err != nil {
		return err
	}
	scope, err := echoed(subnet, answer)
	if err != nil {
		return err
	}
	if block, special := specialBlock(subnet.Addr()); special {
		if scope != block.Bits() {
			return fmt.Errorf("scope %d in the special-purpose block %s", scope, block)
		}
		return nil
	}
	covered := netip.PrefixFrom(subnet.Addr(), scope).Masked()
	if scope <= subnet.Bits() {
		for _, address := range []netip.Addr{covered.Addr(), last(covered), a.within(covered), a.within(covered), a.within(covered)} {
			if err := a.mustServe(address, got); err != nil {
				return fmt.Errorf("scope %d is unsound: %w", scope, err)
			}
		}
	}
	if a.tooNarrow(covered) {
		return fmt.Errorf("scope %d is too narrow: the other half of the prefix one bit shorter prefers the same", scope)
	}
	return nil
}

// tooNarrow reports whether every network in the sibling of p, which makes up
// the prefix one bit shorter together with p, has the preference of p.
func (a *atlas) tooNarrow(p netip.Prefix) bool {
	if p.Bits() == 0 {
		return false
	}
	want, _ := a.preference(a.db.Lookup(p.Addr()))
	b := p.Addr().AsSlice()
	b[(p.Bits()-1)/8] ^= 1 << (7 - (p.Bits()-1)%8)
	other, _ := netip.AddrFromSlice(b)
	sibling := netip.PrefixFrom(other, p.Bits())
	for _, block := range special {
		if block.Overlaps(sibling) {
			return false
		}
	}
	for result := range a.db.NetworksWithin(sibling, maxminddb.IncludeNetworksWithoutData()) {
		if order, _ := a.preference(result); !slices.Equal(order, want) {
			return false
		}
	}
	return true
}

// echoed returns the scope of an answer's EDNS Client Subnet, which must repeat
// the family, the source prefix length and the address of the query (RFC 7871,
// section 7.2.1).
func echoed(subnet netip.Prefix, answer *dns.Msg) (scope int, err error) {
	edns := answer.IsEdns0()
	if edns == nil {
		return 0, errors.New("no EDNS in the answer")
	}
	for _, option := range edns.Option {
		if s, ok := option.(*dns.EDNS0_SUBNET); ok {
			address, _ := netip.AddrFromSlice(s.Address)
			if subnet.Addr().Is4() {
				address = address.Unmap()
			}
			if family := 1 + subnet.Addr().BitLen()/128; int(s.Family) != family || address != subnet.Addr() || int(s.SourceNetmask) != subnet.Bits() {
				return 0, fmt.Errorf("the answer's client subnet is %v", s)
			}
			if int(s.SourceScope) > subnet.Addr().BitLen() {
				return 0, fmt.Errorf("scope %d is longer than an address", s.SourceScope)
			}
			return int(s.SourceScope), nil
		}
	}
	return 0, errors.New("no client subnet in the answer")
}

// special is the blocks of the IANA special-purpose registries in which nobody
// has a place (RFC 6890).
var special = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
	"192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
	"::/128", "::1/128", "::ffff:0:0/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001::/23", "2001:db8::/32", "2002::/16",
	"3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10",
)

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func specialBlock(address netip.Addr) (netip.Prefix, bool) {
	for _, block := range special {
		if block.Contains(address) {
			return block, true
		}
	}
	return netip.Prefix{}, false
}

// TestSpecialSubnets: a private subnet says nothing, so the source address
// decides, and the answer holds for the whole block.
func TestSpecialSubnets(t *testing.T) {
	t.Parallel()
	s := newServer(t, setup{etcd: embedded(t)})
	c := s.client(t, "udp")
	for _, block := range special {
		bits := 56
		if block.Addr().Is4() {
			bits = 24
		}
		subnet := netip.PrefixFrom(block.Addr(), max(bits, block.Bits()))
		answer := c.ask(t, "play.bet.example.", dns.TypeA, subnet.String())
		if got := single(t, answer); got != sixRegions[0].name {
			t.Errorf("a client of %s is on %s", subnet, got)
		}
		if scope, err := echoed(subnet, answer); err != nil || scope != block.Bits() {
			t.Errorf("a client of %s: scope %d, %v; want %d", subnet, scope, err, block.Bits())
		}
	}
}
