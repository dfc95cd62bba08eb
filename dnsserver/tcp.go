package dnsserver

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// messageTime is how long a client may take over sending one message, or
	// over taking its responses: slower ones hold memory for nothing.
	messageTime = 5 * time.Second
	// readAhead is the memory of an idle connection: some pipelined queries.
	readAhead = 1024
	// flushAt is when pipelined responses are sent although more queries wait.
	flushAt = 16 << 10
)

// streams answers queries that come by TCP (RFC 7766). A connection has a
// goroutine and a small buffer for what it reads. A desk and the memory for
// responses are borrowed only while messages are answered that have come whole:
// slow clients hold none.
type streams struct {
	server *Server
	desks  chan *desk
	counts []*counts
	outs   sync.Pool // of *[]byte: responses not yet sent

	stopped  atomic.Bool
	mu       sync.Mutex
	open     set
	clients  map[netip.Addr]set // open ones by stream.client
	accepted atomic.Uint64
}

// set is a set of connections.
type set map[*stream]struct{}

// desk is a responder with room for the longest message.
type desk struct {
	responder
	message [wholeTCP]byte
}

// stream is one connection.
type stream struct {
	conn   *net.TCPConn
	from   netip.Addr
	client netip.Addr   // who counts: from, or the first address of its /64
	active atomic.Int64 // when it last did something, Unix nanoseconds
}

func newStreams(s *Server) *streams {
	t := &streams{
		server:  s,
		desks:   make(chan *desk, runtime.GOMAXPROCS(0)),
		outs:    sync.Pool{New: func() any { return new([]byte) }},
		open:    make(set),
		clients: make(map[netip.Addr]set),
	}
	for range cap(t.desks) {
		c := new(counts)
		t.counts = append(t.counts, c)
		t.desks <- &desk{responder: newResponder(c, &s.clock, s.limits, s.log)}
	}
	return t
}

// accept takes connections until the listener is closed.
func (t *streams) accept(l net.Listener, running *sync.WaitGroup) {
	for {
		conn, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // out of file descriptors, most likely
			t.mu.Lock()
			t.closeIdlest(t.open)
			t.mu.Unlock()
			time.Sleep(pause)
			continue
		}
		c := conn.(*net.TCPConn)
		at, _ := netip.ParseAddrPort(c.RemoteAddr().String())
		from := at.Addr().Unmap().WithZone("")
		st := &stream{conn: c, from: from, client: clientOf(from)}
		if t.add(st) {
			running.Go(func() { t.serve(st) })
		}
	}
}

// add registers a connection, making room if need be. It returns false when
// the server stops.
func (t *streams) add(st *stream) bool {
	st.touch(t.server.limits.Idle)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped.Load() {
		_ = st.conn.Close()
		return false
	}
	if own := t.clients[st.client]; len(own) >= t.server.limits.StreamsPerClient {
		t.closeIdlest(own)
	} else if len(t.open) >= t.server.limits.Streams {
		t.closeIdlest(t.open)
	}
	t.open[st] = struct{}{}
	if t.clients[st.client] == nil {
		t.clients[st.client] = make(set)
	}
	t.clients[st.client][st] = struct{}{}
	t.accepted.Add(1)
	return true
}

// clientOf returns what stands for a client: a host, or an IPv6 network of one site.
func clientOf(from netip.Addr) netip.Addr {
	if from.Is4() {
		return from
	}
	site, _ := from.Prefix(64)
	return site.Addr()
}

func (t *streams) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.open)
}

// looked is how many connections are looked at for the idlest: the work for a new
// one must not grow with those that are there. Go begins to range over a map at
// random, so of many it is one of the idlest.
const looked = 256

// closeIdlest closes the connection of those given that has been idle longest.
// It is taken off the list at once, so that a burst of new ones closes as many
// old ones. t.mu is held.
func (t *streams) closeIdlest(among set) {
	var idlest *stream
	n := 0
	for st := range among {
		if idlest == nil || st.active.Load() < idlest.active.Load() {
			idlest = st
		}
		if n++; n == looked {
			break
		}
	}
	if idlest != nil {
		t.remove(idlest)
		_ = idlest.conn.Close()
	}
}

// remove takes a connection off the list, if it is still there. t.mu is held.
func (t *streams) remove(st *stream) {
	if _, there := t.open[st]; !there {
		return
	}
	delete(t.open, st)
	own := t.clients[st.client]
	if delete(own, st); len(own) == 0 {
		delete(t.clients, st.client)
	}
}

// serve answers the queries of one connection until it ends.
func (t *streams) serve(st *stream) {
	defer func() {
		t.mu.Lock()
		t.remove(st)
		t.mu.Unlock()
		_ = st.conn.Close()
	}()
	in := bufio.NewReaderSize(st.conn, readAhead)
	for st.await(in) {
		if err := t.exchange(st, in); err != nil {
			return
		}
	}
}

// touch notes that the connection does something and gives it time for more.
func (st *stream) touch(more time.Duration) {
	now := time.Now()
	st.active.Store(now.UnixNano())
	// A failure shows at the next read.
	_ = st.conn.SetReadDeadline(now.Add(more))
}

// await waits for the first octet of a query.
func (st *stream) await(in *bufio.Reader) bool {
	_, err := in.Peek(1)
	return err == nil
}

// exchange answers the queries that have come.
func (t *streams) exchange(st *stream, in *bufio.Reader) error {
	for in.Buffered() > 0 && !t.stopped.Load() {
		st.touch(messageTime)
		message, err := read(in)
		if err != nil {
			return err
		}
		if err := t.answer(st, in, message); err != nil {
			return err
		}
	}
	st.touch(t.server.limits.Idle)
	if t.stopped.Load() {
		return net.ErrClosed
	}
	return nil
}

// errShort ends a connection: where the next message begins is anybody's guess.
var errShort = errors.New("a message without a whole header")

// read reads one message: its length in two octets, then itself (RFC 1035,
// 4.2.2). The message is good until the next read. A long one takes memory as it
// comes, not as it was announced.
func read(in *bufio.Reader) ([]byte, error) {
	prefix, err := in.Peek(2)
	if err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(prefix))
	if n < headerSize {
		return nil, errShort
	}
	if 2+n <= in.Size() {
		message, err := in.Peek(2 + n)
		if err != nil {
			return nil, err
		}
		_, err = in.Discard(2 + n)
		return message[2:], err
	}
	if _, err := in.Discard(2); err != nil {
		return nil, err
	}
	message, err := io.ReadAll(io.LimitReader(in, int64(n)))
	if err == nil && len(message) < n {
		err = io.ErrUnexpectedEOF
	}
	return message, err
}

// whole reports whether a whole message has come, so that reading it does not
// wait.
func whole(in *bufio.Reader) bool {
	if in.Buffered() < 2 {
		return false
	}
	prefix, err := in.Peek(2)
	return err == nil && in.Buffered() >= 2+int(binary.BigEndian.Uint16(prefix))
}

// answer answers a message and those that have come after it: what a client
// pipelined shares, as far as it fits, one write.
func (t *streams) answer(st *stream, in *bufio.Reader, message []byte) error {
	out := t.outs.Get().(*[]byte)
	b := (*out)[:0]
	d := <-t.desks
	snapshot := t.server.snapshot.Load()
	var err error
	for {
		b = d.answer(b, snapshot, message, st.from)
		if len(b) >= flushAt || !whole(in) {
			break
		}
		if message, err = read(in); err != nil {
			break
		}
	}
	d.rest(1)
	t.desks <- d
	err = errors.Join(err, st.send(b))
	if cap(b) <= 2*flushAt { // a larger one was for a large response: it is not kept
		*out = b
		t.outs.Put(out)
	}
	return err
}

// answer appends the response to a message, with its length before it.
func (d *desk) answer(b []byte, s *Snapshot, message []byte, from netip.Addr) []byte {
	n := d.respond(s, d.message[:], copy(d.message[:], message), from, true)
	if n == 0 {
		return b
	}
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	return append(b, d.message[:n]...)
}

// send sends the responses.
func (st *stream) send(responses []byte) error {
	if len(responses) == 0 {
		return nil
	}
	if err := st.conn.SetWriteDeadline(time.Now().Add(messageTime)); err != nil {
		return err
	}
	_, err := st.conn.Write(responses)
	return err
}

// stop ends every connection after the response it is at.
func (t *streams) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped.Store(true)
	for st := range t.open {
		_ = st.conn.SetReadDeadline(time.Now())
	}
}

// abandon closes the connections that are still open.
func (t *streams) abandon() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for st := range t.open {
		_ = st.conn.Close()
	}
}

// numbers returns how many connections are open and were accepted.
func (t *streams) numbers() (open int, accepted uint64) {
	return t.count(), t.accepted.Load()
}
