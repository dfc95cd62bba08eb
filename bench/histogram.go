package main

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets of 1/64 of their size: good to 1.6 %,
// and without memory per entry.
type histogram struct {
	buckets [64 * 64]uint32
	count   int
}

// bucket returns where a duration is counted: below 64 ns exactly, above by its
// highest bit and the six bits after it.
func bucket(ns int64) int {
	n := uint64(max(ns, 0))
	if n < 64 {
		return int(n)
	}
	shift := bits.Len64(n) - 7
	return shift*64 + int(n>>shift)
}

// floor is the smallest duration of a bucket.
func floor(b int) int64 {
	if b < 64 {
		return int64(b)
	}
	return int64(b%64+64) << (b/64 - 1)
}

func (h *histogram) add(ns int64) {
	h.buckets[bucket(ns)]++
	h.count++
}

// quantile returns the duration that the part q of all does not exceed.
func (h *histogram) quantile(q float64) time.Duration {
	rank := int(q * float64(h.count))
	for b, n := range h.buckets {
		if rank -= int(n); rank < 0 {
			return time.Duration(floor(b))
		}
	}
	return 0
}
