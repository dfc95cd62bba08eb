package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	// connections are kept alive; each has pipelined queries under way.
	connections = 16
	pipelined   = 32
	// idle is how many connections are opened to see what one costs.
	idle = 2000
)

// tcp measures kept-alive connections with pipelined queries, and what an idle
// one costs.
func (b *bench) tcp() error {
	const p = static
	list := slices.DeleteFunc(b.chosen(p), func(o peer) bool {
		return o.name == echo.name || o.name == powerDNS.name || o.name == bind.name
	})
	return b.with(list, p, func(f fleet) error {
		asked := p.questions()
		rounds := make([][]saturation, len(f))
		b.announce("tcp")
		for range b.rounds {
			b.dot()
			for i, s := range f {
				if err := b.ctx.Err(); err != nil {
					return err
				}
				r, err := b.stream(s, asked)
				if err != nil {
					return fmt.Errorf("%s: %w", s.name, err)
				}
				rounds[i] = append(rounds[i], r)
			}
		}
		t := newTable(fmt.Sprintf("TCP: %d connections with %d queries each, %s", connections, pipelined, p),
			"server", "nearside to it", "answers per CPU-second", "answers/s", "octets per idle connection")
		for i, s := range f {
			each, err := b.idleMemory(s, &asked[0])
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			switch s.name {
			case nearside.name:
				b.atMost("tcp: octets per idle connection", 8192, float64(each))
			case nsd.name:
				b.atLeast("tcp: answers per second, to NSD", 0.8, ratio(rounds[0], rounds[i], saturation.rate))
			}
			t.add(s.name, ratio(rounds[0], rounds[i], saturation.perSecond), int(medianOf(rounds[i], saturation.perSecond)), int(medianOf(rounds[i], saturation.rate)), each)
		}
		t.print()
		return nil
	})
}

// stream asks over several connections at a time.
func (b *bench) stream(s *server, asked []question) (r saturation, err error) {
	var conns []net.Conn
	for range connections {
		c, err := net.Dial("tcp", s.at().String())
		if err != nil {
			return r, err
		}
		defer c.Close()
		conns = append(conns, c)
	}
	before, err := s.process.usage()
	if err != nil {
		return r, err
	}
	began := time.Now()
	answered := make([]int, connections)
	failures := make([]error, connections)
	var wait sync.WaitGroup
	for i, c := range conns {
		wait.Go(func() {
			answered[i], failures[i] = converse(c, asked[i*len(asked)/connections:], began.Add(b.span))
		})
	}
	wait.Wait()
	r.span = time.Since(began)
	after, err := s.process.usage()
	r.usage = after.minus(before)
	for _, n := range answered {
		r.answered += n
	}
	return r, errors.Join(append(failures, err)...)
}

// converse sends pipelined queries, reads all answers, and does so again until
// the end.
func converse(c net.Conn, asked []question, end time.Time) (answered int, err error) {
	in := bufio.NewReaderSize(c, 32<<10)
	var out, reply []byte
	for at := 0; time.Now().Before(end); at += pipelined {
		if at+pipelined > len(asked) {
			at = 0
		}
		out = out[:0]
		for i := range pipelined {
			wire := asked[at+i].wire
			out = binary.BigEndian.AppendUint16(out, uint16(len(wire)))
			out = append(out, wire...)
			binary.BigEndian.PutUint16(out[len(out)-len(wire):], uint16(i))
		}
		if _, err := c.Write(out); err != nil {
			return answered, err
		}
		for range pipelined {
			if reply, err = readMessage(in, reply); err != nil {
				return answered, err
			}
			i := int(binary.BigEndian.Uint16(reply))
			if i >= pipelined || !asked[at+i].check(reply, asked[at+i].want) {
				return answered, errors.New("a wrong answer")
			}
			answered++
		}
	}
	return answered, nil
}

// readMessage reads a message with its length in front (RFC 1035, 4.2.2) into
// the memory of buffer.
func readMessage(in *bufio.Reader, buffer []byte) ([]byte, error) {
	var prefix [2]byte
	if _, err := io.ReadFull(in, prefix[:]); err != nil {
		return buffer, err
	}
	n := int(binary.BigEndian.Uint16(prefix[:]))
	buffer = slices.Grow(buffer[:0], n)[:n]
	_, err := io.ReadFull(in, buffer)
	if err == nil && n < 12 {
		err = errors.New("not a DNS message")
	}
	return buffer, err
}

// idleMemory opens connections from many clients, asks once on each, and
// returns what one adds to the memory of the server.
func (b *bench) idleMemory(s *server, q *question) (each int64, err error) {
	if _, err := s.process.settledMemory(); err != nil {
		return 0, err
	}
	before, err := s.process.memory()
	if err != nil {
		return 0, err
	}
	for i := range idle {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: b.clients[i%len(b.clients)].address.AsSlice()}}
		c, err := d.DialContext(b.ctx, "tcp", s.at().String())
		if err != nil {
			return 0, err
		}
		defer c.Close()
		out := append(binary.BigEndian.AppendUint16(nil, uint16(len(q.wire))), q.wire...)
		if _, err := c.Write(out); err != nil {
			return 0, err
		}
		if _, err := readMessage(bufio.NewReaderSize(c, 512), nil); err != nil {
			return 0, err
		}
	}
	after, err := s.process.memory()
	return (after - before) / idle, err
}
