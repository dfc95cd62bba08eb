package integration

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const (
	loadRate = 300 // queries a second to each server
	loadBeat = 10 * time.Millisecond
	// Every query is answered within answerLimit; one that is not by lostAfter never is.
	answerLimit = time.Second
	lostAfter   = 5 * time.Second
)

// inquiry is a query that players ask again and again.
type inquiry struct {
	wire    []byte // its id is set for each query
	place   int
	service int // of a steered name
	steered bool
}

// newInquiries returns what the players of every place ask.
func newInquiries(t testing.TB) []inquiry {
	t.Helper()
	var list []inquiry
	for place, subnet := range places {
		add := func(owner string, qtype uint16, service int, steered bool) {
			wire, err := query(owner+".bet.example.", qtype, subnet).Pack()
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, inquiry{wire, place, service, steered})
		}
		for service, s := range chaosServices {
			add(s.owner, dns.TypeA, service, true)
			add(s.owner, dns.TypeAAAA, service, true)
		}
		add("www", dns.TypeA, 0, true)
		add("plain", dns.TypeA, 0, false)
	}
	return list
}

// check returns the region of an answer, or none, and its TTL.
func (q inquiry) check(wire []byte) (region int, ttl time.Duration, err error) {
	var m dns.Msg
	if err := m.Unpack(wire); err != nil {
		return 0, 0, err
	}
	// The question as it was asked: header and OPT apart.
	end := bytes.IndexByte(q.wire[12:], 0) + 12 + 5
	if !m.Response || !m.Authoritative || m.Rcode != dns.RcodeSuccess || len(wire) < end || !bytes.Equal(wire[12:end], q.wire[12:end]) {
		return 0, 0, fmt.Errorf("not an answer:\n%v", &m)
	}
	for _, rr := range m.Answer {
		ttl = time.Duration(rr.Header().Ttl) * time.Second
	}
	found := addresses(&m)
	switch {
	case q.steered && len(found) == 0:
		return none, 0, nil
	case len(found) != 1:
		return 0, 0, fmt.Errorf("%d addresses:\n%v", len(found), &m)
	case !q.steered && found[0].String() != "198.51.100.1":
		return 0, 0, fmt.Errorf("another address:\n%v", &m)
	case !q.steered:
		return none, 0, nil
	case ttl > chaosTTL:
		return 0, 0, fmt.Errorf("a TTL of %v:\n%v", ttl, &m)
	}
	name := regionOf(chaosRegions, found[0])
	for i, r := range chaosRegions {
		if r.name == name {
			return i, ttl, nil
		}
	}
	return 0, 0, fmt.Errorf("%s:\n%v", name, &m)
}

// ask is a query under way.
type ask struct {
	inquiry  int
	sent     time.Duration
	floor    position      // what the server was known to have applied when it was sent
	back     time.Duration // time that passed until then may have brought regions back there
	waiting  bool
	answered bool
}

// sighting is an answer to a steered name, to be judged when it is known what
// etcd held.
type sighting struct {
	ask
	got    time.Duration
	region int
	ttl    time.Duration
	last   int // the newest cluster that the server may have taken
}

// tardy is a query that was answered late, or not at all.
type tardy struct {
	ask
	at   time.Duration // when it was answered, or given up
	what string
}

// load asks one server without end and takes note of every answer.
type load struct {
	trial     *trial
	server    *target
	conn      net.Conn
	inquiries []inquiry

	mu        sync.Mutex
	asks      [1 << 16]ask // by id
	sightings []sighting
	tardy     []tardy
	sent      int
	answered  int
	excused   int // unanswered or late, as the server was stopped
	slow      int // late, as the machine was
	worst     time.Duration
}

func newLoad(tr *trial, server *target) *load {
	conn, err := tr.outside.dial("udp", server.address)
	if err != nil {
		tr.t.Fatal(err)
	}
	// Answers must not be lost because we are late.
	if err := conn.(*net.UDPConn).SetReadBuffer(4 << 20); err != nil {
		tr.t.Fatal(err)
	}
	return &load{trial: tr, server: server, conn: conn, inquiries: newInquiries(tr.t)}
}

// run sends and receives until ctx ends.
func (l *load) run(ctx context.Context) {
	var wait sync.WaitGroup
	wait.Go(func() { l.receive(ctx) })
	beat := time.NewTicker(loadBeat)
	defer beat.Stop()
	began, swept := l.trial.clock(), l.trial.clock()
	for n := 0; ; {
		select {
		case <-ctx.Done():
			l.conn.Close()
			wait.Wait()
			return
		case <-beat.C:
		}
		now := l.trial.clock()
		// After a stall, the missed queries are not made up for.
		if due := int((now - began).Seconds() * loadRate); n < due-loadRate {
			n = due - loadRate
		}
		for ; n < int((now-began).Seconds()*loadRate); n++ {
			l.send(n)
		}
		if now-swept > lostAfter/10 {
			swept = now
			l.sweep(now)
		}
	}
}

func (l *load) send(n int) {
	which := n % len(l.inquiries)
	q := &l.inquiries[which]
	l.mu.Lock()
	l.sent++
	id := uint16(l.sent)
	binary.BigEndian.PutUint16(q.wire, id)
	floor, back := l.server.applied()
	l.asks[id] = ask{inquiry: which, sent: l.trial.clock(), floor: floor, back: back, waiting: true}
	l.mu.Unlock()
	// The error is that of an earlier query, to a server that was not there.
	_, _ = l.conn.Write(q.wire)
}

func (l *load) receive(ctx context.Context) {
	buf := make([]byte, dns.MaxMsgSize)
	for {
		n, err := l.conn.Read(buf)
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			continue
		case err != nil && ctx.Err() == nil:
			l.trial.breach("load of %s: %v", l.server.name, err)
			return
		case err != nil:
			return
		}
		if n >= 12 {
			l.take(buf[:n])
		}
	}
}

func (l *load) take(wire []byte) {
	got := l.trial.clock()
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &l.asks[binary.BigEndian.Uint16(wire)]
	switch {
	case a.answered || a.sent == 0:
		l.trial.breach("%s: an answer to nothing, or a second one", l.server.name)
		return
	case !a.waiting:
		return // it was given up, and the server was stopped meanwhile or that was a breach
	}
	a.waiting, a.answered = false, true
	l.answered++
	l.late(*a, got, "answered after")
	q := l.inquiries[a.inquiry]
	region, ttl, err := q.check(wire)
	if err != nil {
		l.trial.breach("%s: %v", l.server.name, err)
	} else if q.steered {
		l.sightings = append(l.sightings, sighting{*a, got, region, ttl, l.server.newest()})
	}
}

// late takes note of how long it took until a query was answered, or given up.
func (l *load) late(a ask, at time.Duration, what string) {
	if took := at - a.sent; took > answerLimit {
		l.tardy = append(l.tardy, tardy{a, at, what})
	} else if !l.server.wasOut(a.sent, a.sent+answerLimit) {
		l.worst = max(l.worst, took)
	}
}

// judge says whose fault it was that a query was late.
func (l *load) judge(q tardy) {
	took := q.at - q.sent
	switch {
	case l.server.wasOut(q.sent, q.at):
		l.excused++
	case took-l.trial.still(q.sent, q.at) <= answerLimit:
		l.slow++
	default:
		l.trial.breach("%s: %s %v: a query of %v", l.server.name, q.what, took.Round(time.Millisecond), q.sent.Round(time.Millisecond))
	}
}

// sweep gives up what was not answered, and judges what was late: by now it is
// known whether the machine stood still.
func (l *load) sweep(now time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	const known = time.Second
	for len(l.tardy) > 0 && now-l.tardy[0].at > known {
		l.judge(l.tardy[0])
		l.tardy = l.tardy[1:]
	}
	for i := range l.asks {
		if a := &l.asks[i]; a.waiting && now-a.sent > lostAfter {
			a.waiting = false
			l.late(*a, now, "not answered within")
		}
	}
}

// sighted returns the answers since it was last called.
func (l *load) sighted() []sighting {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sightings
	l.sightings = nil
	return s
}

// span is a stretch of time.
type span struct{ from, to time.Duration }

// spans are what happened at times, in order. Safe to call concurrently.
type spans struct {
	mu   sync.Mutex
	list []span
}

func (s *spans) add(from, to time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, span{from, to})
}

// within returns how much of the time from to is in the spans.
func (s *spans) within(from, to time.Duration) (sum time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.list) - 1; i >= 0 && s.list[i].to >= from; i-- {
		sum += max(0, min(to, s.list[i].to)-max(from, s.list[i].from))
	}
	return sum
}

// watchStalls notes when this program itself was not run in time: the servers
// beside it are not then, either.
func watchStalls(ctx context.Context, clock func() time.Duration, stalls *spans) {
	const beat, tolerated = 10 * time.Millisecond, 50 * time.Millisecond
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for last := clock(); ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		now := clock()
		if now-last > tolerated {
			stalls.add(last, now)
		}
		last = now
	}
}

// watchCanary asks a server that nothing is done to. When it is late, the machine is.
func (tr *trial) watchCanary(ctx context.Context) {
	const beat, tolerated = 10 * time.Millisecond, 50 * time.Millisecond
	n := tr.network.plug(tr.t, "canary", "10.66.0.90")
	s := setup{host: n.host, address: n.port(53), admin: n.port(8053), etcd: tr.store.settings(), regions: chaosRegions}
	canary := prepareServer(tr.t, s)
	text := configuration(s)
	write(tr.t, canary.path("nearside.yaml"), text[:strings.Index(text, "etcd:")]) // regions, and so etcd, are no business of it
	canary.launch(tr.t)
	c := newClient(tr.t, tr.outside.host, "udp", canary.address)
	tr.wait.Go(func() {
		for ; ctx.Err() == nil; wait(ctx, beat) {
			sent := tr.clock()
			if _, err := c.exchange(query("plain.bet.example.", dns.TypeA, "")); err != nil || tr.clock()-sent > tolerated {
				tr.pauses.add(sent, tr.clock())
			}
		}
	})
}

// still returns for how long the machine stood still between two times.
func (tr *trial) still(from, to time.Duration) time.Duration {
	return max(tr.stalls.within(from, to), tr.pauses.within(from, to))
}
