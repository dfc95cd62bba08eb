package zones

import (
	"fmt"
	"slices"

	"github.com/miekg/dns"
)

// Fields that list types.
var (
	typeBitmap = kind{read: readBitmap, end: bitmapEnd, optional: true}
	someTypes  = kind{read: readBitmap, end: someTypesEnd}
	oldBitmap  = kind{read: readOldBitmap, end: oldBitmapEnd}
)

// readBitmap reads all words as the types of RFC 4034 section 4.1.2.
func readBitmap(r *rdata, name string) error {
	types, err := r.types(name)
	if err != nil {
		return err
	}
	for i := 0; i < len(types); {
		window := types[i] >> 8
		var bits [32]byte
		for ; i < len(types) && types[i]>>8 == window; i++ {
			bits[types[i]>>3&31] |= 0x80 >> (types[i] & 7)
		}
		length := types[i-1]>>3&31 + 1
		r.wire = append(append(r.wire, byte(window), byte(length)), bits[:length]...)
	}
	return nil
}

// types reads all words as types, and sorts them.
func (r *rdata) types(name string) ([]uint16, error) {
	var types []uint16
	for len(r.words) > 0 {
		word := r.word()
		typ, ok := typeOf(word)
		if !ok || !storable(typ) && typ != dns.TypeNXNAME { // RFC 9824 section 3
			return nil, no(word, name+" of records", "write record types, or TYPE followed by their numbers")
		}
		types = append(types, typ)
	}
	slices.Sort(types)
	return types, nil
}

// someTypesEnd: what has NSEC has at least that type (RFC 4034 section 4.1.2).
func someTypesEnd(wire []byte, at int) int {
	if at == len(wire) {
		return -1
	}
	return bitmapEnd(wire, at)
}

func bitmapEnd(wire []byte, at int) int {
	for last := -1; at < len(wire); {
		if at+2 > len(wire) || int(wire[at]) <= last {
			return -1
		}
		length := int(wire[at+1])
		end := at + 2 + length
		if length == 0 || length > 32 || end > len(wire) || wire[end-1] == 0 {
			return -1
		}
		last, at = int(wire[at]), end
	}
	return at
}

// readOldBitmap reads the types of NXT (RFC 2535 section 5.2): one bitmap, of
// types up to 127.
func readOldBitmap(r *rdata, name string) error {
	types, err := r.types(name)
	if err != nil {
		return err
	}
	var bits [16]byte
	for _, typ := range types {
		if typ > 127 {
			return fmt.Errorf("type %s does not fit; only types up to 127 do", dns.Type(typ))
		}
		bits[typ>>3] |= 0x80 >> (typ & 7)
	}
	r.wire = append(r.wire, bits[:types[len(types)-1]>>3+1]...)
	return nil
}

func oldBitmapEnd(wire []byte, at int) int {
	if bits := wire[at:]; len(bits) == 0 || len(bits) > 16 || bits[0]&0x80 != 0 || bits[len(bits)-1] == 0 {
		return -1
	}
	return len(wire)
}
