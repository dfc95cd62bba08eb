package geo

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/oschwald/maxminddb-golang/v2"

	"nearside/pace"
)

// tree is the search tree at the beginning of a database: nodes of two records,
// for an address whose next bit is 0 and for one whose next bit is 1. A record
// below the number of nodes is a node; that number itself stands for no data; a
// higher one points to data.
type tree struct {
	content []byte
	size    uint64 // of a record, in bits
	nodes   uint64
	depth   int    // of the root, in bits of an IPv6 address: IPv4 sits at ::/96
	aliased uint64 // the node of ::/96, if other ways may lead to it; else no node
}

func newTree(content []byte, meta maxminddb.Metadata) (*tree, error) {
	t := &tree{content: content, size: uint64(meta.RecordSize), nodes: uint64(meta.NodeCount), aliased: uint64(meta.NodeCount)}
	if t.size != 24 && t.size != 28 && t.size != 32 {
		return nil, fmt.Errorf("its search tree has records of %d bits", t.size)
	}
	if t.nodes > uint64(len(content))/(t.size/4) {
		return nil, errors.New("its search tree is larger than the file")
	}
	if meta.IPVersion == 6 {
		t.aliased = t.ipv4Root()
	} else {
		t.depth = ipv4Depth
	}
	return t, nil
}

// ipv4Depth is the length of ::/96, where a tree of IPv6 has the IPv4 space.
const ipv4Depth = 96

// isIPv4 reports whether an address lies in ::/96.
func isIPv4(a addr6) bool { return a.hi == 0 && a.lo < 1<<32 }

// child returns the left (0) or right (1) record of a node.
func (t *tree) child(node uint64, side int) uint64 {
	b := t.content[node*t.size/4:][:t.size/4]
	switch {
	case t.size == 32:
		return uint64(binary.BigEndian.Uint32(b[4*side:]))
	case t.size == 24:
		b = b[3*side:]
		return uint64(b[0])<<16 | uint64(b[1])<<8 | uint64(b[2])
	case side == 0: // the middle one of 7 octets has the upper 4 bits of both
		return uint64(b[3]>>4)<<24 | uint64(b[0])<<16 | uint64(b[1])<<8 | uint64(b[2])
	}
	return uint64(b[3]&15)<<24 | uint64(b[4])<<16 | uint64(b[5])<<8 | uint64(b[6])
}

// ipv4Root returns the record at ::/96, or the first above it that is no node.
func (t *tree) ipv4Root() uint64 {
	node := uint64(0)
	for depth := 0; depth < ipv4Depth && node < t.nodes; depth++ {
		node = t.child(node, 0)
	}
	return node
}

// data returns the offset of a record's data, if it has any. It may lie beyond
// the file; one within the separator before the data section always does.
func (t *tree) data(record uint64) (offset uint64, ok bool) {
	const separator = 16 // octets
	return record - t.nodes - separator, record > t.nodes
}

// leaf is a network of the tree.
type leaf struct {
	first  addr6 // address; IPv4 is in ::/96
	bits   int   // of its prefix
	record uint64
}

// walk calls visit with every network in ascending order, without gaps, up to
// the first error. Aliases of the IPv4 space count as networks without data.
func (t *tree) walk(pacer *pace.Pacer, visit func(leaf) error) error {
	w := walker{t, pacer, visit, t.nodes}
	if t.nodes == 0 {
		return errors.New("its search tree is empty")
	}
	return w.node(leaf{bits: t.depth})
}

type walker struct {
	*tree
	pacer *pace.Pacer
	visit func(leaf) error
	left  uint64 // nodes that may still be met
}

var errNoTree = errors.New("its search tree is none: there are two ways to a node")

// node walks the node at a place. Were nodes shared, 128 of them could make a
// walk of 2^128 steps: so it ends after as many as there are nodes.
func (w *walker) node(at leaf) error {
	if w.left == 0 || at.bits == 128 {
		return errNoTree
	}
	w.left--
	w.pacer.Step()
	node := at.record
	for side := range 2 {
		next := leaf{at.first, at.bits + 1, w.child(node, side)}
		if side == 1 {
			next.first = at.first.with(at.bits)
		}
		if next.record == w.aliased && !isIPv4(next.first) {
			next.record = w.nodes
		}
		step := w.visit
		if next.record < w.nodes {
			step = w.node
		}
		if err := step(next); err != nil {
			return err
		}
	}
	return nil
}
