package dnsserver

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/tools/txtar"
)

// steered is a bench with steered, static, delegated, wildcard and alias names.
const steered = `
-- regions --
us-east 39.04 -77.49 198.51.100.0/26 2001:db8:2::/48
eu-west 53.35 -6.26 192.0.2.0/26 2001:db8:1::/48
-- bet.example.zone --
$TTL 3600
@ IN SOA ns1 hostmaster 1 3600 900 1209600 60
@ IN NS ns1
ns1 IN A 198.51.100.53
play IN A 192.0.2.10
play IN A 198.51.100.10
www IN CNAME play
sub IN NS ns.sub
ns.sub IN A 192.0.2.99
*.w IN A 192.0.2.30
d IN DNAME new
`

func steeredBench(t testing.TB) *bench { return newBench(t, txtar.Parse([]byte(steered))) }

// packet builds a message by hand: header fields, then sections as they are.
func packet(flags, qd, an, ns, ar uint16, body ...[]byte) []byte {
	var m []byte
	for _, v := range []uint16{0xBEEF, flags, qd, an, ns, ar} {
		m = binary.BigEndian.AppendUint16(m, v)
	}
	for _, part := range body {
		m = append(m, part...)
	}
	return m
}

var (
	playA = []byte("\x04play\x03bet\x07example\x00\x00\x01\x00\x01")
	plain = []byte("\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00") // OPT, 1232
	// TSIG of the key "key" and the algorithm hmac-md5: a MAC of two octets
	signed = []byte("\x03key\x00\x00\xfa\x00\xff\x00\x00\x00\x00\x00\x1c\x08hmac-md5\x00" +
		"\x00\x00\x65\x01\x02\x03\x01\x2c\x00\x02\xaa\xbb\x12\x34\x00\x00\x00\x00")
)

// option is an OPT record with one option.
func option(code uint16, data ...byte) []byte {
	o := binary.BigEndian.AppendUint16([]byte("\x00\x00\x29\x04\xd0\x00\x00\x00\x00"), uint16(4+len(data)))
	o = binary.BigEndian.AppendUint16(o, code)
	o = binary.BigEndian.AppendUint16(o, uint16(len(data)))
	return append(o, data...)
}

func TestMalformed(t *testing.T) {
	b := steeredBench(t)
	for _, c := range []struct {
		name string
		msg  []byte
		want int // response code
	}{
		{"empty", nil, silence},
		{"11 octets", make([]byte, 11), silence},
		{"a response", packet(0x8000, 1, 0, 0, 0, playA), silence},
		{"a response that is malformed", packet(0x8000, 7, 0, 0, 0), silence},
		{"well-formed", packet(0, 1, 0, 0, 0, playA), rcodeNoError},
		{"opcode 15", packet(0x7800, 1, 0, 0, 0, playA), rcodeNotImp},
		{"opcode 15, records of any kind", packet(0x7800, 1, 1, 1, 1, playA, plain, plain, plain), rcodeNotImp},
		{"opcode 15, malformed", packet(0x7800, 1, 1, 1, 1, playA, plain, plain[:3]), rcodeNotImp},
		{"header only, no question", packet(0, 0, 0, 0, 0), rcodeFormErr},
		{"two questions", packet(0, 2, 0, 0, 0, playA, playA), rcodeFormErr},
		{"question missing", packet(0, 1, 0, 0, 0), rcodeFormErr},
		{"question cut", packet(0, 1, 0, 0, 0, playA[:len(playA)-1]), rcodeFormErr},
		{"name with a pointer", packet(0, 1, 0, 0, 0, []byte("\xc0\x0c\x00\x01\x00\x01")), rcodeFormErr},
		{"label of type 01", packet(0, 1, 0, 0, 0, []byte("\x41a\x00\x00\x01\x00\x01")), rcodeFormErr},
		{"name of 256 octets", packet(0, 1, 0, 0, 0, longName(256), playA[len(playA)-4:]), rcodeFormErr},
		{"name of 255 octets", packet(0, 1, 0, 0, 0, longName(255), playA[len(playA)-4:]), rcodeRefused},
		{"an answer in the query", packet(0, 1, 1, 0, 0, playA, playA, make([]byte, 6)), rcodeFormErr},
		{"OPT missing", packet(0, 1, 0, 0, 1, playA), rcodeFormErr},
		{"OPT", packet(0, 1, 0, 0, 1, playA, plain), rcodeNoError},
		{"two OPT", packet(0, 1, 0, 0, 2, playA, plain, plain), rcodeFormErr},
		{"OPT of another owner", packet(0, 1, 0, 0, 1, playA, []byte("\x01a"), plain), rcodeFormErr},
		{"OPT owned by a pointer to the root", packet(0, 1, 0, 0, 1, playA, []byte("\xc0\x1c"), plain[1:]), rcodeFormErr},
		{"a record that is not OPT", packet(0, 1, 0, 0, 1, playA, []byte("\x00\x00\x10\x00\x01\x00\x00\x00\x00\x00\x00")), rcodeNoError},
		{"option cut", packet(0, 1, 0, 0, 1, playA, []byte("\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x03\x00\x08\x00")), rcodeFormErr},
		{"option longer than OPT", packet(0, 1, 0, 0, 1, playA, []byte("\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x04\x00\x08\x00\x09")), rcodeFormErr},
		{"unknown option", packet(0, 1, 0, 0, 1, playA, option(65001, 1, 2, 3)), rcodeNoError},
		{"version 1 with rubbish options", packet(0, 1, 0, 0, 1, playA, []byte("\x00\x00\x29\x04\xd0\x00\x01\x00\x00\x00\x01\xff")), rcodeBadVers},
		{"octets after the message", packet(0, 1, 0, 0, 0, playA, []byte("xyz")), rcodeNoError},
		{"TSIG", packet(0, 1, 0, 0, 1, playA, signed), rcodeNotAuth},
		{"OPT and TSIG", packet(0, 1, 0, 0, 2, playA, plain, signed), rcodeNotAuth},
		{"TSIG and OPT", packet(0, 1, 0, 0, 2, playA, signed, plain), rcodeFormErr},
		{"TSIG cut", packet(0, 1, 0, 0, 1, playA, signed[:len(signed)-1]), rcodeFormErr},
		{"TSIG owned by a pointer to itself", packet(0, 1, 0, 0, 1, playA, []byte("\xc0\x22"), signed[5:]), rcodeFormErr},
		{"TSIG owned by a pointer to a label that is none", packet(0, 1, 0, 0, 1, playA, []byte("\xc0\x00"), signed[5:]), rcodeFormErr},
		{"TSIG owned by a pointer to the question", packet(0, 1, 0, 0, 1, playA, []byte("\xc0\x0c"), signed[5:]), rcodeNotAuth},
		{"ECS", packet(0, 1, 0, 0, 1, playA, option(8, 0, 1, 24, 0, 185, 2, 100)), rcodeNoError},
		{"ECS family 0, SOURCE 0", packet(0, 1, 0, 0, 1, playA, option(8, 0, 0, 0, 0)), rcodeNoError},
		{"ECS family 0 with a prefix", packet(0, 1, 0, 0, 1, playA, option(8, 0, 0, 8, 0, 1)), rcodeFormErr},
		{"ECS family 3", packet(0, 1, 0, 0, 1, playA, option(8, 0, 3, 8, 0, 1)), rcodeFormErr},
		{"ECS of 3 octets", packet(0, 1, 0, 0, 1, playA, option(8, 0, 1, 0)), rcodeFormErr},
		{"ECS SOURCE 33", packet(0, 1, 0, 0, 1, playA, option(8, 0, 1, 33, 0, 1, 2, 3, 4, 0)), rcodeFormErr},
		{"ECS SOURCE 129", packet(0, 1, 0, 0, 1, playA, option(8, append([]byte{0, 2, 129, 0}, make([]byte, 17)...)...)), rcodeFormErr},
		{"ECS too few octets", packet(0, 1, 0, 0, 1, playA, option(8, 0, 1, 24, 0, 185, 2)), rcodeFormErr},
		{"ECS too many octets", packet(0, 1, 0, 0, 1, playA, option(8, 0, 1, 24, 0, 185, 2, 100, 0)), rcodeFormErr},
		{"ECS bits after the prefix", packet(0, 1, 0, 0, 1, playA, option(8, 0, 1, 20, 0, 185, 2, 0x68)), rcodeFormErr},
		{"ECS scope in a query", packet(0, 1, 0, 0, 1, playA, option(8, 0, 1, 24, 24, 185, 2, 100)), rcodeFormErr},
		{"two ECS", packet(0, 1, 0, 0, 1, playA, twice(option(8, 0, 1, 24, 0, 185, 2, 100))), rcodeFormErr},
	} {
		buf := make([]byte, udpRoom)
		n := b.r.respond(b.snapshot, buf, copy(buf, c.msg), netip.MustParseAddr("127.0.0.1"), false)
		if c.want == silence || n == 0 {
			if n != 0 || c.want != silence {
				t.Errorf("%s: %d octets of response, want code %d", c.name, n, c.want)
			}
			continue
		}
		m := new(dns.Msg)
		if err := m.Unpack(buf[:n]); err != nil {
			t.Errorf("%s: unreadable response: %v", c.name, err)
		} else if m.Rcode != c.want || m.Id != 0xBEEF || !m.Response {
			t.Errorf("%s: code %s, want %s", c.name, dns.RcodeToString[m.Rcode], dns.RcodeToString[c.want])
		}
	}
}

// The denial of a signed query has no MAC, and comes by TCP if there is no room
// for it (RFC 8945, 5.3.2).
func TestDenial(t *testing.T) {
	b := steeredBench(t)
	buf := make([]byte, wholeTCP)
	ask := func(msg []byte, stream bool) *dns.Msg {
		n := b.r.respond(b.snapshot, buf, copy(buf, msg), netip.MustParseAddr("127.0.0.1"), stream)
		m := new(dns.Msg)
		if err := m.Unpack(buf[:n]); err != nil {
			t.Fatalf("%v: %x", err, buf[:n])
		}
		if m.Rcode != rcodeNotAuth || !stream && n > plainUDP {
			t.Fatalf("%d octets:\n%v", n, m)
		}
		return m
	}
	m := ask(packet(0, 1, 0, 0, 1, playA, signed), false)
	sig := m.IsTsig()
	if sig == nil || sig.Hdr.Name != "key." || sig.Algorithm != "hmac-md5." || sig.TimeSigned != 0x65010203 || sig.Fudge != 300 ||
		sig.MACSize != 0 || sig.OrigId != 0x1234 || sig.Error != dns.RcodeBadKey || sig.OtherLen != 0 {
		t.Errorf("denied by %v", sig)
	}
	long := append(longName(255), signed[5:]...)
	question := append(longName(255), playA[len(playA)-4:]...)
	if m := ask(packet(0, 1, 0, 0, 1, question, long), false); !m.Truncated || len(m.Extra) != 0 {
		t.Errorf("where there is no room:\n%v", m)
	}
	if m := ask(packet(0, 1, 0, 0, 1, question, long), true); m.Truncated || m.IsTsig() == nil {
		t.Errorf("by TCP:\n%v", m)
	}
}

// everything are options that the response has, too.
var everything = [][]byte{option(optionNSID), option(optionECS, 0, 1, 24, 0, 185, 2, 100), option(optionCookie, 1, 2, 3, 4, 5, 6, 7, 8), option(optionKeepalive)}

// joined is the OPT record of a client that takes size octets, with the options
// of others.
func joined(size int, others ...[]byte) []byte {
	opt := slices.Clone(plain)
	for _, o := range others {
		opt = append(opt, o[optSize:]...)
	}
	binary.BigEndian.PutUint16(opt[3:], uint16(size))
	binary.BigEndian.PutUint16(opt[optSize-2:], uint16(len(opt)-optSize))
	return opt
}

// A response by UDP is whole where the client takes as many octets as it has,
// whatever else OPT asks for, and empty where it takes one less.
func TestRoom(t *testing.T) {
	b := newBench(t, txtar.Parse(fmt.Appendf(nil, "-- room.example.zone --\n$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns.else.example.\n@ TXT %s\n",
		strings.Repeat(fmt.Sprintf("%q ", strings.Repeat("t", 199)), 4))))
	buf := make([]byte, wholeTCP)
	ask := func(size int, options [][]byte, stream bool) (n int, truncated bool) {
		query := packet(0, 1, 0, 0, 1, []byte("\x04room\x07example\x00\x00\x10\x00\x01"), joined(size, options...))
		n = b.r.respond(b.snapshot, buf, copy(buf, query), rfc9018Addr, stream)
		return n, buf[2]&flagTC != 0
	}
	for _, options := range [][][]byte{nil, everything[:1], everything[1:2], everything[2:3], everything[:3]} {
		whole, _ := ask(0, options, true)
		for size := range safeUDP + 1 {
			n, truncated := ask(size, options, false)
			if fits := whole <= size; truncated == fits || fits && n != whole || n > max(size, plainUDP) {
				t.Fatalf("options %x: %d octets, TC %v, where %d are whole and %d are taken", options, n, truncated, whole, size)
			}
		}
	}
}

// A response by TCP has 65535 octets at most, whatever OPT asks for: chains and
// their last RRsets come to just less, and to just more.
func TestRoomByTCP(t *testing.T) {
	const names, links, records = 70, 3, 249
	var zone strings.Builder
	zone.WriteString("-- room.example.zone --\n$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns.else.example.\n")
	label := strings.Repeat("a", 62)
	for i := range names {
		link := func(n int) string { return fmt.Sprintf("%d%s.%[2]s.%[2]s.n%[3]d", n, label, i) }
		fmt.Fprintf(&zone, "c%d CNAME %s\n", i, link(1))
		for n := range links - 1 {
			fmt.Fprintf(&zone, "%s CNAME %s\n", link(n+1), link(n+2))
		}
		fmt.Fprintf(&zone, "%s TXT %q\n", link(links), strings.Repeat("t", 60+i))
		for n := range records {
			fmt.Fprintf(&zone, "%s TXT \"%03d%s\"\n", link(links), n, strings.Repeat("t", 245))
		}
	}
	b := newBench(t, txtar.Parse([]byte(zone.String())))
	buf := make([]byte, wholeTCP)
	for _, options := range [][][]byte{nil, everything[:1], everything[1:2], everything[2:3], everything[3:], everything} {
		largest, truncated := 0, 0
		for i := range names {
			query := packet(0, 1, 0, 0, 1, fmt.Appendf(nil, "%cc%d\x04room\x07example\x00\x00\x10\x00\x01", 1+len(fmt.Sprint(i)), i), joined(0, options...))
			largest = max(largest, b.r.respond(b.snapshot, buf, copy(buf, query), rfc9018Addr, true))
			if buf[2]&flagTC != 0 {
				truncated++
			}
		}
		if largest != wholeTCP || truncated == 0 || b.counted(countPanics) > 0 {
			t.Errorf("options %x: %d octets at the most, %d of %d truncated", options, largest, truncated, names)
		}
	}
}

// longName is a wire name of n octets.
func longName(n int) []byte {
	var name []byte
	for left := n - 1; left > 0; {
		label := min(left-1, 63)
		if left-1-label == 1 {
			label-- // no room would be left for another label
		}
		name = append(name, byte(label))
		name = append(name, make([]byte, label)...)
		left -= 1 + label
	}
	return append(name, 0)
}

// twice doubles the one option of an OPT record.
func twice(opt []byte) []byte {
	length := 2 * (len(opt) - 11)
	opt = append(opt, opt[11:]...)
	binary.BigEndian.PutUint16(opt[9:], uint16(length))
	return opt
}

// FuzzRespond sends what it likes. Whatever comes back must be a response that
// can be read, fits the limits and echoes the query's id and question.
func FuzzRespond(f *testing.F) {
	b := steeredBench(f)
	f.Add(packet(0, 1, 0, 0, 0, playA), false)
	f.Add(packet(0x0110, 1, 0, 0, 1, playA, plain), true)
	f.Add(packet(0, 1, 0, 0, 1, playA, option(8, 0, 1, 24, 0, 185, 2, 100)), false)
	f.Add(packet(0, 1, 0, 0, 0, []byte("\x01x\x03sub\x03bet\x07example\x00\x00\x01\x00\x01")), false)
	f.Add(packet(0, 1, 0, 0, 0, []byte("\x01x\x01w\x03bet\x07example\x00\x00\x01\x00\xff")), false)
	f.Add(packet(0, 1, 0, 0, 0, []byte("\x01x\x01d\x03bet\x07example\x00\x00\xff\x00\x01")), true)
	f.Add(packet(0, 1, 0, 0, 2, playA, plain, signed), false)
	f.Add(packet(0, 1, 0, 0, 1, playA, []byte("\xc0\x0c"), signed[5:]), true)
	f.Add(packet(0x2800, 1, 1, 1, 1, playA, plain, plain, plain), false)
	f.Add(packet(0, 0, 0, 0, 1, option(optionCookie, 1, 2, 3, 4, 5, 6, 7, 8)), false)
	f.Add(packet(0, 1, 0, 1, 0, []byte("\x03bet\x07example\x00\x00\xfb\x00\x01"), signed), true)
	f.Add(packet(0, 1, 0, 0, 0, []byte("\x05state\x08nearside\x00\x00\x10\x00\x03")), false)
	from := netip.MustParseAddr("192.0.2.1")
	f.Fuzz(func(t *testing.T, msg []byte, stream bool) {
		size := udpRoom
		if stream {
			size = wholeTCP
		}
		if len(msg) > size {
			return
		}
		buf := make([]byte, size)
		n := b.r.respond(b.snapshot, buf, copy(buf, msg), from, stream)
		if b.counted(countPanics) > 0 {
			t.Fatal("panic")
		}
		if n == 0 {
			return
		}
		if limit := takes(msg); !stream && n > limit {
			t.Fatalf("%d octets over UDP, where %d are the limit", n, limit)
		}
		m := new(dns.Msg)
		if err := m.Unpack(buf[:n]); err != nil {
			t.Fatalf("unreadable response %x: %v", buf[:n], err)
		}
		if m.Id != binary.BigEndian.Uint16(msg) || !m.Response {
			t.Fatalf("not a response to the query: %v", m)
		}
		// Sent from our own address, it comes to us, and that is the end of it.
		if again := b.r.respond(b.snapshot, buf, n, from, stream); again != 0 {
			t.Fatalf("our own response is answered: %x", buf[:again])
		}
	})
}

// FuzzParse holds the parser to the library's: what it takes has a name, type and
// EDNS that the library reads in the same way, and what it takes it takes again.
func FuzzParse(f *testing.F) {
	f.Add(packet(0, 1, 0, 0, 0, playA))
	f.Add(packet(0, 1, 0, 0, 1, playA, plain))
	f.Add(packet(0, 1, 0, 0, 2, []byte("\x04PLAY\x03bet\x00\x00\x1c\x00\x01"), option(65001, 1, 2), signed))
	f.Add(packet(0, 1, 0, 0, 2, playA, playA, make([]byte, 6), plain))
	f.Add(packet(0, 0, 0, 0, 1, option(optionCookie, 1, 2, 3, 4, 5, 6, 7, 8)))
	f.Add(packet(0, 1, 0, 0, 0, longName(255), playA[len(playA)-4:]))
	f.Fuzz(func(t *testing.T, msg []byte) {
		if len(msg) < headerSize || msg[2]&maskOpcode != 0 {
			return
		}
		var q query
		q.nameBuf[0] = 0xFF // what is left of the query before
		if !q.parse(msg) || q.end == 0 {
			return
		}
		name, end, err := dns.UnpackDomainName(msg, headerSize)
		wire := make([]byte, maxName)
		if err == nil {
			_, err = dns.PackDomainName(dns.CanonicalName(name), wire, 0, nil, false)
		}
		if err != nil || string(wire[:q.nameLen]) != string(q.name()) || end+questionFix != q.end {
			t.Fatalf("name %x, the library reads %q (%v)", q.name(), name, err)
		}
		m := new(dns.Msg)
		if err := m.Unpack(msg); err != nil {
			return // it looks into records that are none of our business
		}
		if o := m.IsEdns0(); q.edns != (o != nil) || q.edns && (q.size != o.UDPSize() || q.version != o.Version() || q.do != o.Do()) {
			t.Fatalf("EDNS %v, the library reads %v", q.opt, o)
		}
		if (m.IsTsig() != nil) != (q.denial.n > 0) {
			t.Fatalf("signed %v, the library reads %v", q.denial.n > 0, m.IsTsig())
		}
	})
}

// FuzzSubnet holds ECS to its rules, told in the words of netip.
func FuzzSubnet(f *testing.F) {
	f.Add([]byte{0, 1, 24, 0, 185, 2, 100})
	f.Add([]byte{0, 1, 20, 0, 185, 2, 0x60})
	f.Add([]byte{0, 1, 0, 0})
	f.Add([]byte{0, 0, 0, 0})
	f.Add(append([]byte{0, 2, 128, 0}, make([]byte, 16)...))
	f.Add([]byte{0, 2, 32, 0, 0x2a, 0, 0x23, 0xc5})
	f.Fuzz(func(t *testing.T, data []byte) {
		e := clientSubnet{octets: 16, hi: 1 << 56, lo: 1} // what is left of the query before
		ok := e.parse(data)
		if want := wellFormed(data); ok != want {
			t.Fatalf("taken: %v, want %v", ok, want)
		}
		if !ok {
			return
		}
		var octets [16]byte
		copy(octets[:], data[4:])
		want := clientAt(netip.AddrFrom16(octets))
		if e.family == 1 {
			want = clientAt(netip.AddrFrom4([4]byte(octets[:4])))
		}
		if want.known = e.source > 0; e.client() != want {
			t.Fatalf("%+v has the address %+v, want %+v", e, e.client(), want)
		}
		answer := e.append(nil, 17)
		if len(answer) != e.wireSize() {
			t.Fatalf("%d octets, told were %d", len(answer), e.wireSize())
		}
		if want := append([]byte{data[0], data[1], data[2], 17}, data[4:]...); string(answer[4:]) != string(want) {
			t.Fatalf("%x comes back as %x, want %x", data, answer[4:], want)
		}
	})
}

// wellFormed is RFC 7871, section 6, for a query.
func wellFormed(data []byte) bool {
	if len(data) < 4 || data[3] != 0 {
		return false
	}
	octets := map[uint16]int{0: 0, 1: 4, 2: 16}
	size, known := octets[binary.BigEndian.Uint16(data)]
	source, sent := int(data[2]), data[4:]
	if !known || source > 8*size || len(sent) != (source+7)/8 {
		return false
	}
	if size == 0 {
		return true
	}
	addr, _ := netip.AddrFromSlice(append(sent[:len(sent):len(sent)], make([]byte, size-len(sent))...))
	return netip.PrefixFrom(addr, source).Masked().Addr() == addr
}

// takes is how long a response by UDP may be.
func takes(msg []byte) int {
	q := new(dns.Msg)
	if err := q.Unpack(msg); err != nil {
		return safeUDP // where the library does not read it, we may
	}
	if q.IsEdns0() == nil {
		return plainUDP
	}
	return max(plainUDP, min(safeUDP, int(q.IsEdns0().UDPSize())))
}

func queryFor(t testing.TB, name string, opt []byte) []byte {
	q := new(dns.Msg)
	q.SetQuestion(name, dns.TypeA)
	msg, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if opt != nil {
		msg[11] = 1
	}
	return append(msg, opt...)
}

// BenchmarkRandomNames asks for names that are there and for names that are not:
// a flood of random ones must cost no more than hits. The zone has 100,000 names,
// one of them of as many labels as there can be, so that no name is too long.
func BenchmarkRandomNames(b *testing.B) {
	const names = 100_000
	var zone strings.Builder
	zone.WriteString("-- bet.example.zone --\n$TTL 3600\n@ IN SOA ns1 hostmaster 1 3600 900 1209600 60\n@ IN NS ns1\nns1 IN A 198.51.100.53\n*.wild IN A 192.0.2.1\n")
	fmt.Fprintf(&zone, "%sdeep IN A 192.0.2.2\n", strings.Repeat("a.", 115))
	for i := range names {
		fmt.Fprintf(&zone, "n%d IN A 192.0.2.3\n", i)
	}
	bench := newBench(b, txtar.Parse([]byte(zone.String())))
	from := netip.MustParseAddr("185.2.100.1")
	for _, c := range []struct {
		name  string
		qname func(random *rand.Rand) string
	}{
		{"hit", func(random *rand.Rand) string { return fmt.Sprintf("n%d.bet.example.", random.IntN(names)) }},
		{"NXDOMAIN", func(random *rand.Rand) string { return fmt.Sprintf("n%d.bet.example.", names+random.Uint32()) }},
		{"NXDOMAIN below a hit", func(random *rand.Rand) string {
			return fmt.Sprintf("x%d.n%d.bet.example.", random.Uint32(), random.IntN(names))
		}},
		{"wildcard", func(random *rand.Rand) string { return fmt.Sprintf("x%d.wild.bet.example.", random.Uint32()) }},
		{"NXDOMAIN of 110 labels", func(random *rand.Rand) string {
			return fmt.Sprintf("x%d.%sbet.example.", random.Uint32(), strings.Repeat("b.", 107))
		}},
		{"wildcard of 110 labels", func(random *rand.Rand) string {
			return fmt.Sprintf("x%d.%swild.bet.example.", random.Uint32(), strings.Repeat("b.", 106))
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			random := rand.New(rand.NewPCG(1, 2))
			queries := make([][]byte, 1<<14)
			for i := range queries {
				queries[i] = queryFor(b, c.qname(random), nil)
			}
			buf := make([]byte, udpRoom)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				bench.r.respond(bench.snapshot, buf, copy(buf, queries[i%len(queries)]), from, false)
			}
		})
	}
}
