package dnsserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"nearside/regions"
)

// Server owns the sockets. It answers from the snapshot that was swapped in
// last, and SERVFAIL is never the answer to having none: until the first Swap
// nothing is read, so queries wait in the kernel.
type Server struct {
	snapshot atomic.Pointer[Snapshot]
	first    chan struct{} // closed by the first Swap
	once     sync.Once
	clock    atomic.Uint32 // Unix seconds
	limits   Limits
	log      zerolog.Logger

	workers   []*udpWorker
	lingering atomic.Int32 // sockets that do, see udpSocket
	listeners []net.Listener
	streams   *streams
	addrs     []netip.AddrPort
}

// Limits bound what clients may have of the server.
type Limits struct {
	UDPSize          int           // octets of a response by UDP, 512 to MaxUDPSize
	Streams          int           // open TCP connections; over it one that has been idle long makes room (RFC 7766, 6.2.3)
	StreamsPerClient int           // those of one client (IPv6: one /64), who makes room in the same way: no single host crowds out the others
	Idle             time.Duration // how long a TCP connection may stay without a query
}

// MaxUDPSize is what responses by UDP were seen to have before RFC 9715.
const MaxUDPSize = 4096

// DefaultLimits keep responses whole on every path (RFC 9715), and connections as
// long as resolvers use them again.
var DefaultLimits = Limits{UDPSize: safeUDP, Streams: 4096, StreamsPerClient: 512, Idle: 10 * time.Second}

// Listen binds UDP and TCP on every address (host:port; no host is all
// addresses, IPv4 and IPv6). TCP comes first and without SO_REUSEPORT, so a
// second server on the same port is refused; then one UDP socket for each core.
func Listen(addrs []string, limits Limits, log zerolog.Logger) (*Server, error) {
	s := &Server{first: make(chan struct{}), limits: limits, log: log}
	s.limitFiles()
	s.setClock(time.Now())
	s.streams = newStreams(s)
	for _, addr := range addrs {
		if err := s.listen(addr); err != nil {
			s.release()
			return nil, err
		}
	}
	return s, nil
}

// spareFiles are the file descriptors that TCP connections leave to everything
// else: sockets, zone files, etcd.
const spareFiles = 256

// limitFiles lets TCP have no more connections than this process can open files:
// without a spare one no zone could be read and no state written.
func (s *Server) limitFiles() {
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) != nil || files.Cur >= uint64(s.limits.Streams)+spareFiles {
		return
	}
	may := max(1, int(files.Cur)-spareFiles)
	s.log.Warn().Uint64("files", files.Cur).Int("connections", may).Int("wanted", s.limits.Streams).
		Msgf("few open files allowed: fewer TCP connections; raise the limit (ulimit -n, LimitNOFILE=) to %d", s.limits.Streams+spareFiles)
	s.limits.Streams = may
}

// listen binds one configured address: a wildcard without a family is two.
func (s *Server) listen(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("listen on %q: %w; write host:port", addr, err)
	}
	if host != "" {
		_, err := s.bind(net.JoinHostPort(host, port))
		return err
	}
	bound, err := s.bind(net.JoinHostPort("0.0.0.0", port))
	if err != nil {
		return err
	}
	// The same port for both families, also where it was 0.
	_, err = s.bind(net.JoinHostPort("::", fmt.Sprint(bound.Port())))
	if errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL) {
		s.log.Warn().Str("addr", addr).Msg("this machine has no IPv6: listening on IPv4 only")
		return nil
	}
	return err
}

// bindTries is how often a port chosen by the kernel for TCP is tried for UDP.
const bindTries = 16

// bind binds TCP and UDP on one address.
func (s *Server) bind(addr string) (netip.AddrPort, error) {
	for try := 1; ; try++ {
		l, err := net.Listen(networkOf("tcp", addr), addr)
		if err != nil {
			return netip.AddrPort{}, bindError("TCP", addr, err)
		}
		at := l.Addr().(*net.TCPAddr).AddrPort()
		at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
		workers, err := s.bindUDP(at)
		if err == nil {
			s.listeners = append(s.listeners, l)
			s.workers = append(s.workers, workers...)
			s.addrs = append(s.addrs, at)
			return at, nil
		}
		_ = l.Close() // it never accepted anything
		chosen := fmt.Sprint(at.Port()) != portOf(addr)
		if !chosen || try == bindTries || !errors.Is(err, syscall.EADDRINUSE) {
			return netip.AddrPort{}, bindError("UDP", addr, err)
		}
	}
}

// networkOf returns network with the family of addr, so that 0.0.0.0 and [::] are
// sockets of their own and may have the same port.
func networkOf(network, addr string) string {
	host, _, _ := net.SplitHostPort(addr) // checked by listen
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Is4() {
			return network + "4"
		}
		return network + "6"
	}
	return network
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr) // checked by listen
	return port
}

// bindError says what to do about a port that cannot be had.
func bindError(network, addr string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		hint = fmt.Sprintf("; another server has this port (ss -lnp 'sport = :%s' shows which): stop it or change server.listen", portOf(addr))
	case errors.Is(err, syscall.EACCES):
		hint = "; ports below 1024 need root or the capability CAP_NET_BIND_SERVICE"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = "; this machine does not have that address: change server.listen"
	}
	return fmt.Errorf("cannot listen on %s %s: %w%s", network, addr, err, hint)
}

// bindUDP opens one socket for each core on the same address.
func (s *Server) bindUDP(at netip.AddrPort) (workers []*udpWorker, err error) {
	for range cores {
		w, err := newUDPWorker(s, at)
		if err != nil {
			for _, w := range workers {
				err = errors.Join(err, w.socket.close())
			}
			return nil, err
		}
		workers = append(workers, w)
	}
	return workers, nil
}

// Addrs returns the bound addresses, in the configured order.
func (s *Server) Addrs() []netip.AddrPort { return s.addrs }

// Swap makes snap the snapshot that every query from now on is answered from.
func (s *Server) Swap(snap *Snapshot) {
	s.snapshot.Store(snap)
	s.once.Do(func() { close(s.first) })
}

// stopTime is how long a stop waits for clients that are slow to take their
// responses.
const stopTime = 2 * time.Second

// Serve answers queries until ctx ends, then lets those under way finish. It
// ends with an error before that if a socket fails for good.
func (s *Server) Serve(ctx context.Context) error {
	select {
	case <-s.first:
	case <-ctx.Done():
		s.release()
		return nil
	}
	runtime.GOMAXPROCS(cores + 1) // as workers may linger, see udpSocket
	var running sync.WaitGroup
	failed := make(chan error, len(s.workers))
	for _, w := range s.workers {
		running.Go(func() {
			if err := w.run(); err != nil {
				failed <- err
			}
		})
	}
	for _, l := range s.listeners {
		running.Go(func() { s.streams.accept(l, &running) })
	}
	ctx, end := context.WithCancel(ctx)
	running.Go(func() { s.foldCounts(ctx) })
	var errs []error
	if err := s.tick(ctx, failed); err != nil {
		errs = append(errs, err)
	}
	end()
	for _, w := range s.workers {
		errs = append(errs, w.stop())
	}
	for _, l := range s.listeners {
		errs = append(errs, l.Close())
	}
	s.streams.stop()
	late := time.AfterFunc(stopTime, s.streams.abandon)
	defer late.Stop()
	running.Wait()
	s.release()
	return errors.Join(errs...)
}

// tick keeps the clock until ctx ends or a worker fails.
func (s *Server) tick(ctx context.Context, failed <-chan error) error {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case now := <-second.C:
			s.setClock(now)
		}
	}
}

// foldPeriod is how often the counters of views that are gone are added up.
const foldPeriod = time.Second

// foldCounts adds up the counters of views that are gone until ctx ends. With
// 100,000 zones that takes tens of milliseconds, for which neither a query nor a
// new state may wait.
func (s *Server) foldCounts(ctx context.Context) {
	tick := time.NewTicker(foldPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for c := range s.allCounts {
				c.fold()
			}
		}
	}
}

func (s *Server) setClock(now time.Time) { s.clock.Store(uint32(now.Unix())) }

// release closes the sockets. Their errors do not matter: nothing is under way.
func (s *Server) release() {
	for _, w := range s.workers {
		_ = w.socket.close()
	}
	for _, l := range s.listeners {
		_ = l.Close()
	}
}

// allCounts yields the counters of every responder.
func (s *Server) allCounts(yield func(*counts) bool) {
	for _, w := range s.workers {
		if !yield(&w.counts) {
			return
		}
	}
	for _, c := range s.streams.counts {
		if !yield(c) {
			return
		}
	}
}

// Counters sums up what was counted since the start.
func (s *Server) Counters() Counters {
	sum := Counters{
		Zones:   make(map[string]uint64),
		Types:   make(map[uint16]uint64),
		Rcodes:  make(map[int]uint64),
		Regions: make([]uint64, regions.Max),
	}
	for c := range s.allCounts {
		c.addTo(&sum)
	}
	for _, w := range s.workers {
		sum.KernelDrops += w.kernelDrops()
	}
	sum.TCPConnections, sum.TCPAccepted = s.streams.numbers()
	return sum
}
