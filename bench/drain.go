package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// beat is how often the client asks.
	beat = time.Millisecond
	// lead is how long it asks before the drain, tail how long after the first
	// answer without the region.
	lead, tail = 100 * time.Millisecond, 100 * time.Millisecond
	drainLimit = 10 * time.Second
)

// drained is what a client saw of one drain.
type drained struct {
	lastOld time.Duration // from the command to the last answer with the region
	gap     time.Duration // the longest time without an answer
	lost    int
}

// drains takes a region out while a client asks every millisecond.
func (b *bench) drains() error {
	t := newTable("drain: from the command to the last old answer", "server", "drains", "p50 ms", "p99 ms", "worst ms", "longest gap ms", "answers lost")
	for _, o := range b.chosen(byECS) {
		if o.drain == nil {
			continue
		}
		b.announce("drain, %s", o.name)
		list, err := b.drainsOf(o)
		if err != nil {
			return fmt.Errorf("%s: %w", o.name, err)
		}
		slices.SortFunc(list, func(a, b drained) int { return int(a.lastOld - b.lastOld) })
		ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
		worst, lost := drained{}, 0
		for _, d := range list {
			worst.gap = max(worst.gap, d.gap)
			lost += d.lost
		}
		if o.name == nearside.name {
			b.atMost("drain: p99 ms from the put to the last old answer", 5, ms(list[len(list)*99/100].lastOld))
			b.atMost("drain: longest gap between answers, ms", 5, ms(worst.gap))
			b.atMost("drain: answers lost", 0, float64(lost))
		}
		t.add(o.name, len(list), ms(list[len(list)/2].lastOld), ms(list[len(list)*99/100].lastOld), ms(list[len(list)-1].lastOld), ms(worst.gap), lost)
	}
	t.print()
	return nil
}

func (b *bench) drainsOf(o peer) ([]drained, error) {
	s, err := b.configure(o, byECS, nil) // nearside: with the etcd inside
	if err != nil {
		return nil, err
	}
	if _, err := b.run(s, b.serverCore); err != nil {
		return nil, err
	}
	defer s.process.stop()
	home := slices.IndexFunc(b.clients, func(c client) bool { return c.region == regions[0] })
	subnet, _ := b.clients[home].address.Prefix(24)
	q := newQuestion(steeredName(0), typeA, subnet, nil)
	count := b.rounds * 10
	if o.name != nearside.name {
		count = b.rounds // they take their time
	}
	var list []drained
	for n := range 1 + count {
		if err := b.ctx.Err(); err != nil {
			return nil, err
		}
		d, err := watchDrain(s, q, regions[0].Address, s.Instead(), func() error { return o.drain(s, true) })
		if err != nil {
			return nil, err
		}
		b.dot()
		if n > 0 { // the first has to connect
			list = append(list, d)
		}
		if _, err := watchDrain(s, q, s.Instead(), regions[0].Address, func() error { return o.drain(s, false) }); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// watchDrain asks q every beat, does change meanwhile, and sees the answers go
// from one address to another.
func watchDrain(s *server, q question, from, to netip.Addr, change func() error) (d drained, err error) {
	conn, err := net.Dial("udp", s.at().String())
	if err != nil {
		return d, err
	}
	defer conn.Close()
	var (
		began        = time.Now()
		lastAnswer   = began
		command      time.Time // when change was called
		firstNew     time.Time
		changed      = make(chan error, 1)
		sent, gotten int
		reply        [largest]byte
	)
	// done: enough was asked. What is under way then is waited for.
	done := func() bool {
		return !firstNew.IsZero() && time.Since(firstNew) > tail || time.Since(began) > drainLimit
	}
	for due := began; !done() || gotten < sent && time.Since(lastAnswer) < grace; {
		if !time.Now().Before(due) {
			if command.IsZero() && time.Since(began) > lead {
				command = time.Now()
				go func() { changed <- change() }()
			}
			if !done() {
				sent++
				binary.BigEndian.PutUint16(q.wire, uint16(sent))
				if _, err := conn.Write(q.wire); err != nil {
					return d, err
				}
			}
			due = due.Add(beat)
		}
		if err := conn.SetReadDeadline(due); err != nil {
			return d, err
		}
		n, err := conn.Read(reply[:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		} else if err != nil {
			return d, err
		}
		now := time.Now()
		gotten++
		d.gap = max(d.gap, now.Sub(lastAnswer))
		lastAnswer = now
		switch {
		case q.check(reply[:n], from.AsSlice()):
			if !command.IsZero() {
				d.lastOld = now.Sub(command)
			}
		case !q.check(reply[:n], to.AsSlice()):
			return d, errors.New("an answer with neither address")
		case firstNew.IsZero():
			firstNew = now
		}
	}
	if firstNew.IsZero() {
		return d, fmt.Errorf("still on %s after %v", from, drainLimit)
	}
	d.lost = sent - gotten
	return d, <-changed
}

// drainNearside writes the key with the client of etcd, over a connection that
// is open already.
func drainNearside(s *server, out bool) error {
	if s.store == nil {
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://" + s.Address.String() + ":2379"}})
		if err != nil {
			return err
		}
		s.store = client
	}
	ctx, stop := context.WithTimeout(context.Background(), drainLimit)
	defer stop()
	key := "/nearside/regions/" + regions[0].Name + "/drain"
	if out {
		_, err := s.store.Put(ctx, key, "")
		return err
	}
	_, err := s.store.Delete(ctx, key)
	return err
}

// drainGdnsd writes the file that gdnsd watches.
func drainGdnsd(s *server, out bool) error {
	text := ""
	if out {
		text = "geoip/play/" + regions[0].Name + " => DOWN\n"
	}
	if err := os.WriteFile(s.path("state/next"), []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(s.path("state/next"), s.path("state/admin_state"))
}

// drainKnot writes the module's file again and has the zone loaded with it.
func drainKnot(s *server, out bool) error {
	if s.Drained = ""; out {
		s.Drained = regions[0].Name
	}
	if err := s.render("knot-geo.conf"); err != nil {
		return err
	}
	return command("knotc", "-c", s.path("knot.conf"), "reload")
}

// drainPowerDNS writes its zones again and has them read.
func drainPowerDNS(s *server, out bool) error {
	if s.Drained = ""; out {
		s.Drained = regions[0].Name
	}
	if err := s.render("pdns-geo.yaml"); err != nil {
		return err
	}
	return command("pdns_control", "--config-dir="+s.Dir, "rediscover")
}

// command runs a program to its end.
func command(name string, arguments ...string) error {
	if out, err := exec.Command(name, arguments...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}
