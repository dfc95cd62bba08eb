package main

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// The world that every server is configured for: six regions, a country near
// each, and addresses that lie in these countries, 64 by 64 networks of them.

// region is a data center.
type region struct {
	Name                string
	Latitude, Longitude float64
	Address             netip.Addr // of every steered name
	Continent, Country  string     // of the clients that are nearest
}

var regions = []region{
	{"us-east", 39.04, -77.49, netip.MustParseAddr("192.0.2.10"), "NA", "US"},
	{"sa-east", -23.55, -46.63, netip.MustParseAddr("192.0.2.74"), "SA", "BR"},
	{"eu-west", 53.35, -6.26, netip.MustParseAddr("192.0.2.138"), "EU", "IE"},
	{"ap-southeast", 1.35, 103.82, netip.MustParseAddr("192.0.2.202"), "AS", "SG"},
	{"af-south", -33.92, 18.42, netip.MustParseAddr("198.51.100.10"), "AF", "ZA"},
	{"ap-south", -33.87, 151.21, netip.MustParseAddr("198.51.100.74"), "OC", "AU"},
}

// Prefix is what the region announces.
func (r region) Prefix() netip.Prefix {
	p, _ := r.Address.Prefix(26)
	return p
}

func (r region) a() []byte { return r.Address.AsSlice() }

// Lower is the country as PowerDNS writes it in names.
func (r region) Lower() string { return strings.ToLower(r.Country) }

const (
	// networkBits is the length of the networks of the database: 262,144 of them.
	networkBits = 18
	// steeredNames is how many names have an address in every region.
	steeredNames = 100
	staticNames  = 10_000
	bigNames     = 500_000
)

// placeOf returns the place of a network by its number: neighbours have
// nothing in common, so that nothing can be merged.
func placeOf(network uint32) place {
	h := network * 0x9e3779b1
	h ^= h >> 15
	h *= 0x85ebca6b
	h ^= h >> 13
	return place{region: int(h % uint32(len(regions))), city: int(h>>8) % cities}
}

// client is an address and its nearest region.
type client struct {
	address netip.Addr
	region  region
}

// newClient returns a client that lies in globally reachable IPv4 space.
func newClient(random *rand.Rand) client {
	for {
		n := random.Uint32()
		switch first := n >> 24; {
		case first == 0, first == 10, first == 100, first == 127, first == 169, first == 172, first == 192, first == 198, first == 203, first > 223:
			continue
		}
		a := netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
		return client{a, regions[placeOf(n>>(32-networkBits)).region]}
	}
}

// newClients returns n clients, the same in every run.
func newClients(n int) []client {
	random := rand.New(rand.NewPCG(1, 2))
	clients := make([]client, n)
	for i := range clients {
		clients[i] = newClient(random)
	}
	return clients
}

// profile is what a server is configured for and asked.
type profile string

const (
	static    profile = "static"
	bySource  profile = "geo by source"
	byECS     profile = "geo by ECS"
	millions  profile = "1,000,000 records"
	questions         = 1 << 17 // as many different ones are asked, in random order
)

// zone is the zone that a profile asks for.
func (p profile) zone() string {
	switch p {
	case bySource, byECS:
		return "geo.example"
	case millions:
		return "big.example"
	}
	return "static.example"
}

func staticName(i int) string  { return fmt.Sprintf("n%05d.static.example.", i) }
func steeredName(i int) string { return fmt.Sprintf("n%05d.geo.example.", i) }
func bigName(i int) string     { return fmt.Sprintf("n%06d.big.example.", i) }

// address4 and address6 are the addresses of the i-th static name.
func address4(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

func address6(i int) netip.Addr {
	return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
}

// questions returns what is asked, the same in every run.
func (p profile) questions() []question {
	random := rand.New(rand.NewPCG(3, 4))
	list := make([]question, questions)
	for i := range list {
		switch p {
		case static:
			n := random.IntN(staticNames)
			list[i] = newQuestion(staticName(n), typeA, netip.Prefix{}, address4(n).AsSlice())
		case bySource:
			list[i] = newQuestion(steeredName(random.IntN(steeredNames)), typeA, netip.Prefix{}, nil)
		case byECS:
			c := newClient(random)
			subnet, _ := c.address.Prefix(24)
			list[i] = newQuestion(steeredName(random.IntN(steeredNames)), typeA, subnet, c.region.a())
		case millions:
			n := random.IntN(bigNames)
			if random.IntN(2) == 0 {
				list[i] = newQuestion(bigName(n), typeA, netip.Prefix{}, address4(n).AsSlice())
			} else {
				list[i] = newQuestion(bigName(n), typeAAAA, netip.Prefix{}, address6(n).AsSlice())
			}
		}
	}
	return list
}

// last is a question for what stands last in the zone file.
func (p profile) last() question {
	switch p {
	case static:
		return newQuestion(staticName(staticNames-1), typeA, netip.Prefix{}, address4(staticNames-1).AsSlice())
	case millions:
		return newQuestion(bigName(bigNames-1), typeAAAA, netip.Prefix{}, address6(bigNames-1).AsSlice())
	}
	return newQuestion(steeredName(steeredNames-1), typeA, netip.Prefix{}, nil)
}

// writeZone writes the master file of a profile. records returns what a steered
// name has: each server has a form of its own for that.
func writeZone(path string, p profile, steered func(owner string) string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	fmt.Fprintf(w, "$ORIGIN %s.\n$TTL 3600\n@ IN SOA ns1 hostmaster 1 3600 900 1209600 60\n@ IN NS ns1\nns1 IN A 203.0.113.1\n", p.zone())
	switch p {
	case static:
		for i := range staticNames {
			fmt.Fprintf(w, "n%05d 3600 IN A %s\n", i, address4(i))
		}
	case millions:
		for i := range bigNames {
			fmt.Fprintf(w, "n%06d 3600 IN A %s\nn%06d 3600 IN AAAA %s\n", i, address4(i), i, address6(i))
		}
	default:
		for i := range steeredNames {
			fmt.Fprint(w, steered(fmt.Sprintf("n%05d", i)))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}
