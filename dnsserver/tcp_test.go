package dnsserver

import (
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An idle connection that has asked before costs at most 8 KB, the kernel's own
// memory apart. The clients are bare file descriptors, so all of it is ours.
func TestMemoryOfIdleConnections(t *testing.T) {
	const connections = 2048
	most := 8 << 10
	if underRace() {
		most += 4 << 10 // its frames are larger: a stack takes twice as much
	}
	limits := DefaultLimits
	limits.StreamsPerClient, limits.Idle = connections, time.Minute
	s, _ := serveWithin(t, limits, "127.0.0.1:0")
	query := queryFor(t, "play.bet.example.", nil)
	query = append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)
	clients := make([]int, 0, connections)
	t.Cleanup(func() {
		for _, fd := range clients {
			_ = unix.Close(fd)
		}
	})
	answer := make([]byte, 512)
	open := func(n int) {
		for range n {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			clients = append(clients, fd)
			if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(s.Addrs()[0].Port()), Addr: [4]byte{127, 0, 0, 1}}); err != nil {
				t.Fatal(err)
			}
			if _, err := unix.Write(fd, query); err != nil {
				t.Fatal(err)
			}
			if n, err := unix.Read(fd, answer); err != nil || n == 0 {
				t.Fatalf("no answer: %v", err)
			}
		}
	}
	open(16) // what is made once
	before := memory()
	open(connections - len(clients))
	each := (memory() - before) / (connections - 16)
	t.Logf("%d octets a connection", each)
	if each > most {
		t.Errorf("an idle connection takes %d octets, want at most %d", each, most)
	}
	if open, _ := s.streams.numbers(); open != connections {
		t.Errorf("%d of %d connections are open", open, connections)
	}
}

// underRace reports whether the race detector is compiled in.
func underRace() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// memory is what the heap and the stacks of goroutines take.
func memory() int {
	runtime.GC()
	runtime.GC() // pools hold on to what they have for one more round
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}

// A query as long as TCP allows, padded (RFC 7830), is answered, also when it
// comes in pieces; one shorter than a header ends the connection.
func TestLongAndShortMessages(t *testing.T) {
	_, conn, stop := connected(t)
	defer stop(stopTime)
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	const padding = 12
	query := queryFor(t, "play.bet.example.", nil)
	query[11] = 1
	query = append(query, option(padding, make([]byte, wholeTCP-len(query)-optSize-4)...)...)
	for range 2 {
		if err := send(conn, query[:1000], query[1000:30000], query[30000:]); err != nil {
			t.Fatal(err)
		}
		if code := receive(t, conn)[3] & 0x0F; code != rcodeNoError {
			t.Fatalf("a query of %d octets: code %d", len(query), code)
		}
	}
	if err := send(conn, []byte(strings.Repeat("x", headerSize-1))); err != nil {
		t.Fatal(err)
	}
	// Sooner than it would end for want of a query.
	if err := conn.SetReadDeadline(time.Now().Add(DefaultLimits.Idle / 2)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after half a header: %d octets, %v", n, err)
	}
}

// A query is answered, and its desk free for others, while the next one has come
// in part only.
func TestPartOfNextQuery(t *testing.T) {
	_, conn, stop := connected(t)
	defer stop(stopTime)
	if err := conn.SetDeadline(time.Now().Add(messageTime / 2)); err != nil {
		t.Fatal(err)
	}
	queries := pipelined(t, 2)
	one := len(queries) / 2
	for _, part := range []int{1, 2, 3, one - 1} {
		if _, err := conn.Write(queries[:one+part]); err != nil {
			t.Fatal(err)
		}
		if code := receive(t, conn)[3] & 0x0F; code != rcodeNoError {
			t.Errorf("code %d", code)
		}
		if _, err := conn.Write(queries[part:one]); err != nil {
			t.Fatal(err)
		}
		receive(t, conn)
	}
}

// A client that has said all it had to say is answered (RFC 7766, 6.2.4: it may
// close its half).
func TestHalfClosed(t *testing.T) {
	_, conn, stop := connected(t)
	defer stop(stopTime)
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := send(conn, queryFor(t, "play.bet.example.", nil)); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if code := receive(t, conn)[3] & 0x0F; code != rcodeNoError {
		t.Errorf("code %d", code)
	}
	if n, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the answer: %d octets, %v", n, err)
	}
}

// send sends one message in pieces.
func send(conn net.Conn, pieces ...[]byte) error {
	n := 0
	for _, p := range pieces {
		n += len(p)
	}
	for _, p := range append([][]byte{binary.BigEndian.AppendUint16(nil, uint16(n))}, pieces...) {
		if _, err := conn.Write(p); err != nil {
			return err
		}
	}
	return nil
}

// receive reads one message.
func receive(t *testing.T, conn net.Conn) []byte {
	t.Helper()
	var prefix [2]byte
	if _, err := io.ReadFull(conn, prefix[:]); err != nil {
		t.Fatal(err)
	}
	msg := make([]byte, binary.BigEndian.Uint16(prefix[:]))
	if _, err := io.ReadFull(conn, msg); err != nil {
		t.Fatal(err)
	}
	return msg
}
