package integration

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// host is where processes run and sockets are opened. The zero value is this
// machine; another is a network namespace, whose addresses and ports are its own.
type host struct{ namespace string }

var thisMachine host

// newHost makes a host that no packet can leave: it has a loopback interface
// with the given addresses, and nothing else.
func newHost(t testing.TB, addresses ...string) host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("a network namespace needs root: run `make integration`, which asks for it")
	}
	h := host{fmt.Sprintf("nearside-%d-%d", os.Getpid(), nextNumber())}
	succeed(t, exec.Command("ip", "netns", "add", h.namespace))
	t.Cleanup(func() { succeed(t, exec.Command("ip", "netns", "del", h.namespace)) })
	succeed(t, exec.Command("ip", "-n", h.namespace, "link", "set", "lo", "up"))
	for _, a := range addresses {
		alone := netip.PrefixFrom(netip.MustParseAddr(a), netip.MustParseAddr(a).BitLen())
		succeed(t, exec.Command("ip", "-n", h.namespace, "addr", "add", alone.String(), "dev", "lo", "nodad"))
	}
	return h
}

// command is exec.Command on the host.
func (h host) command(program string, arguments ...string) *exec.Cmd {
	if h.namespace == "" {
		return exec.Command(program, arguments...)
	}
	// ip replaces itself by the program, so signals meet the right process.
	return exec.Command("ip", append([]string{"netns", "exec", h.namespace, program}, arguments...)...)
}

// dial opens a socket on the host. A socket stays in the namespace in which it
// was made, so only the making happens on a thread of that namespace.
func (h host) dial(network string, address netip.AddrPort) (conn net.Conn, err error) {
	if h.namespace == "" {
		return net.Dial(network, address.String())
	}
	done := make(chan error)
	go func() {
		done <- inNamespace(h.namespace, func() { conn, err = net.Dial(network, address.String()) })
	}()
	if failed := <-done; failed != nil {
		return nil, fmt.Errorf("enter the namespace %s: %w", h.namespace, failed)
	}
	return conn, err
}

// inNamespace runs do on a thread that is in the network namespace meanwhile.
// The thread is given back: it must not end, since the end of a thread that
// started a process ends that process too (Pdeathsig).
func inNamespace(name string, do func()) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	away, err := os.Open("/run/netns/" + name)
	if err != nil {
		return err
	}
	defer away.Close()
	if err := unix.Setns(int(away.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	do()
	if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	runtime.UnlockOSThread()
	return nil
}

// ports hands out port numbers of loopback that are free and that the kernel
// gives to no socket by itself, each once.
var ports = struct {
	sync.Mutex
	next int
}{next: 20000 + os.Getpid()%8000}

func freePort(t testing.TB) int {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	for range 1000 {
		ports.next++
		address := fmt.Sprintf("127.0.0.1:%d", ports.next)
		tcp, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		udp, err := net.ListenPacket("udp", address)
		tcp.Close()
		if err != nil {
			continue
		}
		udp.Close()
		return ports.next
	}
	t.Fatal("no free port")
	return 0
}

func loopback(t testing.TB) netip.AddrPort {
	t.Helper()
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(freePort(t)))
}

var nextNumber = func() func() int {
	var mu sync.Mutex
	n := 0
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		n++
		return n
	}
}()

// write writes a file of a test.
func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// unindent removes the indentation that a literal has inside Go code.
func unindent(text string) string {
	lines := strings.Split(strings.TrimPrefix(text, "\n"), "\n")
	indent := len(lines[0]) - len(strings.TrimLeft(lines[0], "\t"))
	for i, line := range lines {
		lines[i] = line[min(indent, len(line)-len(strings.TrimLeft(line, "\t"))):]
	}
	return strings.Join(lines, "\n")
}
