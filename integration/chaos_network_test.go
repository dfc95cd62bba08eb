package integration

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// network is a switch: a namespace with a bridge. Hosts are plugged into it.
type network struct {
	hub   host
	ports int
}

// node is a host on a network.
type node struct {
	host
	name    string
	address netip.Addr
}

func newNetwork(t testing.TB) *network {
	t.Helper()
	n := &network{hub: newHost(t)}
	n.hub.ip(t, "link", "add", "br0", "type", "bridge")
	n.hub.ip(t, "link", "set", "br0", "up")
	return n
}

// plug makes a host with one address on the network.
func (n *network) plug(t testing.TB, name, address string) *node {
	t.Helper()
	h := &node{host: newHost(t), name: name, address: netip.MustParseAddr(address)}
	n.ports++
	port := fmt.Sprintf("port%d", n.ports)
	n.hub.ip(t, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", h.namespace)
	n.hub.ip(t, "link", "set", port, "master", "br0", "up")
	h.ip(t, "addr", "add", address+"/16", "dev", "eth0")
	h.ip(t, "link", "set", "eth0", "up")
	return h
}

// ip configures the network of the host.
func (h host) ip(t testing.TB, arguments ...string) {
	t.Helper()
	succeed(t, exec.Command("ip", append([]string{"-n", h.namespace}, arguments...)...))
}

func (n *node) port(p uint16) netip.AddrPort { return netip.AddrPortFrom(n.address, p) }

// How traffic between two hosts can be cut.
type cut int

const (
	silent  cut = iota // packets vanish in both directions
	loud               // connections are reset
	halfway            // packets of the second host never reach the first
	cuts
)

func (c cut) String() string { return []string{"silently", "with resets", "in one direction"}[c] }

// sever cuts the traffic between two hosts and returns what heals it.
func sever(t testing.TB, a, b *node, c cut) (heal func()) {
	t.Helper()
	target := []string{"-j", "DROP"}
	if c == loud {
		target = []string{"-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"}
	}
	rule := func(at, from *node, action string) {
		arguments := append([]string{"iptables", "--wait", action, "INPUT", "--source", from.address.String()}, target...)
		succeed(t, at.command(arguments[0], arguments[1:]...))
	}
	all := func(action string) {
		rule(a, b, action)
		if c != halfway {
			rule(b, a, action)
		}
	}
	all("--append")
	return func() { all("--delete") }
}

// dialContext is dial for what may take long, or not come to an end at all.
func (h host) dialContext(ctx context.Context, network, address string) (conn net.Conn, err error) {
	done := make(chan error)
	go func() {
		done <- inNamespace(h.namespace, func() {
			conn, err = (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, network, address)
		})
	}()
	if failed := <-done; failed != nil {
		return nil, fmt.Errorf("enter the namespace %s: %w", h.namespace, failed)
	}
	return conn, err
}

// listen opens a socket on the host.
func (h host) listen(network, address string) (listener net.Listener, err error) {
	done := make(chan error)
	go func() {
		done <- inNamespace(h.namespace, func() { listener, err = net.Listen(network, address) })
	}()
	if failed := <-done; failed != nil {
		return nil, fmt.Errorf("enter the namespace %s: %w", h.namespace, failed)
	}
	return listener, err
}

// etcdClient is a client of the cluster that sits on the host.
func (n *node) etcdClient(t testing.TB, endpoints []string) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints, Logger: zap.NewNop(),
		DialKeepAliveTime: 2 * time.Second, DialKeepAliveTimeout: 2 * time.Second,
		DialOptions: []grpc.DialOption{
			// By itself it would wait for minutes after it has tried in vain for a while.
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.5, MaxDelay: time.Second}}),
			grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
				return n.dialContext(ctx, "tcp", address)
			}),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// relay passes TCP connections on. It stands for a link that can be slow, stall,
// or break: this kernel cannot do that by itself.
type relay struct {
	host     host
	from, to netip.AddrPort

	mu      sync.Mutex
	weather weather
	changed chan struct{} // closed when the weather changes
	pairs   map[net.Conn]bool
}

// weather is the condition of a link.
type weather struct {
	delay time.Duration // of every piece, on top of what came before
	rate  int           // octets per second; 0: no limit
	stall bool          // nothing passes
}

// newRelay listens on the host itself, and connects from there.
func newRelay(t testing.TB, h host, from, to netip.AddrPort) *relay {
	t.Helper()
	r := &relay{host: h, from: from, to: to, changed: make(chan struct{}), pairs: make(map[net.Conn]bool)}
	listener, err := h.listen("tcp", from.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		listener.Close()
		r.reset()
	})
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go r.serve(conn)
		}
	}()
	return r
}

func (r *relay) serve(near net.Conn) {
	defer near.Close()
	far, err := r.host.dialContext(context.Background(), "tcp", r.to.String())
	if err != nil {
		return
	}
	defer far.Close()
	r.keep(near, far, true)
	defer r.keep(near, far, false)
	var wait sync.WaitGroup
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		wait.Go(func() {
			r.pass(way[0], way[1])
			near.Close()
			far.Close()
		})
	}
	wait.Wait()
}

// pass copies from one side to the other as the weather has it.
func (r *relay) pass(from, to net.Conn) {
	piece := make([]byte, 4096)
	for {
		n, err := from.Read(piece)
		if err != nil {
			return
		}
		for {
			now, changed := r.now()
			if now.stall {
				<-changed
				continue
			}
			if now.rate > 0 {
				now.delay += time.Duration(n) * time.Second / time.Duration(now.rate)
			}
			if now.delay > 0 {
				select {
				case <-time.After(now.delay):
				case <-changed:
				}
			}
			break
		}
		if _, err := to.Write(piece[:n]); err != nil {
			return
		}
	}
}

func (r *relay) now() (weather, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.weather, r.changed
}

// set changes the weather for connections that are there and those to come.
func (r *relay) set(w weather) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.weather = w
	close(r.changed)
	r.changed = make(chan struct{})
}

// reset breaks every connection.
func (r *relay) reset() {
	r.set(weather{})
	r.mu.Lock()
	defer r.mu.Unlock()
	for conn := range r.pairs {
		if tcp, is := conn.(*net.TCPConn); is {
			tcp.SetLinger(0) // a reset, not an end
		}
		conn.Close()
	}
}

func (r *relay) keep(near, far net.Conn, there bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, conn := range []net.Conn{near, far} {
		if there {
			r.pairs[conn] = true
		} else {
			delete(r.pairs, conn)
		}
	}
}
