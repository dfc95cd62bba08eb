package zones

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"testing"

	"github.com/rs/zerolog"
)

// writeMillion writes a zone of n names with A and AAAA.
func writeMillion(t testing.TB, file string, n, serial int) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	fmt.Fprintf(w, "$TTL 300\n@ SOA ns1 hostmaster %d 3600 900 1209600 60\n@ NS ns1\nns1 A 192.0.2.53\n", serial)
	for i := range n {
		fmt.Fprintf(w, "n%06d IN A 10.%d.%d.%d\nn%06d IN AAAA 2001:db8::%x:%x\n", i, i>>16&255, i>>8&255, i&255, i, i>>16, i&0xffff)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
}

// resident reads from proc_pid_status(5) how much of the process is in memory, in
// octets: now (VmRSS) or at the most (VmHWM).
func resident(t testing.TB, what string) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(what + `:\s+(\d+) kB`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("no %s in %s", what, text)
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n << 10
}

// BenchmarkMillion is a zone of 1,000,000 records: a first load, and a reload
// beside the version before.
func BenchmarkMillion(b *testing.B) {
	dir, keep := b.TempDir(), b.TempDir()
	file := filepath.Join(dir, "big.example.zone")
	writeMillion(b, file, 500_000, 1)
	open := func() *Store {
		return NewStore(StoreConfig{Dir: dir, KeepDir: keep, HoldShrink: true, Steering: testSteering(), Log: zerolog.Nop()})
	}
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			report := reportCPU(b)
			if v := open().ReloadAll(); v.Len() != 1 {
				b.Fatal(v.Len())
			}
			report()
		}
	})
	b.Run("reload", func(b *testing.B) {
		s := open()
		s.ReloadAll()
		s.Keep()
		for i := 2; b.Loop(); i++ {
			b.StopTimer()
			writeMillion(b, file, 500_000, i)
			debug.FreeOSMemory()
			if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // forget the peak
				b.Fatal(err)
			}
			settled := resident(b, "VmRSS")
			b.StartTimer()
			s.ReloadFiles([]string{file})
			s.Keep()
			b.StopTimer()
			b.ReportMetric(float64(settled)/(1<<20), "MiB-settled")
			b.ReportMetric(float64(resident(b, "VmHWM"))/(1<<20), "MiB-peak")
			b.StartTimer()
		}
	})
}
