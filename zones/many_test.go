package zones

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// manyZones writes n zones of 10 records into a folder.
func manyZones(b *testing.B, dir string, n int) {
	b.Helper()
	for i := range n {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("z%d.example.zone", i)), []byte(tenRecords(1)), 0o644); err != nil {
			b.Fatal(err)
		}
	}
}

func tenRecords(serial int) string {
	return fmt.Sprintf(`$TTL 3600
@    SOA ns1.operator.test. hostmaster.operator.test. %d 3600 900 1209600 60
@    NS  ns1.operator.test.
@    NS  ns2.operator.test.
@    MX  10 mail
@    TXT "v=spf1 mx -all"
@    A   192.0.2.10
@    A   198.51.100.10
www  CNAME @
mail A   198.18.0.25
mail AAAA 2001:db8:9::25
`, serial)
}

// reportCPU reports the processor time until the function that it returns is
// called: wall time says little where others work too.
func reportCPU(b *testing.B) func() {
	used := func() time.Duration {
		var r syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
			b.Fatal(err)
		}
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	start := used()
	return func() { b.ReportMetric((used() - start).Seconds(), "cpu-s/load") }
}

// BenchmarkManyZones is 100,000 zones of 10 records: a first start, a start
// with last good versions of all, and a reload of one zone that changed.
func BenchmarkManyZones(b *testing.B) {
	const n = 100_000
	dir, keep := b.TempDir(), filepath.Join(b.TempDir(), "kept")
	manyZones(b, dir, n)
	open := func() *Store {
		return NewStore(StoreConfig{Dir: dir, KeepDir: keep, HoldShrink: true, Steering: testSteering(), Log: zerolog.Nop()})
	}
	load := func(b *testing.B) *Store {
		defer reportCPU(b)()
		s := open()
		if v := s.ReloadAll(); v.Len() != n || s.good != n {
			b.Fatalf("%d zones, %d good", v.Len(), s.good)
		}
		return s
	}
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			load(b)
		}
	})
	b.Run("keep", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			os.RemoveAll(keep)
			s := load(b)
			b.StartTimer()
			s.Keep()
			if s.Unkept() > 0 {
				b.Fatal("some zones could not be kept")
			}
		}
	})
	var s *Store
	b.Run("restart", func(b *testing.B) {
		for b.Loop() {
			s = load(b)
		}
	})
	b.Run("reload", func(b *testing.B) {
		for i := 2; b.Loop(); i++ {
			changed := filepath.Join(dir, "z777.example.zone")
			if err := os.WriteFile(changed, []byte(tenRecords(i)), 0o644); err != nil {
				b.Fatal(err)
			}
			s.ReloadFiles([]string{changed})
		}
	})
}
