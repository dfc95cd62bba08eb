package integration

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// example is a server with the example of the README, in a copy of its folder
// and on ports of its own, which the environment sets over those of the file.
type example struct {
	*server
	etcd        string // URL
	environment []string
}

func newExample(t testing.TB) *example {
	t.Helper()
	e := &example{server: &server{dir: t.TempDir(), address: loopback(t), admin: loopback(t)}, etcd: "http://" + loopback(t).String()}
	if err := os.CopyFS(e.dir, os.DirFS("../examples/betting")); err != nil {
		t.Fatal(err)
	}
	// Whoever runs the example in the checkout leaves its data there.
	if err := os.RemoveAll(e.path("data")); err != nil {
		t.Fatal(err)
	}
	e.environment = append(os.Environ(), "NEARSIDE_SERVER_LISTEN="+e.address.String(),
		"NEARSIDE_ADMIN_LISTEN="+e.admin.String(), "NEARSIDE_ETCD_EMBEDDED_LISTEN="+e.etcd)
	return e
}

// command is a command of the program over the example.
func (e *example) command(arguments ...string) *exec.Cmd {
	cmd := e.nearside(arguments...)
	cmd.Env = e.environment
	return cmd
}

// launch starts the example and waits for its first answer.
func (e *example) launch(t testing.TB) {
	t.Helper()
	e.process = start(t, e.command("serve"))
	c := e.client(t, "udp")
	eventually(t, "the first answer", func() error {
		if err := e.failed(); err != nil {
			t.Fatalf("%v:\n%s", err, e.output)
		}
		answer, err := c.exchange(query("play.bet.example.", dns.TypeA, ireland))
		if err == nil && len(answer.Answer) != 1 {
			err = fmt.Errorf("answer:\n%v", answer)
		}
		return err
	})
}

// dig is the command of the README.
func (e *example) dig(t testing.TB, name string, subnet string) string {
	t.Helper()
	return strings.TrimSpace(succeed(t, exec.Command("dig", "@"+e.address.Addr().String(), "-p", fmt.Sprint(e.address.Port()),
		"+short", "+subnet="+subnet, name)))
}

// TestExample walks through the README: the example alone on a machine, with its
// embedded etcd, drained by `nearside drain` and by the real etcdctl.
func TestExample(t *testing.T) {
	t.Parallel()
	e := newExample(t)
	e.launch(t)
	e.wants(t, ireland, "192.0.2.10")
	e.wants(t, america, "198.51.100.10")

	succeed(t, e.command("drain", "eu-west", "--reason", "maintenance"))
	e.wants(t, ireland, "192.0.2.74")
	if text := succeed(t, e.command("status")); !strings.Contains(text, "maintenance") {
		t.Errorf("status does not say why eu-west is drained:\n%s", text)
	}
	if log := e.output.String(); strings.Contains(log, "not followed") {
		t.Errorf("a start warns of what is as it should be:\n%s", log)
	}
	succeed(t, e.command("undrain", "eu-west"))
	e.wants(t, ireland, "192.0.2.10")

	ctl := func(arguments ...string) {
		succeed(t, exec.Command(etcdctl, append(arguments, "--endpoints", e.etcd)...))
	}
	ctl("put", "/nearside/regions/eu-west/drain", "")
	e.wants(t, ireland, "192.0.2.74")
	if got := e.dig(t, "live.bet.example", ireland); got != "eu-central.balancer.example." {
		t.Errorf("live.bet.example, which is steered by label, is %s", got)
	}
	e.stop(t)
	e.launch(t)
	e.wants(t, ireland, "192.0.2.74")
	ctl("del", "/nearside/regions/eu-west/drain")
	e.wants(t, ireland, "192.0.2.10")

	for _, region := range []string{"us-east", "us-west", "eu-west", "eu-central", "ap-southeast", "sa-east"} {
		ctl("put", "/nearside/regions/"+region+"/drain", `{"force": true}`)
	}
	c := e.client(t, "tcp")
	eventually(t, "an empty answer when every region is drained", func() error {
		answer := c.ask(t, "play.bet.example.", dns.TypeA, ireland)
		if answer.Rcode != dns.RcodeSuccess || len(answer.Answer) != 0 || len(answer.Ns) != 1 || answer.Ns[0].Header().Ttl > 10 {
			return fmt.Errorf("answer:\n%v", answer)
		}
		return nil
	})
	e.stop(t)
}

// wants waits until dig gets an address for play and www.
func (e *example) wants(t testing.TB, subnet, address string) {
	t.Helper()
	eventually(t, "play for "+subnet, func() error {
		if got := e.dig(t, "play.bet.example", subnet); got != address {
			return fmt.Errorf("%s, want %s", got, address)
		}
		return nil
	})
	if got := e.dig(t, "www.bet.example", subnet); !strings.HasSuffix(got, "\n"+address) {
		t.Errorf("www for %s: %s, want %s", subnet, got, address)
	}
}

// TestTaken: what another process has already is named, and nothing hangs.
func TestTaken(t *testing.T) {
	t.Parallel()
	first := newExample(t)
	first.launch(t)

	for _, test := range []struct {
		what  string
		taken func(second *example)
		says  string
	}{
		{"the port of DNS", func(e *example) { e.address = first.address }, first.address.String()},
		{"the port of the admin address", func(e *example) { e.admin = first.admin }, first.admin.String()},
		{"the port of etcd", func(e *example) { e.etcd = first.etcd }, strings.TrimPrefix(first.etcd, "http://")},
		{"the data folder", func(e *example) { e.dir = first.dir }, "data"},
	} {
		t.Run(test.what, func(t *testing.T) {
			second := newExample(t)
			test.taken(second)
			second.environment = append(second.environment, "NEARSIDE_SERVER_LISTEN="+second.address.String(),
				"NEARSIDE_ADMIN_LISTEN="+second.admin.String(), "NEARSIDE_ETCD_EMBEDDED_LISTEN="+second.etcd)
			p := start(t, second.command("serve"))
			p.await(t)
			if status := p.cmd.ProcessState.ExitCode(); status != 1 || !strings.Contains(p.output.String(), test.says) {
				t.Errorf("exit status %d, want 1 and a message with %q:\n%s", status, test.says, p.output)
			}
		})
	}
	first.wants(t, ireland, "192.0.2.10")
	first.stop(t)
}

// TestFlags: a flag wins over the environment, which wins over the file, in
// every command.
func TestFlags(t *testing.T) {
	t.Parallel()
	e := newExample(t)
	flag := loopback(t)
	e.process = start(t, e.command("serve", "--server.listen", flag.String()))
	e.address = flag
	eventually(t, "a server that is ready", func() error { return e.ready(t) })
	e.wants(t, ireland, "192.0.2.10")
	e.stop(t)
}
