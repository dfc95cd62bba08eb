package zones

import (
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Fields of octets that are written as hexadecimal, base64 or base32.
var (
	hexadecimal = kind{read: readHex, end: rest(1)}
	base64Text  = kind{read: readBase64, end: rest(1)}
	saltOrDash  = kind{read: readSalt, end: stringEnd}
	nextHash    = kind{read: readNextHash, end: nextHashEnd}
	hexGroups   = kind{read: readGroups, end: octets(8)}
)

// readHex reads all words as hexadecimal.
func readHex(r *rdata, name string) error {
	joined := slices.Concat(r.words...)
	octets, err := hex.AppendDecode(r.wire, joined)
	if err != nil {
		return no(joined, "hexadecimal "+name, "write two hexadecimal digits for each octet")
	}
	r.wire, r.words = octets, nil
	return nil
}

// readBase64 reads all words as base64.
func readBase64(r *rdata, name string) error {
	joined := slices.Concat(r.words...)
	octets, err := base64.StdEncoding.Strict().AppendDecode(r.wire, joined)
	if err != nil || len(octets) == len(r.wire) {
		return no(joined, "base64 "+name, "write groups of four of A-Z a-z 0-9 + /, the last one filled up with =")
	}
	r.wire, r.words = octets, nil
	return nil
}

// digest is hexadecimal whose length follows from the octet at some offset,
// where that has a meaning known here; else it is least at the least.
func digest(by, least int, sizes map[byte]int) kind {
	right := func(wire []byte, at int) bool {
		size, known := sizes[wire[by]]
		return !known && len(wire)-at >= least || len(wire)-at == size
	}
	return kind{
		read: func(r *rdata, name string) error {
			at := len(r.wire)
			if err := readHex(r, name); err != nil {
				return err
			}
			if !right(r.wire, at) {
				return fmt.Errorf("a %s of %d octets; one of type %d has %d", name, len(r.wire)-at, r.wire[by], max(least, sizes[r.wire[by]]))
			}
			return nil
		},
		end: func(wire []byte, at int) int {
			if at >= len(wire) || !right(wire, at) {
				return -1
			}
			return len(wire)
		},
	}
}

// readSalt reads the salt of NSEC3 (RFC 5155 section 3.3): "-" for none.
func readSalt(r *rdata, name string) error {
	word := r.word()
	if string(word) == "-" {
		r.wire = append(r.wire, 0)
		return nil
	}
	octets, err := hex.DecodeString(string(word))
	if err != nil || len(octets) > maxString {
		return no(word, "hexadecimal "+name, "write two digits for each of at most 255 octets, or - for none")
	}
	r.wire = append(append(r.wire, byte(len(octets))), octets...)
	return nil
}

// readNextHash reads a hash in base32 with the extended alphabet (RFC 5155
// section 3.3).
func readNextHash(r *rdata, name string) error {
	word := r.word()
	octets, err := base32.HexEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(string(word)))
	if err != nil || !rightHash(r.wire, len(octets)) {
		return no(word, name, "write it in base32 with the digits 0-9 a-v, without =")
	}
	r.wire = append(append(r.wire, byte(len(octets))), octets...)
	return nil
}

func nextHashEnd(wire []byte, at int) int {
	end := stringEnd(wire, at)
	if end < 0 || !rightHash(wire, end-at-1) {
		return -1
	}
	return end
}

// rightHash reports whether a hash can have so many octets: SHA-1, the only
// algorithm there is, has 20.
func rightHash(wire []byte, size int) bool {
	const sha1 = 1
	return size == 20 || wire[0] != sha1 && size > 0 && size <= maxString
}

// readGroups reads four groups of four hexadecimal digits (RFC 6742 section 2.1).
func readGroups(r *rdata, name string) error {
	word := r.word()
	parts := strings.Split(string(word), ":")
	for _, part := range parts {
		octets, err := hex.DecodeString(part)
		if err != nil || len(octets) != 2 || len(parts) != 4 {
			return no(word, name, "write four groups of four hexadecimal digits, as in 0014:4fff:ff20:ee64")
		}
		r.wire = append(r.wire, octets...)
	}
	return nil
}

// pairs is n octets as pairs of hexadecimal digits (RFC 7043).
func pairs(n int) kind {
	return kind{end: octets(n), read: func(r *rdata, name string) error {
		word := r.word()
		parts := strings.Split(string(word), "-")
		for _, part := range parts {
			octet, err := hex.DecodeString(part)
			if err != nil || len(octet) != 1 || len(parts) != n {
				return no(word, name, fmt.Sprintf("write %d pairs of hexadecimal digits with hyphens between them", n))
			}
			r.wire = append(r.wire, octet...)
		}
		return nil
	}}
}
