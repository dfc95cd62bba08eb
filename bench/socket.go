package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batch         = 32      // datagrams a system call
	slots         = 4096    // queries of a socket that can be in flight; a power of two
	largest       = 21 * 64 // the room for an answer
	receiveBuffer = 4 << 20
)

// message is the kernel's struct mmsghdr.
type message struct {
	header unix.Msghdr
	length uint32
	_      [4]byte
}

// flight is a query that is under way.
type flight struct {
	question *question
	due      int64 // when it should have been sent, by the clock of the load
	id       uint16
	waiting  bool
}

// socket is one client: an address and a port. It never blocks.
type socket struct {
	fd      int
	steered []byte // the answer to steered names for this source address
	echo    bool   // what comes back is the query

	nextID   uint16
	waiting  int // queries in flight
	lastSeen int64
	flights  [slots]flight

	pending     int    // queries in out that are not sent yet
	segment     int    // if set, all queries are that long and go as trains
	train       []byte // queries, one after another
	out, in     [batch]message
	outV, inV   [batch]unix.Iovec
	buffers     [batch][largest]byte
	tally       tally
	onAnswered  func(late int64) // if set, gets the time from due to answer
	emptyPolls  int
	filledPolls int
}

// tally counts what became of queries.
type tally struct {
	sent, answered, wrong, lost int
}

func (t *tally) add(o tally) {
	t.sent += o.sent
	t.answered += o.answered
	t.wrong += o.wrong
	t.lost += o.lost
}

// newSocket opens a socket from source, at any port, to the server.
func newSocket(source netip.Addr, server netip.AddrPort) (*socket, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	s := &socket{fd: fd}
	// Only root may go beyond net.core.rmem_max. A smaller one shows as loss.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: source.As4()}); err != nil {
		s.close()
		return nil, fmt.Errorf("bind %s: %w", source, err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: server.Addr().As4(), Port: int(server.Port())}); err != nil {
		s.close()
		return nil, fmt.Errorf("connect to %s: %w", server, err)
	}
	for i := range batch {
		s.inV[i] = unix.Iovec{Base: &s.buffers[i][0], Len: largest}
		s.in[i].header.Iov, s.in[i].header.Iovlen = &s.inV[i], 1
		s.out[i].header.Iov, s.out[i].header.Iovlen = &s.outV[i], 1
	}
	return s, nil
}

func (s *socket) close() { _ = unix.Close(s.fd) }

// enqueue puts a query into the batch that flush sends. There must be room.
// The question's own octets are sent: it must not be in two batches at once.
func (s *socket) enqueue(q *question, due int64) {
	s.nextID++
	f := &s.flights[s.nextID%slots]
	if f.waiting {
		s.tally.lost++
		s.waiting--
	}
	*f = flight{question: q, due: due, id: s.nextID, waiting: true}
	s.waiting++
	binary.BigEndian.PutUint16(q.wire, s.nextID)
	s.outV[s.pending] = unix.Iovec{Base: &q.wire[0], Len: uint64(len(q.wire))}
	s.pending++
}

// flush sends what is pending. What the kernel does not take is lost: nobody
// would answer it in time.
func (s *socket) flush() error {
	if s.segment > 0 {
		return s.flushTrain()
	}
	for done := 0; done < s.pending; {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.out[done])), uintptr(s.pending-done), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			done += int(n)
		case unix.EINTR:
		case unix.EAGAIN, unix.ENOBUFS:
			done++
		default:
			return fmt.Errorf("send: %w", errno)
		}
	}
	s.tally.sent += s.pending
	s.pending = 0
	return nil
}

// sendTrains has the kernel cut what is sent into queries of n octets: one pass
// through its upper layers for a whole batch, which makes a load that no server
// of one core can answer. A server gets single datagrams all the same.
func (s *socket) sendTrains(n int) error {
	s.segment = n
	return unix.SetsockoptInt(s.fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, n)
}

// flushTrain is flush for trains.
func (s *socket) flushTrain() error {
	s.train = s.train[:0]
	for i := range s.pending {
		s.train = append(s.train, unsafe.Slice(s.outV[i].Base, s.outV[i].Len)...)
	}
	s.tally.sent += s.pending
	s.pending = 0
	_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(s.train))), uintptr(len(s.train)), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 && errno != unix.EAGAIN && errno != unix.EINTR && errno != unix.ENOBUFS {
		return fmt.Errorf("send: %w", errno)
	}
	return nil
}

// receive takes and checks the answers that have come.
func (s *socket) receive(now func() int64) error {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.in[0])), batch, unix.MSG_DONTWAIT, 0, 0)
	switch errno {
	case 0:
	case unix.EAGAIN, unix.EINTR:
		s.emptyPolls++
		return nil
	default:
		return fmt.Errorf("receive: %w", errno)
	}
	s.filledPolls++
	at := now()
	s.lastSeen = at
	for i := range int(n) {
		s.take(s.buffers[i][:s.in[i].length], at)
	}
	return nil
}

// take matches an answer with its query.
func (s *socket) take(reply []byte, at int64) {
	if len(reply) < 12 {
		s.tally.wrong++
		return
	}
	id := binary.BigEndian.Uint16(reply)
	f := &s.flights[id%slots]
	if !f.waiting || f.id != id {
		return // too late: it was counted as lost
	}
	f.waiting = false
	s.waiting--
	want := f.question.want
	if want == nil {
		want = s.steered
	}
	switch {
	case s.echo && len(reply) != len(f.question.wire), !s.echo && !f.question.check(reply, want):
		s.tally.wrong++
	default:
		s.tally.answered++
	}
	if s.onAnswered != nil {
		s.onAnswered(at - f.due)
	}
}

// giveUp counts every query that is in flight as lost.
func (s *socket) giveUp() {
	s.tally.lost += s.waiting
	s.waiting = 0
	for i := range s.flights {
		s.flights[i].waiting = false
	}
}
