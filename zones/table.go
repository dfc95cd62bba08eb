package zones

import (
	"slices"
)

// table gives every distinct name a number, the order of coming. It grows as
// names come.
type table struct {
	slots []slot
	text  []byte   // the wire names one after another
	start []uint32 // of each name in text, and the end of the last
}

// slot is one place of the hash table. 0 stands for "free" because the number is
// one too high.
type slot struct {
	tag  uint32 // upper half of the hash
	name uint32 // number, plus one
}

func newTable() *table {
	return &table{slots: make([]slot, 16), start: []uint32{0}}
}

// len returns the number of names.
func (t *table) len() int { return len(t.start) - 1 }

// name returns the wire name of number i.
func (t *table) name(i uint32) []byte { return t.text[t.start[i]:t.start[i+1]] }

// find returns the number of a name.
func (t *table) find(name []byte) (uint32, bool) {
	s, _ := t.slot(name, Hash(name))
	return s.name - 1, s.name != 0
}

// intern returns the number of a name, a new one if need be.
func (t *table) intern(name []byte) uint32 {
	hash := Hash(name)
	s, at := t.slot(name, hash)
	if s.name != 0 {
		return s.name - 1
	}
	i := uint32(t.len())
	t.text = append(t.text, name...)
	t.start = append(t.start, uint32(len(t.text)))
	t.slots[at] = slot{tag: uint32(hash >> 32), name: i + 1}
	if 2*t.len() > len(t.slots) {
		t.grow()
	}
	return i
}

// slot returns the slot of a name and its place, or the free one where it belongs.
func (t *table) slot(name []byte, hash uint64) (slot, uint64) {
	mask := uint64(len(t.slots) - 1)
	for at := hash & mask; ; at = (at + 1) & mask {
		s := t.slots[at]
		if s.name == 0 || s.tag == uint32(hash>>32) && string(t.name(s.name-1)) == string(name) {
			return s, at
		}
	}
}

// reserve makes room for so many more names, of so many octets together.
func (t *table) reserve(names, octets int) {
	t.text = slices.Grow(t.text, octets)
	t.start = slices.Grow(t.start, names)
	for 2*names > len(t.slots) {
		t.grow()
	}
}

// grow doubles the slots.
func (t *table) grow() {
	t.slots = make([]slot, 2*len(t.slots))
	mask := uint64(len(t.slots) - 1)
	for i := range uint32(t.len()) {
		hash := Hash(t.name(i))
		at := hash & mask
		for t.slots[at].name != 0 {
			at = (at + 1) & mask
		}
		t.slots[at] = slot{tag: uint32(hash >> 32), name: i + 1}
	}
}
