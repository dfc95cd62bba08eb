package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// The fleet: three servers that follow an etcd of three members, all on both
// cores, under a load that takes about half a core of the servers.
const (
	fleetSize = 3
	// fleetRate is queries a second to each server, beside those that look for a change.
	fleetRate = 28_000
	// fleetDrains for each of the bench's rounds: 1,000 at the usual nine.
	fleetDrains = 112
	watchers    = 100
	// between two changes: 1 to 3 times as long, so that they meet no rhythm of anybody.
	between = 10 * time.Millisecond
)

// crossing is one drain as the clients of all servers saw it, since the command.
type crossing struct {
	first, last time.Duration // the first answer with another region from any server, and from the slowest
}

// drainFleet measures drains of a fleet, the same with many watchers beside it,
// and of gdnsd.
func (b *bench) drainFleet() error {
	t := newTable("drain of a fleet: from the command to the first changed answer of the first server, and of the last",
		"servers", "drains", "first p50 ms", "p99", "max", "last p50 ms", "p99", "max", "queries/s", "answers lost", "cores used")
	for _, v := range []struct {
		name     string
		peer     peer
		servers  int
		watchers bool
		drains   int
	}{
		{"3 nearside, 3 etcd", nearside, fleetSize, false, fleetDrains * b.rounds},
		{"the same and 100 watchers", nearside, fleetSize, true, fleetDrains * b.rounds},
		{"1 gdnsd, admin_state", gdnsd, 1, false, b.rounds},
	} {
		r, err := b.crossings(v.peer, v.servers, v.watchers, v.drains)
		if err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
		cells := []any{v.name, len(r.list)}
		for _, figure := range []func(crossing) time.Duration{
			func(c crossing) time.Duration { return c.first }, func(c crossing) time.Duration { return c.last },
		} {
			times := make([]time.Duration, len(r.list))
			for i, c := range r.list {
				times[i] = figure(c)
			}
			slices.Sort(times)
			for _, rank := range []int{len(times) / 2, len(times) * 99 / 100, len(times) - 1} {
				cells = append(cells, float64(times[rank].Microseconds())/1000)
			}
		}
		t.add(append(cells, int(r.rate), r.lost, r.cores)...)
	}
	t.print()
	return nil
}

// fleetResult is what was seen of a fleet.
type fleetResult struct {
	list  []crossing
	rate  float64 // queries a second, of all servers
	lost  int
	cores float64 // CPU time of the servers by wall time
}

// crossings takes a region out and in again, with a load on all servers.
func (b *bench) crossings(o peer, servers int, watched bool, drains int) (r fleetResult, err error) {
	both := b.serverCore + "," + b.loadCore
	endpoints, stop, err := b.members(fleetSize, both)
	if err != nil {
		return r, err
	}
	defer stop()
	if watched {
		stop, err := b.watchers(endpoints)
		if err != nil {
			return r, err
		}
		defer stop()
	}
	var f fleet
	for n := range servers {
		member := o
		member.name += strconv.Itoa(n)
		s, err := b.configure(member, byECS, endpoints)
		if err != nil {
			return r, err
		}
		if _, err := b.run(s, both); err != nil {
			return r, err
		}
		defer s.process.stop()
		f = append(f, s)
	}
	if o.name == nearside.name {
		if f[0].store, err = connect(endpoints); err != nil {
			return r, err
		}
		defer f[0].store.Close()
	}
	return b.crossAll(f, drains)
}

func (b *bench) crossAll(f fleet, drains int) (r fleetResult, err error) {
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	var askers []*asker
	var loads []*load
	var wait sync.WaitGroup
	failed := make(chan error, 2*len(f))
	for _, s := range f {
		a, err := b.newAsker(s)
		if err != nil {
			return r, err
		}
		l, err := newLoad(b.clients[:sockets], s.at(), b.unmoved(s.Profile))
		if err != nil {
			return r, err
		}
		defer l.close()
		askers, loads = append(askers, a), append(loads, l)
		wait.Go(func() { failed <- a.run(ctx) })
		wait.Go(func() { failed <- l.trickle(ctx, fleetRate) })
	}
	before, err := f.usage()
	if err != nil {
		return r, err
	}
	began := time.Now()
	for n := range 1 + drains {
		c, err := b.cross(f[0], askers, failed, true)
		if err != nil {
			return r, err
		}
		if n > 0 { // the first has to connect
			r.list = append(r.list, c)
		}
		if _, err := b.cross(f[0], askers, failed, false); err != nil {
			return r, err
		}
	}
	span := time.Since(began)
	after, err := f.usage()
	if err != nil {
		return r, err
	}
	cancel()
	wait.Wait()
	r.cores = (after - before).Seconds() / span.Seconds()
	for i, l := range loads {
		t := l.tally()
		t.add(tally{sent: askers[i].sent, answered: askers[i].gotten, lost: askers[i].sent - askers[i].gotten})
		r.rate += float64(t.sent) / span.Seconds()
		r.lost += t.lost
		err = errors.Join(err, t.right())
	}
	return r, err
}

// unmoved returns the questions of clients whom the drain does not move.
func (b *bench) unmoved(p profile) []question {
	return slices.DeleteFunc(p.questions(), func(q question) bool { return bytes.Equal(q.want, regions[0].a()) })
}

func (f fleet) usage() (sum time.Duration, err error) {
	for _, s := range f {
		u, err := s.process.usage()
		if err != nil {
			return 0, err
		}
		sum += u.total
	}
	return sum, nil
}

// cross has the first region taken out or in, and waits until every asker has
// seen it.
func (b *bench) cross(s *server, askers []*asker, failed <-chan error, out bool) (c crossing, err error) {
	time.Sleep(between + rand.N(2*between))
	command := time.Now()
	written := make(chan error, 1)
	go func() { written <- s.drain(s, out) }()
	limit := time.After(drainLimit)
	for _, a := range askers {
		select {
		case at := <-a.changes:
			took := at.Sub(command)
			if took < 0 {
				return c, fmt.Errorf("the answer changed %v before it was told to", -took)
			}
			if c.first == 0 || took < c.first {
				c.first = took
			}
			c.last = max(c.last, took)
		case err := <-failed:
			return c, cmp.Or(err, errors.New("the load has ended"))
		case <-b.ctx.Done():
			return c, b.ctx.Err()
		case <-limit:
			return c, fmt.Errorf("no change within %v", drainLimit)
		}
	}
	return c, <-written
}

// asker asks a server the same question every beat.
type asker struct {
	conn         net.Conn
	question     question
	home, away   netip.Addr
	changes      chan time.Time // when the answer went from one to the other
	sent, gotten int
}

func (b *bench) newAsker(s *server) (*asker, error) {
	conn, err := net.Dial("udp", s.at().String())
	if err != nil {
		return nil, err
	}
	home := slices.IndexFunc(b.clients, func(c client) bool { return c.region == regions[0] })
	subnet, _ := b.clients[home].address.Prefix(24)
	return &asker{
		conn: conn, question: newQuestion(steeredName(0), typeA, subnet, nil),
		home: regions[0].Address, away: s.Instead(), changes: make(chan time.Time, 16),
	}, nil
}

// run asks until ctx ends, and takes what is under way then.
func (a *asker) run(ctx context.Context) error {
	defer a.conn.Close()
	var reply [largest]byte
	here, there := a.home, a.away
	asked := time.Now()
	for due := asked; ctx.Err() == nil || a.gotten < a.sent && time.Since(asked) < grace; {
		if now := time.Now(); !now.Before(due) {
			if ctx.Err() == nil {
				asked = now
				a.sent++
				binary.BigEndian.PutUint16(a.question.wire, uint16(a.sent))
				if _, err := a.conn.Write(a.question.wire); err != nil {
					return err
				}
			}
			due = due.Add(beat)
		}
		if err := a.conn.SetReadDeadline(due); err != nil {
			return err
		}
		n, err := a.conn.Read(reply[:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		} else if err != nil {
			return err
		}
		a.gotten++
		switch {
		case a.question.check(reply[:n], here.AsSlice()):
		case a.question.check(reply[:n], there.AsSlice()):
			a.changes <- time.Now()
			here, there = there, here
		default:
			return errors.New("an answer with neither address")
		}
	}
	return nil
}

// trickle sends at an even rate until ctx ends, and sleeps in between: it leaves
// the core to others.
func (l *load) trickle(ctx context.Context, rate int) error {
	turn, each := 0, rate*int(beat)/int(time.Second)
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return l.settle()
		case <-tick.C:
		}
		s := l.sockets[turn]
		turn = (turn + 1) % len(l.sockets)
		for range each {
			s.enqueue(l.next(), l.now())
		}
		if err := errors.Join(s.flush(), l.receive()); err != nil {
			return err
		}
	}
}

// members starts an etcd of some members.
func (b *bench) members(n int, cores string) (endpoints []string, stop func(), err error) {
	var cluster []string
	for i := range n {
		endpoints = append(endpoints, fmt.Sprintf("http://127.0.0.%d:2379", 2+i))
		cluster = append(cluster, fmt.Sprintf("m%d=http://127.0.0.%d:2380", i, 2+i))
	}
	var running []*process
	stop = func() {
		for _, p := range running {
			p.stop()
		}
	}
	for i, endpoint := range endpoints {
		name, peer, _ := strings.Cut(cluster[i], "=")
		dir := filepath.Join(b.dir, "etcd", name)
		if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
			stop()
			return nil, nil, err
		}
		p, err := start(cores, dir, nil, "etcd", "--name", name, "--data-dir", dir, "--log-level", "error",
			"--listen-client-urls", endpoint, "--advertise-client-urls", endpoint,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", strings.Join(cluster, ","))
		if err != nil {
			stop()
			return nil, nil, err
		}
		running = append(running, p)
	}
	return endpoints, stop, nil
}

func connect(endpoints []string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: drainLimit})
}

// watchers starts a process with as many clients of etcd as a large fleet has.
func (b *bench) watchers(endpoints []string) (stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(b.dir, "watchers")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	p, err := start(b.serverCore+","+b.loadCore, dir, nil, self, "-watch", strings.Join(endpoints, ","))
	if err != nil {
		return nil, err
	}
	return p.stop, nil
}

// watchAll is that process.
func watchAll(ctx context.Context, endpoints []string) error {
	for n := range watchers {
		// Each server follows one member.
		client, err := connect(endpoints[n%len(endpoints):][:1])
		if err != nil {
			return err
		}
		defer client.Close()
		go func() {
			for range client.Watch(ctx, "/nearside/", clientv3.WithPrefix()) {
			}
		}()
	}
	<-ctx.Done()
	return nil
}
