package dnsserver

import (
	"errors"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// udpSocket is a bound UDP socket and the two ways to wait for it.
//
// A worker that is parked in Go's network poller takes nothing while no datagram
// comes, but each wake-up goes through the poller and the scheduler: a tenth of what
// a query costs at 5,000 a second. And the kernel would tell the poller of each
// datagram that comes and of each that has left: 4 % at full speed. So the
// socket stands in an epoll set of its own, which Go's poller watches, and leaves it
// to linger while more is expected within moments: then the receiving call itself
// waits for that.
//
// The scheduler does not know of that call, so who lingers keeps what Go calls a P,
// the right to run. Serve makes one more of them than there are cores, for all
// others, and no more sockets linger at a time than there are cores. When the world is
// to stop, or the thread was long at it, the scheduler sends it a signal, again and
// again, and a call with a time limit ends then rather than go on (signal(7), "never
// restarted").
type udpSocket struct {
	fd    int
	local net.Addr

	epoll   int             // the epoll set
	set     *os.File        // that owns it
	raw     syscall.RawConn // of the set
	watched bool            // fd is in the set, else it lingers; the worker's alone
	event   unix.EpollEvent

	lingering *atomic.Int32 // sockets of the server that do
}

// patient is the time limit of a socket that lingers. The kernel rounds it up to its
// ticks, which are of 1 to 10 ms.
const patient = time.Millisecond

// cores is how many threads may run Go at once, before Serve allows one more.
var cores = runtime.GOMAXPROCS(0)

// newUDPSocket takes over the socket of conn, which it closes: that takes it out of
// Go's poller.
func newUDPSocket(conn *net.UDPConn, lingering *atomic.Int32) (*udpSocket, error) {
	s := &udpSocket{fd: -1, local: conn.LocalAddr(), event: unix.EpollEvent{Events: unix.EPOLLIN}, lingering: lingering}
	err := s.take(conn)
	if err = errors.Join(err, conn.Close()); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *udpSocket) take(conn *net.UDPConn) error {
	var err error
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(s.epoll, true); err != nil { // or Go's poller would not take it
		return errors.Join(os.NewSyscallError("fcntl", err), unix.Close(s.epoll))
	}
	s.set = os.NewFile(uintptr(s.epoll), "epoll")
	if s.raw, err = s.set.SyscallConn(); err != nil {
		return err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	if err := raw.Control(func(fd uintptr) { s.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return err
	}
	if err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	return s.makePatient()
}

// makePatient has receiving calls wait, unless they say otherwise.
func (s *udpSocket) makePatient() error {
	if err := unix.SetNonblock(s.fd, false); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	limit := unix.NsecToTimeval(int64(patient))
	if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	return s.control(unix.EPOLL_CTL_ADD)
}

// whenReadable calls f, and again whenever datagrams have come, until it returns
// true. f returns false only AFTER watch.
func (s *udpSocket) whenReadable(f func() bool) error {
	return s.raw.Read(func(uintptr) bool { return f() })
}

// watch has the next datagram wake who parks, and one that is there already.
func (s *udpSocket) watch() error {
	if s.watched {
		return nil
	}
	if err := s.control(unix.EPOLL_CTL_ADD); err != nil {
		return err
	}
	s.lingering.Add(-1)
	return nil
}

// linger lets datagrams come without a word to the poller, if there is a P for
// that: from now on receive waits.
func (s *udpSocket) linger() error {
	if !s.watched {
		return nil
	}
	if n := s.lingering.Load(); n >= int32(cores) || !s.lingering.CompareAndSwap(n, n+1) {
		return nil
	}
	if err := s.control(unix.EPOLL_CTL_DEL); err != nil {
		s.lingering.Add(-1)
		return err
	}
	runtime.Gosched() // starts a thread that polls for all others, as this one may have done
	return nil
}

func (s *udpSocket) control(op int) error {
	if err := unix.EpollCtl(s.epoll, op, s.fd, &s.event); err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	s.watched = op == unix.EPOLL_CTL_ADD
	return nil
}

// receive takes the datagrams that are there, and if the socket lingers it
// waits for one at least. The error is EAGAIN if there is none.
func (s *udpSocket) receive(in *[batch]datagram) (int, error) {
	var n uintptr
	var errno unix.Errno
	if s.watched {
		n, _, errno = unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(in)), batch, unix.MSG_DONTWAIT, 0, 0)
	} else {
		n, _, errno = unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(in)), batch, unix.MSG_WAITFORONE, 0, 0)
	}
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// whileOpen calls f unless the socket is closed, which waits until f returns.
func (s *udpSocket) whileOpen(f func()) {
	_ = s.raw.Control(func(uintptr) { f() })
}

// wakeForever ends every wait at once, or when a socket that lingers has waited.
func (s *udpSocket) wakeForever() error { return s.set.SetReadDeadline(time.Unix(1, 0)) }

func (s *udpSocket) close() error {
	var err error
	if s.set != nil {
		err = s.set.Close()
	}
	if s.fd >= 0 {
		err = errors.Join(err, unix.Close(s.fd))
		s.fd = -1
	}
	return err
}
