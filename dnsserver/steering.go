package dnsserver

import (
	"net/netip"
	"strings"

	"nearside/regions"
	"nearside/zones"
)

// Steering tells the zone loader which records belong to which region. static
// lists the names that are opted out, absolute or not; a leading "*." covers
// every name below. ttl caps the TTL of steered RRsets, in seconds.
func Steering(t *regions.Table, static []string, ttl uint32) zones.Steering {
	exact := make(map[string]bool, len(static))
	var below []string
	for _, name := range static {
		name = strings.ToLower(strings.TrimSuffix(name, ".")) + "."
		if rest, ok := strings.CutPrefix(name, "*"); ok {
			below = append(below, rest)
		} else {
			exact[name] = true
		}
	}
	return zones.Steering{
		RegionOf: func(addr netip.Addr) (uint8, bool) {
			id, ok := t.RegionOf(addr)
			return uint8(id), ok
		},
		Named: func(label string) (uint8, bool) {
			id, ok := t.Named(label)
			return uint8(id), ok
		},
		Name: func(region uint8) string { return t.Name(regions.ID(region)) },
		Static: func(owner string) bool {
			if exact[owner] {
				return true
			}
			for _, suffix := range below {
				if strings.HasSuffix(owner, suffix) {
					return true
				}
			}
			return false
		},
		TTL: ttl,
	}
}
