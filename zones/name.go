package zones

import (
	"errors"
	"fmt"
	"math"
)

// Limits of RFC 1035 section 2.3.4, in octets.
const (
	maxName  = 255
	maxLabel = 63
)

var (
	errNoName    = errors.New("a name is missing")
	errDots      = errors.New("has an empty label; take out the dot too many")
	errLongLabel = errors.New("has a label of more than 63 octets")
	errLongName  = errors.New("is longer than 255 octets with its origin; shorten it or end it with a dot")
	errQuoted    = errors.New(`has a quotation mark; take it out, or write \" for one that is part of the name`)
	errAt        = errors.New(`has an @ within; write a dot in its place, or \@ for one that is part of the name`)
	errOctet     = errors.New(`has an octet that is no printable ASCII; write it as \DDD, or an internationalized name as the xn-- form of it`)
	errEscape    = errors.New(`has a bad escape; write \DDD with DDD up to 255, or \X`)
)

// appendName appends the wire form of a name of a master file, in lower case:
// see appendCased.
func appendName(dst, text, origin []byte) ([]byte, error) {
	start := len(dst)
	dst, err := appendCased(dst, text, origin)
	for i := start; i < len(dst); i++ { // no length octet is a letter: 63 < 'A'
		dst[i] = lower(dst[i])
	}
	return dst, err
}

// appendCased appends the wire form of a name of a master file. A name without
// a final dot is completed by origin (in wire form); "@" is the origin itself.
func appendCased(dst, text, origin []byte) ([]byte, error) {
	switch string(text) {
	case "":
		return dst, errNoName
	case "@":
		return append(dst, origin...), nil
	case ".":
		return append(dst, 0), nil
	}
	start, label := len(dst), len(dst)
	dst = append(dst, 0) // the length of the label, filled in at its end
	for i := 0; i < len(text); {
		c, size := text[i], 1
		if c == '.' {
			if len(dst) == label+1 {
				return dst, errDots
			}
			dst[label] = byte(len(dst) - label - 1)
			label = len(dst)
			dst = append(dst, 0)
			i++
			continue
		}
		switch {
		case c == '\\':
			if c, size = unescape(text[i:]); size == 0 {
				return dst, errEscape
			}
		case c == '"':
			return dst, errQuoted
		case c == '@':
			return dst, errAt
		case c <= ' ' || c >= 0x7f:
			return dst, errOctet
		}
		i += size
		dst = append(dst, c)
		if len(dst)-label-1 > maxLabel {
			return dst, errLongLabel
		}
		if len(dst)-start > maxName {
			return dst, errLongName
		}
	}
	if len(dst) > label+1 { // no final dot
		dst[label] = byte(len(dst) - label - 1)
		dst = append(dst, origin...)
	}
	if len(dst)-start > maxName {
		return dst, errLongName
	}
	return dst, nil
}

// unescape reads the escape at the start of s (RFC 1035 section 5.1) and
// returns its octet and its length in s; the length 0 means that it is none.
func unescape(s []byte) (c byte, size int) {
	if len(s) < 2 {
		return 0, 0
	}
	if !digit(s[1]) {
		return s[1], 2
	}
	if len(s) < 4 || !digit(s[2]) || !digit(s[3]) {
		return 0, 0
	}
	n := int(s[1]-'0')*100 + int(s[2]-'0')*10 + int(s[3]-'0')
	if n > 255 {
		return 0, 0
	}
	return byte(n), 4
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c |= 0x20
	}
	return c
}

// nameText is the wire name as a master file has it, with the final dot.
func nameText(name []byte) string {
	if len(name) <= 1 {
		return "."
	}
	text := make([]byte, 0, len(name)+8)
	for len(name) > 1 && len(name) > int(name[0]) {
		for _, c := range name[1 : 1+name[0]] {
			switch {
			case c <= ' ' || c >= 0x7f:
				text = append(text, fmt.Sprintf(`\%03d`, c)...)
			case c == '.' || c == '\\' || c == '"' || c == ';' || c == '(' || c == ')' || c == '@' || c == '$':
				text = append(text, '\\', c)
			default:
				text = append(text, c)
			}
		}
		text = append(text, '.')
		name = name[1+int(name[0]):]
	}
	return string(text)
}

// nameLength returns the length of the uncompressed wire name at the start of
// b, 0 if there is none.
func nameLength(b []byte) int {
	for i := 0; i < len(b); i += 1 + int(b[i]) {
		if b[i] == 0 {
			return i + 1
		}
		if b[i] > maxLabel {
			return 0
		}
	}
	return 0
}

// under reports whether name is apex or lies below it. Both are wire names in
// lower case.
func under(name, apex []byte) bool {
	for len(name) > len(apex) {
		name = name[1+int(name[0]):]
	}
	return string(name) == string(apex)
}

// errTTL says what a TTL looks like: RFC 2181 section 8 for the bound.
var errTTL = errors.New("write whole seconds up to 2147483647, or numbers that each have a unit, as in 1h30m")

// parseTTL reads a TTL.
func parseTTL(text []byte) (uint32, error) {
	seconds, ok := parseSeconds(text, math.MaxInt32)
	if !ok {
		return 0, errTTL
	}
	return seconds, nil
}

// parseSeconds reads seconds, at most most, or numbers with the units w, d, h,
// m, s. A number without a unit behind one with a unit is refused: nobody can
// know what 1h30 means.
func parseSeconds(text []byte, most uint64) (uint32, bool) {
	if seconds, ok := decimal(text, most); ok {
		return uint32(seconds), true
	}
	var total, n uint64
	digits := 0
	for _, c := range text {
		if digit(c) {
			n, digits = n*10+uint64(c-'0'), digits+1
			if digits > 10 {
				return 0, false
			}
			continue
		}
		unit, ok := ttlUnits[lower(c)]
		if !ok || digits == 0 {
			return 0, false
		}
		if total += n * unit; total > most {
			return 0, false
		}
		n, digits = 0, 0
	}
	return uint32(total), digits == 0 && len(text) > 0
}

var ttlUnits = map[byte]uint64{'s': 1, 'm': 60, 'h': 3600, 'd': 86400, 'w': 604800}
