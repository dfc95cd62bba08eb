package main

import (
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/oschwald/maxminddb-golang/v2"
)

// reply is the answer to a question, as a server with a compressing writer or
// one without makes it.
func reply(t testing.TB, wire []byte, compress bool, change func(*dns.Msg)) []byte {
	t.Helper()
	var query dns.Msg
	if err := query.Unpack(wire); err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg).SetReply(&query)
	m.Authoritative = true
	m.Compress = compress
	m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: query.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 30}, A: net.IP{192, 0, 2, 1}}}
	m.SetEdns0(udpSize, false)
	if change != nil {
		change(m)
	}
	out, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCheck(t *testing.T) {
	want := []byte{192, 0, 2, 1}
	q := newQuestion("play.bet.example.", typeA, netip.MustParsePrefix("86.40.0.0/13"), want)
	var query dns.Msg
	if err := query.Unpack(q.wire); err != nil {
		t.Fatal(err)
	}
	subnet, ok := query.IsEdns0().Option[0].(*dns.EDNS0_SUBNET)
	if !ok || !subnet.Address.Equal(net.IP{86, 40, 0, 0}) || subnet.SourceNetmask != 13 || query.Question[0].Name != "play.bet.example." {
		t.Errorf("the question reads\n%s", &query)
	}
	for _, compress := range []bool{true, false} {
		if !q.check(reply(t, q.wire, compress, nil), want) {
			t.Errorf("compressed %v: right, and not seen to be", compress)
		}
		for name, change := range map[string]func(*dns.Msg){
			"no authority":    func(m *dns.Msg) { m.Authoritative = false },
			"truncated":       func(m *dns.Msg) { m.Truncated = true },
			"an error":        func(m *dns.Msg) { m.Rcode = dns.RcodeServerFailure },
			"a query":         func(m *dns.Msg) { m.Response = false },
			"nothing":         func(m *dns.Msg) { m.Answer = nil },
			"two":             func(m *dns.Msg) { m.Answer = append(m.Answer, m.Answer[0]) },
			"another name":    func(m *dns.Msg) { m.Question[0].Name = "pl.y.bet.example." },
			"another type":    func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA },
			"another address": func(m *dns.Msg) { m.Answer[0].(*dns.A).A = net.IP{192, 0, 2, 2} },
			"another record": func(m *dns.Msg) {
				m.Answer[0] = &dns.TXT{Hdr: dns.RR_Header{Name: "play.bet.example.", Rrtype: dns.TypeTXT, Class: 1}, Txt: []string{"abc"}}
			},
		} {
			if q.check(reply(t, q.wire, compress, change), want) {
				t.Errorf("%s passes", name)
			}
		}
	}
	whole := reply(t, q.wire, true, nil)
	for n := range len(whole) - 11 { // 11 is OPT, which is not looked at
		if q.check(whole[:n], want) {
			t.Errorf("the first %d octets pass", n)
		}
	}
}

func TestHistogram(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var h histogram
	var all []int64
	for range 10_000 {
		ns := random.Int64N(1 << (1 + random.IntN(40)))
		h.add(ns)
		all = append(all, ns)
	}
	slices.Sort(all)
	for _, q := range []float64{0, 0.1, 0.5, 0.99, 0.999} {
		exact, got := all[int(q*float64(len(all)))], int64(h.quantile(q))
		if got > exact || exact-got > exact/64+1 {
			t.Errorf("quantile %v: %d, exactly %d", q, got, exact)
		}
	}
	for ns := int64(1); ns > 0; ns *= 2 {
		for _, n := range []int64{ns - 1, ns, ns + 1, ns * 3 / 2} {
			if f := floor(bucket(n)); n >= 0 && (f > n || n-f > n/64) {
				t.Errorf("%d is counted as %d", n, f)
			}
		}
	}
}

// TestDatabase reads the database with another's reader.
func TestDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "city.mmdb")
	if err := writeDatabase(path); err != nil {
		t.Fatal(err)
	}
	db, err := maxminddb.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Verify(); err != nil {
		t.Error(err)
	}
	for _, c := range newClients(1000) {
		var got struct {
			Country struct {
				Code string `maxminddb:"iso_code"`
			} `maxminddb:"country"`
			Location struct {
				Latitude  float64 `maxminddb:"latitude"`
				Longitude float64 `maxminddb:"longitude"`
			} `maxminddb:"location"`
		}
		result := db.Lookup(c.address)
		if err := result.Decode(&got); err != nil {
			t.Fatal(err)
		}
		off := max(math.Abs(got.Location.Latitude-c.region.Latitude), math.Abs(got.Location.Longitude-c.region.Longitude))
		if got.Country.Code != c.region.Country || off > 2 || result.Prefix().Bits() != networkBits {
			t.Fatalf("%s: %+v in %s, want %s", c.address, got, result.Prefix(), c.region.Country)
		}
	}
}

// TestLoadSeesFaults has a server drop every fifth query, answer every seventh
// wrong, and every third twice.
func TestLoadSeesFaults(t *testing.T) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IP{127, 0, 0, 1}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var dropped, wrong int
	served := make(chan struct{})
	go func() {
		defer close(served)
		buffer := make([]byte, 512)
		for n := 1; ; n++ {
			length, from, err := conn.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			answer := reply(t, buffer[:length], true, nil)
			switch {
			case n%5 == 0:
				dropped++
				continue
			case n%7 == 0:
				wrong++
				answer[3] |= dns.RcodeRefused
			}
			for range 1 + (n+1)%3/2 {
				if _, err := conn.WriteToUDPAddrPort(answer, from); err != nil {
					return
				}
			}
		}
	}()
	here := client{netip.MustParseAddr("127.0.0.1"), region{Address: netip.MustParseAddr("192.0.2.1")}}
	questions := make([]question, 100)
	for i := range questions {
		questions[i] = newQuestion(steeredName(i), typeA, netip.Prefix{}, nil)
	}
	l, err := newLoad([]client{here, here}, conn.LocalAddr().(*net.UDPAddr).AddrPort(), questions)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	seen := 0
	if err := l.open(2000, 200*time.Millisecond, func(int64) { seen++ }); err != nil {
		t.Fatal(err)
	}
	if err := l.settle(); err != nil {
		t.Fatal(err)
	}
	got := l.tally()
	conn.Close()
	<-served
	if got.wrong != wrong || got.lost != dropped || got.sent != got.answered+got.wrong+got.lost || seen != got.answered+got.wrong || got.wrong == 0 || got.lost == 0 {
		t.Errorf("%+v and %d latencies of a server that dropped %d and answered %d wrong", got, seen, dropped, wrong)
	}
	if got.right() == nil {
		t.Error("wrong answers pass")
	}
}

func TestPauses(t *testing.T) {
	s := &server{process: &process{log: filepath.Join(t.TempDir(), "log")}}
	const text = "gc 1 @0.012s 2%: 0.018+1.2+0.61 ms clock, 0.018+0.1/0.5/0+0.61 ms cpu, 4->4->2 MB, 4 MB goal, 0 MB stacks, 0 MB globals, 1 P\n" +
		"an ordinary line\n" +
		"gc 23 @3.100s 0%: 0.5+30+0 ms clock, 0.5+0/1/0+0 ms cpu, 90->91->60 MB, 100 MB goal, 0 MB stacks, 0 MB globals, 1 P (forced)\n"
	if err := os.WriteFile(s.process.log, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := s.pauses(); !slices.Equal(got, []float64{0.018, 0.61, 0.5, 0}) {
		t.Errorf("%v", got)
	}
}
