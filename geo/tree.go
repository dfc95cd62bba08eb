package geo

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/oschwald/maxminddb-golang/v2"
)

// checkTree makes sure that the search tree of a database is one: that no node
// but the root of the IPv4 space, which has aliases, is reached in two ways. A
// walk then ends after as many steps as there are nodes. Were nodes shared, 128
// of them could make it 2^128, and the reader would not come back to be stopped.
func checkTree(content []byte, meta maxminddb.Metadata) error {
	t := tree{content, uint64(meta.RecordSize), uint64(meta.NodeCount)}
	if t.size != 24 && t.size != 28 && t.size != 32 {
		return fmt.Errorf("its search tree has records of %d bits", t.size)
	}
	if t.nodes > uint64(len(content))/(t.size/4) {
		return errors.New("its search tree is larger than the file")
	}
	aliased := t.nodes // none
	if meta.IPVersion == 6 {
		aliased = t.ipv4Root()
	}
	seen := make([]uint64, t.nodes/64+1) // a bit for each node
	for node := range t.nodes {
		for side := range 2 {
			child := t.child(node, side)
			if child >= t.nodes || child == aliased { // data, nothing, or an alias
				continue
			}
			if child == 0 || seen[child/64]>>(child%64)&1 != 0 {
				return fmt.Errorf("its search tree is none: node %d has two ways to it", child)
			}
			seen[child/64] |= 1 << (child % 64)
		}
	}
	return nil
}

// tree is the search tree at the beginning of a database: nodes of two records.
// A record below the number of nodes is that of a node.
type tree struct {
	content []byte
	size    uint64 // of a record, in bits
	nodes   uint64
}

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
	for depth := 0; depth < 96 && node < t.nodes; depth++ {
		node = t.child(node, 0)
	}
	return node
}
