package dnsserver

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"weak"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"
	"golang.org/x/tools/txtar"
)

// serveBench runs a server on these addresses and returns the bound ones.
func serveBench(t *testing.T, addrs ...string) (*Server, *bench) {
	t.Helper()
	return serveWithin(t, DefaultLimits, addrs...)
}

// serveWithin is serveBench with other limits.
func serveWithin(t *testing.T, limits Limits, addrs ...string) (*Server, *bench) {
	t.Helper()
	s, err := Listen(addrs, limits, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	b := steeredBench(t)
	s.Swap(b.snapshot)
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		if err := s.Serve(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
	return s, b
}

func lookup(t *testing.T, network string, to netip.AddrPort, name string) *dns.Msg {
	t.Helper()
	q := new(dns.Msg)
	q.SetQuestion(name, dns.TypeA)
	c := &dns.Client{Net: network, Timeout: 5 * time.Second}
	m, _, err := c.Exchange(q, to.String())
	if err != nil {
		t.Fatalf("%s %s: %v", network, to, err)
	}
	return m
}

// TestCountsAgree: as many queries are counted by zone as by type, whatever they
// ask for.
func TestCountsAgree(t *testing.T) {
	s, _ := serveBench(t, "127.0.0.1:0")
	c := &dns.Client{Timeout: 5 * time.Second}
	for _, name := range []string{"play.bet.example.", "nowhere.bet.example.", "bet.example.", "elsewhere.test.", ".", "version.bind."} {
		for _, class := range []uint16{dns.ClassINET, dns.ClassCHAOS, dns.ClassHESIOD, dns.ClassANY, 4711} {
			for _, typ := range []uint16{dns.TypeA, dns.TypeDS, dns.TypeTXT, dns.TypeANY, dns.TypeAXFR, 4711} {
				q := new(dns.Msg)
				q.Question = []dns.Question{{Name: name, Qtype: typ, Qclass: class}}
				if _, _, err := c.Exchange(q, s.Addrs()[0].String()); err != nil {
					t.Fatal(name, class, typ, err)
				}
			}
		}
	}
	counted := s.Counters()
	byZone, byType := counted.NoZone, counted.OtherType
	for _, n := range counted.Zones {
		byZone += n
	}
	for _, n := range counted.Types {
		byType += n
	}
	if byZone != byType || byType != 6*5*6 || counted.Zones["bet.example."] != 3*2*6 {
		t.Errorf("%d queries by zone, %d by type: %v", byZone, byType, counted.Zones)
	}
}

func TestServe(t *testing.T) {
	s, _ := serveBench(t, "127.0.0.1:0", "[::1]:0")
	for _, at := range s.Addrs() {
		for _, network := range []string{"udp", "tcp"} {
			m := lookup(t, network, at, "play.bet.example.")
			if len(m.Answer) != 1 || !strings.Contains(m.Answer[0].String(), "198.51.100.10") {
				t.Errorf("%s %s: %v", network, at, m.Answer)
			}
		}
	}
	c := s.Counters()
	if c.Zones["bet.example."] != 4 || c.Types[dns.TypeA] != 4 || c.Rcodes[0] != 4 || c.Regions[0] != 4 || c.TCPAccepted != 2 {
		t.Errorf("counters: %+v", c)
	}
}

// A query to any address of the machine must be answered from that address, or
// a resolver will not take the answer.
func TestWildcardAnswersFromTheAddressAsked(t *testing.T) {
	s, _ := serveBench(t, ":0")
	port := s.Addrs()[0].Port()
	for _, addr := range []string{"127.0.0.1", "127.0.0.2", "127.9.9.9", "::1"} {
		lookup(t, "udp", netip.AddrPortFrom(netip.MustParseAddr(addr), port), "ns1.bet.example.")
		lookup(t, "tcp", netip.AddrPortFrom(netip.MustParseAddr(addr), port), "ns1.bet.example.")
	}
}

func TestSecondServerIsRefused(t *testing.T) {
	s, _ := serveBench(t, "127.0.0.1:0")
	_, err := Listen([]string{s.Addrs()[0].String()}, DefaultLimits, zerolog.Nop())
	if err == nil || !strings.Contains(err.Error(), "another server has this port") {
		t.Errorf("a second server on %s: %v", s.Addrs()[0], err)
	}
}

// Queries written in one go, octet by octet, or with the end of the last one
// missing: every whole one is answered.
func TestPipelining(t *testing.T) {
	s, _ := serveBench(t, "127.0.0.1:0")
	conn, err := net.Dial("tcp", s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	const queries = 500
	var stream []byte
	for id := range queries {
		msg := queryFor(t, "play.bet.example.", nil)
		binary.BigEndian.PutUint16(msg, uint16(id))
		stream = binary.BigEndian.AppendUint16(stream, uint16(len(msg)))
		stream = append(stream, msg...)
	}
	go func() {
		for _, c := range stream[:200] {
			if _, err := conn.Write([]byte{c}); err != nil {
				t.Error(err)
			}
		}
		// Half a query at the end must not hold up the answers before it.
		if _, err := conn.Write(append(stream[200:], 0, 50, 1, 2, 3)); err != nil {
			t.Error(err)
		}
	}()
	for id := range queries {
		var prefix [2]byte
		if _, err := io.ReadFull(conn, prefix[:]); err != nil {
			t.Fatalf("response %d: %v", id, err)
		}
		msg := make([]byte, binary.BigEndian.Uint16(prefix[:]))
		if _, err := io.ReadFull(conn, msg); err != nil {
			t.Fatal(err)
		}
		if got := binary.BigEndian.Uint16(msg); got != uint16(id) {
			t.Fatalf("response %d has id %d", id, got)
		}
	}
}

// TestWakeAfterBurst: a worker that was too busy to be told of datagrams is told
// again when it has nothing to do.
func TestWakeAfterBurst(t *testing.T) {
	s, err := Listen([]string{"127.0.0.1:0"}, DefaultLimits, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	s.Swap(steeredBench(t).snapshot)
	conn, err := net.Dial("udp", s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	send := func(msg []byte) {
		if _, err := conn.Write(msg); err != nil {
			t.Fatal(err)
		}
	}
	query := queryFor(t, "play.bet.example.", nil)
	response := slices.Clone(query)
	response[2] |= flagQR // is met with silence, so that no answer is lost for want of room
	const burst = (busyAfter + 4) * batch
	for range burst { // they wait in the socket: the worker takes them without a pause
		send(response)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		if err := s.Serve(ctx); err != nil {
			t.Error(err)
		}
	})
	defer func() { cancel(); done.Wait() }()
	for n := range uint64(8) {
		for poll := time.Tick(time.Millisecond); s.Counters().Received < burst+n; {
			<-poll
		}
		send(query)
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Read(make([]byte, 512)); err != nil {
			t.Fatalf("query %d after the burst: %v", n+1, err)
		}
	}
}

// While snapshots are swapped, every answer is of the old or the new one, and
// no query sent after a new answer was received gets an old one.
func TestSwapUnderLoad(t *testing.T) {
	s, b := serveBench(t, "127.0.0.1:0")
	b.change(t, []string{"drain", "us-east"})
	drained := b.snapshot.WithState(b.state)
	for range 50 {
		s.Swap(drained)
		for range 4 { // a socket each, so that all workers are met
			m := lookup(t, "udp", s.Addrs()[0], "play.bet.example.")
			if got := m.Answer[0].(*dns.A).A.String(); got != "192.0.2.10" {
				t.Fatalf("drained region answered: %s", got)
			}
		}
		s.Swap(b.snapshot)
		if got := lookup(t, "udp", s.Addrs()[0], "play.bet.example.").Answer[0].(*dns.A).A.String(); got != "198.51.100.10" {
			t.Fatalf("the nearest region did not come back: %s", got)
		}
	}
}

// The counters survive a change of zones.
func TestZoneCountersAcrossReload(t *testing.T) {
	s, _ := serveBench(t, "127.0.0.1:0")
	for range 3 {
		lookup(t, "udp", s.Addrs()[0], "ns1.bet.example.")
		lookup(t, "tcp", s.Addrs()[0], "ns1.bet.example.")
		s.Swap(steeredBench(t).snapshot)
	}
	if n := s.Counters().Zones["bet.example."]; n != 6 {
		t.Errorf("%d queries counted, want 6", n)
	}
}

// A snapshot may be most of the memory there is: responders that get no query
// must not keep it.
func TestOldSnapshotsAreLetGo(t *testing.T) {
	s, b := serveBench(t, "127.0.0.1:0")
	lookup(t, "udp", s.Addrs()[0], "play.bet.example.")
	lookup(t, "tcp", s.Addrs()[0], "play.bet.example.")
	old := weak.Make(b.snapshot.zones)
	s.Swap(steeredBench(t).snapshot)
	*b = bench{}
	for deadline := time.Now().Add(10 * time.Second); old.Value() != nil; runtime.GC() {
		if time.Now().After(deadline) {
			t.Fatal("the zones of the snapshot before are still in memory")
		}
	}
}

// Glue whose owner stands where no compression pointer can reach (16 KB into the
// message) is given all the same.
func TestFarGlue(t *testing.T) {
	const servers = 1000
	var zone strings.Builder
	zone.WriteString("-- bet.example.zone --\n$TTL 3600\n@ IN SOA ns1 hostmaster 1 3600 900 1209600 60\n@ IN NS ns1\nns1 IN A 198.51.100.53\n")
	for i := range servers {
		fmt.Fprintf(&zone, "sub IN NS server-%d.sub\nserver-%[1]d.sub IN A 192.0.2.%d\n", i, i%256)
	}
	b := newBench(t, txtar.Parse([]byte(zone.String())))
	buf := make([]byte, wholeTCP)
	n := b.r.respond(b.snapshot, buf, copy(buf, queryFor(t, "www.sub.bet.example.", nil)), netip.MustParseAddr("127.0.0.1"), true)
	m := new(dns.Msg)
	if err := m.Unpack(buf[:n]); err != nil {
		t.Fatal(err)
	}
	if m.Truncated || len(m.Ns) != servers || len(m.Extra) != servers {
		t.Fatalf("%d octets: TC %v, %d name servers, %d additional", n, m.Truncated, len(m.Ns), len(m.Extra))
	}
	for i, rr := range m.Ns {
		if server := rr.(*dns.NS).Ns; m.Extra[i].Header().Name != server {
			t.Fatalf("name server %s has the glue %v", server, m.Extra[i])
		}
	}
}

// Names are compressed in the largest RRset behind the longest chain, too: no
// pointer leads beyond what it can reach.
func TestFarNames(t *testing.T) {
	const names = 1500
	var zone strings.Builder
	zone.WriteString("-- bet.example.zone --\n$TTL 3600\n@ IN SOA ns1 hostmaster 1 3600 900 1209600 60\n@ IN NS ns1\nns1 IN A 198.51.100.53\n")
	link := func(i int) string { // 253 octets, each of its own
		return fmt.Sprintf("%s.%[1]s.%[1]s.%s", strings.Repeat(string(rune('a'+i)), 63), strings.Repeat("x", 48))
	}
	for i := range maxChain - 1 {
		fmt.Fprintf(&zone, "%s CNAME %s\n", link(i), link(i+1))
	}
	fmt.Fprintf(&zone, "%s CNAME any.wild\n", link(maxChain-1))
	for i := range names {
		fmt.Fprintf(&zone, "*.wild PTR server-%d.group-%d.elsewhere.test.\n", i, i/10)
	}
	b := newBench(t, txtar.Parse([]byte(zone.String())))
	q := new(dns.Msg)
	q.SetQuestion(link(0)+".bet.example.", dns.TypePTR)
	wire, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, wholeTCP)
	n := b.r.respond(b.snapshot, buf, copy(buf, wire), netip.MustParseAddr("127.0.0.1"), true)
	m := new(dns.Msg)
	if err := m.Unpack(buf[:n]); err != nil {
		t.Fatal(err)
	}
	if m.Truncated || len(m.Answer) != maxChain+names {
		t.Fatalf("%d octets: TC %v, %d answers", n, m.Truncated, len(m.Answer))
	}
	for i, rr := range m.Answer[maxChain:] {
		if want := fmt.Sprintf("server-%d.group-%d.elsewhere.test.", i, i/10); rr.(*dns.PTR).Ptr != want || rr.Header().Name != "any.wild.bet.example." {
			t.Fatalf("record %d: %v", i, rr)
		}
	}
}

// One client that opens more connections than it may loses its idlest ones;
// others keep theirs.
func TestConnectionsOfOneClient(t *testing.T) {
	limits := DefaultLimits
	limits.StreamsPerClient = looked / 2 // of more it would be one of the idlest
	s, _ := serveWithin(t, limits, "127.0.0.1:0")
	open := func(from string) *dns.Conn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err := d.Dial("tcp", s.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return &dns.Conn{Conn: conn}
	}
	asks := func(c *dns.Conn) error {
		q := new(dns.Msg)
		q.SetQuestion("ns1.bet.example.", dns.TypeA)
		_, _, err := new(dns.Client).ExchangeWithConn(q, c)
		return err
	}
	other := open("127.0.0.2")
	if err := asks(other); err != nil {
		t.Fatal(err)
	}
	first := open("127.0.0.3")
	var last *dns.Conn
	for range limits.StreamsPerClient {
		last = open("127.0.0.3")
	}
	if err := asks(last); err != nil {
		t.Errorf("a new connection of a busy client: %v", err)
	}
	if err := asks(first); err == nil {
		t.Error("its idlest connection is still open")
	}
	if err := asks(other); err != nil {
		t.Errorf("another client: %v", err)
	}
	if open, _ := s.streams.numbers(); open > limits.StreamsPerClient+1 {
		t.Errorf("%d connections are open", open)
	}
}

// connected runs a server with one TCP connection. stop ends it, which must not
// take longer than the limit.
func connected(t *testing.T) (s *Server, conn net.Conn, stop func(limit time.Duration)) {
	t.Helper()
	s, err := Listen([]string{"127.0.0.1:0"}, DefaultLimits, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	s.Swap(steeredBench(t).snapshot)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	if conn, err = net.Dial("tcp", s.Addrs()[0].String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return s, conn, func(limit time.Duration) {
		t.Helper()
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(limit):
			t.Errorf("the server does not stop within %v", limit)
		}
	}
}

// A client that asks and takes no responses does not hold up the stop.
func TestStopWhilePipelining(t *testing.T) {
	_, conn, stop := connected(t)
	queries := pipelined(t, 100)
	for err := error(nil); err == nil; { // until every buffer between us is full
		if err := conn.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, err = conn.Write(queries)
	}
	stop(stopTime + time.Second)
}

// pipelined is n queries by TCP.
func pipelined(t *testing.T, n int) []byte {
	msg := queryFor(t, "play.bet.example.", nil)
	return bytes.Repeat(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...), n)
}

// The connection of a client that asks and takes no responses is closed: it holds
// memory for nothing.
func TestResponsesNotTaken(t *testing.T) {
	t.Parallel()
	_, conn, stop := connected(t)
	defer stop(stopTime)
	if err := conn.SetWriteDeadline(time.Now().Add(4 * messageTime)); err != nil {
		t.Fatal(err)
	}
	queries := pipelined(t, 100)
	var err error
	for err == nil {
		_, err = conn.Write(queries)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open")
	}
}

func TestStopWhileConnected(t *testing.T) {
	s, _, stop := connected(t)
	lookup(t, "udp", s.Addrs()[0], "ns1.bet.example.")
	stop(stopTime / 2)
}
