package zones

import (
	"math/bits"
	"slices"

	"nearside/pace"
)

// table gives every distinct name a number, the order of coming. It grows as
// names come.
//
// A slot is a number, plus one, in so many lower bits as the numbers need; those
// above are the tag, the uppermost bits of the name's hash. 0 is free.
type table struct {
	slots []uint32
	shift uint8    // bits of a number
	text  pile     // the wire names, an octet with its length before each
	start []uint32 // of each name in text
	pace  *pace.Pacer
}

func newTable(p *pace.Pacer) *table {
	t := &table{pace: p}
	t.resize(16)
	return t
}

// len returns the number of names.
func (t *table) len() int { return len(t.start) }

// name returns the wire name of number i.
func (t *table) name(i uint32) []byte {
	text := t.text.from(t.start[i])
	end := 1 + int(text[0])
	return text[1:end:end]
}

// release lets go of the names before number i, as far as that saves memory. Nothing
// can be found from then on.
func (t *table) release(i uint32) { t.text.release(t.start[i]) }

// find returns the number of a name.
func (t *table) find(name []byte) (uint32, bool) {
	n, _ := t.slot(name, Hash(name))
	return n - 1, n != 0
}

// intern returns the number of a name, a new one if need be.
func (t *table) intern(name []byte) uint32 {
	hash := Hash(name)
	n, at := t.slot(name, hash)
	if n != 0 {
		return n - 1
	}
	i := uint32(t.len())
	start, room := t.text.add(1 + len(name))
	room[0] = byte(len(name))
	copy(room[1:], name)
	t.start = append(t.start, start)
	t.slots[at] = t.tag(hash) | i + 1
	if 2*t.len() > len(t.slots) {
		t.resize(2 * len(t.slots))
	}
	return i
}

// tag returns a hash as the tag of a slot.
func (t *table) tag(hash uint64) uint32 { return uint32(hash>>32) >> t.shift << t.shift }

// slot returns the number of a name, plus one, and its slot, or 0 and the free
// one where it belongs.
func (t *table) slot(name []byte, hash uint64) (number uint32, at uint64) {
	mask, tag := uint64(len(t.slots)-1), t.tag(hash)
	for at = hash & mask; ; at = (at + 1) & mask {
		s := t.slots[at]
		number = s &^ (^uint32(0) << t.shift)
		if s == 0 || s-number == tag && string(t.name(number-1)) == string(name) {
			return number, at
		}
	}
}

// reserve makes room for so many more names.
func (t *table) reserve(names int) {
	t.start = slices.Grow(t.start, names)
	size := len(t.slots)
	for 2*(t.len()+names) > size {
		size *= 2
	}
	t.resize(size)
}

// resize makes so many slots, a power of two.
func (t *table) resize(size int) {
	if size == len(t.slots) {
		return
	}
	t.slots, t.shift = make([]uint32, size), uint8(bits.Len(uint(size/2)))
	mask := uint64(size - 1)
	for i := range uint32(t.len()) {
		t.pace.Step()
		hash := Hash(t.name(i))
		at := hash & mask
		for t.slots[at] != 0 {
			at = (at + 1) & mask
		}
		t.slots[at] = t.tag(hash) | i + 1
	}
}
