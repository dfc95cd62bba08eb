package geo

import (
	"math/bits"
	"slices"
)

// table4 is the IPv4 half of a Map: sorted starts of ranges, and an index that
// leads to the few of them that share an address's upper width4 bits.
type table4 struct {
	index   []uint32 // see newIndex
	starts  []uint32 // starts[0] is 0
	classes classes
}

const (
	width4 = 18
	shift4 = 32 - width4
)

func newTable4(r *ranges[addr4], p *pacer) table4 {
	t := table4{starts: make([]uint32, r.starts.len()), classes: newClasses(&r.classes, p)}
	for i := range t.starts {
		p.step()
		t.starts[i] = uint32(r.starts.at(i))
	}
	t.index = newIndex(t.starts, 0, width4, shift4, p)
	return t
}

func (t *table4) lookup(addr uint32) (Class, int) {
	bucket := addr >> shift4
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

// touch reads the memory that a lookup of addr would have to wait for.
func (t *table4) touch(addr uint32) uint32 {
	bucket := addr >> shift4
	middle := (t.index[bucket] + t.index[bucket+1]) / 2
	return t.starts[middle] + uint32(t.classes.at(middle))
}

// table6 is the IPv6 half. Nearly all networks are a /64 or wider, so its
// ranges are of upper halves. The few /64s that hold several classes have the
// class mixed, and their parts are in a second table. A part ends inside its
// /64, so the widest prefix in it is always longer than 64, and that in a range
// of whole /64s never is.
//
// The index leads to the ranges that share an address's upper width6 bits behind
// those of 2000::/3, which holds all global unicast addresses there are so far.
type table6 struct {
	index   []uint32 // see newIndex
	starts  []uint64 // upper halves; starts[0] is 0
	classes classes

	parts       []addr6 // starts; each mixed /64 begins with one
	partClasses []Class
}

const (
	global6 = 0x2000 << 48 // the upper half of 2000::
	width6  = 18
	shift6  = 64 - 3 - width6
)

func newTable6(r *ranges[addr6], p *pacer) table6 {
	var t table6
	var starts list[uint64]
	var whole list[Class]
	for i, end := 0, 0; i < r.starts.len(); i = end {
		p.step()
		first := r.starts.at(i)
		for end = i + 1; end < r.starts.len() && r.starts.at(end).hi == first.hi; end++ {
		}
		starts.append(first.hi)
		if first.lo == 0 && end == i+1 {
			whole.append(r.classes.at(i))
			continue
		}
		whole.append(mixed)
		if first.lo != 0 { // the range before reaches into this /64
			t.parts, t.partClasses = append(t.parts, addr6{first.hi, 0}), append(t.partClasses, r.classes.at(i-1))
		}
		for ; i < end; i++ {
			t.parts, t.partClasses = append(t.parts, r.starts.at(i)), append(t.partClasses, r.classes.at(i))
		}
		hi := first.hi + 1
		if hi != 0 && (end == r.starts.len() || r.starts.at(end).hi != hi) { // the last part goes on after it
			starts.append(hi)
			whole.append(r.classes.at(end - 1))
		}
	}
	t.starts = starts.slice()
	t.classes = newClasses(&whole, p)
	t.index = newIndex(t.starts, global6, width6, shift6, p)
	return t
}

// stretch returns the first and the last range that an upper half can lie in.
func (t *table6) stretch(hi uint64) (from, to uint32) {
	if bucket := (hi - global6) >> shift6; bucket < 1<<width6 {
		return t.index[bucket], t.index[bucket+1]
	}
	if hi >= global6 {
		return t.index[1<<width6], uint32(len(t.starts) - 1)
	}
	return 0, t.index[0] // below 2000::
}

// touch reads the memory that a lookup of hi would have to wait for.
func (t *table6) touch(hi uint64) uint32 {
	from, to := t.stretch(hi)
	middle := (from + to) / 2
	return uint32(t.starts[middle]) + uint32(t.classes.at(middle))
}

func (t *table6) lookup(hi, lo uint64) (Class, int) {
	from, to := t.stretch(hi)
	i := search(t.starts, from, to, hi)
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

// newIndex returns, for each of 1<<width stretches of 1<<shift addresses from
// first on, the range that its first address lies in, and at the end that of the
// address after them: an address's own range lies between the entry of its
// stretch and the next.
func newIndex[K uint32 | uint64](starts []K, first uint64, width, shift int, p *pacer) []uint32 {
	index := make([]uint32, 1<<width+1)
	at := 0
	for bucket := range index {
		p.step()
		for at+1 < len(starts) && uint64(starts[at+1]) <= first+uint64(bucket)<<shift {
			at++
		}
		index[bucket] = uint32(at)
	}
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

func newClasses(l *list[Class], p *pacer) classes {
	narrow := make([]uint16, l.len())
	for i := range narrow {
		p.step()
		c := l.at(i)
		if c >= narrowMixed && c < mixed {
			return classes{wide: l.slice()}
		}
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
