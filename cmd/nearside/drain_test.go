package main

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
	_ "time/tzdata"

	"nearside/healthsync"
	"nearside/regions"
)

func drainTable(t *testing.T) *Config {
	t.Helper()
	c, _, err := Load(writeConfig(t, `
server: {id: ns1}
zones: {dir: zones}
etcd: {embedded: true}
regions:
- {name: eu, location: {latitude: 1, longitude: 1}}
- {name: us, location: {latitude: 2, longitude: 2}}
- {name: ap, location: {latitude: 3, longitude: 3}}
- {name: sorry, location: {latitude: 4, longitude: 4}, standby: true}
services:
- {name: casino, names: [casino.example], regions: [eu, us]}
`), overlay(t))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A drain that would leave only what is sick is not written without --force.
func TestDrainLeavesSick(t *testing.T) {
	c := drainTable(t)
	us, ap, casino := healthsync.Target{Region: "us"}, healthsync.Target{Region: "ap"}, healthsync.Target{Service: "casino", Region: "us"}
	for _, test := range []struct {
		name  string
		at    healthsync.Target
		stand map[healthsync.Target]regions.Status
		want  string
	}{
		{"all is well", healthsync.Target{Region: "eu"}, nil, ""},
		{"one is well", healthsync.Target{Service: "casino", Region: "ap"}, map[healthsync.Target]regions.Status{us: regions.Down}, ""},
		{"all are sick", healthsync.Target{Region: "eu"}, map[healthsync.Target]regions.Status{us: regions.Down, ap: regions.Drained | regions.Silent},
			"of the regions that would remain, us is down, ap is drained+silent"},
		{"a service has no other", healthsync.Target{Region: "eu"}, map[healthsync.Target]regions.Status{casino: regions.Down}, "of the regions that would remain for service casino, us is down"},
		{"the service itself", healthsync.Target{Service: "casino", Region: "eu"}, map[healthsync.Target]regions.Status{us: regions.Silent}, "of the regions that would remain for service casino, us is silent"},
		{"excused is well", healthsync.Target{Region: "eu"}, map[healthsync.Target]regions.Status{us: regions.Excused, ap: regions.Excused}, ""},
	} {
		if got := (drainer{config: c, at: test.at}).remainder(test.stand); got != test.want {
			t.Errorf("%s: %q, not %q", test.name, got, test.want)
		}
	}
}

// The flags of drain are times and shares that make sense.
func TestDrainFlags(t *testing.T) {
	zone := time.FixedZone("CET", 3600)
	now := time.Date(2026, 11, 28, 4, 0, 0, 0, zone)
	for _, test := range []struct {
		flags     drainFlags
		at, until string // RFC 3339 in UTC; "": zero
		fault     string
	}{
		{drainFlags{percent: 100}, "", "", ""},
		{drainFlags{percent: 100, lasting: 2 * time.Hour}, "", "2026-11-28T05:00:00Z", ""},
		{drainFlags{percent: 1, at: "03:00", lasting: time.Hour}, "2026-11-29T02:00:00Z", "2026-11-29T03:00:00Z", ""},
		{drainFlags{percent: 1, at: "05:00:30"}, "2026-11-28T04:00:30Z", "", ""},
		{drainFlags{percent: 1, at: "2026-12-01T03:00:00Z"}, "2026-12-01T03:00:00Z", "", ""},
		{drainFlags{percent: 1, at: "2026-11-01T03:00:00Z"}, "", "", "is past"},
		{drainFlags{percent: 1, at: "soon"}, "", "", "is no time"},
		{drainFlags{percent: 0}, "", "", "from 1 to 100"},
		{drainFlags{percent: 101}, "", "", "from 1 to 100"},
		{drainFlags{percent: 100, lasting: 1500 * time.Millisecond}, "", "2026-11-28T03:00:02Z", ""},
		{drainFlags{percent: 100, lasting: 500 * time.Millisecond}, "", "", "1s or more"},
		{drainFlags{percent: 100, lasting: -time.Second}, "", "", "lasts longer"},
	} {
		d, err := test.flags.drain(now)
		if test.fault != "" {
			if err == nil || !strings.Contains(err.Error(), test.fault) {
				t.Errorf("%+v: %v", test.flags, err)
			}
			continue
		}
		shown := func(at time.Time) string {
			if at.IsZero() {
				return ""
			}
			return at.UTC().Format(time.RFC3339)
		}
		if err != nil || shown(d.At) != test.at || shown(d.Until) != test.until {
			t.Errorf("%+v: from %s until %s, %v", test.flags, shown(d.At), shown(d.Until), err)
		}
	}
}

// Whoever types 03:00 is told how far that is, and what the servers call it.
func TestWhatIsDrained(t *testing.T) {
	zone := time.FixedZone("CET", 3600)
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().In(zone) // 2000-01-01T01:00:00+01:00
		for _, test := range []struct {
			flags drainFlags
			want  string
		}{
			{drainFlags{percent: 100}, "eu is drained"},
			{drainFlags{percent: 20, lasting: time.Hour}, "20% of eu is drained until 2000-01-01T02:00:00+01:00 (2000-01-01T01:00:00Z)"},
			{drainFlags{percent: 100, at: "03:00", lasting: time.Hour}, "eu is drained in 2h0m, from 2000-01-01T03:00:00+01:00 (2000-01-01T02:00:00Z) on until 2000-01-01T04:00:00+01:00 (2000-01-01T03:00:00Z)"},
			{drainFlags{percent: 100, at: "01:00:30"}, "eu is drained in 30 s, from 2000-01-01T01:00:30+01:00 (2000-01-01T00:00:30Z) on"},
			{drainFlags{percent: 100, at: "2000-01-01T00:59:00Z"}, "eu is drained in 59m, from 2000-01-01T00:59:00Z on"},
		} {
			d, err := test.flags.drain(now)
			if got := (drainer{at: healthsync.Target{Region: "eu"}, drain: d}).what(); err != nil || got != test.want {
				t.Errorf("%+v: %v\n%s\nnot\n%s", test.flags, err, got, test.want)
			}
		}
	})
}

// The log begins where drain --at would have, the last time.
func TestSince(t *testing.T) {
	now := time.Date(2026, 11, 28, 4, 0, 0, 0, time.FixedZone("CET", 3600))
	for text, want := range map[string]string{
		"03:00": "2026-11-28T02:00:00Z", "05:00": "2026-11-27T04:00:00Z", "2h": "2026-11-28T01:00:00Z",
		"2026-11-01T00:00:00Z": "2026-11-01T00:00:00Z", "25:00": "", "-2h": "", "soon": "",
	} {
		at, err := parseSince(text, now)
		if (err == nil) != (want != "") || err == nil && at.UTC().Format(time.RFC3339) != want {
			t.Errorf("%s: %v, %v", text, at, err)
		}
	}
}

// A time that clocks skip is never taken for an earlier one.
func TestSkippedTime(t *testing.T) {
	for _, test := range []struct{ zone, now, at, want string }{
		{"Europe/Berlin", "2026-03-28T12:00:00+01:00", "02:30", "2026-03-29T03:30:00+02:00"},
		{"Europe/Berlin", "2026-03-28T12:00:00+01:00", "03:00", "2026-03-29T03:00:00+02:00"},
		{"Europe/Berlin", "2026-03-29T01:59:00+01:00", "02:00", "2026-03-29T03:00:00+02:00"},
		{"Europe/Berlin", "2026-10-24T12:00:00+02:00", "03:30", "2026-10-25T03:30:00+01:00"},
		{"America/Sao_Paulo", "2018-11-03T12:00:00-03:00", "00:10", "2018-11-04T01:10:00-02:00"},
		{"Pacific/Apia", "2011-12-29T12:00:00-10:00", "03:00", "2011-12-31T03:00:00+14:00"},
	} {
		zone, err := time.LoadLocation(test.zone)
		if err != nil {
			t.Fatal(err)
		}
		now, err := time.Parse(time.RFC3339, test.now)
		if err != nil {
			t.Fatal(err)
		}
		if at, err := parseMoment(test.at, now.In(zone)); err != nil || at.Format(time.RFC3339) != test.want {
			t.Errorf("%s in %s at %s: %s, not %s; %v", test.at, test.zone, test.now, at.Format(time.RFC3339), test.want, err)
		}
	}
}
