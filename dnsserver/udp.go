package dnsserver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

const (
	// batch is how many datagrams one system call receives or sends: enough to
	// share its cost, few enough for their buffers to stay in the L1 cache.
	batch     = 32
	cacheLine = 64 // octets
	// longestQuery is how many octets of a query are taken by UDP. Most have less
	// than 100, but options may be padded or of a kind that we do not know.
	longestQuery = 4096
	// receiveBuffer is asked of the kernel: 10 ms of queries at full speed, where
	// the default holds 1 ms.
	receiveBuffer = 4 << 20
	// soon is how quickly after another a batch comes on a busy socket, and busyAfter
	// how many in a row make it one.
	soon      = time.Millisecond
	busyAfter = 8
	// lastBatches bounds what is still answered after a stop.
	lastBatches = 256
	// pause is how long a worker waits after an error of the socket that should
	// not happen, so that it never spins.
	pause = 10 * time.Millisecond
	// patience is how many such errors in a row end the server: the kernel still
	// sends this socket its share of the clients, who would get no answer.
	patience = 500
)

// datagram is the kernel's struct mmsghdr.
type datagram struct {
	header unix.Msghdr
	length uint32
	_      [4]byte
}

// controlSize holds one IP_PKTINFO or IPV6_PKTINFO message.
const controlSize = 64

// udpWorker is a socket and the goroutine that answers on it. The sockets of
// an address share its port by SO_REUSEPORT, and the kernel spreads clients over
// them. Nothing is shared between workers but the snapshot.
type udpWorker struct {
	server *Server
	socket *udpSocket

	responder
	counts counts

	in, out  [batch]datagram
	whole    [batch]unix.Iovec // the buffers, whole
	filled   [batch]unix.Iovec // the responses in them
	names    [batch]unix.RawSockaddrInet6
	controls [batch][controlSize]byte
	buffers  []byte // batch times stride
	stride   int

	wildcard bool          // bound to all addresses: answer from the one that was asked
	last     time.Duration // when the last batch was answered, since epoch
	streak   int           // batches that came soon after one another
	stopping atomic.Bool
	drops    atomic.Uint64 // the kernel's drop counter as last read
	fault    error         // why readable gave up
	faults   int           // how often in a row
}

// newUDPWorker opens a socket on at.
func newUDPWorker(s *Server, at netip.AddrPort) (*udpWorker, error) {
	stride := strideFor(s.limits.UDPSize)
	w := &udpWorker{server: s, wildcard: at.Addr().IsUnspecified(), stride: stride, buffers: make([]byte, batch*stride)}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		return errors.Join(raw.Control(func(fd uintptr) { err = w.setOptions(int(fd), at.Addr().Is6()) }), err)
	}}
	conn, err := config.ListenPacket(context.Background(), networkOf("udp", at.String()), at.String())
	if err != nil {
		return nil, err
	}
	if w.socket, err = newUDPSocket(conn.(*net.UDPConn), &s.lingering); err != nil {
		return nil, err
	}
	w.responder = newResponder(&w.counts, &s.clock, s.limits, s.log)
	w.wire(at.Addr().Is6())
	w.checkBuffer(s.log)
	return w, nil
}

// strideFor is the room for one datagram: a query, or a response of size octets,
// and a little more. It is an odd number of cache lines, so that the buffers do
// not fall into the same cache sets.
func strideFor(size int) int {
	lines := max(size, longestQuery)/cacheLine + 2
	return (lines | 1) * cacheLine
}

// setOptions sets what must be set before the socket is bound.
func (w *udpWorker) setOptions(fd int, ipv6 bool) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return err
	}
	// Only root may go beyond net.core.rmem_max; checkBuffer says what came of it.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer); err != nil {
			return err
		}
	}
	switch {
	case ipv6:
		// Never fragment by path MTU tricks of others: RFC 9715, 3.1.
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_OMIT)
		if w.wildcard {
			return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		}
	default:
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT)
		if w.wildcard {
			return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		}
	}
	return nil
}

// checkBuffer warns if the kernel granted less than half of the receive buffer.
func (w *udpWorker) checkBuffer(log zerolog.Logger) {
	granted, err := unix.GetsockoptInt(w.socket.fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	// The kernel reports twice what it grants: its own bookkeeping counts too.
	if err == nil && granted/2 < receiveBuffer/2 {
		log.Warn().Int("bytes", granted/2).Int("wanted", receiveBuffer).
			Msgf("small UDP receive buffer: bursts may be dropped; set net.core.rmem_max to %d", receiveBuffer)
	}
}

// wire connects the headers to their buffers, once. The kernel writes the length
// of an address, but for one socket that is always the same.
func (w *udpWorker) wire(ipv6 bool) {
	size := uint32(unix.SizeofSockaddrInet4)
	if ipv6 {
		size = unix.SizeofSockaddrInet6
	}
	for i := range batch {
		buffer := &w.buffers[i*w.stride]
		w.whole[i] = unix.Iovec{Base: buffer, Len: uint64(w.stride)}
		w.filled[i].Base = buffer
		w.in[i].header = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&w.names[i])), Namelen: size, Iov: &w.whole[i], Iovlen: 1}
		w.out[i].header = unix.Msghdr{Namelen: size, Iovlen: 1}
	}
}

// run answers until stop, or until the socket is of no use any more.
func (w *udpWorker) run() error {
	readable := w.readable
	for {
		err := w.socket.whenReadable(readable)
		if w.stopping.Load() {
			break
		}
		w.faults++
		switch err = errors.Join(err, w.fault); {
		case w.faults == patience:
			return fmt.Errorf("receiving from the network on %s keeps failing: %w", w.socket.local, err)
		case w.faults == 1:
			w.server.log.Error().Err(err).Stringer("addr", w.socket.local).Msg("receiving from the network failed; trying again")
		}
		time.Sleep(pause)
	}
	// What came before the stop is answered, and nothing waited for.
	if w.socket.watch() != nil {
		return nil
	}
	for range lastBatches {
		n, err := w.receive()
		if err != nil {
			break
		}
		w.serve(n)
	}
	return nil
}

// stop wakes the worker if it waits, and makes it end.
func (w *udpWorker) stop() error {
	w.stopping.Store(true)
	return w.socket.wakeForever()
}

// readable answers what has come, and what follows soon if the socket is busy. Then
// it has the caller park (see udpSocket). It returns true on an error.
func (w *udpWorker) readable() bool {
	for w.fault = nil; w.fault == nil; {
		n, err := w.receive()
		switch {
		case err == unix.EAGAIN:
			w.fault = w.socket.watch()
			return w.fault != nil
		case err == unix.EINTR:
			continue
		case err != nil:
			w.fault = err
			return true
		}
		w.faults = 0
		w.serve(n)
		if w.stopping.Load() {
			return false
		}
		switch {
		case !w.socket.watched:
		case w.busy():
			w.fault = w.socket.linger()
		case n < batch: // so the kernel has seen that nothing is left
			return false
		}
	}
	return true
}

// busy reports whether batches come one soon after another.
func (w *udpWorker) busy() bool {
	now := sinceEpoch()
	if w.streak++; now-w.last > soon {
		w.streak = 0
	}
	w.last = now
	return w.streak >= busyAfter
}

// epoch is what sinceEpoch counts from. It reads one clock, where time.Now reads two.
var epoch = time.Now()

func sinceEpoch() time.Duration { return time.Since(epoch) }

// receive takes up to batch datagrams from the kernel. It waits a little for the
// first if the socket lingers.
func (w *udpWorker) receive() (int, error) {
	if w.wildcard {
		for i := range batch {
			h := &w.in[i].header
			h.Control, h.Controllen = &w.controls[i][0], controlSize
		}
	}
	return w.socket.receive(&w.in)
}

// serve answers the n datagrams received, all from one snapshot.
func (w *udpWorker) serve(n int) {
	snapshot := w.server.snapshot.Load()
	for i := range n {
		w.queries[i].take(w.message(i), source(&w.names[i]))
	}
	w.lookAhead(snapshot, n)
	ready := 0
	for i := range n {
		length := w.reply(snapshot, i, false)
		if length == 0 {
			continue
		}
		w.filled[i].Len = uint64(length)
		in, out := &w.in[i].header, &w.out[ready].header
		out.Name, out.Iov = in.Name, &w.filled[i]
		if w.wildcard {
			clearInterface(w.controls[i][:in.Controllen])
			out.Control, out.Controllen = in.Control, in.Controllen
		}
		ready++
	}
	w.rest(n) // who has an answer finds it counted
	w.send(ready)
}

// message returns datagram i, empty if it gets no answer: if it is longer than
// any query, or no client sent it.
func (w *udpWorker) message(i int) []byte {
	start := i * w.stride
	if w.in[i].header.Flags&unix.MSG_TRUNC != 0 || noClient(port(&w.names[i])) {
		return w.buffers[start:start:start]
	}
	return w.buffers[start : start+int(w.in[i].length) : start+w.stride]
}

// send hands n responses to the kernel. One that the kernel refuses (no route to
// that client, say) is skipped and counted.
func (w *udpWorker) send(n int) {
	for done := 0; done < n; {
		sent, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(w.socket.fd), uintptr(unsafe.Pointer(&w.out[done])), uintptr(n-done), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			done += int(sent)
		case unix.EINTR:
		case unix.EAGAIN:
			ready := []unix.PollFd{{Fd: int32(w.socket.fd), Events: unix.POLLOUT}}
			if k, err := unix.Poll(ready, int(pause.Milliseconds())); k == 0 && err == nil {
				w.counts.note(countLost, n-done)
				return
			}
		default:
			w.counts.note(countLost, 1)
			done++
		}
	}
}

// source returns the address a datagram came from.
func source(name *unix.RawSockaddrInet6) netip.Addr {
	if name.Family == unix.AF_INET {
		return netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(name)).Addr)
	}
	return netip.AddrFrom16(name.Addr)
}

// port returns the port a datagram came from: both families have it in one place.
func port(name *unix.RawSockaddrInet6) uint16 {
	return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&name.Port))[:])
}

// noClient reports whether no resolver asks from a port: 0 can have no answer, and
// the old services that answer anything with something (echo, daytime, quote of
// the day, chargen, time) would talk with us for ever.
func noClient(port uint16) bool {
	switch port {
	case 0, 7, 13, 17, 19, 37:
		return true
	}
	return false
}

// clearInterface lets the routing table choose the way back: of the packet info
// that is sent back, only the address counts. A link-local address means
// nothing without its interface, which is kept.
func clearInterface(control []byte) {
	if len(control) < unix.SizeofCmsghdr {
		return
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	data := control[unix.CmsgLen(0):]
	switch {
	case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
		(*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0])).Ifindex = 0
	case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
		info := (*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0]))
		if !netip.AddrFrom16(info.Addr).IsLinkLocalUnicast() {
			info.Ifindex = 0
		}
	}
}

// kernelDrops returns how many datagrams the kernel dropped at this socket, as
// last read: a closed socket keeps its count.
func (w *udpWorker) kernelDrops() uint64 {
	const dropsIndex = 8 // SK_MEMINFO_DROPS in linux/sock_diag.h
	var info [dropsIndex + 1]uint32
	size := uint32(unsafe.Sizeof(info))
	w.socket.whileOpen(func() {
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(w.socket.fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		if errno == 0 && size == uint32(unsafe.Sizeof(info)) {
			w.drops.Store(uint64(info[dropsIndex]))
		}
	})
	return w.drops.Load()
}
