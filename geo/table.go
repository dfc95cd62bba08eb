package geo

import (
	"cmp"
	"math/bits"
	"slices"

	"nearside/pace"
)

// word is an IPv4 address, or the upper half of one of IPv6.
type word interface{ ~uint32 | ~uint64 }

// spans is ranges of words: range i runs from starts.at(i), the first from 0.
type spans[W word] struct {
	starts  list[W]
	classes list[Class]
}

// bounds returns the first and the last word of a range.
func (s *spans[W]) bounds(i int) (first, last W) {
	if i+1 < s.starts.len() {
		return s.starts.at(i), s.starts.at(i+1) - 1
	}
	return s.starts.at(i), ^W(0)
}

// widest returns the length of the widest prefix around a that lies between two words.
func widest[W word](a, first, last W) int {
	var differ W
	switch { // at an end of the address space there is no neighbour to keep out
	case first == 0 && last == ^W(0):
		return 0
	case first == 0:
		differ = a ^ (last + 1)
	case last == ^W(0):
		differ = a ^ (first - 1)
	default:
		differ = min(a^(first-1), a^(last+1))
	}
	return leadingZeros(differ) + 1
}

func leadingZeros[W word](w W) int {
	return bits.LeadingZeros64(uint64(w)) - bits.LeadingZeros64(uint64(^W(0)))
}

// table leads from an address to its range: by the upper bits, which the addresses of a
// stretch share, to the stretch, and on to the few ranges that lie in it. A lookup
// waits for memory twice.
//
//	index   of a stretch of one class: 1 (1 bit), length of the widest prefix around
//	        it that is of that class (7), class (24); else 0 and the number of a word
//	words   the class of the first range of a stretch and, above it, how many others
//	        there are; then of each of those its class and, above it, its start
//
// Of a start only the bits are kept that are not shared; a class has the room of the
// others. Ranges are cut where stretches end: a prefix longer than what a stretch shares
// lies within it, and a shorter one is in the index.
type table[W word] struct {
	first W // of the addresses that there are stretches for
	index []uint32
	words []W
	upper uint8 // bits that the addresses of a stretch share
	lower uint8 // those in which they differ
}

const (
	whole      = 1 << 31
	maxUpper   = 24
	maxClasses = 1<<maxUpper - 2 // two are Special and mixed
)

// newTable lays ranges out, in so many stretches from first on that share upper bits.
func newTable[W word](s *spans[W], first W, stretches int, upper uint8, p *pace.Pacer) table[W] {
	t := table[W]{first: first, index: make([]uint32, stretches), upper: upper}
	t.lower = uint8(bits.Len64(uint64(^W(0)))) - upper
	var words list[W]
	words.append(0) // what touch reads where a stretch is whole
	i := 0
	for n := range t.index {
		p.Step()
		start := first + W(n)<<t.lower
		end := start | (1<<t.lower - 1)
		begin, last := s.bounds(i)
		for ; last < start; begin, last = s.bounds(i) {
			i++
		}
		class := t.pack(s.classes.at(i))
		if last >= end {
			t.index[n] = whole | uint32(widest(start, begin, last))<<maxUpper | uint32(class)
			continue
		}
		head := words.len()
		t.index[n] = uint32(head)
		words.append(class)
		for ; last < end; _, last = s.bounds(i) {
			i++
			words.append(s.starts.at(i)<<upper | t.pack(s.classes.at(i)))
		}
		words.set(head, W(words.len()-head-1)<<upper|class)
	}
	t.words = words.slice()
	return t
}

// pack makes a class fit into the bits that stretches share.
func (t *table[W]) pack(c Class) W { return W(c) & (1<<t.upper - 1) }

func (t *table[W]) unpack(packed W) Class {
	if packed >= 1<<t.upper-2 { // mixed or Special
		return Class(packed) | ^(1<<t.upper - 1)
	}
	return Class(packed)
}

// touch reads the memory that a lookup of a would have to wait for.
func (t *table[W]) touch(a W) uint32 {
	e := t.index[(a-t.first)>>t.lower]
	return uint32(t.words[e&^uint32(int32(e)>>31)])
}

// lookup returns the class of an address and the length of the widest prefix around
// it that is of that class.
func (t *table[W]) lookup(a W) (Class, int) {
	e := t.index[(a-t.first)>>t.lower]
	if e&whole != 0 {
		return t.unpack(W(e & (1<<maxUpper - 1))), int(e >> maxUpper & 0x7F)
	}
	head := t.words[e]
	rest := t.words[e+1:][:head>>t.upper]
	a <<= t.upper
	mask := W(1)<<t.upper - 1
	n := search(rest, a|mask)
	// The first range has nothing before it, and the last nothing behind it, that
	// the other side does not keep out already: there the difference is anything.
	var start, after W
	if n > 0 {
		head = rest[n-1]
		start = head &^ mask
	}
	if n < len(rest) {
		after = rest[n] &^ mask
	}
	return t.unpack(head & mask), int(t.upper) + leadingZeros(min(a^(start-1)&^mask, a^after)) + 1
}

// search returns how many words are not above key. Which half to take is computed, not
// branched on: the processor would guess it wrong every other time.
func search[W word](words []W, key W) int {
	from := 0
	for n := len(words); n > 0; {
		half := (n + 1) / 2
		_, above := bits.Sub64(uint64(key), uint64(words[from+half-1]), 0) // 1 if the word is above key
		from += half & (int(above) - 1)
		n -= half
	}
	return from
}

const (
	upper4 = 18
	upper6 = 3 + 20 // those of global6, and more: most networks are in few of the stretches
)

func newTable4(r *ranges[addr4], p *pace.Pacer) table[addr4] {
	upper := max(upper4, upperFor(&r.classes, p))
	return newTable(&spans[addr4]{r.starts, r.classes}, 0, 1<<upper, upper, p)
}

// upperFor returns how many bits classes take.
func upperFor(classes *list[Class], p *pace.Pacer) (width uint8) {
	for i := range classes.len() {
		p.Step()
		if c := classes.at(i); c < mixed {
			width = max(width, uint8(bits.Len32(uint32(c)+2)))
		}
	}
	return width
}

// table6 is for IPv6. Nearly all networks are a /64 or wider, so its ranges are of
// upper halves. The few /64s that hold several classes have the class mixed, and their
// parts are in a list of their own. A part ends inside its /64, so the widest
// prefix in it is always longer than 64, and that in a range of whole /64s never is.
//
// The stretches are those of 2000::/3, which holds all global unicast addresses
// there are so far.
type table6 struct {
	global table[uint64]
	others []other // ranges that reach beyond 2000::/3

	parts       []addr6 // starts; each mixed /64 begins with one
	partClasses []Class
}

// other is a range of upper halves.
type other struct {
	first, last uint64
	class       Class
}

const (
	global6  = 0x2000 << 48 // the upper half of 2000::
	globals6 = 1 << 61      // upper halves in 2000::/3
)

func newTable6(r *ranges[addr6], p *pace.Pacer) table6 {
	var t table6
	s := t.halve(r, p)
	upper := max(upper6, upperFor(&s.classes, p))
	t.global = newTable(s, global6, 1<<(upper-3), upper, p)
	for i := range s.starts.len() {
		p.Step()
		if first, last := s.bounds(i); first < global6 || last-global6 >= globals6 {
			t.others = append(t.others, other{first, last, s.classes.at(i)})
		}
	}
	return t
}

// halve returns the ranges of upper halves, and leaves the parts of the mixed ones in t.
func (t *table6) halve(r *ranges[addr6], p *pace.Pacer) *spans[uint64] {
	var s spans[uint64]
	add := func(start uint64, c Class) {
		s.starts.append(start)
		s.classes.append(c)
	}
	for i, end := 0, 0; i < r.starts.len(); i = end {
		p.Step()
		first := r.starts.at(i)
		for end = i + 1; end < r.starts.len() && r.starts.at(end).hi == first.hi; end++ {
		}
		if first.lo == 0 && end == i+1 {
			add(first.hi, r.classes.at(i))
			continue
		}
		add(first.hi, mixed)
		if first.lo != 0 { // the range before reaches into this /64
			t.parts, t.partClasses = append(t.parts, addr6{first.hi, 0}), append(t.partClasses, r.classes.at(i-1))
		}
		for ; i < end; i++ {
			t.parts, t.partClasses = append(t.parts, r.starts.at(i)), append(t.partClasses, r.classes.at(i))
		}
		hi := first.hi + 1
		if hi != 0 && (end == r.starts.len() || r.starts.at(end).hi != hi) { // the last part goes on after it
			add(hi, r.classes.at(end-1))
		}
	}
	return &s
}

// touch reads the memory that a lookup of hi would have to wait for.
func (t *table6) touch(hi uint64) uint32 {
	if hi-global6 >= globals6 {
		return 0
	}
	return t.global.touch(hi)
}

func (t *table6) lookup(hi, lo uint64) (class Class, length int) {
	if hi-global6 < globals6 {
		class, length = t.global.lookup(hi)
	} else {
		class, length = t.other(hi)
	}
	if class == mixed {
		return t.part(hi, lo)
	}
	return class, length
}

// other looks up outside of 2000::/3.
func (t *table6) other(hi uint64) (Class, int) {
	i, exact := slices.BinarySearchFunc(t.others, hi, func(o other, hi uint64) int { return cmp.Compare(o.first, hi) })
	if !exact {
		i--
	}
	o := &t.others[i]
	return o.class, widest(hi, o.first, o.last)
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
