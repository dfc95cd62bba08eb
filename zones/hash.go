package zones

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
)

// The keys make the hashes of names differ from process to process: names come
// from the network, and nobody there can tell which of them collide.
var startKey, foldKey = rand.Uint64(), rand.Uint64()

const pair = 16 // octets of two words

// Hash is the hash of a name in lower-case wire form, the same in every zone.
func Hash(name []byte) uint64 {
	h := startKey ^ uint64(len(name))
	last := len(name) - pair
	if last < 0 {
		a, b := short(name)
		return fold(fold(h^a, foldKey^b), foldKey)
	}
	for at := 0; ; at = min(at+pair, last) { // the last pair may lie over the one before
		two := name[at : at+pair]
		h = fold(h^binary.LittleEndian.Uint64(two), foldKey^binary.LittleEndian.Uint64(two[8:]))
		if at == last {
			return fold(h, foldKey)
		}
	}
}

// Lower copies a name in wire form to dst in lower case (RFC 4343), lengths of labels
// and all: none of them is a letter (63 < 'A'). It returns the Hash of what it
// wrote. dst has room for 8 octets at least.
func Lower(dst, name []byte) uint64 {
	h := startKey ^ uint64(len(name))
	last := len(name) - pair
	if last < 0 {
		a, b := short(name)
		a, b = lowerLetters(a), lowerLetters(b)
		binary.LittleEndian.PutUint64(dst, a)
		if len(name) > 8 {
			binary.LittleEndian.PutUint64(dst[len(name)-8:], b)
		}
		return fold(fold(h^a, foldKey^b), foldKey)
	}
	for at := 0; ; at = min(at+pair, last) { // see Hash
		two, to := name[at:at+pair], dst[at:at+pair]
		a, b := lowerLetters(binary.LittleEndian.Uint64(two)), lowerLetters(binary.LittleEndian.Uint64(two[8:]))
		binary.LittleEndian.PutUint64(to, a)
		binary.LittleEndian.PutUint64(to[8:], b)
		h = fold(h^a, foldKey^b)
		if at == last {
			return fold(h, foldKey)
		}
	}
}

// short returns the first and the last 8 octets of a name that has less than a
// pair; of one with less than 8, those it has, and zeros.
func short(name []byte) (first, last uint64) {
	if n := len(name); n >= 8 {
		return binary.LittleEndian.Uint64(name), binary.LittleEndian.Uint64(name[n-8:])
	}
	for i, c := range name {
		first |= uint64(c) << (8 * i)
	}
	return first, 0
}

// fold mixes two words into one: each bit of the product depends on many of theirs.
func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// lowerLetters makes the letters among eight octets lower-case, all at once: the
// sums have the upper bit of an octet set from 'A' on, and from behind 'Z' on.
func lowerLetters(octets uint64) uint64 {
	const each = 0x0101010101010101
	ascii := octets & (0x7F * each)
	letters := ((ascii + (0x80-'A')*each) ^ (ascii + (0x7F-'Z')*each)) &^ octets & (0x80 * each)
	return octets | letters>>2 // 'a' is 'A' and 0x20
}
