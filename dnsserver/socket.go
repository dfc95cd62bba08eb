package dnsserver

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// udpSocket is a bound UDP socket and the way to wait for it.
//
// Go's network poller would watch it at all times, and the kernel would tell the
// poller of each datagram that comes and of each that has left: 4 % of the time of
// a query at full speed. So the socket stands in an epoll set of its own, which
// Go's poller watches, and is out of it while there is always more to receive.
type udpSocket struct {
	fd    int
	local net.Addr

	epoll   int             // the epoll set
	set     *os.File        // that owns it
	raw     syscall.RawConn // of the set
	watched bool            // fd is in the set; the worker's alone
	event   unix.EpollEvent
}

// newUDPSocket takes over the socket of conn, which it closes: that takes it out of
// Go's poller.
func newUDPSocket(conn *net.UDPConn) (*udpSocket, error) {
	s := &udpSocket{fd: -1, local: conn.LocalAddr(), event: unix.EpollEvent{Events: unix.EPOLLIN}}
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
	return os.NewSyscallError("fcntl", err)
}

// whenReadable calls f, and again whenever datagrams have come, until it returns
// true. f returns false only AFTER watch.
func (s *udpSocket) whenReadable(f func() bool) error {
	return s.raw.Read(func(uintptr) bool { return f() })
}

// watch has the next datagram wake who waits, and one that is there already.
func (s *udpSocket) watch() error {
	if s.watched {
		return nil
	}
	err := s.control(unix.EPOLL_CTL_ADD)
	s.watched = err == nil
	return err
}

// unwatch lets datagrams come without a word.
func (s *udpSocket) unwatch() error {
	if !s.watched {
		return nil
	}
	err := s.control(unix.EPOLL_CTL_DEL)
	s.watched = err != nil
	return err
}

func (s *udpSocket) control(op int) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(s.epoll, op, s.fd, &s.event))
}

// whileOpen calls f unless the socket is closed, which waits until f returns.
func (s *udpSocket) whileOpen(f func()) {
	_ = s.raw.Control(func(uintptr) { f() })
}

// wakeForever ends every wait at once.
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
