package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"nearside/console"
	"nearside/healthsync"
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
		Digests: healthsync.Digests{Configuration: s.config.digest(), Zones: zonesDigest(console.Zones(s.zones.store.Status())), Database: geography.Digest},
	}
	for _, addr := range s.dns.Addrs() {
		facts.Addresses = append(facts.Addresses, addr.String())
	}
	return facts
}

// zonesDigest is the same for two servers that serve the same zones.
func zonesDigest(list []console.Zone) string {
	type served struct {
		Name    string
		Serial  uint32
		Records int
	}
	all := make([]served, len(list))
	for i, z := range list {
		all[i] = served{z.Name, z.Serial, z.Records}
	}
	return digestOf(all)
}
