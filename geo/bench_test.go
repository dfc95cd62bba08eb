package geo

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// databases returns the built-in database, or those that the environment variable
// GEO_DATABASES lists, as PATH lists folders: a City database of millions of
// networks is not in the repository.
func databases() map[string]func() (*Database, error) {
	files := filepath.SplitList(os.Getenv("GEO_DATABASES"))
	if len(files) == 0 {
		return map[string]func() (*Database, error){"built-in": Builtin}
	}
	all := make(map[string]func() (*Database, error))
	for _, file := range files {
		all[filepath.Base(file)] = func() (*Database, error) { return Open(file, Fast) }
	}
	return all
}

func onDatabases(b *testing.B, run func(b *testing.B, open func() (*Database, error))) {
	all := databases()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		b.Run(name, func(b *testing.B) { run(b, all[name]) })
	}
}

// onMaps runs a benchmark on the maps of the databases, classified as a server
// with six regions does it.
func onMaps(b *testing.B, run func(b *testing.B, m *Map)) {
	onDatabases(b, func(b *testing.B, open func() (*Database, error)) {
		db, err := open()
		if err != nil {
			b.Fatal(err)
		}
		m, err := Compile(db, byRanking())
		if err != nil {
			b.Fatal(err)
		}
		run(b, m)
	})
}

// byRanking classifies by the order in which six data centers are near.
func byRanking() func(Record) Class {
	centers := []Point{{39.04, -77.49}, {45.52, -122.68}, {53.35, -6.26}, {50.11, 8.68}, {1.35, 103.82}, {-23.55, -46.63}}
	known := map[[6]byte]Class{{}: 0}
	return func(r Record) Class {
		if !r.Located {
			return 0
		}
		order := [6]byte{0, 1, 2, 3, 4, 5}
		var distance [6]float64
		for i, c := range centers {
			distance[i] = r.Location.Distance(c)
		}
		slices.SortFunc(order[:], func(a, b byte) int { return cmp.Compare(distance[a], distance[b]) })
		class, ok := known[order]
		if !ok {
			class = Class(len(known))
			known[order] = class
		}
		return class
	}
}

// bytes returns the memory that a map takes.
func (m *Map) bytes() int {
	return 4*(len(m.v4.index)+len(m.v4.starts)+len(m.v6.index)) + 8*len(m.v6.starts) + 16*len(m.v6.parts) + 4*len(m.v6.partClasses) +
		m.v4.classes.bytes() + m.v6.classes.bytes()
}

func (c *classes) bytes() int { return 2*len(c.narrow) + 4*len(c.wide) }

func BenchmarkOpen(b *testing.B) {
	onDatabases(b, func(b *testing.B, open func() (*Database, error)) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := open(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkCompile(b *testing.B) {
	onDatabases(b, func(b *testing.B, open func() (*Database, error)) {
		db, err := open()
		if err != nil {
			b.Fatal(err)
		}
		networks := 0
		count4 := func(addr4, recordID) error { networks++; return nil }
		count6 := func(addr6, recordID) error { networks++; return nil }
		if err := db.source.walk(new(pacer), count4, count6); err != nil {
			b.Fatal(err)
		}
		var m *Map
		b.ReportAllocs()
		for b.Loop() {
			if m, err = Compile(db, byRanking()); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(networks), "networks")
		b.ReportMetric(float64(len(m.v4.starts)+len(m.v6.starts)+len(m.v6.parts)), "ranges")
		b.ReportMetric(float64(m.bytes())/1e6, "MB")
	})
}

var sink Class

// BenchmarkLookup looks up clients of both families, one after the other, beside
// a plain binary search without a scope.
func BenchmarkLookup(b *testing.B) {
	onMaps(b, func(b *testing.B, m *Map) {
		if addrs := clients4(m); addrs != nil {
			b.Run("IPv4", func(b *testing.B) {
				for i := 0; b.Loop(); i++ {
					sink, _ = m.Lookup4(addrs[i%len(addrs)])
				}
			})
			b.Run("IPv4-binary-search", func(b *testing.B) {
				for i := 0; b.Loop(); i++ {
					j, _ := slices.BinarySearch(m.v4.starts, addrs[i%len(addrs)])
					sink = m.v4.classes.at(uint32(max(j-1, 0)))
				}
			})
		}
		if addrs := clients6(m); addrs != nil {
			b.Run("IPv6", func(b *testing.B) {
				for i := 0; b.Loop(); i++ {
					sink, _ = m.Lookup6(addrs[i%len(addrs)], 1)
				}
			})
			b.Run("IPv6-binary-search", func(b *testing.B) {
				for i := 0; b.Loop(); i++ {
					j, _ := slices.BinarySearch(m.v6.starts, addrs[i%len(addrs)])
					sink = m.v6.classes.at(uint32(max(j-1, 0)))
				}
			})
		}
	})
}

const manyClients = 1 << 20

// clients4 returns addresses out of the ranges of the map, as clients are: not
// many where there are no networks. It returns nil for a map that has none.
func clients4(m *Map) []uint32 {
	if len(m.v4.starts) < 1000 {
		return nil
	}
	random, addrs := rand.New(rand.NewPCG(1, 1)), make([]uint32, manyClients)
	for i := range addrs {
		addrs[i] = m.v4.starts[random.IntN(len(m.v4.starts))] + uint32(random.IntN(256))
	}
	return addrs
}

// clients6 is the same with the upper halves of IPv6.
func clients6(m *Map) []uint64 {
	if len(m.v6.starts) < 1000 {
		return nil
	}
	random, addrs := rand.New(rand.NewPCG(1, 1)), make([]uint64, manyClients)
	for i := range addrs {
		addrs[i] = m.v6.starts[random.IntN(len(m.v6.starts))] + uint64(random.IntN(1<<16))
	}
	return addrs
}
