package dnsserver

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"
)

// TestSteeredTwin asks for steered names in random worlds, in every state that there
// is, and holds the answers, their TTLs and scopes against the twin's.
func TestSteeredTwin(t *testing.T) {
	seen := make(map[string]int)
	for seed := range uint64(1000) {
		compareWorlds(t, seed, seen)
	}
	for _, kind := range []string{"a zone", "class 1", "class 2", "class 3", "class 4", "class 5", "class 6", "class 7", allDrained.text, noneMay.text,
		"split", "failover", "capped", "chain", "a neighbour", "beyond SOURCE"} {
		if seen[kind] < 20 {
			t.Errorf("%s came %d times only", kind, seen[kind])
		}
	}
}

func FuzzSteeredTwin(f *testing.F) {
	f.Add(uint64(1000))
	f.Fuzz(func(t *testing.T, seed uint64) { compareWorlds(t, seed, make(map[string]int)) })
}

func compareWorlds(t *testing.T, seed uint64, seen map[string]int) {
	random := rand.New(rand.NewPCG(seed, 3))
	text, owners := twinZone(random)
	w, more, owners := newWorld(random, owners)
	b := worldTwins(t, text+more, w)
	if b == nil {
		return
	}
	seen["a zone"]++
	for range 30 {
		w.ask(t, b, random, worldQuestion(random, owners), seen)
		if t.Failed() {
			t.Fatalf("seed %d, services %+v, standby %v, moods %+v, in\n%s", seed, w.services[1:], w.standby, w.moods, text+more)
		}
	}
}

// TestEqualInputs: two servers that are in the same world give the same answers, with
// the same digest of their state.
func TestEqualInputs(t *testing.T) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 4))
		text, owners := twinZone(random)
		w, more, owners := newWorld(random, owners)
		one, other := worldTwins(t, text+more, w), worldTwins(t, text+more, w)
		if one == nil {
			continue
		}
		if a, b := one.snapshot.state.Digest(), other.snapshot.state.Digest(); a != b {
			t.Fatalf("seed %d: the digests are %x and %x", seed, a, b)
		}
		for range 20 {
			q, source := worldQuestion(random, owners), worldClient(random)
			if a, b := one.exchange(t, q, source), other.exchange(t, q, source); a.String() != b.String() {
				t.Fatalf("seed %d: %v is answered\n%v\nand\n%v", seed, q.Question[0], a, b)
			}
		}
	}
}

// worldQuestion is a question for a steered name, or one not far from it, perhaps
// with a client subnet.
func worldQuestion(random *rand.Rand, owners []string) *dns.Msg {
	types := []uint16{dns.TypeA, dns.TypeA, dns.TypeA, dns.TypeAAAA, dns.TypeMX, dns.TypeTXT, dns.TypeHTTPS, dns.TypeCNAME, dns.TypeANY}
	q := new(dns.Msg)
	q.SetQuestion(near(random, owners), types[random.IntN(len(types))])
	q.RecursionDesired = false
	if random.IntN(5) > 0 {
		addr := worldClient(random)
		bits := []int{8, 16, 22, 24, 32}[random.IntN(5)]
		if addr.Is6() {
			bits = []int{20, 32, 48, 56, 128}[random.IntN(5)]
		}
		p, _ := addr.Prefix(bits)
		setSubnet(q, p)
	} else {
		edns(q)
	}
	return q
}

// worldClient is any address, now and then one of a special block.
func worldClient(random *rand.Rand) netip.Addr {
	var b [16]byte
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	if random.IntN(3) > 0 {
		b[0] = []byte{10, 1 + byte(random.IntN(223))}[min(random.IntN(8), 1)]
		return netip.AddrFrom4([4]byte(b[:]))
	}
	b[0], b[1] = 0x2a, byte(random.IntN(16))
	if random.IntN(8) == 0 {
		b[0] = 0xfd
	}
	return netip.AddrFrom16(b)
}

// ask compares the answers to one question, and where the scope says that they hold
// for others, theirs.
func (w *world) ask(t *testing.T, b *bench, random *rand.Rand, q *dns.Msg, seen map[string]int) {
	t.Helper()
	source := netip.MustParseAddr([]string{"185.2.100.1", "8.8.8.8", "2a02:8080::1", "127.0.0.1"}[random.IntN(4)])
	got := b.exchange(t, q, source)
	w.source, w.subnet = source, netip.Addr{}
	subnet := subnetOf(q)
	if subnet != nil {
		w.subnet, _ = netip.AddrFromSlice(subnet.Address)
	}
	w.scope, w.ede, w.seen = 0, "", make(map[string]bool)
	want := w.resolve(dns.CanonicalName(q.Question[0].Name), q.Question[0].Qtype)
	want.Response, want.Question = true, q.Question
	scope := 0
	if subnet != nil {
		scope = int(subnetOf(got).SourceScope)
	} else {
		w.scope = 0
	}
	if got.Rcode != want.Rcode || canonicalSet(got.Answer) != canonicalSet(want.Answer) || canonicalSet(got.Ns) != canonicalSet(want.Ns) ||
		canonicalSet(got.Extra) != canonicalSet(want.Extra) || scope != w.scope || reasonOf(got) != w.ede {
		t.Errorf("%s %s of %v and %v: got\n%swant with scope %d and reason %q\n%s", q.Question[0].Name, dns.Type(q.Question[0].Qtype), w.subnet, source,
			inDigsWords(got), w.scope, w.ede, inDigsWords(want))
		return
	}
	for kind := range w.seen {
		seen[kind]++
	}
	if len(want.Answer) > 1 && want.Answer[0].Header().Name != want.Answer[1].Header().Name {
		seen["chain"]++
	}
	switch {
	case subnet == nil:
	case scope > int(subnet.SourceNetmask):
		seen["beyond SOURCE"]++
	default:
		seen["a neighbour"]++
		w.askNeighbour(t, b, random, q, source, got)
	}
}

// askNeighbour asks for another client in the prefix that an answer holds for: it
// must get the same.
func (w *world) askNeighbour(t *testing.T, b *bench, random *rand.Rand, q *dns.Msg, source netip.Addr, got *dns.Msg) {
	t.Helper()
	other := q.Copy()
	subnet := subnetOf(other)
	address := slices.Clone(subnet.Address)
	for bit := int(subnetOf(got).SourceScope); bit < int(subnet.SourceNetmask); bit++ {
		if random.IntN(2) == 0 {
			address[bit/8] ^= 0x80 >> (bit % 8)
		}
	}
	subnet.Address = address
	same := b.exchange(t, other, source)
	if canonicalSet(same.Answer) != canonicalSet(got.Answer) || canonicalSet(same.Ns) != canonicalSet(got.Ns) || subnetOf(same).SourceScope != subnetOf(got).SourceScope {
		t.Errorf("%s %s: an answer does not hold in its scope:\n%sbut\n%s", q.Question[0].Name, dns.Type(q.Question[0].Qtype), inDigsWords(got), inDigsWords(same))
	}
}

// exchange asks by TCP, and by UDP if that has room.
func (b *bench) exchange(t testing.TB, q *dns.Msg, source netip.Addr) *dns.Msg {
	t.Helper()
	wire, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	var buf [wholeTCP]byte
	n := b.r.respond(b.snapshot, buf[:], copy(buf[:], wire), source, true)
	m := new(dns.Msg)
	if err := m.Unpack(buf[:n]); err != nil {
		t.Fatalf("%v: %x", err, buf[:n])
	}
	datagram := make([]byte, udpRoom)
	size := b.r.respond(b.snapshot, datagram, copy(datagram, wire), source, false)
	if datagram[2]&flagTC == 0 && string(datagram[:size]) != string(buf[:n]) {
		t.Errorf("by UDP %x, by TCP %x", datagram[:size], buf[:n])
	}
	return m
}

// subnetOf returns the client subnet in a message, or nil.
func subnetOf(m *dns.Msg) *dns.EDNS0_SUBNET {
	for _, o := range m.IsEdns0().Option {
		if subnet, is := o.(*dns.EDNS0_SUBNET); is {
			return subnet
		}
	}
	return nil
}

// reasonOf returns the extra text of an extended error in a message, or "".
func reasonOf(m *dns.Msg) string {
	for _, o := range m.IsEdns0().Option {
		if reason, is := o.(*dns.EDNS0_EDE); is {
			return reason.ExtraText
		}
	}
	return ""
}
