package integration

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// peer is one of the servers that get the same zones and the same queries.
type peer struct {
	*process
	name    string
	address netip.AddrPort
	udp     *client
	tcp     *client // nil until it is needed
}

// Indices among the peers. ours is nearside's; the others judge it.
const (
	ours    = 0
	nsdPeer = 1
)

// newPeers starts nearside, NSD, Knot and BIND with the zones, and waits until
// each has loaded them all.
func newPeers(t testing.TB, dir string, zones []*generated) []*peer {
	t.Helper()
	var peers []*peer
	for _, p := range []struct {
		name   string
		launch func(testing.TB, string, netip.AddrPort, []*generated) *process
	}{{"nearside", launchNearside}, {"NSD", launchNSD}, {"Knot", launchKnot}, {"BIND", launchBIND}} {
		address := loopback(t)
		home := dir + "/" + p.name
		if err := os.Mkdir(home, 0o755); err != nil {
			t.Fatal(err)
		}
		peers = append(peers, &peer{
			name: p.name, address: address, udp: newClient(t, thisMachine, "udp", address),
			process: p.launch(t, home, address, zones),
		})
	}
	for _, p := range peers {
		for _, z := range zones {
			eventually(t, p.name+" with "+z.path, func() error { return p.serves(t, z.origin) })
		}
	}
	return peers
}

// serves says what is in the way unless the zone is loaded.
func (p *peer) serves(t testing.TB, origin string) error {
	if err := p.failed(); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	q := new(dns.Msg)
	q.SetQuestion(origin, dns.TypeSOA)
	p.udp.conn.SetDeadline(time.Now().Add(time.Second))
	// Nobody listens yet: that is an error of the socket, and another try is due.
	if answer, _, err := p.udp.raw(q); err != nil {
		return err
	} else if answer.Rcode != dns.RcodeSuccess || !answer.Authoritative {
		return fmt.Errorf("%s is not loaded: %s", origin, dns.RcodeToString[answer.Rcode])
	}
	return nil
}

// reply is what a peer answered, and how many octets that took.
type reply struct {
	*dns.Msg
	size int
}

func (p *peer) ask(t testing.TB, q *dns.Msg, stream bool) reply {
	t.Helper()
	c := p.udp
	if stream {
		if p.tcp == nil {
			p.tcp = newClient(t, thisMachine, "tcp", p.address)
		}
		c = p.tcp
	}
	c.conn.SetDeadline(time.Now().Add(patience))
	answer, size, err := c.raw(q)
	if err != nil && stream { // it closed a connection that was idle meanwhile
		p.tcp = newClient(t, thisMachine, "tcp", p.address)
		p.tcp.conn.SetDeadline(time.Now().Add(patience))
		answer, size, err = p.tcp.raw(q)
	}
	if err != nil {
		t.Fatalf("%s does not answer %s: %v", p.name, digCommand(q, stream), err)
	}
	return reply{answer, size}
}

// raw is exchange that tells the size, too.
func (c *client) raw(q *dns.Msg) (*dns.Msg, int, error) {
	c.conn.UDPSize = dns.MaxMsgSize
	if err := c.conn.WriteMsg(q); err != nil {
		return nil, 0, err
	}
	for {
		wire, err := c.conn.ReadMsgHeader(nil)
		if err != nil {
			return nil, 0, err
		}
		answer := new(dns.Msg)
		if err := answer.Unpack(wire); err != nil {
			return nil, 0, fmt.Errorf("unreadable: %w: %x", err, wire)
		}
		if answer.Id == q.Id {
			return answer, len(wire), nil
		}
	}
}

func launchNearside(t testing.TB, dir string, address netip.AddrPort, zones []*generated) *process {
	s := &server{dir: dir, address: address, admin: loopback(t)}
	if err := os.Mkdir(s.path("zones"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, z := range zones {
		if err := os.Link(z.path, s.path("zones/"+z.file())); err != nil {
			t.Fatal(err)
		}
	}
	write(t, s.path("nearside.yaml"), fmt.Sprintf(unindent(`
		server: {id: ours, listen: [%q]}
		admin: {listen: %q}
		data_dir: data
		zones: {dir: zones}
		`), s.address, s.admin))
	s.launch(t)
	return s.process
}

// launchNSD turns off what limits the answers of a whole network: all queries
// come from one.
func launchNSD(t testing.TB, dir string, address netip.AddrPort, zones []*generated) *process {
	conf := fmt.Sprintf(unindent(`
		server:
			ip-address: %s@%d
			username: ""
			chroot: ""
			database: ""
			pidfile: "%[3]s/pid"
			xfrdfile: "%[3]s/xfrd"
			xfrdir: "%[3]s"
			zonelistfile: "%[3]s/zones"
			server-count: 1
			rrl-ratelimit: 0
			rrl-whitelist-ratelimit: 0
		remote-control:
			control-enable: no
		`), address.Addr(), address.Port(), dir)
	for _, z := range zones {
		conf += fmt.Sprintf("zone:\n\tname: %q\n\tzonefile: %q\n", z.origin, z.path)
	}
	write(t, dir+"/nsd.conf", conf)
	return start(t, exec.Command(nsd, "-d", "-c", dir+"/nsd.conf"))
}

func launchKnot(t testing.TB, dir string, address netip.AddrPort, zones []*generated) *process {
	conf := fmt.Sprintf(unindent(`
		server:
		  listen: %s@%d
		  rundir: %q
		  udp-workers: 1
		  tcp-workers: 1
		  background-workers: 1
		log:
		  - target: stderr
		    any: warning
		control:
		  listen: "%[3]s/sock"
		database:
		  storage: %[3]q
		template:
		  - id: default
		    zonefile-sync: -1
		    journal-content: none
		    semantic-checks: off
		zone:
		`), address.Addr(), address.Port(), dir)
	for _, z := range zones {
		conf += fmt.Sprintf("  - domain: %q\n    file: %q\n", z.origin, z.path)
	}
	write(t, dir+"/knot.conf", conf)
	return start(t, exec.Command(knotd, "-c", dir+"/knot.conf"))
}

// launchBIND tells BIND to load zones without opinions about mail, and to leave
// out NS records that nobody asked for, as the others do.
func launchBIND(t testing.TB, dir string, address netip.AddrPort, zones []*generated) *process {
	conf := fmt.Sprintf(unindent(`
		options {
			directory %q;
			listen-on port %d { %s; };
			listen-on-v6 { none; };
			pid-file none;
			session-keyfile none;
			recursion no;
			dnssec-validation no;
			notify no;
			empty-zones-enable no;
			minimal-responses no-auth;
			max-udp-size 1232;
			check-names primary ignore;
			check-integrity no;
			max-records-per-type 0;
			max-types-per-name 0;
		};
		controls {};
		`), dir, address.Port(), address.Addr())
	for _, z := range zones {
		conf += fmt.Sprintf("zone %q { type primary; file %q; };\n", z.origin, z.path)
	}
	write(t, dir+"/named.conf", conf)
	return start(t, exec.Command(named, "-g", "-n", "1", "-c", dir+"/named.conf"))
}
