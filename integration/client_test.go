package integration

import (
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Subnets whose place every database knows.
const (
	ireland   = "193.1.0.0/24"   // Ireland's academic network
	germany   = "141.20.0.0/24"  // Humboldt University
	america   = "128.59.0.0/24"  // Columbia University, New York
	singapore = "137.132.0.0/24" // National University of Singapore
	brazil    = "143.107.0.0/24" // University of Sao Paulo
	nowhere   = ""               // no subnet: a source address that has no place
)

var places = []string{ireland, germany, america, singapore, brazil, nowhere}

// client is a client socket to one server; it is for one goroutine.
type client struct {
	conn *dns.Conn
}

func newClient(t testing.TB, h host, network string, to netip.AddrPort) *client {
	t.Helper()
	conn, err := h.dial(network, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &client{&dns.Conn{Conn: conn, UDPSize: 1232}}
}

// ask sends a query and returns its answer. A lost one fails the test: on
// loopback nothing is lost.
func (c *client) ask(t testing.TB, name string, qtype uint16, subnet string) *dns.Msg {
	t.Helper()
	answer, err := c.exchange(query(name, qtype, subnet))
	if err != nil {
		t.Fatalf("%s %s from %q: %v", name, dns.TypeToString[qtype], subnet, err)
	}
	return answer
}

func (c *client) exchange(q *dns.Msg) (*dns.Msg, error) {
	c.conn.SetDeadline(time.Now().Add(patience / 4))
	if err := c.conn.WriteMsg(q); err != nil {
		return nil, err
	}
	for {
		answer, err := c.conn.ReadMsg()
		if err != nil || answer.Id == q.Id {
			return answer, err
		}
	}
}

// query makes a query, with EDNS Client Subnet if subnet is not empty.
func query(name string, qtype uint16, subnet string) *dns.Msg {
	q := new(dns.Msg)
	q.SetQuestion(name, qtype)
	q.SetEdns0(1232, false)
	if subnet == "" {
		return q
	}
	prefix := netip.MustParsePrefix(subnet)
	option := &dns.EDNS0_SUBNET{
		Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: uint8(prefix.Bits()), Address: prefix.Addr().AsSlice(),
	}
	if prefix.Addr().Is6() {
		option.Family = 2
	}
	q.IsEdns0().Option = append(q.IsEdns0().Option, option)
	return q
}

// addresses returns the addresses of an answer, behind CNAMEs too.
func addresses(m *dns.Msg) []netip.Addr {
	var all []netip.Addr
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			a, _ := netip.AddrFromSlice(rr.A.To4())
			all = append(all, a)
		case *dns.AAAA:
			a, _ := netip.AddrFromSlice(rr.AAAA)
			all = append(all, a)
		}
	}
	return all
}

// single returns the region of an answer that must have one address.
func single(t testing.TB, m *dns.Msg) string {
	t.Helper()
	a := addresses(m)
	if m.Rcode != dns.RcodeSuccess || len(a) != 1 {
		t.Fatalf("not one address:\n%v", m)
	}
	return regionOf(twelveRegions, a[0])
}
