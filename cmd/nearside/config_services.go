package main

import (
	"fmt"
	"strings"
	"time"

	"nearside/regions"
)

// serviceConfig is one element of `services` as written.
type serviceConfig struct {
	Name        string
	Names       []string
	Order       string // nearest or failover
	Regions     []string
	TTL         int    // seconds; 0: steering.ttl
	OnExhausted string // any, none or a region
}

// serviceSettings are the keys of one element of `services`.
var serviceSettings = []setting[serviceConfig]{
	scalar("name", text, func(s *serviceConfig) *string { return &s.Name }, parseName),
	list("names", func(s *serviceConfig) *[]string { return &s.Names }, parseOwner),
	scalar("order", text, func(s *serviceConfig) *string { return &s.Order }, parseOrder),
	list("regions", func(s *serviceConfig) *[]string { return &s.Regions }, parseName),
	scalar("ttl", integer, func(s *serviceConfig) *int { return &s.TTL }, between(1, maxTTL)),
	scalar("on_exhausted", text, func(s *serviceConfig) *string { return &s.OnExhausted }, parseName),
}

func parseOrder(s string) (string, error) {
	if s != "nearest" && s != "failover" {
		return "", fmt.Errorf("%q is no order; write nearest or failover", s)
	}
	return s, nil
}

// parsePercent takes a share such as 50%.
func parsePercent(s string) (int, error) {
	digits, ok := strings.CutSuffix(s, "%")
	if _, err := between(0, 100)(s); !ok && err == nil {
		return 0, fmt.Errorf("%q is no share; write %s%%", s, s)
	}
	if !ok {
		return 0, fmt.Errorf("%q is no share; write a whole number and a percent sign, as in 50%%", s)
	}
	return between(0, 100)(digits)
}

// services adds services and rules to the table of regions.
func (d *decoder) services(c *Config) {
	if len(c.Services) > 0 && len(c.Regions) == 0 {
		d.faultAt("services", "services need regions")
	}
	policy := regions.Policy{MaxOut: c.MaxOut, Hold: c.Hold, Ramp: c.Ramp, TTL: uint32(c.TTL)}
	var list []regions.Service
	for i, s := range c.Services {
		at := fmt.Sprintf("services[%d]", i)
		made, whole := d.service(c, s, at)
		if !whole {
			continue
		}
		// The rules are those of Table.With, which knows no lines: so services are
		// given to it one by one.
		if _, err := c.table.With(append(list, made), policy); err != nil {
			d.faultAt(at+".name", "%v", err)
			continue
		}
		list = append(list, made)
	}
	if table, err := c.table.With(list, policy); err == nil {
		c.table = table
	}
}

// service makes a service of what was written. It is not whole where a fault was
// found, now or before.
func (d *decoder) service(c *Config, s serviceConfig, at string) (made regions.Service, whole bool) {
	whole = true
	for _, key := range []string{".name", ".names"} {
		if !d.given(at + key) {
			d.faultAt(at+key, "service %q: %s is needed", s.Name, key[1:])
			whole = false
		}
	}
	made = regions.Service{Name: s.Name, Names: s.Names, Failover: s.Order == "failover", TTL: uint32(s.TTL)}
	region := func(key, name string) regions.ID {
		id, known := c.table.Named(name)
		if !known {
			d.faultAt(at+key, "service %s: there is no region %q; regions lists what there is", s.Name, name)
			whole = false
		}
		return id
	}
	for j, name := range s.Regions {
		made.Regions = append(made.Regions, region(fmt.Sprintf(".regions[%d]", j), name))
	}
	switch s.OnExhausted {
	case "", "any":
	case "none":
		made.OnExhausted.Kind = regions.NoRegion
	default:
		made.OnExhausted = regions.Exhausted{Kind: regions.OneRegion, Region: region(".on_exhausted", s.OnExhausted)}
	}
	return made, whole && !d.refused[at+".name"] && !d.refused[at+".names"]
}

// The defaults of leaving and coming back.
const (
	defaultMaxOut = 50 // percent
	defaultHold   = time.Minute
	defaultWeight = 100
)
