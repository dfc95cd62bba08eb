package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime/debug"
	"time"
)

const (
	// inFlight is how many queries a closed loop keeps under way: enough to keep
	// a server busy, few enough for the default receive buffer, which holds 277.
	inFlight = 192
	// warmUp is sent before anything is counted.
	warmUp = 200 * time.Millisecond
	// grace is how long answers may take before they count as lost. It is long
	// since others may want the core of the server.
	grace = time.Second
)

// load sends questions to one server from several sockets and checks the
// answers. It uses one core, all the time: it waits for nothing.
type load struct {
	sockets   []*socket
	questions []question
	position  int
	window    int // queries that a closed loop keeps under way, a socket
	start     time.Time
}

// newLoad opens a socket from each of the clients.
func newLoad(clients []client, server netip.AddrPort, questions []question) (*load, error) {
	l := &load{questions: questions, window: max(1, inFlight/len(clients)), start: time.Now()}
	for _, c := range clients {
		s, err := newSocket(c.address, server)
		if err != nil {
			l.close()
			return nil, err
		}
		s.steered = c.region.a()
		l.sockets = append(l.sockets, s)
	}
	return l, nil
}

func (l *load) close() {
	for _, s := range l.sockets {
		s.close()
	}
}

// now is nanoseconds since the load was made.
func (l *load) now() int64 { return int64(time.Since(l.start)) }

func (l *load) next() *question {
	q := &l.questions[l.position]
	if l.position++; l.position == len(l.questions) {
		l.position = 0
	}
	return q
}

// tally sums up and forgets the counts of all sockets.
func (l *load) tally() (t tally) {
	for _, s := range l.sockets {
		t.add(s.tally)
		s.tally = tally{}
	}
	return t
}

// busy is the share of receiving system calls that found something.
func (l *load) busy() float64 {
	empty, filled := 0, 0
	for _, s := range l.sockets {
		empty += s.emptyPolls
		filled += s.filledPolls
		s.emptyPolls, s.filledPolls = 0, 0
	}
	return float64(filled) / float64(empty+filled)
}

// closed keeps the window of every socket full until the time is up: the server
// decides the rate.
func (l *load) closed(d time.Duration) error {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for now, end := l.now(), l.now()+int64(d); now < end; now = l.now() {
		for _, s := range l.sockets {
			if err := s.receive(l.now); err != nil {
				return err
			}
			if s.waiting == 0 {
				s.lastSeen = now
			} else if now-s.lastSeen > int64(grace) {
				s.giveUp()
				s.lastSeen = now // or it would give up all that follows, too
			}
			for s.pending < batch && s.waiting < l.window {
				s.enqueue(l.next(), now)
			}
			if err := s.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// open sends at a rate, as many clients do that know nothing of each other
// (Poisson), whatever the server does about it. Latency counts from when a query
// was due, so that a delay of this loop, or of the server, hides nothing.
func (l *load) open(rate float64, d time.Duration, answered func(late int64)) error {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for _, s := range l.sockets {
		s.onAnswered = answered
	}
	turn := 0
	due := float64(l.now())
	for now, end := l.now(), l.now()+int64(d); now < end; now = l.now() {
		s := l.sockets[turn]
		for float64(now) >= due && s.pending < batch {
			s.enqueue(l.next(), int64(due))
			due += rand.ExpFloat64() * 1e9 / rate
		}
		if s.pending > 0 {
			if err := s.flush(); err != nil {
				return err
			}
			turn = (turn + 1) % len(l.sockets)
		}
		if err := l.receive(); err != nil {
			return err
		}
	}
	return nil
}

// sendTrains makes the load cheaper to send, if all questions are equally long.
func (l *load) sendTrains() error {
	length := len(l.questions[0].wire)
	for _, q := range l.questions {
		if len(q.wire) != length {
			return errors.New("questions of several lengths cannot go as a train")
		}
	}
	for _, s := range l.sockets {
		if err := s.sendTrains(length); err != nil {
			return err
		}
	}
	return nil
}

// receive takes what has come on the sockets that wait for something.
func (l *load) receive() error {
	for _, s := range l.sockets {
		if s.waiting > 0 {
			if err := s.receive(l.now); err != nil {
				return err
			}
		}
	}
	return nil
}

// settle waits for the last answers; what is missing after the grace is lost.
func (l *load) settle() error {
	waiting := 1
	for end := l.now() + int64(grace); waiting > 0 && l.now() < end; {
		if err := l.receive(); err != nil {
			return err
		}
		waiting = 0
		for _, s := range l.sockets {
			waiting += s.waiting
		}
	}
	for _, s := range l.sockets {
		s.giveUp()
	}
	return nil
}

// right returns an error if answers were wrong, or if there were none at all:
// such a server is not measured.
func (t tally) right() error {
	if t.wrong > 0 || t.answered == 0 && t.lost > 0 {
		return fmt.Errorf("%d answers right, %d wrong, %d lost", t.answered, t.wrong, t.lost)
	}
	return nil
}
