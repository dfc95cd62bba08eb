package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"

	"nearside/healthsync"
	"nearside/zones"
)

// digest is the same for two servers whose configurations decide answers alike:
// their paths and addresses do not matter.
func (c *Config) digest() string {
	return digestOf(struct {
		Depth             int
		Resolvers         []string
		TTL, NegativeTTL  int
		Static            []string
		Regions, Services any
		MaxOut            int
		Hold, Ramp        fmt.Stringer
	}{c.GeoDepth, c.ClientSubnet, c.TTL, c.NegativeTTL, c.Static, c.Regions, c.Services, c.MaxOut, c.Hold, c.Ramp})
}

// digestOf returns the digest of what a value is as JSON.
func digestOf(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // plain data always has a JSON form
	}
	return fmt.Sprintf("%.8x", sha256.Sum256(text))
}

// tellFacts tells other servers what this one serves, until ctx ends.
func (s *server) tellFacts(ctx context.Context) {
	for {
		s.sync.SetFacts(s.collectFacts())
		select {
		case <-s.facts:
		case <-ctx.Done():
			return
		}
	}
}

func (s *server) collectFacts() healthsync.Facts {
	geography, _, _ := s.geo.status()
	facts := healthsync.Facts{
		Version: version(), TTL: s.config.Table().LongestTTL(),
		Digests: healthsync.Digests{Configuration: s.config.digest(), Zones: zonesDigest(s.zones.store.Status()), Database: geography.Digest},
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		s.log.Warn().Err(err).Msg("the addresses of this machine cannot be read: `drain --wait` may not be able to ask this server")
	}
	facts.Addresses = reachable(s.dns.Addrs(), own)
	return facts
}

// reachable returns the addresses, as host:port, at which others may reach the
// sockets of a machine with addresses of its own. An unspecified address is all of
// those: asked at it, any machine answers for itself.
func reachable(sockets []netip.AddrPort, own []net.Addr) []string {
	var list []string
	for _, socket := range sockets {
		if !socket.Addr().IsUnspecified() {
			list = append(list, socket.String())
			continue
		}
		for _, a := range own {
			prefix, err := netip.ParsePrefix(a.String())
			if addr := prefix.Addr(); err == nil && addr.IsGlobalUnicast() && addr.Is4() == socket.Addr().Is4() {
				list = append(list, netip.AddrPortFrom(addr, socket.Port()).String())
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// zonesDigest is the same for two servers that serve the same zones.
func zonesDigest(list []*zones.Status) string {
	sum := sha256.New()
	for _, z := range list {
		if z.State != zones.StateTwice { // this file is not served
			io.WriteString(sum, z.Origin+"\n")
			sum.Write(z.Digest[:])
		}
	}
	return fmt.Sprintf("%.8x", sum.Sum(nil))
}
