package geo

import "math/bits"

// numbers gives each marked offset of a data section a number, in ascending
// order from 1 on. A bit for each octet is far less than a hash table of a
// million networks' records, and found in two steps.
type numbers struct {
	marked []uint64
	before []uint32 // how many bits are set before each word
	count  int
}

func newNumbers(size uint64) *numbers {
	return &numbers{marked: make([]uint64, size/64+1)}
}

func (n *numbers) mark(offset uint64) { n.marked[offset/64] |= 1 << (offset % 64) }

// assign gives the numbers, when everything is marked.
func (n *numbers) assign() {
	n.before = make([]uint32, len(n.marked))
	for i, word := range n.marked {
		n.before[i] = uint32(n.count)
		n.count += bits.OnesCount64(word)
	}
}

// of returns the number of a marked offset.
func (n *numbers) of(offset uint64) recordID {
	below := n.marked[offset/64] & (1<<(offset%64) - 1)
	return recordID(n.before[offset/64]) + recordID(bits.OnesCount64(below)) + 1
}

// all calls visit with every marked offset in order, up to the first error.
func (n *numbers) all(visit func(offset uint64) error) error {
	for i, word := range n.marked {
		for ; word != 0; word &= word - 1 {
			if err := visit(uint64(i)*64 + uint64(bits.TrailingZeros64(word))); err != nil {
				return err
			}
		}
	}
	return nil
}
