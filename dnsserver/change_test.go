package dnsserver

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"golang.org/x/tools/txtar"

	"nearside/regions"
)

// site is a bench with 64 regions of three health reporters each, and the given
// numbers of steered names, which all have a record in every region, and of
// places, which all prefer the regions in an order of their own.
func newSite(t testing.TB, names, places int) *bench {
	t.Helper()
	var table, zone strings.Builder
	for region := range regions.Max {
		fmt.Fprintf(&table, "r%d %d %d 10.%d.0.0/16\n", region, region, 2*region, region)
	}
	zone.WriteString("$TTL 60\n@ IN SOA ns1 hostmaster 1 3600 900 1209600 60\n@ NS ns1\nns1 A 192.0.2.1\n")
	for i := range names {
		for region := range regions.Max {
			fmt.Fprintf(&zone, "n%d A 10.%d.%d.%d\n", i, region, i>>8, i&255)
		}
	}
	b := newBench(t, &txtar.Archive{Files: []txtar.File{
		{Name: "regions", Data: []byte(table.String())},
		{Name: "bet.example.zone", Data: []byte(zone.String())},
	}})
	for id := range b.table.All().All() {
		b.inputs.Subjects[id].Votes = map[string]regions.Vote{"a": {}, "b": {}, "c": {}}
	}
	p := &Places{clients: b.snapshot.places.clients, size: regions.Max}
	for i := range max(places, b.snapshot.places.Classes()) {
		list := b.table.Listed()
		for at := range list { // the i-th order, in a way
			with := (at + i/(1+at)) % len(list)
			list[at], list[with] = list[with], list[at]
		}
		p.lists = append(p.lists, list...)
	}
	b.snapshot = b.snapshot.WithPlaces(p)
	return b
}

// drainOne drains the region at index i, or lets the next one back in, and returns
// the snapshot that follows.
func (b *bench) drainOne(i int) *Snapshot {
	b.inputs.Subjects[i/2%regions.Max].Drain.Percent = 100 * (1 - i%2)
	b.evaluate()
	return b.snapshot.WithState(b.state)
}

// TestStateChangeIsConstant: a change of state makes as little for hundreds of
// names and places as for few: nothing is compiled again.
func TestStateChangeIsConstant(t *testing.T) {
	var made [2]uint64 // octets
	for i, n := range []int{10, 300} {
		b := newSite(t, n, n)
		if first, _, _ := b.snapshot.places.Prefer(client{}, netip.MustParseAddr("8.8.8.8")); len(first) != regions.Max {
			t.Fatalf("%d regions", len(first))
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for change := range 100 {
			b.snapshot = b.drainOne(change)
		}
		runtime.ReadMemStats(&after)
		made[i] = after.TotalAlloc - before.TotalAlloc
	}
	// 290 names or places more would be thousands of octets more at each change; the
	// race detector and the runtime alone are some dozens off.
	if made[0] > 100*20*1024 || made[1] > made[0]+100*256 {
		t.Errorf("100 changes make %d octets, and %d with more names and places", made[0], made[1])
	}
}

// BenchmarkStateChange is from the inputs that a watch event leads to until the
// snapshot is swapped in.
func BenchmarkStateChange(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprintf("names=%d", n), func(b *testing.B) {
			site := newSite(b, n, n)
			server, err := Listen([]string{"127.0.0.1:0"}, DefaultLimits, zerolog.Nop())
			if err != nil {
				b.Fatal(err)
			}
			defer server.release()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				site.snapshot = site.drainOne(i)
				server.Swap(site.snapshot)
			}
		})
	}
}
