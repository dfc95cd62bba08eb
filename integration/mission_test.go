package integration

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// The network of the mission, on the loopback interface of a host of its own:
// players, resolvers, the parent zone and two name servers on port 53.
const (
	parentAddress = "10.53.0.1"
	ns1Address    = "10.53.0.2"
	ns2Address    = "10.53.0.3"
	plainResolver = "10.53.0.4" // says nothing of its clients
	ecsResolver   = "10.53.0.5" // passes their subnets on (RFC 7871)
)

// missionTTL is short so that a whole TTL can pass in a test.
const missionTTL = 2 * time.Second

// TestMission is what nearside is for: an operator takes a data center out with
// one etcdctl put, and players behind resolvers, who reach us through the
// delegation in the parent zone, are elsewhere within one TTL.
func TestMission(t *testing.T) {
	t.Parallel()
	h := newHost(t, parentAddress, ns1Address, ns2Address, plainResolver, ecsResolver)
	store := newCluster(t, h, 3)
	newParent(t, h)
	newResolver(t, h, plainResolver, `module-config: "iterator"`)
	newResolver(t, h, ecsResolver, fmt.Sprintf(`module-config: "subnetcache iterator"
		client-subnet-always-forward: yes
		send-client-subnet: %s
		send-client-subnet: %s`, ns1Address, ns2Address))
	var servers []*server
	for _, address := range []string{ns1Address, ns2Address} {
		a := netip.MustParseAddr(address)
		servers = append(servers, newServer(t, setup{host: h, address: netip.AddrPortFrom(a, 53), admin: netip.AddrPortFrom(a, 8053),
			etcd: store.settings(), ttl: int(missionTTL.Seconds())}))
	}

	players := []player{
		{"without a subnet", resolverClient(t, h, plainResolver), nowhere, "eu-west", "us-east"},
		{"in Ireland", resolverClient(t, h, ecsResolver), ireland, "eu-west", "eu-central"},
		{"in New York", resolverClient(t, h, ecsResolver), america, "us-east", "us-east"},
	}
	for _, p := range players {
		eventually(t, "a player "+p.where, func() error { return p.isOn(p.home) })
	}

	for range 2 {
		store.drain(t, "eu-west")
		written := time.Now()
		for _, s := range servers {
			c := s.client(t, "udp")
			within(t, time.Second, "the servers themselves, at once", func() error {
				return mustBe("eu-central", s.from(t, c, ireland))
			})
		}
		for _, p := range players {
			// The TTL is what we promise. Unbound counts in whole seconds and keeps
			// a record through its last one; half a second is for the machine.
			left := missionTTL + 1500*time.Millisecond - time.Since(written)
			within(t, left, "within one TTL, a player "+p.where, func() error { return p.isOn(p.away) })
			t.Logf("the player %s: elsewhere at most %v after the put", p.where, time.Since(written).Round(time.Millisecond))
		}
		store.undrain(t, "eu-west")
		for _, p := range players {
			within(t, missionTTL+1500*time.Millisecond, "back again, a player "+p.where, func() error { return p.isOn(p.home) })
		}
	}
	for _, s := range servers {
		s.stop(t)
	}
}

// player is somebody behind a resolver.
type player struct {
	where      string
	resolver   *client
	subnet     string
	home, away string // the region with and without eu-west
}

// isOn says where the player is, unless it is on region.
func (p player) isOn(region string) error {
	q := query("www.bet.example.", dns.TypeA, p.subnet)
	q.RecursionDesired = true
	answer, err := p.resolver.exchange(q)
	if err != nil {
		return err
	}
	if found := addresses(answer); len(found) == 1 {
		return mustBe(region, regionOf(sixRegions, found[0]))
	}
	return fmt.Errorf("no address: %s", dns.RcodeToString[answer.Rcode])
}

func mustBe(want, got string) error {
	if got != want {
		return fmt.Errorf("on %s, want %s", got, want)
	}
	return nil
}

func resolverClient(t testing.TB, h host, address string) *client {
	t.Helper()
	return newClient(t, h, "udp", netip.AddrPortFrom(netip.MustParseAddr(address), 53))
}

// newParent starts NSD with the zone example., which delegates bet.example.
func newParent(t testing.TB, h host) {
	t.Helper()
	newNSD(t, h, "example.", fmt.Sprintf(unindent(`
		$ORIGIN example.
		$TTL 60
		@       IN SOA ns hostmaster 1 3600 900 1209600 60
		@       IN NS  ns
		ns      IN A   %s
		bet     IN NS  ns1.bet
		bet     IN NS  ns2.bet
		ns1.bet IN A   %s
		ns2.bet IN A   %s
		`), parentAddress, ns1Address, ns2Address), parentAddress)
}

// newNSD starts NSD with one zone, on port 53 of the addresses.
func newNSD(t testing.TB, h host, origin, zone string, addresses ...string) {
	t.Helper()
	dir := t.TempDir()
	write(t, dir+"/zone", zone)
	write(t, dir+"/nsd.conf", fmt.Sprintf(unindent(`
		server:
			ip-address: %s
			username: ""
			chroot: ""
			database: ""
			zonesdir: "%[2]s"
			pidfile: "%[2]s/pid"
			xfrdfile: "%[2]s/xfrd"
			xfrdir: "%[2]s"
			zonelistfile: "%[2]s/zones"
		remote-control:
			control-enable: no
		zone:
			name: %[3]s
			zonefile: zone
		`), strings.Join(addresses, "\n\tip-address: "), dir, origin))
	start(t, h.command(nsd, "-d", "-c", dir+"/nsd.conf"))
	c := resolverClient(t, h, addresses[0])
	eventually(t, "NSD with the zone "+origin, func() error {
		answer, err := c.exchange(query(origin, dns.TypeSOA, ""))
		if err == nil && !answer.Authoritative {
			return fmt.Errorf("not loaded:\n%v", answer)
		}
		return err
	})
}

// newResolver starts unbound, which knows where example. is and nothing else.
func newResolver(t testing.TB, h host, address, settings string) {
	t.Helper()
	dir := t.TempDir()
	write(t, dir+"/unbound.conf", fmt.Sprintf(unindent(`
		server:
			interface: %[1]s
			outgoing-interface: %[1]s
			access-control: 10.53.0.0/16 allow
			username: ""
			chroot: ""
			directory: "%[2]s"
			pidfile: "%[2]s/pid"
			use-syslog: no
			do-daemonize: no
			do-ip6: no
			%[3]s
		remote-control:
			control-enable: no
		stub-zone:
			name: example.
			stub-addr: %[4]s
		`), address, dir, settings, parentAddress))
	start(t, h.command(unbound, "-d", "-c", dir+"/unbound.conf"))
}
