package regions

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

var now = time.Unix(1e9, 0)

// stateOf evaluates inputs at a moment when nothing is stale.
func stateOf(table *Table, in Inputs) *State {
	return table.Evaluate(in, Clock{Now: now, Back: now})
}

// drainedBy returns the state in which some regions are drained by a percentage.
func drainedBy(table *Table, percent int, some Set) *State {
	in := table.NewInputs()
	for id := range some.All() {
		in.Subjects[id].Drain.Percent = percent
	}
	return stateOf(table, in)
}

// The first of the client's list on the best rung answers. What each rung is made of
// is in dnsserver/testdata/steering-*.txt.
func TestChoose(t *testing.T) {
	table := table(t, 4)
	prefer := []ID{2, 0, 3, 1}
	for _, c := range []struct {
		name                      string
		drained, down, candidates Set
		want                      ID
		none                      bool
	}{
		{name: "the nearest", candidates: 0b1111, want: 2},
		{name: "the nearest that has the type", candidates: 0b1010, want: 3},
		{name: "up before a nearer that is down", down: 0b0100, candidates: 0b1111, want: 0},
		{name: "up before a nearer that is drained", drained: 0b0101, candidates: 0b1111, want: 3},
		{name: "what is up elsewhere does not count", down: 0b0101, candidates: 0b0101, want: 2},
		{name: "down before drained", drained: 0b0100, down: 0b1011, candidates: 0b1111, want: 0},
		{name: "down and drained is drained", drained: 0b0100, down: 0b0110, candidates: 0b0110, want: 1},
		{name: "drained alone", drained: 0b0101, candidates: 0b0101, none: true},
		{name: "all drained", drained: 0b1111, down: 0b1111, candidates: 0b1111, none: true},
		{name: "no candidate", none: true},
	} {
		in := table.NewInputs()
		for id := range c.drained.All() {
			in.Subjects[id].Drain.Percent = 100
		}
		for id := range c.down.All() {
			in.Subjects[id].Votes = votes("d")
		}
		s := stateOf(table, in)
		if got, ok := s.Choose(prefer, c.candidates, Anyone, netip.Addr{}); ok == c.none || got != c.want {
			t.Errorf("%s: %d, %v", c.name, got, ok)
		}
		if left := s.Left(c.candidates, Anyone); (left == 0) != c.none || left&c.drained != 0 {
			t.Errorf("%s: %04b are left", c.name, left)
		}
		if drains := s.Drains(c.candidates, Anyone); drains != (c.none && c.candidates != 0) {
			t.Errorf("%s: drains alone leave nothing is %t", c.name, drains)
		}
	}
}

// clients yields the first addresses of n random networks, half of them IPv4.
func clients(n int) func(yield func(netip.Addr) bool) {
	random := rand.New(rand.NewPCG(7, 8))
	return func(yield func(netip.Addr) bool) {
		for i := range n {
			var b [16]byte
			binary.BigEndian.PutUint64(b[:], random.Uint64()&^0xFF)
			client := netip.AddrFrom16(b)
			if i%2 == 0 {
				client = netip.AddrFrom4([4]byte(b[4:]))
			}
			if !yield(client) {
				return
			}
		}
	}
}

// Of many clients, a share within 1 % of what was asked for is sent away, whether
// their networks are random or neighbours, and independently of other regions.
func TestShares(t *testing.T) {
	table := table(t, 3)
	const many = 100_000
	neighbours := func(yield func(netip.Addr) bool) {
		for i := range many {
			if !yield(netip.AddrFrom4([4]byte{byte(i >> 16), byte(i >> 8), byte(i)})) {
				return
			}
		}
	}
	for name, clients := range map[string]func(func(netip.Addr) bool){"random": clients(many), "neighbours": neighbours} {
		for percent := 1; percent < 100; percent += 14 {
			s := drainedBy(table, percent, 0b011)
			moved, both := 0, 0
			for client := range clients {
				first, _ := s.Choose([]ID{0, 1, 2}, 0b101, Anyone, client)
				second, _ := s.Choose([]ID{1, 0, 2}, 0b110, Anyone, client)
				if first == 2 {
					moved++
					if second == 2 {
						both++
					}
				}
			}
			share := float64(percent) / 100
			if got := float64(moved) / many; math.Abs(got-share) > 0.01 {
				t.Errorf("%d %% of %s clients: %.2f %% are moved", percent, name, 100*got)
			}
			if got := float64(both) / many; math.Abs(got-share*share) > 0.01 {
				t.Errorf("%d %% of %s clients: %.2f %% are moved from two regions, not %.2f %%", percent, name, 100*got, 100*share*share)
			}
		}
	}
}

// Whom a share moves, a larger one moves, too; all are moved by 100 % and none by 0;
// and a network moves as a whole.
func TestSharesGrow(t *testing.T) {
	table := table(t, 2)
	var states [101]*State
	for percent := range states {
		states[percent] = drainedBy(table, percent, 0b01)
	}
	random := rand.New(rand.NewPCG(9, 10))
	for client := range clients(2000) {
		neighbour := client.AsSlice()
		for i := ScopeBits(client) / 8; i < len(neighbour); i++ {
			neighbour[i] = byte(random.Uint32())
		}
		other, _ := netip.AddrFromSlice(neighbour)
		was := ID(0)
		for percent, s := range states {
			got, _ := s.Choose([]ID{0, 1}, 0b11, Anyone, client)
			if got < was || percent == 0 && got != 0 || percent == 100 && got != 1 {
				t.Fatalf("%v is answered with region %d by %d %%, and with %d before", client, got, percent, was)
			}
			if beside, _ := s.Choose([]ID{0, 1}, 0b11, Anyone, other); beside != got {
				t.Fatalf("%d %%: %v goes to %d, and %v of its network to %d", percent, client, got, other, beside)
			}
			was = got
		}
	}
}

// The cohorts are a contract between servers of all versions, and follow the name of
// a region, not its place in the configuration.
func TestCohortsStay(t *testing.T) {
	for _, c := range []struct {
		client, region string
		want           uint8
	}{
		{"86.40.0.0", "eu-west", 24}, {"86.40.0.255", "eu-west", 24}, {"86.40.1.0", "eu-west", 94}, {"86.40.0.0", "us-east", 44},
		{"2a02:8080::", "eu-west", 1}, {"2a02:8080:0:ff::1", "eu-west", 1}, {"::ffff:86.40.0.0", "eu-west", 89}, {"::", "eu-west", 89},
	} {
		if got := bucket(network(netip.MustParseAddr(c.client)), seedOf(c.region)); got != c.want {
			t.Errorf("%s is of cohort %d of %s, not %d", c.client, got, c.region, c.want)
		}
	}
	there, back := made(t, []Region{{Name: "a"}, {Name: "b"}}), made(t, []Region{{Name: "b"}, {Name: "a"}})
	s, turned := drainedBy(there, 50, 0b01), drainedBy(back, 50, 0b10)
	for client := range clients(1000) {
		one, _ := s.Choose([]ID{0, 1}, 0b11, Anyone, client)
		other, _ := turned.Choose([]ID{1, 0}, 0b11, Anyone, client)
		if there.Name(one) != back.Name(other) {
			t.Fatalf("%v goes to %s, or to %s if the configuration lists regions in another order", client, there.Name(one), back.Name(other))
		}
	}
}

// The name itself comes before an asterisk, and a longer asterisk before a shorter one.
func TestServiceOf(t *testing.T) {
	list := []Service{
		{Name: "one", Names: []string{"play.bet.example", "*.Live.bet.example."}},
		{Name: "two", Names: []string{"*.bet.example", "x.live.bet.example", `a\.b.test`}},
		{Name: "three", Names: []string{"*.x.live.bet.example."}},
	}
	table, err := table(t, 1).With(list, Policy{TTL: 30})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]ServiceID{
		"play.bet.example.": 1, "*.live.bet.example.": 1, "y.z.live.bet.example.": 1, "live.bet.example.": 2,
		"x.live.bet.example.": 2, "b.x.live.bet.example.": 3, "x.play.bet.example.": 2, "bet.example.": Anyone,
		"example.": Anyone, ".": Anyone, `y\.live.bet.example.`: 2, `y\.bet.example.`: Anyone, `y\\.bet.example.`: 2,
		`a\.b.test.`: 2, "a.b.test.": Anyone, "ebet.example.": Anyone,
	} {
		if got := table.ServiceOf(name); got != want {
			t.Errorf("%s is of service %d, not %d", name, got, want)
		}
	}
	all, err := table.With([]Service{{Name: "all", Names: []string{"*"}, TTL: 5}}, Policy{TTL: 30})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]ServiceID{"example.": 1, "a.example.": 1, ".": Anyone} {
		if got := all.ServiceOf(name); got != want {
			t.Errorf("%s is of service %d, not %d, where one has *", name, got, want)
		}
	}
	if all.TTL(1) != 5 || all.TTL(Anyone) != 30 || table.TTL(1) != 30 {
		t.Errorf("TTLs are %d, %d, %d", all.TTL(1), all.TTL(Anyone), table.TTL(1))
	}
}

// The digest tells states apart that answer differently, and no others.
func TestDigest(t *testing.T) {
	table, err := table(t, 3).With([]Service{{Name: "casino"}}, Policy{TTL: 30, Hold: time.Minute, Ramp: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[uint64]string)
	for _, c := range []struct {
		name string
		put  func(in *Inputs)
	}{
		{"up", func(*Inputs) {}},
		{"drained", func(in *Inputs) { in.Subjects[0].Drain.Percent = 100 }},
		{"another drained", func(in *Inputs) { in.Subjects[1].Drain.Percent = 100 }},
		{"in a service", func(in *Inputs) { in.Subjects[3].Drain.Percent = 100 }},
		{"partly drained", func(in *Inputs) { in.Subjects[0].Drain.Percent = 50 }},
		{"a little more", func(in *Inputs) { in.Subjects[0].Drain.Percent = 51 }},
		{"down", func(in *Inputs) { in.Subjects[0].Votes = votes("d") }},
		{"on hold", func(in *Inputs) { in.Subjects[0].Record = Record{From: Down, Since: now} }},
		{"up", func(in *Inputs) { in.Subjects[0].Votes = votes("u") }},
		{"up", func(in *Inputs) { in.Subjects[0].Drain = Drain{Percent: 100, At: now.Add(9 * time.Second)} }},
		{"drained", func(in *Inputs) { in.Subjects[0].Drain = Drain{Percent: 100, Reason: "x", By: "y", Force: true} }},
		{"drained", func(in *Inputs) { in.ForcedDrain = 0b001 }},
	} {
		in := table.NewInputs()
		c.put(&in)
		digest := stateOf(table, in).Digest()
		for other, name := range seen {
			if (other == digest) != (name == c.name) {
				t.Errorf("%s has digest %x, and %s has %x", c.name, digest, name, other)
			}
		}
		seen[digest] = c.name
	}
}

func TestDrainedNames(t *testing.T) {
	table, err := table(t, 3).With([]Service{{Name: "sports", Regions: []ID{0}}, {Name: "casino"}}, Policy{TTL: 30})
	if err != nil {
		t.Fatal(err)
	}
	in := table.NewInputs()
	for _, k := range []Key{{Anyone, 1}, {2, 0}, {2, 1}, {1, 2}} {
		in.Subjects[table.Index(k)].Drain.Percent = 100
	}
	in.Subjects[0].Drain.Percent = 99
	in.Subjects[2].Votes = votes("d")
	if got, want := stateOf(table, in).DrainedNames(), []string{"r1", "sports/r2", "casino/r0"}; !slices.Equal(got, want) {
		t.Errorf("drained are %q, not %q", got, want)
	}
}

// farthest returns a state in which the last of 64 regions alone is left, and
// that only as a last resort: the longest way that Choose can go.
func farthest(t testing.TB) (*State, []ID, Set) {
	table := table(t, Max)
	in := table.NewInputs()
	for id := range table.All().All() {
		if id < Max-1 {
			in.Subjects[id].Drain.Percent = 100
		}
	}
	in.Subjects[Max-1].Votes = votes("dd")
	return stateOf(table, in), table.Listed(), table.All()
}

func TestChooseAllocates(t *testing.T) {
	far, prefer, all := farthest(t)
	split := drainedBy(table(t, Max), 99, all)
	client := netip.MustParseAddr("192.0.2.1")
	for _, s := range []*State{far, split} {
		if n := testing.AllocsPerRun(100, func() { s.Choose(prefer, all, Anyone, client) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}

func BenchmarkChoose(b *testing.B) {
	far, _, _ := farthest(b)
	twelve, most := table(b, 12), table(b, Max)
	client := netip.MustParseAddr("192.0.2.1")
	for _, c := range []struct {
		name  string
		state *State
	}{
		{"nearest of 12", drainedBy(twelve, 0, 0)},
		{"nearest of 12, one split", drainedBy(twelve, 50, 0b1)},
		{"nearest of 12, all split", drainedBy(twelve, 50, twelve.All())},
		{"last of 64", far},
		{"last of 64, all split", drainedBy(most, 99, most.All())},
	} {
		b.Run(c.name, func(b *testing.B) {
			order, candidates := c.state.table.Listed(), c.state.table.All()
			b.ReportAllocs()
			for b.Loop() {
				c.state.Choose(order, candidates, Anyone, client)
			}
		})
	}
}
