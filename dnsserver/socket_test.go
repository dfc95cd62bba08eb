package dnsserver

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// asker sends the same query again and again and counts the answers.
type asker struct {
	t     *testing.T
	conn  net.Conn
	query []byte
}

func newAsker(t *testing.T, to netip.AddrPort) *asker {
	t.Helper()
	conn, err := net.Dial("udp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &asker{t, conn, queryFor(t, "play.bet.example.", nil)}
}

// ask sends n queries at once and returns when all are answered.
func (a *asker) ask(n int) {
	a.t.Helper()
	for range n {
		if _, err := a.conn.Write(a.query); err != nil {
			a.t.Fatal(err)
		}
	}
	_ = a.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	for i := range n {
		if _, err := a.conn.Read(make([]byte, 512)); err != nil {
			a.t.Fatalf("answer %d of %d: %v", i+1, n, err)
		}
	}
}

// crowd makes the socket busy, however slow the machine is: what it sends is met with
// silence, so that no answer is lost for want of room.
func (a *asker) crowd() {
	a.t.Helper()
	response := slices.Clone(a.query)
	response[2] |= flagQR
	for range 2 * busyAfter * batch {
		if _, err := a.conn.Write(response); err != nil {
			a.t.Fatal(err)
		}
	}
}

// TestEveryPace: whatever the pauses between queries, and so whichever way the worker
// waits when the next one comes, all are answered before another is sent.
func TestEveryPace(t *testing.T) {
	s, _ := serveBench(t, "127.0.0.1:0")
	a := newAsker(t, s.Addrs()[0])
	pauses := []time.Duration{0, 0, 20 * time.Microsecond, soon / 2, 2 * soon, patient, 5 * patient, 20 * patient}
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		pause := pauses[rand.IntN(len(pauses))]
		for range 1 + rand.IntN(2*busyAfter) {
			a.ask(1 + rand.IntN(2*batch))
			<-time.After(pause)
		}
	}
}

// TestLingering: no more sockets linger than there are cores, and none when nothing
// comes.
func TestLingering(t *testing.T) {
	s, _ := serveBench(t, "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0")
	var askers []*asker
	for _, at := range s.Addrs() {
		for range 4 * cores { // for every worker to have one
			askers = append(askers, newAsker(t, at))
		}
	}
	most := int32(0)
	for end := time.Now().Add(time.Second); most == 0 || time.Now().Before(end); {
		for _, a := range askers {
			a.crowd()
			a.ask(1)
			most = max(most, s.lingering.Load())
		}
	}
	if most > int32(cores) {
		t.Errorf("%d sockets linger on %d cores", most, cores)
	}
	for poll := time.Tick(time.Millisecond); s.lingering.Load() > 0; {
		<-poll
	}
}

// TestBurstWithoutLingering: what comes in full batches for long is
// answered to its end, also where no socket may linger.
func TestBurstWithoutLingering(t *testing.T) {
	s, err := Listen([]string{"127.0.0.1:0"}, DefaultLimits, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	s.Swap(steeredBench(t).snapshot)
	s.lingering.Store(int32(cores))
	a := newAsker(t, s.Addrs()[0])
	const burst = 8192
	for range burst { // they wait in the socket until Serve
		if _, err := a.conn.Write(a.query); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		if err := s.Serve(ctx); err != nil {
			t.Error(err)
		}
	})
	defer func() { cancel(); done.Wait() }()
	limit := time.After(10 * time.Second)
	for poll := time.Tick(time.Millisecond); ; {
		c := s.Counters()
		if c.Received+c.KernelDrops == burst {
			break
		}
		select {
		case <-poll:
		case <-limit:
			t.Fatalf("%d of %d received, %d dropped by the kernel", c.Received, burst, c.KernelDrops)
		}
	}
}

// TestStopTheWorldWhileLingering: who waits for datagrams holds up nobody, however
// long that may take.
func TestStopTheWorldWhileLingering(t *testing.T) {
	const limit = 2 * time.Minute
	s, _ := serveBench(t, "127.0.0.1:0")
	bePatient := func(limit time.Duration) {
		value := unix.NsecToTimeval(int64(limit))
		for _, w := range s.workers {
			if err := unix.SetsockoptTimeval(w.socket.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &value); err != nil {
				t.Fatal(err)
			}
		}
	}
	bePatient(limit)
	a := newAsker(t, s.Addrs()[0])
	for s.lingering.Load() == 0 {
		a.crowd()
		a.ask(1)
	}
	began := time.Now()
	runtime.GC()
	if took := time.Since(began); took > limit/2 {
		t.Errorf("collecting garbage took %v", took)
	}
	if s.lingering.Load() == 0 {
		t.Error("the socket lingers no more")
	}
	bePatient(patient)
	a.ask(1)
}
