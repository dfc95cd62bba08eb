package zones

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/miekg/dns"
)

func TestSmoke(t *testing.T) {
	dir := t.TempDir()
	f := filepath.Join(dir, "bet.example.zone")
	os.WriteFile(f, []byte(`$ORIGIN bet.example.
$TTL 3600
@       IN SOA ns1 hostmaster 2026112301 3600 900 1209600 60
        IN NS  ns1
        IN NS  ns2
ns1     IN A   198.51.100.53
ns2     IN A   203.0.113.53
play 30 IN A   192.0.2.10        ; in eu-west's prefixes
play 30 IN A   198.51.100.10     ; in us-east's
play 30 IN A   203.0.113.10      ; in ap-southeast's
play 30 IN AAAA 2001:db8:1::10
www     IN CNAME play
*.live TXT ( "a b"
   c ) 
eu._region.mail MX 10 a
us._region.mail MX 10 b
$GENERATE 1-3 h$ A 1.2.3.$
svc HTTPS 1 . alpn="h2,h3" ipv4hint=192.0.2.1
svc HTTPS 1 . alpn="h2,h3" ipv4hint=198.51.100.10`), 0o644)
	names := []string{"eu", "us", "ap"}
	st := Steering{TTL: 30, RegionOf: func(a netip.Addr) (uint8, bool) {
		for i, p := range []string{"192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"} {
			if netip.MustParsePrefix(p).Contains(a) {
				return uint8(i), true
			}
		}
		return 0, netip.MustParsePrefix("2001:db8:1::/48").Contains(a)
	}, Name: func(r uint8) string { return names[r] }, Named: func(l string) (uint8, bool) {
		for i, n := range names {
			if n == l {
				return uint8(i), true
			}
		}
		return 0, false
	}}
	z, faults := LoadFile(f, "bet.example", st)
	for _, f := range faults {
		fmt.Println(f)
	}
	if z == nil {
		t.Fatal("nil")
	}
	fmt.Println(z.steered, z.single, z.records, z.serial, z.origin)
	for _, q := range []string{"bet.example.", "play.bet.example.", "a.live.bet.example.", "live.bet.example.", "mail.bet.example.", "h2.bet.example.", "no.bet.example."} {
		w, _ := appendName(nil, []byte(q), nil)
		for _, ty := range []uint16{1, 2, 28, 15, 16} {
			r := z.Lookup(w, ty)
			fmt.Println(q, dns.Type(ty), r.Outcome, r.Wildcard, r.Steered, r.Set.Regions, r.Set.Count, r.Set.TTL, r.Set.Wire)
		}
	}
}

func TestMillion(t *testing.T) {
	dir := t.TempDir()
	f := filepath.Join(dir, "big.example.zone")
	w, _ := os.Create(f)
	fmt.Fprintln(w, "$TTL 300\n@ SOA ns1 h 1 2 3 4 5\n@ NS ns1\nns1 A 192.0.2.53")
	for i := range 500000 {
		fmt.Fprintf(w, "host%d A 10.%d.%d.%d\nhost%d AAAA 2001:db8::%x:%x\n", i, i>>16, i>>8&255, i&255, i, i>>16, i&65535)
	}
	w.Close()
	z, faults := LoadFile(f, "big.example", Steering{})
	fmt.Println(faults)
	fmt.Println(z.Records())
	b, _ := os.ReadFile("/proc/self/status")
	fmt.Println(string(b))
}
