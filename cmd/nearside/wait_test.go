package main

import (
	"testing"
	"time"

	"nearside/dnsserver"
	"nearside/healthsync"
	"nearside/regions"
)

// A server that has the drain by its revision may have a break-glass file all the same.
func TestOut(t *testing.T) {
	eu, casino := healthsync.Target{Region: "eu-west"}, healthsync.Target{Service: "casino", Region: "eu-west"}
	planned := regions.Drain{Percent: 100, At: time.Now().Add(time.Hour)}
	for _, c := range []struct {
		name     string
		at       healthsync.Target
		drain    regions.Drain
		told     dnsserver.Told
		override bool
		want     bool
	}{
		{name: "it names the region", at: eu, told: dnsserver.Told{Drained: []string{"us-east", "eu-west"}}, want: true},
		{name: "it names another", at: eu, told: dnsserver.Told{Drained: []string{"us-east", "casino/eu-west"}}},
		{name: "it names none", at: eu},
		{name: "its file drains the region, too", at: eu, told: dnsserver.Told{Drained: []string{"eu-west"}}, override: true, want: true},
		{name: "no room to name it", at: eu, told: dnsserver.Told{More: 3}, want: true},
		{name: "no room to name it, and a file", at: eu, told: dnsserver.Told{More: 3}, override: true},
		{name: "the drain has yet to begin", at: eu, drain: planned, want: true},
		{name: "the drain has yet to begin, and a file", at: eu, drain: planned, override: true},
		{name: "a service of the region", at: casino, told: dnsserver.Told{Drained: []string{"casino/eu-west"}}, want: true},
		{name: "all of the region", at: casino, told: dnsserver.Told{Drained: []string{"eu-west"}}, want: true},
		{name: "another service", at: casino, told: dnsserver.Told{Drained: []string{"sports/eu-west"}}},
	} {
		v := &waiter{drainer: drainer{at: c.at, drain: c.drain}}
		m := healthsync.Member{}
		m.Override = c.override
		if got := v.out(c.told, m); got != c.want {
			t.Errorf("%s: out is %t", c.name, got)
		}
	}
}
