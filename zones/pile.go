package zones

import (
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// pile is memory without pointers that grows at its end without being copied,
// and shrinks at its start: what has been used up need not lie beside what is
// made of it. What is added is one piece, within one chunk.
type pile struct {
	chunks [][]byte
	gone   int // so many chunks were let go of
}

// chunk is the size of a chunk in octets. Those of a small zone are smaller.
const (
	chunk     = 1 << chunkBits
	chunkBits = 20
)

// maxPile is where nothing is added to a pile any more, in octets: offsets have
// 32 bits, and what is added is less than the rest.
const maxPile = 1<<32 - 2*chunk

// add makes room for n octets, at most chunk of them, and returns their offset.
func (p *pile) add(n int) (at uint32, room []byte) {
	last := len(p.chunks) - 1
	switch {
	case last < 0:
		p.chunks = append(p.chunks, nil)
		last = 0
	case len(p.chunks[last])+n > chunk:
		p.chunks = append(p.chunks, make([]byte, 0, chunk))
		last++
	}
	c := p.chunks[last]
	start := len(c)
	c = slices.Grow(c, n)[:start+n]
	p.chunks[last] = c
	return uint32(last<<chunkBits | start), c[start:]
}

// from returns what is there from an offset on, up to the end of its chunk.
func (p *pile) from(at uint32) []byte { return p.chunks[at>>chunkBits][at&(chunk-1):] }

// size is how far the pile reaches, in octets.
func (p *pile) size() int { return len(p.chunks) << chunkBits }

// release lets go of the chunks before an offset.
func (p *pile) release(before uint32) {
	for ; p.gone < int(before>>chunkBits); p.gone++ {
		release(p.chunks[p.gone], 0)
		p.chunks[p.gone] = nil
	}
}

// release gives the pages of a large piece of memory back to the system from an
// offset on, at once: the collector would come for the piece at some time, and for
// a part of it never. Whatever is in there is lost.
func release(b []byte, from int) {
	page := os.Getpagesize()
	b = b[:cap(b)&^(page-1)]
	if from = (from + page - 1) &^ (page - 1); from < len(b) && cap(b) >= chunk {
		// It fails where pages are larger than what the heap is aligned to. Then they stay.
		_ = unix.Madvise(b[from:], unix.MADV_DONTNEED)
	}
}
