package geo

import (
	"math/bits"
	"slices"
)

// table4 is the IPv4 half of a Map: sorted starts of ranges, and an index that
// leads to the few of them that share an address's upper 16 bits.
type table4 struct {
	index   []uint32 // see newIndex
	starts  []uint32 // starts[0] is 0
	classes classes
}

func newTable4(r *ranges[addr4]) table4 {
	t := table4{starts: make([]uint32, len(r.starts)), classes: newClasses(r.classes)}
	for i, start := range r.starts {
		t.starts[i] = uint32(start)
	}
	t.index = newIndex(t.starts, 16, 16)
	return t
}

func (t *table4) lookup(addr uint32) (Class, int) {
	bucket := addr >> 16
	i := search(t.starts, t.index[bucket], t.index[bucket+1], addr)
	// In 64 bits the neighbours of the address space's ends, -1 and 1<<32,
	// differ from every address above its 32 bits, and so give no length.
	before, after := uint64(t.starts[i])-1, uint64(1)<<32
	if int(i)+1 < len(t.starts) {
		after = uint64(t.starts[i+1])
	}
	a := uint64(addr)
	return t.classes.at(i), max(0, bits.LeadingZeros64(min(a^before, a^after))-31)
}

// table6 is the IPv6 half. Nearly all networks are a /64 or wider, so its
// ranges are of upper halves. The few /64s that hold several classes have the
// class mixed, and their parts are in a second table. A part ends inside its
// /64, so the widest prefix in it is always longer than 64, and that in a range
// of whole /64s never is.
type table6 struct {
	index   []uint32 // see newIndex
	starts  []uint64 // upper halves; starts[0] is 0
	classes classes

	parts       []addr6 // starts; each mixed /64 begins with one
	partClasses []Class
}

func newTable6(r *ranges[addr6]) table6 {
	t := table6{starts: make([]uint64, 0, len(r.starts))}
	whole := make([]Class, 0, len(r.starts))
	for i, end := 0, 0; i < len(r.starts); i = end {
		hi := r.starts[i].hi
		for end = i + 1; end < len(r.starts) && r.starts[end].hi == hi; end++ {
		}
		t.starts = append(t.starts, hi)
		if r.starts[i].lo == 0 && end == i+1 {
			whole = append(whole, r.classes[i])
			continue
		}
		whole = append(whole, mixed)
		if r.starts[i].lo != 0 { // the range before reaches into this /64
			t.parts, t.partClasses = append(t.parts, addr6{hi, 0}), append(t.partClasses, r.classes[i-1])
		}
		t.parts = append(t.parts, r.starts[i:end]...)
		t.partClasses = append(t.partClasses, r.classes[i:end]...)
		if hi++; hi != 0 && (end == len(r.starts) || r.starts[end].hi != hi) { // the last part goes on after it
			t.starts, whole = append(t.starts, hi), append(whole, r.classes[end-1])
		}
	}
	t.starts = slices.Clip(t.starts)
	t.classes = newClasses(whole)
	t.index = newIndex(t.starts, 20, 44)
	return t
}

func (t *table6) lookup(hi, lo uint64) (Class, int) {
	bucket := hi >> 44
	i := search(t.starts, t.index[bucket], t.index[bucket+1], hi)
	class := t.classes.at(i)
	if class == mixed {
		return t.part(hi, lo)
	}
	// At an end of the address space there is no neighbour to keep out.
	differ := ^uint64(0)
	if i > 0 {
		differ = hi ^ (t.starts[i] - 1)
	}
	if int(i)+1 < len(t.starts) {
		differ = min(differ, hi^t.starts[i+1])
	} else if i == 0 {
		return class, 0
	}
	return class, bits.LeadingZeros64(differ) + 1
}

// part looks an address up in the parts of its mixed /64.
func (t *table6) part(hi, lo uint64) (Class, int) {
	i, exact := slices.BinarySearchFunc(t.parts, addr6{hi, lo}, addr6.compare)
	if !exact {
		i--
	}
	differ := ^uint64(0)
	if start := t.parts[i].lo; start > 0 {
		differ = lo ^ (start - 1)
	}
	if i+1 < len(t.parts) && t.parts[i+1].hi == hi {
		differ = min(differ, lo^t.parts[i+1].lo)
	}
	return t.partClasses[i], 64 + bits.LeadingZeros64(differ) + 1
}

// newIndex returns, for each value of the upper width bits of an address, the
// range that its first address lies in, and the last range once more at the
// end: an address's own range lies between the entry of its upper bits and the
// next. shift is the number of the other bits.
func newIndex[K uint32 | uint64](starts []K, width, shift int) []uint32 {
	index := make([]uint32, 1<<width+1)
	at := 0
	for bucket := range 1 << width {
		for at+1 < len(starts) && starts[at+1] <= K(bucket)<<shift {
			at++
		}
		index[bucket] = uint32(at)
	}
	index[1<<width] = uint32(len(starts) - 1)
	return index
}

// search returns the last of starts[from] to starts[to] that is not above key;
// starts[from] is not. Which half to take is computed, not branched on: the
// processor would guess it wrong every other time.
func search[K uint32 | uint64](starts []K, from, to uint32, key K) uint32 {
	for n := to - from + 1; n > 1; {
		half := n / 2
		_, below := bits.Sub64(uint64(key), uint64(starts[from+half]), 0) // 1 if key is below
		from += half & (uint32(below) - 1)
		n -= half
	}
	return from
}

// classes is a list of classes, in 16 bits each if all fit. Special and mixed
// always do: they are kept as the two largest values.
type classes struct {
	narrow []uint16
	wide   []Class
}

const narrowMixed = 1<<16 - 2 // 16 bits of mixed

func newClasses(list []Class) classes {
	fits := func(c Class) bool { return c < narrowMixed || c >= mixed }
	for _, c := range list {
		if !fits(c) {
			return classes{wide: slices.Clone(list)}
		}
	}
	narrow := make([]uint16, len(list))
	for i, c := range list {
		narrow[i] = uint16(c)
	}
	return classes{narrow: narrow}
}

func (c *classes) at(i uint32) Class {
	if c.wide != nil {
		return c.wide[i]
	}
	class := Class(c.narrow[i])
	if class >= narrowMixed {
		class += mixed - narrowMixed
	}
	return class
}
