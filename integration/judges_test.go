package integration

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// The world as the judges see it: a root, a TLD and two name servers, all with
// both protocols. The addresses are public ones, as the judges find fault with
// any other; no packet leaves the host.
var (
	rootAddresses = []string{"199.7.83.1", "2a01:7::1"}
	tldAddresses  = []string{"185.0.1.1", "2a02:8::1"}
	betAddresses  = []string{"45.33.7.1", "2a03:9::1", "45.77.9.2", "2a04:a::1"} // ns1's, ns2's
)

// tolerated is what the judges may note, each with the reason. Anything else is
// a fault, and so is what is in this list and no longer noted.
var tolerated = map[string]string{
	"NEITHER_DNSKEY_NOR_DS": "the zone is not signed, which is for its owner to decide",
	"NOT_SIGNED":            "the same, in other words",
}

// TestJudges lets Zonemaster and DNSViz judge a delegation to us.
func TestJudges(t *testing.T) {
	t.Parallel()
	h := newWorld(t)
	newDelegated(t, h)
	t.Run("Zonemaster", func(t *testing.T) { judgeByZonemaster(t, h) })
	t.Run("DNSViz", func(t *testing.T) { judgeByDNSViz(t, h) })
}

// newWorld makes a host with a root and the TLD example.
func newWorld(t testing.TB) host {
	t.Helper()
	h := newHost(t, slices.Concat(rootAddresses, tldAddresses, betAddresses)...)
	for _, family := range []string{"-4", "-6"} { // DNSViz takes a host without a route for one without a network
		succeed(t, exec.Command("ip", "-n", h.namespace, family, "route", "add", "default", "dev", "lo"))
	}
	var names strings.Builder // in the root zone itself, for want of somebody who serves in-addr.arpa.
	for i, a := range betAddresses {
		reverse, err := dns.ReverseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&names, "%s IN PTR ns%d.bet.example.\n", reverse, i/2+1)
	}
	newNSD(t, h, ".", fmt.Sprintf(unindent(`
		$ORIGIN .
		$TTL 86400
		@               IN SOA  a.root. hostmaster.root. 1 14400 3600 1209600 86400
		@               IN NS   a.root.
		a.root.         IN A    %s
		a.root.         IN AAAA %s
		example.        IN NS   ns.nic.example.
		ns.nic.example. IN A    %s
		ns.nic.example. IN AAAA %s
		`), texts(rootAddresses, tldAddresses)...)+names.String(), rootAddresses...)
	newNSD(t, h, "example.", fmt.Sprintf(unindent(`
		$ORIGIN example.
		$TTL 86400
		@       IN SOA  ns.nic hostmaster.nic 1 14400 3600 1209600 86400
		@       IN NS   ns.nic
		ns.nic  IN A    %s
		ns.nic  IN AAAA %s
		bet     IN NS   ns1.bet
		bet     IN NS   ns2.bet
		ns1.bet IN A    %s
		ns1.bet IN AAAA %s
		ns2.bet IN A    %s
		ns2.bet IN AAAA %s
		`), texts(tldAddresses, betAddresses)...), tldAddresses...)
	return h
}

// newDelegated starts the server that is judged, for both name servers. Its zone
// has steered names and what answers are made of otherwise.
func newDelegated(t testing.TB, h host) {
	t.Helper()
	s := &server{host: h, dir: t.TempDir(), admin: netip.MustParseAddrPort("127.0.0.1:8053")}
	if err := os.Mkdir(s.path("zones"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, s.path("nearside.yaml"), fmt.Sprintf(unindent(`
		server: {id: ns1, listen: ["%s:53", "[%s]:53", "%s:53", "[%s]:53"]}
		admin: {listen: %q}
		data_dir: data
		zones: {dir: zones}
		etcd: {embedded: true}
		regions:
		  - {name: eu-west, location: {latitude: 53.35, longitude: -6.26}, prefixes: [192.0.2.0/28, "2001:db8:1::/48"]}
		  - {name: us-east, location: {latitude: 39.04, longitude: -77.49}, prefixes: [192.0.2.16/28, "2001:db8:2::/48"]}
		`), append(texts(betAddresses), s.admin)...))
	write(t, s.path("zones/bet.example.zone"), fmt.Sprintf(unindent(`
		$ORIGIN bet.example.
		$TTL 3600
		@       IN SOA   ns1 hostmaster 1 14400 3600 1209600 3600
		@       IN NS    ns1
		@       IN NS    ns2
		@       IN MX    10 mail
		@       IN TXT   "v=spf1 mx -all"
		ns1     IN A     %s
		ns1     IN AAAA  %s
		ns2     IN A     %s
		ns2     IN AAAA  %s
		mail    IN A     198.51.100.1
		play 30 IN A     192.0.2.1
		play 30 IN A     192.0.2.17
		play 30 IN AAAA  2001:db8:1::1
		play 30 IN AAAA  2001:db8:2::1
		www     IN CNAME play
		*.live  IN CNAME play
		old     IN DNAME live
		eu-west._region.cdn 30 IN CNAME play
		us-east._region.cdn 30 IN CNAME play
		`), texts(betAddresses)...))
	s.launch(t)
}

// texts makes arguments of Sprintf.
func texts(lists ...[]string) []any {
	var all []any
	for _, text := range slices.Concat(lists...) {
		all = append(all, text)
	}
	return all
}

// judgeByZonemaster walks down from the root, as everybody does.
func judgeByZonemaster(t *testing.T, h host) {
	hints := t.TempDir() + "/hints"
	write(t, hints, fmt.Sprintf(". 3600000 NS a.root.\na.root. 3600000 A %s\na.root. 3600000 AAAA %s\n", texts(rootAddresses)...))
	text := succeed(t, h.command(zonemaster, "--hints", hints, "--level", "INFO", "--json", "--show-testcase", "--no-progress", "bet.example"))
	var notes []struct {
		Level, Module, Tag, Testcase string
		Args                         map[string]any
	}
	if err := json.Unmarshal([]byte(text), &notes); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	noted, modules := make(map[string]bool), make(map[string]bool)
	for _, n := range notes {
		modules[n.Module] = true
		if n.Level == "INFO" {
			continue
		}
		noted[n.Tag] = true
		if tolerated[n.Tag] == "" {
			t.Errorf("%s of test %s: %s %v", n.Level, n.Testcase, n.Tag, n.Args)
		}
	}
	for tag, why := range tolerated {
		if !noted[tag] {
			t.Errorf("%s is no longer noted: take it from the list (%s)", tag, why)
		}
	}
	for _, m := range []string{"ADDRESS", "BASIC", "CONSISTENCY", "DELEGATION", "DNSSEC", "NAMESERVER", "SYNTAX", "ZONE"} {
		if !modules[m] {
			t.Errorf("it has tried nothing of %s", m)
		}
	}
}

// judgeByDNSViz asks all servers for the zone and names in it, also with options
// of EDNS that they may not know.
func judgeByDNSViz(t *testing.T, h host) {
	asked := []string{"bet.example.", "play.bet.example.", "www.bet.example.", "a.live.bet.example.", "a.old.bet.example.", "cdn.bet.example.", "none.bet.example."}
	probe := t.TempDir() + "/probe.json"
	succeed(t, h.command(dnsviz, append([]string{"probe", "-A", "-E", "-n", "-e", ireland, "-o", probe,
		"-a", "example", "-x", fmt.Sprintf("example+:ns.nic.example=%s,ns.nic.example=[%s]", tldAddresses[0], tldAddresses[1])}, asked...)...))
	text := succeed(t, h.command(dnsviz, "grok", "-l", "info", "-r", probe))
	var found map[string]any
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	for _, name := range asked {
		servers := make(map[string]bool)
		collect(found[name], "servers", func(by any) {
			for address := range by.(map[string]any) {
				servers[address] = true
			}
		})
		for _, address := range betAddresses {
			if !servers[address] {
				t.Errorf("%s: it has no answer of %s", name, address)
			}
		}
	}
	for _, severity := range []string{"errors", "warnings"} {
		collect(found, severity, func(list any) {
			faults, _ := json.MarshalIndent(list, "", "  ")
			t.Errorf("%s: %s", severity, faults)
		})
	}
}

// collect calls each with every value of that key in a tree of JSON.
func collect(tree any, key string, each func(any)) {
	switch tree := tree.(type) {
	case map[string]any:
		for k, v := range tree {
			if k == key {
				each(v)
			} else {
				collect(v, key, each)
			}
		}
	case []any:
		for _, v := range tree {
			collect(v, key, each)
		}
	}
}
