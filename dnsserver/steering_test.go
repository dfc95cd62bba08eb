package dnsserver

import (
	"slices"
	"testing"

	"golang.org/x/tools/txtar"

	"nearside/regions"
)

// A name is opted out as it is listed, and not for looking like that.
func TestStatic(t *testing.T) {
	table := readTable(t, "eu 53 -6", "", "")
	static := Steering(table, []string{"Play.bet.example", "*.live.bet.example."}).Static
	for name, want := range map[string]bool{
		"play.bet.example.": true, "x.play.bet.example.": false, "x.live.bet.example.": true, "x.y.live.bet.example.": true,
		"*.live.bet.example.": true, "live.bet.example.": false, "alive.bet.example.": false, `x\.live.bet.example.`: false,
	} {
		if static(name) != want {
			t.Errorf("%s is static: %t", name, !want)
		}
	}
}

// The guard gets each pair of service and regions once, and the alarm counts what has
// no region left.
func TestSteered(t *testing.T) {
	b := newBench(t, &txtar.Archive{Files: []txtar.File{
		{Name: "regions", Data: []byte("eu 53 -6 192.0.2.0/26\nus 39 -77 192.0.2.64/26\nap 1 103 192.0.2.128/26\n")},
		{Name: "services", Data: []byte("casino names=*.casino.bet.example exhausted=none\n")},
		{Name: "bet.example.zone", Data: []byte(`$TTL 60
@ SOA ns1 hostmaster 1 3600 900 1209600 60
@ NS ns1
ns1 A 10.0.0.1
play A 192.0.2.1
play A 192.0.2.65
bonus A 192.0.2.2
bonus A 192.0.2.66
slots.casino A 192.0.2.1
slots.casino A 192.0.2.65
poker.casino A 192.0.2.1
poker.casino A 192.0.2.129
one A 192.0.2.3
`)},
	}})
	want := []regions.Steered{
		{Name: "play.bet.example.", Service: 0, Regions: 0b011},
		{Name: "slots.casino.bet.example.", Service: 1, Regions: 0b011},
		{Name: "poker.casino.bet.example.", Service: 1, Regions: 0b101},
	}
	if got := Steered(b.snapshot.zones); !slices.Equal(got, want) {
		t.Errorf("steered are %+v, not %+v", got, want)
	}
	for _, c := range []struct {
		line []string
		n    int
		name string
	}{
		{[]string{"drain", "eu"}, 0, ""},
		{[]string{"down", "us"}, 1, "slots.casino.bet.example."},
		{[]string{"drain", "us"}, 3, "slots.casino.bet.example."},
		{[]string{"drain", "casino/ap"}, 4, "poker.casino.bet.example."},
	} {
		b.change(t, c.line)
		if n, name := Exhausted(b.snapshot.zones, b.state); n != c.n || name != c.name {
			t.Errorf("after %v: %d, %s", c.line, n, name)
		}
	}
}
