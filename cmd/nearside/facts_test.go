package main

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"nearside/zones"
)

// A server is registered with addresses that lead to it from elsewhere.
func TestReachable(t *testing.T) {
	var own []net.Addr
	for _, text := range []string{"127.0.0.1/8", "::1/128", "192.0.2.7/24", "10.0.0.7/8", "169.254.1.1/16", "fe80::1/64", "2001:db8::7/64"} {
		addr, network, err := net.ParseCIDR(text)
		if err != nil {
			t.Fatal(err)
		}
		own = append(own, &net.IPNet{IP: addr, Mask: network.Mask})
	}
	for _, test := range []struct {
		sockets []string
		want    string
	}{
		{[]string{"0.0.0.0:53", "[::]:53"}, "[10.0.0.7:53 192.0.2.7:53 [2001:db8::7]:53]"},
		{[]string{"0.0.0.0:53", "192.0.2.7:53", "192.0.2.7:5300"}, "[10.0.0.7:53 192.0.2.7:53 192.0.2.7:5300]"},
		{[]string{"127.0.0.1:5300"}, "[127.0.0.1:5300]"},
	} {
		var sockets []netip.AddrPort
		for _, s := range test.sockets {
			sockets = append(sockets, netip.MustParseAddrPort(s))
		}
		if got := fmt.Sprint(reachable(sockets, own)); got != test.want {
			t.Errorf("%v: %s, not %s", test.sockets, got, test.want)
		}
	}
	if got := reachable([]netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:53")}, nil); len(got) > 0 {
		t.Errorf("without addresses: %v", got)
	}
}

// Zones of one name, serial and size may differ all the same; whose file another one
// has taken the place of is not served.
func TestZonesDigest(t *testing.T) {
	digest := func(content byte, state string) string {
		served := &zones.Status{Origin: "a.example.", Serial: 1, Records: 3, State: zones.StateOK, Digest: [32]byte{1}}
		return zonesDigest([]*zones.Status{served, {Origin: "b.example.", Serial: 1, Records: 3, State: state, Digest: [32]byte{content}}})
	}
	if digest(1, zones.StateOK) == digest(2, zones.StateOK) {
		t.Error("other content has the same digest")
	}
	if digest(1, zones.StateOK) != digest(1, zones.StateLastGood) {
		t.Error("the same content has another digest where its file is bad now")
	}
	if digest(1, zones.StateTwice) != digest(2, zones.StateTwice) {
		t.Error("what is not served counts")
	}
}

// BenchmarkZonesDigest is done at each change of a zone.
func BenchmarkZonesDigest(b *testing.B) {
	list := make([]*zones.Status, 100_000)
	for i := range list {
		list[i] = &zones.Status{Origin: fmt.Sprintf("z%d.example.", i)}
	}
	for b.Loop() {
		zonesDigest(list)
	}
}
