package integration

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// cluster is a real etcd of one or more members.
type cluster struct {
	host    host     // of those who use it
	hosts   []host   // of the members
	token   string   // with another one, it is another cluster
	clients []string // URLs
	peers   []string
	members []*process
	dirs    []string
	flags   []string // of etcd, besides those that every test needs
	access  []string // flags of etcdctl: who it is
}

// newCluster starts an etcd and waits until it has a leader.
func newCluster(t testing.TB, h host, members int) *cluster {
	t.Helper()
	c := reserve(t, h, "http", members)
	c.begin(t)
	return c
}

// add adds a member, before the first start.
func (c *cluster) add(t testing.TB, h host, scheme string, client, peer netip.AddrPort) {
	c.hosts = append(c.hosts, h)
	c.clients = append(c.clients, scheme+"://"+client.String())
	c.peers = append(c.peers, "http://"+peer.String())
	c.dirs = append(c.dirs, t.TempDir())
	c.members = append(c.members, nil)
}

// begin starts all members and waits until there is a leader.
func (c *cluster) begin(t testing.TB) {
	t.Helper()
	for i := range c.members {
		c.launch(t, i)
	}
	c.await(t)
}

// reserve chooses the addresses of a cluster that is not started yet.
func reserve(t testing.TB, h host, scheme string, members int) *cluster {
	t.Helper()
	c := &cluster{host: h}
	for range members {
		c.add(t, h, scheme, loopback(t), loopback(t))
	}
	return c
}

// launch starts member i, for the first time or again.
func (c *cluster) launch(t testing.TB, i int) {
	t.Helper()
	var all []string
	for j, peer := range c.peers {
		all = append(all, fmt.Sprintf("m%d=%s", j, peer))
	}
	c.members[i] = start(t, c.hosts[i].command(etcd, append([]string{
		"--name", fmt.Sprintf("m%d", i), "--data-dir", c.dirs[i], "--log-level", "error",
		"--listen-client-urls", c.clients[i], "--advertise-client-urls", c.clients[i],
		"--listen-peer-urls", c.peers[i], "--initial-advertise-peer-urls", c.peers[i],
		"--initial-cluster", strings.Join(all, ","), "--initial-cluster-token", "nearside" + c.token,
		"--heartbeat-interval", "50", "--election-timeout", "500"}, c.flags...)...))
}

// await waits until the cluster takes writes.
func (c *cluster) await(t testing.TB) {
	t.Helper()
	eventually(t, "an etcd that takes writes", func() error {
		r := finish(t, c.ctl("put", "/ready", "", "--command-timeout=1s"))
		if r.status != 0 {
			return fmt.Errorf("%s", r.stderr)
		}
		return nil
	})
}

// ctl is a command of the real etcdctl.
func (c *cluster) ctl(arguments ...string) *exec.Cmd {
	who := append([]string{"--endpoints", strings.Join(c.clients, ","), "--command-timeout=20s"}, c.access...)
	return c.host.command(etcdctl, append(who, arguments...)...)
}

func (c *cluster) drain(t testing.TB, region string) {
	t.Helper()
	succeed(t, c.ctl("put", "/nearside/regions/"+region+"/drain", ""))
}

func (c *cluster) undrain(t testing.TB, region string) {
	t.Helper()
	succeed(t, c.ctl("del", "/nearside/regions/"+region+"/drain"))
}

// settings is the inside of a server's section etcd.
func (c *cluster) settings() string {
	return fmt.Sprintf("endpoints: [\"%s\"]", strings.Join(c.clients, `", "`))
}

// client is a Go client of the cluster, for what etcdctl cannot write or is too slow for.
func (c *cluster) client(t testing.TB) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: c.clients, DialTimeout: patience, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// put writes a key and returns the revision at which it did.
func put(t testing.TB, client *clientv3.Client, key, value string) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	done, err := client.Put(ctx, key, value)
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
	return done.Header.Revision
}

// remove deletes a key and returns the revision at which it did.
func remove(t testing.TB, client *clientv3.Client, key string, options ...clientv3.OpOption) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	done, err := client.Delete(ctx, key, options...)
	if err != nil {
		t.Fatalf("delete %s: %v", key, err)
	}
	return done.Header.Revision
}
