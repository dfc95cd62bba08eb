package integration

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// conversation is a message, and what nearside answers.
type conversation struct{ why, message, want string }

// conversations go through the standards, section by section.
var conversations = []conversation{
	{"RFC 8906, 8.1.1: SOA of the zone", "msg.example. SOA", "NOERROR aa answer=1"},
	{"RFC 8906, 8.1.2: unknown type", "msg.example. TYPE1000", "NOERROR aa authority=1"},
	{"RFC 8906, 8.1.3.1: CD", "msg.example. SOA +cd", "NOERROR aa cd answer=1"},
	{"RFC 8906, 8.1.3.2: AD", "msg.example. SOA +ad", "NOERROR aa answer=1"},
	{"RFC 8906, 8.1.3.3: the reserved bit", "msg.example. SOA +z", "NOERROR aa answer=1"},
	{"RFC 8906, 8.1.3.4: RD", "msg.example. SOA +rd", "NOERROR aa rd answer=1"},
	{"AA, TC, RA and RCODE in a query", "msg.example. SOA +aa +tc +ra +rcode=5", "NOERROR aa answer=1"},
	{"RFC 8906, 8.1.4: unknown opcode, header alone", "+opcode=15", "NOTIMP opcode=15 questions=0"},
	{"unknown opcode with a question", "msg.example. SOA +opcode=15", "NOTIMP opcode=15"},
	{"unknown opcode with EDNS", "msg.example. SOA +opcode=15 +edns", "NOTIMP opcode=15 edns=0,1232"},
	{"unknown opcode, malformed", "msg.example. SOA +opcode=15 +edns +cut=3", "NOTIMP opcode=15 questions=0"},
	{"unknown opcode and version 1", "msg.example. SOA +opcode=15 +edns=1", "BADVERS opcode=15 edns=0,1232"},
	{"IQUERY", "+opcode=1 +answer=a", "NOTIMP opcode=1 questions=0"},
	{"STATUS", "msg.example. SOA +opcode=2", "NOTIMP opcode=2"},
	{"NOTIFY", "msg.example. SOA +opcode=4 +aa", "NOTIMP opcode=4"},
	{"UPDATE", "msg.example. SOA +opcode=5", "NOTIMP opcode=5"},
	{"UPDATE with records", "msg.example. SOA +opcode=5 +answer=a +authority=a", "NOTIMP opcode=5"},
	{"DSO", "+opcode=6 +tcp", "NOTIMP opcode=6 questions=0"},
	{"RFC 8906, 8.1.5: TCP", "msg.example. SOA +tcp", "NOERROR aa answer=1"},
	{"RFC 8906, 8.2.1: EDNS", "msg.example. SOA +edns", "NOERROR aa edns=0,1232 answer=1"},
	{"RFC 8906, 8.2.2: version 1", "msg.example. SOA +edns=1", "BADVERS edns=0,1232"},
	{"version 255", "msg.example. SOA +edns=255", "BADVERS edns=0,1232"},
	{"RFC 8906, 8.2.3: unknown option", "msg.example. SOA +ednsopt=100", "NOERROR aa edns=0,1232 answer=1"},
	{"unknown option with data", "msg.example. SOA +ednsopt=65001:beef", "NOERROR aa edns=0,1232 answer=1"},
	{"RFC 8906, 8.2.4: unknown flag", "msg.example. SOA +ednsflags=0x40", "NOERROR aa edns=0,1232 answer=1"},
	{"RFC 8906, 8.2.5: version 1 and unknown flag", "msg.example. SOA +edns=1 +ednsflags=0x40", "BADVERS edns=0,1232"},
	{"RFC 8906, 8.2.6: version 1 and unknown option", "msg.example. SOA +edns=1 +ednsopt=100", "BADVERS edns=0,1232"},
	{"RFC 8906, 8.2.7: truncated", "big.msg.example. TXT +bufsize=512 +do", "NOERROR aa tc edns=0,1232,flags=0x8000"},
	{"RFC 8906, 8.2.8: DO", "msg.example. SOA +do", "NOERROR aa edns=0,1232,flags=0x8000 answer=1"},
	{"RFC 8906, 8.2.9: version 1 and DO", "msg.example. SOA +edns=1 +do", "BADVERS edns=0,1232,flags=0x8000"},
	{"RFC 8906, 8.2.10: many options", "msg.example. SOA +ednsopt=3 +ednsopt=9 +ednsopt=8:00011800c00002 +ednsopt=10:0102030405060708", "NOERROR aa edns=0,1232,option=8,option=10,option=3 answer=1"},
	{"buffer of 0", "big.msg.example. TXT +bufsize=0", "NOERROR aa tc edns=0,1232"},
	{"buffer of 511", "big.msg.example. TXT +bufsize=511", "NOERROR aa tc edns=0,1232"},
	{"buffer of 1232", "big.msg.example. TXT +bufsize=1232", "NOERROR aa edns=0,1232 answer=1"},
	{"buffer of 4096, larger answer", "huge.msg.example. TXT +bufsize=4096", "NOERROR aa tc edns=0,1232"},
	{"buffer of 65535, larger answer", "huge.msg.example. TXT +bufsize=65535", "NOERROR aa tc edns=0,1232"},
	{"large answer by TCP with a buffer of 512", "huge.msg.example. TXT +bufsize=512 +tcp", "NOERROR aa edns=0,1232 answer=1"},
	{"no EDNS, larger answer", "big.msg.example. TXT", "NOERROR aa tc"},
	{"two OPT", "msg.example. SOA +additional=opt +additional=opt", "FORMERR edns=0,1232"},
	{"OPT that the root does not own", "msg.example. SOA +additional=owned-opt", "FORMERR"},
	{"OPT in the answer section", "msg.example. SOA +answer=opt", "FORMERR"},
	{"OPT in the authority section", "msg.example. SOA +authority=opt", "FORMERR"},
	{"OPT after another record", "msg.example. SOA +additional=a +additional=opt", "NOERROR aa edns=0,1232 answer=1"},
	{"OPT before another record", "msg.example. SOA +additional=opt +additional=a", "NOERROR aa edns=0,1232 answer=1"},
	{"OPT longer than the message", "msg.example. SOA +additional=long-opt", "FORMERR"},
	{"option longer than OPT", "msg.example. SOA +additional=00002904d000000000000400030005", "FORMERR edns=0,1232"},
	{"half an option", "msg.example. SOA +additional=00002904d0000000000003000300", "FORMERR edns=0,1232"},
	{"no question", "", "FORMERR questions=0"},
	{"no question, EDNS", "+edns", "FORMERR edns=0,1232 questions=0"},
	{"no question, cookie", "+ednsopt=10:0102030405060708", "NOERROR edns=0,1232,option=10 questions=0"},
	{"two questions", "msg.example. SOA +qd=2 +trailing=036d7367076578616d706c650000010001", "FORMERR questions=0"},
	{"two questions told, one there", "msg.example. SOA +qd=2", "FORMERR questions=0"},
	{"65535 questions told", "msg.example. SOA +qd=65535", "FORMERR questions=0"},
	{"a question told, none there", "+qd=1", "FORMERR questions=0"},
	{"question cut", "msg.example. SOA +cut=1", "FORMERR questions=0"},
	{"no QCLASS", "msg.example. SOA +cut=2", "FORMERR questions=0"},
	{"a response", "msg.example. SOA +qr", "silence"},
	{"a response with errors", "+qr +qd=7", "silence"},
	{"a response of another opcode", "msg.example. SOA +qr +opcode=15", "silence"},
	{"a response by TCP", "msg.example. SOA +qr +tcp", "silence"},
	{"octets after the message", "msg.example. SOA +trailing=00", "NOERROR aa answer=1"},
	{"octets after OPT", "msg.example. SOA +edns +trailing=0000", "NOERROR aa edns=0,1232 answer=1"},
	{"an answer in a query", "www.msg.example. A +answer=a", "FORMERR"},
	{"authority in a query", "www.msg.example. A +authority=a", "FORMERR"},
	{"an additional record in a query", "www.msg.example. A +additional=a", "NOERROR aa answer=1"},
	{"an answer told, none there", "www.msg.example. A +an=1", "FORMERR"},
	{"an additional record told, none there", "www.msg.example. A +ar=1", "FORMERR"},
	{"additional record cut", "www.msg.example. A +additional=a +cut=1", "FORMERR"},
	{"name that points at itself", "+question=c00c00010001", "FORMERR questions=0"},
	{"name that points ahead", "+question=03777777c0ff00010001", "FORMERR questions=0"},
	{"name that points back into its own label", "+question=03777777c00c00010001", "FORMERR questions=0"},
	{"label of a type that does not exist", "+question=41610000010001", "FORMERR questions=0"},
	{"label of type 10", "+question=80610000010001", "FORMERR questions=0"},
	{"name of 256 octets", "+question=" + longName(256) + "00010001", "FORMERR questions=0"},
	{"name of 255 octets", "+question=" + longName(255) + "00010001", "REFUSED"},
	{"label of a NUL and a dot", "+question=02002e036d7367076578616d706c650000010001", "NXDOMAIN aa authority=1"},
	{"class HS", "msg.example. SOA +class=4", "REFUSED"},
	{"class NONE", "msg.example. SOA +class=254", "REFUSED"},
	{"class ANY", "msg.example. SOA +class=255", "NOERROR answer=1"},
	{"class 0", "msg.example. SOA +class=0", "REFUSED"},
	{"class CH", "msg.example. SOA +class=3", "REFUSED"},
	{"TYPE0", "msg.example. TYPE0", "NOERROR aa authority=1"},
	{"TYPE65535", "msg.example. TYPE65535", "NOERROR aa authority=1"},
	{"MAILA", "msg.example. MAILA", "NOERROR aa authority=1"},
	{"MAILB", "msg.example. MAILB", "NOERROR aa authority=1"},
	{"OPT asked for", "msg.example. TYPE41", "NOERROR aa authority=1"},
	{"TSIG asked for", "msg.example. TYPE250", "NOERROR aa authority=1"},
	{"TKEY asked for", "msg.example. TYPE249", "NOERROR aa authority=1"},
	{"NXNAME asked for", "msg.example. TYPE128", "NOERROR aa authority=1"},
	{"AXFR by UDP", "msg.example. AXFR", "REFUSED"},
	{"AXFR by TCP", "msg.example. AXFR +tcp", "REFUSED"},
	{"AXFR of no zone", "www.msg.example. AXFR +tcp", "NOTAUTH"},
	{"AXFR of a zone that is not ours", "other.example. AXFR +tcp", "NOTAUTH"},
	{"AXFR of a zone that is not ours, by UDP", "other.example. AXFR", "NOTAUTH"},
	{"IXFR of a zone that is not ours", "other.example. IXFR +authority=soa", "NOTAUTH"},
	{"AXFR of class HS", "msg.example. AXFR +class=4 +tcp", "REFUSED"},
	{"IXFR by UDP", "msg.example. IXFR +authority=soa", "REFUSED"},
	{"IXFR by TCP", "msg.example. IXFR +authority=soa +tcp", "REFUSED"},
	{"IXFR without SOA", "msg.example. IXFR", "REFUSED"},
	{"TSIG of an unknown key", "msg.example. SOA +additional=tsig", "NOTAUTH tsig=key.,error=17,mac=0"},
	{"TSIG of an unknown key, EDNS", "msg.example. SOA +edns +additional=tsig", "NOTAUTH edns=0,1232 tsig=key.,error=17,mac=0"},
	{"TSIG not at the end", "msg.example. SOA +additional=tsig +additional=opt", "FORMERR"},
	{"two TSIG", "msg.example. SOA +additional=tsig +additional=tsig", "FORMERR"},
	{"malformed TSIG", "msg.example. SOA +additional=short-tsig", "FORMERR"},
	{"TSIG of class IN", "msg.example. SOA +additional=tsig-in", "FORMERR"},
	{"TSIG owned by a pointer", "msg.example. SOA +additional=pointed-tsig", "NOTAUTH tsig=msg.example.,error=17,mac=0"},
	{"TSIG and a name that does not exist", "nope.msg.example. A +additional=tsig", "NOTAUTH tsig=key.,error=17,mac=0"},
	{"TSIG of another EDNS version", "msg.example. SOA +edns=1 +additional=tsig", "BADVERS edns=0,1232"},
	{"TSIG and NOTIFY", "msg.example. SOA +opcode=4 +additional=tsig", "NOTAUTH opcode=4 tsig=key.,error=17,mac=0"},
	{"TSIG by TCP", "msg.example. SOA +additional=tsig +tcp", "NOTAUTH tsig=key.,error=17,mac=0"},
	{"NSID with data", "msg.example. SOA +ednsopt=3:ff", "NOERROR aa edns=0,1232,option=3 answer=1"},
	{"cookie of 7 octets", "msg.example. SOA +ednsopt=10:01020304050607", "FORMERR edns=0,1232"},
	{"cookie of 15 octets", "msg.example. SOA +ednsopt=10:010203040506070809101112131415", "FORMERR edns=0,1232"},
	{"cookie of 41 octets", "msg.example. SOA +ednsopt=10:" + zeros(41), "FORMERR edns=0,1232"},
	{"cookie with a server's that is none of ours", "msg.example. SOA +ednsopt=10:" + zeros(24), "NOERROR aa edns=0,1232,option=10 answer=1"},
	{"keepalive by UDP", "msg.example. SOA +ednsopt=11", "NOERROR aa edns=0,1232 answer=1"},
	{"keepalive by TCP", "msg.example. SOA +ednsopt=11 +tcp", "NOERROR aa edns=0,1232,option=11 answer=1"},
	{"keepalive with a time in a query", "msg.example. SOA +ednsopt=11:0064 +tcp", "NOERROR aa edns=0,1232,option=11 answer=1"},
	{"padding", "msg.example. SOA +ednsopt=12:" + zeros(64) + " +tcp", "NOERROR aa edns=0,1232 answer=1"},
	{"padding that fills a packet", "msg.example. SOA +ednsopt=12:" + zeros(1400), "NOERROR aa edns=0,1232 answer=1"},
	{"unknown option of 4,000 octets", "msg.example. SOA +ednsopt=65001:" + zeros(4000), "NOERROR aa edns=0,1232 answer=1"},
	{"ECS of a family that does not exist", "msg.example. SOA +ednsopt=8:00031800c00002", "FORMERR edns=0,1232"},
	{"ECS malformed", "msg.example. SOA +ednsopt=8:0001", "FORMERR edns=0,1232"},
	{"name that does not exist", "nope.msg.example. A +edns", "NXDOMAIN aa edns=0,1232 authority=1"},
	{"zone that is not ours", "other.example. A +edns", "REFUSED edns=0,1232,option=15"},
	{"referral", "x.sub.msg.example. A", "NOERROR authority=1 additional=1"},
	{"5 octets by TCP", "+cut=7 +tcp", "silence, then closed"},
	{"nothing by TCP", "+cut=12 +tcp", "silence, then closed"},
	{"5 octets by UDP", "+cut=7", "silence"},
}

// TestLimits sets the limits of server otherwise than by default.
func TestLimits(t *testing.T) {
	t.Parallel()
	s := newMessageServer(t, thisMachine, ", udp_size: 4096, tcp_connections: 2, tcp_idle: 2s")
	for message, want := range map[string]string{
		"huge.msg.example. TXT +bufsize=4096":    "NOERROR aa edns=0,4096 answer=1",
		"huge.msg.example. TXT +bufsize=1232":    "NOERROR aa tc edns=0,4096",
		"huge.msg.example. TXT":                  "NOERROR aa tc",
		"msg.example. SOA +ednsopt=11 +tcp":      "NOERROR aa edns=0,4096,option=11 answer=1",
		"huge.msg.example. TXT +tcp +bufsize=10": "NOERROR aa edns=0,4096 answer=1",
	} {
		if got := parseMessage(t, message).tell(t, s.host, s.address); got != want {
			t.Errorf("%s\n got %s\nwant %s", message, got, want)
		}
	}
	q := query("msg.example.", dns.TypeSOA, "")
	q.IsEdns0().Option = append(q.IsEdns0().Option, &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE})
	conns := []*client{s.client(t, "tcp"), s.client(t, "tcp"), s.client(t, "tcp")}
	answer, err := conns[2].exchange(q)
	if err != nil {
		t.Fatal(err)
	}
	if o, is := answer.IsEdns0().Option[0].(*dns.EDNS0_TCP_KEEPALIVE); !is || o.Timeout != 20 {
		t.Errorf("2 s without a query are told as %v", answer.IsEdns0())
	}
	if _, err := conns[0].exchange(q); err == nil {
		t.Error("the connection idle longest is open, beside two others")
	}
	conns[2].conn.SetDeadline(time.Now().Add(patience))
	if _, err := conns[2].conn.ReadMsg(); !errors.Is(err, io.EOF) {
		t.Errorf("a connection idle for more than 2 s: %v", err)
	}
}

// TestMessages holds the server to the standards, message by message.
func TestMessages(t *testing.T) {
	t.Parallel()
	s := newMessageServer(t, thisMachine, "")
	for _, c := range conversations {
		if got := parseMessage(t, c.message).tell(t, thisMachine, s.address); got != c.want {
			t.Errorf("%s: %s\n got %s\nwant %s", c.why, c.message, got, c.want)
		}
	}
}
