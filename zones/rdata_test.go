package zones

import (
	"bytes"
	"encoding/hex"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// judged reads RDATA as miekg/dns has it, and puts it into wire form.
func judged(typ uint16, text string) ([]byte, error) {
	rr, err := dns.NewRR(". 60 IN " + dns.Type(typ).String() + " " + text)
	if err != nil || rr == nil {
		return nil, err
	}
	room := make([]byte, 1<<17)
	end, err := dns.PackRR(rr, room, 0, nil, false)
	if err != nil {
		return nil, err
	}
	if _, _, err := dns.UnpackRR(room[:end], 0); err != nil {
		return nil, err // it packs names that are too long
	}
	return room[11:end], nil // the root, type, class, TTL and length come first
}

// differs reports whether miekg/dns is known to read some text of a type
// otherwise. For these the cases of testdata/syntax have BIND's reading.
func differs(typ uint16, text string) bool {
	switch typ {
	case dns.TypeAMTRELAY: // it loses the relay beside the discovery flag
		return true
	case dns.TypeISDN: // it splits strings and joins them, and adds an empty one
		return true
	case dns.TypeLOC: // it takes every version for 0
		return strings.Contains(text, `\#`)
	case dns.TypeNXT: // it writes the bitmap of NSEC
		return true
	case dns.TypeSVCB, dns.TypeHTTPS: // it lists key1 as 65535
		return strings.Contains(text, "mandatory")
	}
	return glued.MatchString(text)
}

// glued is a parenthesis within a word: miekg/dns drops it, where BIND and Knot
// end the word.
var glued = regexp.MustCompile(`[^\s()][()]+[^\s()]`)

// rdataOf reads the RDATA of a one-line entry.
func rdataOf(typ uint16, text string) ([]byte, error) {
	var e entry
	if err := (&scanner{data: []byte(" " + text)}).entry(&e); err != nil {
		return nil, err
	}
	r := rdata{words: e.tokens, origin: []byte{0}}
	err := r.read(typ)
	return r.wire, err
}

// FuzzRDATA reads any text as the RDATA of a type. Where miekg/dns accepts it
// too, it means the same. What we accept, we also accept in the form of RFC
// 3597, and miekg/dns finds nothing wrong with its wire form.
func FuzzRDATA(f *testing.F) {
	for _, c := range syntaxCases(f) {
		e, lines := entry{}, scanner{data: []byte(c.files[c.zone+suffix])}
		for found, _ := lines.next(&e); found; found, _ = lines.next(&e) {
			for i, word := range e.tokens {
				if typ, ok := typeOf(word); ok && i > 0 && i < 4 {
					f.Add(typ, string(bytes.Join(e.tokens[i+1:], []byte(" "))))
					break
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, typ uint16, text string) {
		if strings.ContainsAny(text, "\n") || !storable(typ) {
			return
		}
		ours, err := rdataOf(typ, text)
		if err != nil {
			return
		}
		theirs, err := judged(typ, text)
		if err == nil && len(theirs) > 0 && !differs(typ, text) && !bytes.Equal(ours, theirs) {
			t.Errorf("%s %s: we read %x, miekg/dns %x", dns.Type(typ), text, ours, theirs)
		}
		generic, err := rdataOf(typ, `\# `+strconv.Itoa(len(ours))+" "+hex.EncodeToString(ours))
		if err != nil || !bytes.Equal(generic, ours) {
			t.Errorf("%s %s is %x, and that is not accepted: %v", dns.Type(typ), text, ours, err)
		}
	})
}
