package geo

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"nearside/pace"
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
		all[filepath.Base(file)] = func() (*Database, error) { return Open(file, pace.Fast) }
	}
	return all
}

func onDatabases(b *testing.B, run func(b *testing.B, open func() (*Database, error))) {
	all := databases()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		b.Run(name, func(b *testing.B) { run(b, all[name]) })
	}
}

// measured is the map of a database, classified as a server with six regions does it,
// and its ranges in plain lists.
type measured struct {
	*Map
	starts4  []addr4
	classes4 []Class
	starts6  []uint64
	classes6 []Class
}

func onMaps(b *testing.B, run func(b *testing.B, m *measured)) {
	onDatabases(b, func(b *testing.B, open func() (*Database, error)) {
		db, err := open()
		if err != nil {
			b.Fatal(err)
		}
		v4, v6, err := cut(db, byRanking(), pace.New(pace.Fast))
		if err != nil {
			b.Fatal(err)
		}
		s6 := new(table6).halve(v6, pace.New(pace.Fast))
		m := &Map{newTable4(v4, pace.New(pace.Fast)), newTable6(v6, pace.New(pace.Fast))}
		run(b, &measured{m, v4.starts.slice(), v4.classes.slice(), s6.starts.slice(), s6.classes.slice()})
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
	g := &m.v6.global
	return 4*(len(m.v4.index)+len(m.v4.words)+len(g.index)) + 8*len(g.words) + 24*len(m.v6.others) + 16*len(m.v6.parts) + 4*len(m.v6.partClasses)
}

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
		if err := db.source.walk(pace.New(pace.Fast), count4, count6); err != nil {
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
		b.ReportMetric(float64(len(m.v4.words)+len(m.v6.global.words)+len(m.v6.parts)), "words")
		b.ReportMetric(float64(m.bytes())/1e6, "MB")
	})
}

var sink Class

// BenchmarkLookup looks up clients of both families, one after the other, beside
// a plain binary search without a scope.
func BenchmarkLookup(b *testing.B) {
	onMaps(b, func(b *testing.B, m *measured) {
		if addrs := clients(m.starts4, 1<<8); addrs != nil {
			b.Run("IPv4", func(b *testing.B) {
				for i := 0; b.Loop(); i++ {
					sink, _ = m.Lookup4(uint32(addrs[i%len(addrs)]))
				}
			})
			b.Run("IPv4-binary-search", func(b *testing.B) {
				for i := 0; b.Loop(); i++ {
					j, _ := slices.BinarySearch(m.starts4, addrs[i%len(addrs)])
					sink = m.classes4[max(j-1, 0)]
				}
			})
		}
		if addrs := clients(m.starts6, 1<<16); addrs != nil {
			b.Run("IPv6", func(b *testing.B) {
				for i := 0; b.Loop(); i++ {
					sink, _ = m.Lookup6(addrs[i%len(addrs)], 1)
				}
			})
			b.Run("IPv6-binary-search", func(b *testing.B) {
				for i := 0; b.Loop(); i++ {
					j, _ := slices.BinarySearch(m.starts6, addrs[i%len(addrs)])
					sink = m.classes6[max(j-1, 0)]
				}
			})
		}
	})
}

const manyClients = 1 << 20

// clients returns addresses out of ranges, near their starts, as clients are: not
// many where there are no networks. It returns nil where there are hardly any ranges.
func clients[W word](starts []W, near int) []W {
	if len(starts) < 1000 {
		return nil
	}
	random, addrs := rand.New(rand.NewPCG(1, 1)), make([]W, manyClients)
	for i := range addrs {
		addrs[i] = starts[random.IntN(len(starts))] + W(random.IntN(near))
	}
	return addrs
}
