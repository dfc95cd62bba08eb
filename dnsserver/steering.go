package dnsserver

import (
	"net/netip"

	"nearside/regions"
	"nearside/zones"
)

// Steering tells the zone loader which records belong to which region, and which
// names to which service. static lists the names that are opted out, absolute or
// not; a leading "*." covers every name below.
func Steering(t *regions.Table, static []string) zones.Steering {
	listed := make(regions.Names[bool])
	for _, name := range static {
		listed.Add(name, true)
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
			static, _ := listed.Of(owner)
			return static
		},
		Service: func(owner string) (uint16, uint32) {
			id := t.ServiceOf(owner)
			return uint16(id), t.TTL(id)
		},
	}
}

// A set has room for the service of every steered RRset.
const _ = uint(zones.MaxServices - 1 - regions.MaxServices)

// Steered returns the steered names of a view: one for each distinct pair of service
// and regions, which is what the guard has to know.
func Steered(v *zones.View) []regions.Steered {
	spreads := v.Spreads()
	list := make([]regions.Steered, len(spreads))
	for i, s := range spreads {
		list[i] = regions.Steered{Name: s.Name, Service: regions.ServiceID(s.Service), Regions: regions.Set(s.Regions)}
	}
	return list
}

// Exhausted returns the number of steered RRsets that no client gets anything of,
// and the owner of one of them.
func Exhausted(v *zones.View, state *regions.State) (n int, name string) {
	return v.Exhausted(func(service uint16, set uint64) bool {
		return state.Left(regions.Set(set), regions.ServiceID(service)) != 0
	})
}
