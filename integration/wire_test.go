package integration

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// messageZone is what messages ask about.
const messageZone = `$ORIGIN msg.example.
$TTL 3600
@ IN SOA ns1 hostmaster 1 3600 900 1209600 60
@ IN NS ns1
@ IN NS ns2
ns1 IN A 198.51.100.53
ns2 IN A 203.0.113.53
www IN A 198.51.100.1
txt IN TXT "hello"
big IN TXT "%[1]s" "%[1]s" "%[1]s" "%[1]s"
huge IN TXT "%[1]s" "%[1]s" "%[1]s" "%[1]s" "%[1]s" "%[1]s" "%[1]s" "%[1]s"
sub IN NS ns.sub
ns.sub IN A 192.0.2.99
`

func messageZoneText() string { return fmt.Sprintf(messageZone, strings.Repeat("x", 250)) }

// newMessageServer starts a server of that zone alone. more is what the section
// server has besides.
func newMessageServer(t testing.TB, h host, more string) *server {
	t.Helper()
	s := &server{host: h, dir: t.TempDir(), address: loopback(t), admin: loopback(t)}
	if err := os.Mkdir(s.path("zones"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, s.path("zones/msg.example.zone"), messageZoneText())
	write(t, s.path("nearside.yaml"), fmt.Sprintf(unindent(`
		server: {id: ns1, listen: [%q]%s}
		admin: {listen: %q}
		data_dir: data
		zones: {dir: zones}
		`), s.address, more, s.admin))
	s.launch(t)
	return s
}

// A message is written in words, nearly those of dig:
//
//	NAME TYPE              the question
//	+qr +aa +tc +rd +ra +z +ad +cd, +opcode=N +rcode=N +class=N
//	+edns[=VERSION] +bufsize=N +do +ednsflags=N +ednsopt=CODE[:HEX]
//	+qd=N +an=N +ns=N +ar=N   counts that are not true
//	+answer=WHAT +authority=WHAT +additional=WHAT   a record: see pieces, or HEX
//	+question=HEX          another question, as it is
//	+cut=N +trailing=HEX   octets less or more at the end
//	+tcp                   how it goes
type message struct {
	wire   []byte
	stream bool
}

// pieces are records that a query seldom brings.
var pieces = map[string]string{
	"a":            "\x03www\x03msg\x07example\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04\x01\x02\x03\x04",
	"soa":          "\xc0\x0c\x00\x06\x00\x01\x00\x00\x00\x00\x00\x16\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
	"opt":          "\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00",
	"owned-opt":    "\x03www\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00",
	"long-opt":     "\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x09",
	"tsig":         "\x03key\x00\x00\xfa\x00\xff\x00\x00\x00\x00\x00\x3d\x0bhmac-sha256\x00\x00\x00\x65\x00\x00\x00\x01\x2c\x00\x20" + "0123456789abcdef0123456789abcdef" + "\x11\x11\x00\x00\x00\x00",
	"short-tsig":   "\x03key\x00\x00\xfa\x00\xff\x00\x00\x00\x00\x00\x04\x01\x02\x03\x04",
	"pointed-tsig": "\xc0\x0c\x00\xfa\x00\xff\x00\x00\x00\x00\x00\x3d\x0bhmac-sha256\x00\x00\x00\x65\x00\x00\x00\x01\x2c\x00\x20" + "0123456789abcdef0123456789abcdef" + "\x11\x11\x00\x00\x00\x00",
	"tsig-in":      "\x03key\x00\x00\xfa\x00\x01\x00\x00\x00\x00\x00\x3d\x0bhmac-sha256\x00\x00\x00\x65\x00\x00\x00\x01\x2c\x00\x20" + "0123456789abcdef0123456789abcdef" + "\x11\x11\x00\x00\x00\x00",
}

const (
	messageID  = 0x1111
	sentinelID = 0x2222 // of the query after it
)

// assembly is a message while its words are read.
type assembly struct {
	header   [12]byte
	class    uint16
	sections [4][]byte
	counts   [4]int
	told     map[string]int // counts that are not true, by their word
	opt      *dns.OPT
	cut      int
	trailing []byte
	stream   bool
}

// parseMessage makes a message of words.
func parseMessage(t testing.TB, text string) message {
	t.Helper()
	a := assembly{class: dns.ClassINET, told: map[string]int{}}
	binary.BigEndian.PutUint16(a.header[:], messageID)
	words := strings.Fields(text)
	asked := min(len(words), 2)
	if asked > 0 && words[0][0] == '+' {
		asked = 0
	}
	for _, w := range words[asked:] {
		word, value, _ := strings.Cut(w[1:], "=")
		if !a.flag(word) && !a.edns(t, word, value) && !a.piece(t, word, value) {
			t.Fatalf("%s: no such word: %s", text, w)
		}
	}
	if asked > 0 {
		a.add(0, questionOf(t, words[0], words[1], a.class))
	}
	return message{a.wire(t), a.stream}
}

// flag takes a bit of the header, and the way the message goes.
func (a *assembly) flag(word string) bool {
	bits := map[string]uint16{"qr": 0x8000, "aa": 0x400, "tc": 0x200, "rd": 0x100, "ra": 0x80, "z": 0x40, "ad": 0x20, "cd": 0x10}
	if word == "tcp" {
		a.stream = true
		return true
	}
	bit, known := bits[word]
	binary.BigEndian.PutUint16(a.header[2:], binary.BigEndian.Uint16(a.header[2:])|bit)
	return known
}

// edns takes what stands in the OPT record, which is there if any of it is.
func (a *assembly) edns(t testing.TB, word, value string) bool {
	opt := a.opt
	if opt == nil {
		opt = &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
		opt.SetUDPSize(1232)
	}
	switch word {
	case "edns":
		if value != "" {
			opt.SetVersion(uint8(number(t, value)))
		}
	case "bufsize":
		opt.SetUDPSize(uint16(number(t, value)))
	case "do":
		opt.SetDo()
	case "ednsflags":
		opt.Hdr.Ttl |= uint32(number(t, value))
	case "ednsopt":
		code, data, _ := strings.Cut(value, ":")
		opt.Option = append(opt.Option, &dns.EDNS0_LOCAL{Code: uint16(number(t, code)), Data: unhex(t, data)})
	default:
		return false
	}
	a.opt = opt
	return true
}

// piece takes everything else.
func (a *assembly) piece(t testing.TB, word, value string) bool {
	switch word {
	case "opcode":
		a.header[2] |= byte(number(t, value)) << 3
	case "rcode":
		a.header[3] |= byte(number(t, value))
	case "class":
		a.class = uint16(number(t, value))
	case "qd", "an", "ns", "ar":
		a.told[word] = number(t, value)
	case "question":
		a.add(0, unhex(t, value))
	case "answer", "authority", "additional":
		record, known := pieces[value]
		if !known {
			record = string(unhex(t, value))
		}
		a.add(map[string]int{"answer": 1, "authority": 2, "additional": 3}[word], []byte(record))
	case "cut":
		a.cut = number(t, value)
	case "trailing":
		a.trailing = unhex(t, value)
	default:
		return false
	}
	return true
}

func (a *assembly) add(section int, piece []byte) {
	a.sections[section] = append(a.sections[section], piece...)
	a.counts[section]++
}

// wire puts the parts together. OPT is the first additional record: a TSIG stays
// the last.
func (a *assembly) wire(t testing.TB) []byte {
	if a.opt != nil {
		record := make([]byte, dns.MaxMsgSize)
		n, err := dns.PackRR(a.opt, record, 0, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		a.sections[3] = append(record[:n:n], a.sections[3]...)
		a.counts[3]++
	}
	m := a.header[:]
	for i, word := range []string{"qd", "an", "ns", "ar"} {
		if n, is := a.told[word]; is {
			a.counts[i] = n
		}
		binary.BigEndian.PutUint16(m[4+2*i:], uint16(a.counts[i]))
	}
	m = append(m, slices.Concat(a.sections[:]...)...)
	return append(m[:len(m)-a.cut], a.trailing...)
}

// questionOf is a question on the wire.
func questionOf(t testing.TB, name, qtype string, class uint16) []byte {
	t.Helper()
	code, known := dns.StringToType[qtype]
	if !known {
		code = uint16(number(t, strings.TrimPrefix(qtype, "TYPE")))
	}
	wire := make([]byte, 300)
	n, err := dns.PackDomainName(name, wire, 0, nil, false)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(wire[:n], code), class)
}

func number(t testing.TB, text string) int {
	t.Helper()
	n, err := strconv.ParseUint(text, 0, 16)
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	wire, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

// tell sends the message and says what came back, in one line. It needs no time
// to hear silence: an ordinary query follows on the same socket, and is answered.
func (m message) tell(t testing.TB, h host, to netip.AddrPort) string {
	t.Helper()
	network := "udp"
	if m.stream {
		network = "tcp"
	}
	conn, err := h.dial(network, to)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	sentinel := new(dns.Msg)
	sentinel.SetQuestion("ns1.msg.example.", dns.TypeA)
	sentinel.Id = sentinelID
	after, err := sentinel.Pack()
	if err != nil {
		t.Fatal(err)
	}
	c := &dns.Conn{Conn: conn, UDPSize: dns.MaxMsgSize}
	for _, wire := range [][]byte{m.wire, after} {
		_, _ = c.Write(wire) // a connection that was closed shows at the read
	}
	got := "silence"
	for {
		wire, err := c.ReadMsgHeader(nil)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return got + ", then for ever"
		case err != nil:
			return got + ", then closed"
		case binary.BigEndian.Uint16(wire) == sentinelID:
			return got
		}
		got = describe(wire)
	}
}

// describe is a response in a line: code, flags, OPT, and how many records.
func describe(wire []byte) string {
	r := new(dns.Msg)
	if err := r.Unpack(wire); err != nil {
		return fmt.Sprintf("unreadable: %v: %x", err, wire)
	}
	opt := r.IsEdns0()
	words := []string{dns.RcodeToString[r.Rcode]}
	if r.Rcode == dns.RcodeBadVers {
		words[0] = "BADVERS" // the library says BADSIG, which has the same number
	}
	for _, flag := range []struct {
		set  bool
		name string
	}{{!r.Response, "no-qr"}, {r.Authoritative, "aa"}, {r.Truncated, "tc"}, {r.RecursionDesired, "rd"}, {r.RecursionAvailable, "ra"},
		{r.Zero, "z"}, {r.AuthenticatedData, "ad"}, {r.CheckingDisabled, "cd"}} {
		if flag.set {
			words = append(words, flag.name)
		}
	}
	if r.Opcode != 0 {
		words = append(words, fmt.Sprint("opcode=", r.Opcode))
	}
	if opt != nil {
		text := fmt.Sprintf("edns=%d,%d", opt.Version(), opt.UDPSize())
		if opt.Hdr.Ttl&0xFFFF != 0 {
			text += fmt.Sprintf(",flags=%#x", opt.Hdr.Ttl&0xFFFF)
		}
		for _, o := range opt.Option {
			text += fmt.Sprintf(",option=%d", o.Option())
		}
		words = append(words, text)
	}
	additional := len(r.Extra)
	for _, rr := range r.Extra {
		if sig, is := rr.(*dns.TSIG); is {
			words = append(words, fmt.Sprintf("tsig=%s,error=%d,mac=%d", sig.Hdr.Name, sig.Error, sig.MACSize))
			additional--
		}
	}
	if opt != nil {
		additional--
	}
	if len(r.Question) != 1 {
		words = append(words, fmt.Sprint("questions=", len(r.Question)))
	}
	for i, n := range []int{len(r.Answer), len(r.Ns), additional} {
		if n > 0 {
			words = append(words, fmt.Sprintf("%s=%d", []string{"answer", "authority", "additional"}[i], n))
		}
	}
	return strings.Join(words, " ")
}

// longName is a name of n octets in hexadecimal digits.
func longName(n int) string {
	var name strings.Builder
	for left := n - 1; left > 0; {
		label := min(left-1, 63)
		if left-1-label == 1 {
			label-- // no room would be left for another label
		}
		fmt.Fprintf(&name, "%02x%s", label, strings.Repeat("61", label))
		left -= 1 + label
	}
	return name.String() + "00"
}

// zeros is n octets in hexadecimal digits.
func zeros(n int) string { return strings.Repeat("00", n) }
