// Package healthsync, as it is built for integration tests: its clock can be set.
package healthsync

import (
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// CLOCK_ERROR names a file of 8 octets, by how many seconds the time of day is wrong.
func init() {
	path := os.Getenv("CLOCK_ERROR")
	if path == "" {
		return
	}
	file, err := os.Open(path)
	if err != nil {
		panic(err)
	}
	page, err := syscall.Mmap(int(file.Fd()), 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	wrong := (*atomic.Int64)(unsafe.Pointer(&page[0]))
	timeOfDay = func() time.Time {
		t := time.Now()
		// As when a clock is set, the time of day changes, and the clock that only
		// runs does not: in a time.Time the seconds of the first lie above 30 bits of
		// nanoseconds.
		*(*uint64)(unsafe.Pointer(&t)) += uint64(wrong.Load()) << 30
		return t
	}
}
