package integration

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

var malformedCount = flag.Int("malformed", 200_000, "TestMalformedFlood: how many messages")

// TestMalformedFlood sends mutations of valid messages as fast as the server
// takes them. It answers the valid query that follows every few of them, hits no
// bug, and takes no more memory in the end than near the beginning.
func TestMalformedFlood(t *testing.T) {
	t.Parallel()
	s := newMessageServer(t, thisMachine, "")
	var seeds [][]byte
	for _, c := range conversations {
		seeds = append(seeds, parseMessage(t, c.message).wire)
	}
	const senders = 4
	flood := func(n int) {
		var wait sync.WaitGroup
		for i := range senders {
			wait.Go(func() { mutations(t, s.address, seeds, rand.New(rand.NewPCG(uint64(i), uint64(n))), n/senders) })
		}
		wait.Wait()
	}
	flood(*malformedCount / 10)
	before := residentMemory(t, s.cmd.Process.Pid)
	began := time.Now()
	flood(*malformedCount)
	t.Logf("%d messages in %v", *malformedCount, time.Since(began).Round(time.Millisecond))
	if err := s.failed(); err != nil {
		t.Fatal(err)
	}
	after := residentMemory(t, s.cmd.Process.Pid)
	t.Logf("resident memory: %d KB, then %d KB", before>>10, after>>10)
	if after > before+before/4 {
		t.Error("memory grows with malformed messages")
	}
	if n := s.metric(t, "panics_total"); n > 0 {
		t.Errorf("%d queries hit a bug", n)
	}
}

// mutations sends n of them from a socket of its own, and after every few a
// valid query, which must be answered.
func mutations(t *testing.T, to netip.AddrPort, seeds [][]byte, random *rand.Rand, n int) {
	const few = 32
	conn, err := net.Dial("udp", to.String())
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	valid := append(make([]byte, 12), questionOf(t, "www.msg.example.", "A", dns.ClassINET)...)
	valid[5] = 1 // QDCOUNT
	buf := make([]byte, dns.MaxMsgSize)
	for sent := 0; sent < n; sent += few {
		for range few {
			if _, err := conn.Write(mutate(random, seeds)); err != nil {
				t.Error(err)
				return
			}
		}
		binary.BigEndian.PutUint16(valid, uint16(random.Uint32()))
		_, _ = conn.Write(valid)
		conn.SetReadDeadline(time.Now().Add(patience))
		for {
			got, err := conn.Read(buf)
			if err != nil {
				t.Errorf("a valid query after %d malformed messages: %v", sent+few, err)
				return
			}
			// A response to a mutation may have the same id, but not an answer to www beside it.
			if bytes.HasPrefix(buf[:got], valid[:2]) && got > len(valid) && bytes.Equal(buf[12:len(valid)], valid[12:]) {
				break
			}
		}
	}
}

// mutate makes a message of others: with bits flipped, octets changed, put in or
// taken out, an end cut off, a count that is not true, or the end of another one.
func mutate(random *rand.Rand, seeds [][]byte) []byte {
	m := bytes.Clone(seeds[random.IntN(len(seeds))])
	for range 1 + random.IntN(4) {
		if len(m) == 0 {
			break
		}
		at := random.IntN(len(m))
		switch random.IntN(7) {
		case 0, 1:
			m[at] ^= 1 << random.IntN(8)
		case 2:
			m[at] = byte(random.Uint32())
		case 3:
			m = append(m[:at], append([]byte{byte(random.Uint32())}, m[at:]...)...)
		case 4:
			m = append(m[:at], m[min(len(m), at+1+random.IntN(4)):]...)
		case 5:
			m = m[:at]
		case 6:
			if other := seeds[random.IntN(len(seeds))]; len(other) > 0 {
				m = append(m[:at], other[random.IntN(len(other)):]...)
			}
		}
	}
	if len(m) > 4 && random.IntN(4) > 0 {
		m[2] &^= 0x80 // most are no responses, which are met with silence at once
	}
	return m
}

// residentMemory is that of a process, in octets.
func residentMemory(t testing.TB, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// TestSpoofedFlood floods a victim network with answers to queries that it did
// not send. With the rate limit on, at most a tenth of the octets leave, and a
// client elsewhere notices nothing.
func TestSpoofedFlood(t *testing.T) {
	t.Parallel()
	const queries, chunk, limit = 20_000, 500, 10
	s := newMessageServer(t, thisMachine, fmt.Sprintf(", rate_limit: %d", limit))
	other := from(t, "127.77.0.1", s.address)
	q := query("www.msg.example.", dns.TypeA, "")
	q.Id = 1
	wire, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}

	// The victim is a /24 of loopback, with a socket at every address.
	var octets, responses, empty atomic.Int64
	var victims []*net.UDPConn
	for i := range 256 {
		conn := from(t, fmt.Sprintf("127.66.0.%d", i), s.address)
		victims = append(victims, conn)
		go func() {
			buf := make([]byte, dns.MaxMsgSize)
			for {
				n, err := conn.Read(buf)
				if err != nil {
					return
				}
				octets.Add(int64(n))
				if buf[2]&2 != 0 {
					empty.Add(1)
				}
				responses.Add(1)
			}
		}()
	}
	began := time.Now()
	answered := 0 // octets of one answer
	for sent := 0; sent < queries; sent += chunk {
		for i := range chunk {
			if _, err := victims[i%len(victims)].Write(wire); err != nil {
				t.Fatal(err)
			}
		}
		// The server has them all before the next ones come: the kernel drops none.
		eventually(t, "the flood is received", func() error {
			if got := s.metric(t, "received_messages_total"); got < sent+chunk {
				return fmt.Errorf("%d of %d", got, sent+chunk)
			}
			return nil
		})
		if sent/chunk%10 == 0 { // the limit holds for other clients too
			answered = asks(t, other, wire)
		}
	}
	took := time.Since(began)
	// All that was not dropped has left, and comes.
	left := queries - s.metric(t, "rate_limited_responses_total") + s.metric(t, "truncated_responses_total")
	eventually(t, "every response has come", func() error {
		if got := int(responses.Load()); got != left {
			return fmt.Errorf("%d of %d", got, left)
		}
		return nil
	})
	t.Logf("%d queries in %v: %d octets to the victim, %d responses of them empty; without a limit it were %d",
		queries, took.Round(time.Millisecond), octets.Load(), empty.Load(), queries*answered)
	if octets.Load()*10 > int64(queries*answered) {
		t.Errorf("%d octets left for the victim, more than a tenth of %d", octets.Load(), queries*answered)
	}
	if empty.Load() == 0 {
		t.Error("no response was empty: a real client in the victim's network has no way to us")
	}
	if n := s.metric(t, "rate_limited_responses_total"); n < queries*9/10 {
		t.Errorf("the metric tells of %d", n)
	}
}

// from opens a client socket with an address of loopback.
func from(t testing.TB, address string, to netip.AddrPort) *net.UDPConn {
	t.Helper()
	conn, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(address)}, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// asks sends a query that must be answered in full and returns the octets of the
// response.
func asks(t testing.TB, conn net.Conn, wire []byte) int {
	t.Helper()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write(wire); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, dns.MaxMsgSize)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(buf[:n]); err != nil || m.Truncated || len(m.Answer) == 0 {
		t.Fatalf("no answer in %v (%v)", m, err)
	}
	return n
}

// TestPortsOfNoClient sends queries from port 0, to which no answer can go, and
// from the ports of services that answer anything with something: those would
// make the two talk with each other for ever.
func TestPortsOfNoClient(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	s := newMessageServer(t, h, "")
	ports := []uint16{0, 7, 13, 17, 19, 37}
	for _, p := range ports {
		sendFrom(t, s, p)
	}
	eventually(t, "queries from ports of no client are dropped", func() error {
		if n := s.metric(t, "dropped_messages_total"); n != len(ports) {
			return fmt.Errorf("%d of %d", n, len(ports))
		}
		return nil
	})
	if n := s.metric(t, "lost_responses_total"); n > 0 {
		t.Errorf("%d responses were tried", n)
	}
	s.client(t, "udp").ask(t, "www.msg.example.", dns.TypeA, "")
}

// TestNoLoopWithOurselves sends a query that says to come from the server itself:
// the answer goes to the server, and that is all.
func TestNoLoopWithOurselves(t *testing.T) {
	t.Parallel()
	s := newMessageServer(t, newHost(t), "")
	sendFrom(t, s, s.address.Port())
	eventually(t, "the server meets its own answer with silence", func() error {
		if n := s.metric(t, "dropped_messages_total"); n != 1 {
			return fmt.Errorf("%d dropped", n)
		}
		return nil
	})
	s.client(t, "udp").ask(t, "www.msg.example.", dns.TypeA, "")
	if n := s.metric(t, "received_messages_total"); n != 3 {
		t.Errorf("%d messages were received, want the query, its answer, and another query", n)
	}
}

// sendFrom sends a query to the server, on its host, from its address and the
// port given, whoever may have that.
func sendFrom(t testing.TB, s *server, port uint16) {
	t.Helper()
	var socket int
	var err error
	if failed := inNamespace(s.host.namespace, func() {
		socket, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	}); failed != nil || err != nil {
		t.Fatal(failed, err)
	}
	defer unix.Close(socket)
	wire := parseMessage(t, "www.msg.example. A").wire
	var datagram []byte
	for _, field := range []uint16{port, s.address.Port(), uint16(8 + len(wire)), 0} { // without a checksum (RFC 768)
		datagram = binary.BigEndian.AppendUint16(datagram, field)
	}
	if err := unix.Sendto(socket, append(datagram, wire...), 0, &unix.SockaddrInet4{Addr: s.address.Addr().As4()}); err != nil {
		t.Fatal(err)
	}
}

// TestCrowdedTCP opens many connections that are idle and some whose clients send
// an octet now and then. UDP and new TCP clients are served beside them.
func TestCrowdedTCP(t *testing.T) {
	t.Parallel()
	s := newMessageServer(t, thisMachine, "")
	if n := crowd(t, s.address, 1000, 300); n < 1300 {
		t.Fatalf("no connection was taken any more after %d", n)
	}
	udp := s.client(t, "udp")
	for range 100 {
		udp.ask(t, "www.msg.example.", dns.TypeA, "")
		s.client(t, "tcp").ask(t, "www.msg.example.", dns.TypeA, "")
	}
}

// crowd opens idle connections and slow ones, from one address, until the test
// ends. The server may close them. It returns how many it could open: a server
// that takes no more lets the kernel's queue fill up.
func crowd(t testing.TB, to netip.AddrPort, idle, slow int) int {
	t.Helper()
	var conns []net.Conn
	for range idle + slow {
		conn, err := net.DialTimeout("tcp", to.String(), time.Second)
		if err != nil {
			break
		}
		conns = append(conns, conn)
	}
	slow = min(slow, len(conns))
	wire := parseMessage(t, "www.msg.example. A").wire
	wire = append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...)
	ended := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			for _, conn := range conns[len(conns)-slow:] {
				_, _ = conn.Write(wire[i%len(wire) : i%len(wire)+1]) // it may be closed by now
			}
			select {
			case <-ended:
				return
			case <-tick.C:
			}
		}
	})
	t.Cleanup(func() {
		close(ended)
		running.Wait()
		for _, conn := range conns {
			conn.Close()
		}
	})
	return len(conns)
}
