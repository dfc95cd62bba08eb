package zones

import (
	"bytes"
	"encoding/binary"
	"iter"
	"math/bits"
)

// arena holds the names of a zone and all that they own, each name in one piece,
// so that a lookup waits for memory twice: for the slot, and for the node.
//
//	node     word, name, sets; padded to a multiple of align
//	  word   octets of name (8 bits), flags (8), sets (16), other node (32)
//	  name   in wire form, lower case, without the octets of the apex
//	set      word, body
//	  word   type (16), records (14), steered (1), spanned (1), octets of body (32);
//	         where steered, the service stands in for records
//	  body   [span] records; or, where steered, the regions (64), a word for
//	         each of them, and for each of them [span] records
//	    word offset from the start of body (32), octets (16), records (16)
//	span     first in Zone.extras (32), how many (16), so many of them required (16)
//
// Fields of words are named from the lowest bit up; octets are little-endian.
// Offsets of 32 bits count octets from the start of the arena, where nothing
// stands, so that 0 is nobody's. Records are as in RRset.Wire.
type arena []byte

const (
	word  = 8        // octets
	align = 8        // octets: so that the offsets of nodes leave slots more bits for tags
	line  = 64       // octets that the processor reads at once
	reach = 2 * line // octets behind the last node: so far Zone.Reach reads
)

// maxCompiled is where no name is added to an arena any more, in octets: offsets
// have 32 bits, and one name takes less than the rest (maxArena).
const maxCompiled = 3 << 30

func (a arena) full() bool { return uint64(len(a)) >= maxCompiled }

// The flags of a node.
const (
	isRedirect uint8 = 1 << iota // owns a DNAME
	isSteered                    // owns a steered RRset
	isCut                        // is at or below a cut, which is the other node
)

// The flags of a set, above the number of its records.
const (
	setSteered = 1 << 30
	setSpanned = 1 << 31
	setRecords = 1<<14 - 1
)

// MaxServices is how many services there can be: as many as a set has room for.
const MaxServices = setRecords + 1

// node is a name that exists: it owns records or stands above a name that does
// (an empty non-terminal).
type node struct {
	at   uint32 // offset
	head uint64 // its word
}

func (a arena) node(at uint32) node { return node{at, a.word(at)} }

func (n node) name() uint32 { return n.at + word } // offset
func (n node) length() int  { return int(uint8(n.head)) }
func (n node) flags() uint8 { return uint8(n.head >> 8) }
func (n node) sets() uint16 { return uint16(n.head >> 16) }

// other returns the offset of the cut, else of the child "*"; 0: there is none.
func (n node) other() uint32 { return uint32(n.head >> 32) }

// first returns the offset of the first set.
func (n node) first() uint32 { return n.name() + uint32(n.length()) }

// setHead is the word of a set.
type setHead uint64

func (h setHead) typ() uint16   { return uint16(h) }
func (h setHead) count() uint16 { return uint16(h >> 16 & setRecords) }
func (h setHead) steered() bool { return h&setSteered != 0 }
func (h setHead) size() uint32  { return uint32(h >> 32) }

// service returns the service of a steered set.
func (h setHead) service() uint16 { return h.count() }

func (a arena) head(at uint32) setHead { return setHead(a.word(at)) }

// next returns the offset of the set behind the one at an offset.
func (a arena) next(at uint32) uint32 { return at + word + a.head(at).size() }

// nodes yields the nodes in their order.
func (a arena) nodes() iter.Seq[node] {
	return func(yield func(node) bool) {
		for at := uint32(word); int(at) < len(a)-reach; {
			n := a.node(at)
			end := n.first()
			for range n.sets() {
				end = a.next(end)
			}
			if !yield(n) {
				return
			}
			at = (end + align - 1) &^ (align - 1)
		}
	}
}

func (a arena) word(at uint32) uint64 { return binary.LittleEndian.Uint64(a[at:]) }

func (a arena) put(at uint32, w uint64) { binary.LittleEndian.PutUint64(a[at:], w) }

// set reads the RRset at an offset into s, all but the length of its owner's name.
func (a arena) set(at uint32, s *RRset) {
	h := a.head(at)
	at += word
	s.Type, s.spanned = h.typ(), h&setSpanned != 0
	if h.steered() {
		s.Regions, s.Service, s.body = a.word(at), h.service(), at
		return
	}
	s.Count = h.count()
	a.records(at, h.size(), s)
}

// narrow makes of a steered RRset that of one of its regions.
func (a arena) narrow(s *RRset, region uint8) {
	before := bits.OnesCount64(s.Regions & (1<<region - 1))
	w := a.word(s.body + word + uint32(before)*word)
	s.Count = uint16(w >> 48)
	a.records(s.body+uint32(w), uint32(w>>32&0xFFFF), s)
}

// records reads records, and their span if they have one, into s.
func (a arena) records(at, size uint32, s *RRset) {
	end := at + size
	if s.spanned {
		s.span = at
		at += word
	}
	s.Wire = a[at:end:end]
}

// index is a table of slots, open addressing, half full. A slot is the offset of a node
// in units of align, in so many lower bits as the arena needs; those above are
// the tag, the uppermost bits of the name's hash. 0 is free.
type index struct {
	slots []uint32
	shift uint8 // bits of an offset
}

// newIndex makes the index of so many nodes in an arena of that size.
func newIndex(nodes, size int) index {
	return index{make([]uint32, 2*nodes), uint8(bits.Len(uint(size / align)))}
}

// home returns the place where the search for a hash starts.
func (x *index) home(hash uint64) uint64 {
	return uint64(uint32(hash)) * uint64(len(x.slots)) >> 32
}

// add enters a node.
func (x *index) add(hash uint64, at uint32) {
	i := x.home(hash)
	for x.slots[i] != 0 {
		i = (i + 1) % uint64(len(x.slots))
	}
	x.slots[i] = uint32(hash>>32)>>x.shift<<x.shift | at/align
}

// offset returns the offset in a slot.
func (x *index) offset(slot uint32) uint32 { return (slot & (1<<x.shift - 1)) * align }

// seek returns the offset of the first node from slot i on that has the tag of a
// hash, and the slot behind; 0 if there is none.
func (x *index) seek(hash, i uint64) (at uint32, next uint64) {
	for {
		slot := x.slots[i]
		if i++; i == uint64(len(x.slots)) {
			i = 0
		}
		if slot == 0 || (slot^uint32(hash>>32))>>x.shift == 0 {
			return x.offset(slot), i
		}
	}
}

// named reports whether a node has a name, given without the apex.
func (z *Zone) named(n node, name []byte) bool {
	return bytes.Equal(z.arena[n.name():n.first()], name)
}

// find returns the node of a name, given without the apex and with its hash.
func (z *Zone) find(name []byte, hash uint64) (n node, ok bool) {
	for i := z.index.home(hash); ; {
		var at uint32
		if at, i = z.index.seek(hash, i); at == 0 {
			return n, false
		}
		if n = z.arena.node(at); z.named(n, name) {
			return n, true
		}
	}
}
