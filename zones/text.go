package zones

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Fields of text.
var (
	charString   = kind{read: readString, end: stringEnd}
	charStrings  = kind{read: readStrings, end: stringsEnd}
	freeText     = kind{read: readText, end: rest(0)}
	digitString  = checked(rightAddress, "write at least four digits")
	caaTag       = quoted(checked(rightTag, "write letters and digits, as in issue"), false)
	substitution = checked(rightSubstitution, `write !EXPRESSION!REPLACEMENT! with some other character if there is a ! within`)
)

// maxString is the most octets of a character-string (RFC 1035 section 3.3).
const maxString = 255

// errMark is for a quotation mark within a word that is no string by itself.
var errMark = errors.New(`has a quotation mark within; write blanks around a string in quotation marks, or \" for one that is part of it`)

// unquoted takes the quotation marks from around a word. There must be none within.
func unquoted(word []byte) ([]byte, error) {
	if len(word) > 1 && word[0] == '"' {
		return word[1 : len(word)-1], nil // the scanner ends it at the first that is not escaped
	}
	for i := 0; i < len(word); i++ {
		switch word[i] {
		case '\\':
			i++
		case '"':
			return nil, fmt.Errorf("%s %w", shown(word), errMark)
		}
	}
	return word, nil
}

// appendUnescaped appends the octets that a word stands for. The scanner let
// no bad escape pass.
func appendUnescaped(dst, word []byte) []byte {
	for i := 0; i < len(word); {
		c, size := word[i], 1
		if c == '\\' {
			c, size = unescape(word[i:])
		}
		dst = append(dst, c)
		i += size
	}
	return dst
}

func readString(r *rdata, name string) error {
	word, err := unquoted(r.word())
	if err != nil {
		return err
	}
	start := len(r.wire)
	r.wire = appendUnescaped(append(r.wire, 0), word)
	length := len(r.wire) - start - 1
	if length > maxString {
		return fmt.Errorf("a %s of %d octets; at most %d fit into one", name, length, maxString)
	}
	r.wire[start] = byte(length)
	return nil
}

func stringEnd(wire []byte, at int) int {
	if at >= len(wire) {
		return -1
	}
	return octets(1+int(wire[at]))(wire, at)
}

func readStrings(r *rdata, name string) error {
	for len(r.words) > 0 {
		if err := readString(r, name); err != nil {
			return err
		}
	}
	return nil
}

// stringsEnd is the end of one or more strings.
func stringsEnd(wire []byte, at int) int {
	at = stringEnd(wire, at)
	for at >= 0 && at < len(wire) {
		at = stringEnd(wire, at)
	}
	return at
}

// readText reads a string that needs no length, because it is the last field.
func readText(r *rdata, _ string) error {
	word, err := unquoted(r.word())
	if err != nil {
		return err
	}
	r.wire = appendUnescaped(r.wire, word)
	return nil
}

// checked is a character-string that has a form.
func checked(right func(octets []byte) bool, write string) kind {
	return kind{
		read: func(r *rdata, name string) error {
			word, start := r.words[0], len(r.wire)+1
			if err := readString(r, name); err != nil {
				return err
			}
			if !right(r.wire[start:]) {
				return no(word, name, write)
			}
			return nil
		},
		end: func(wire []byte, at int) int {
			end := stringEnd(wire, at)
			if end < 0 || !right(wire[at+1:end]) {
				return -1
			}
			return end
		},
	}
}

// rightAddress: RFC 1183 section 3.1.
func rightAddress(octets []byte) bool {
	return len(octets) >= 4 && !slices.ContainsFunc(octets, func(c byte) bool { return !digit(c) })
}

// rightTag: RFC 8659 section 4.1.
func rightTag(octets []byte) bool {
	return len(octets) > 0 && !slices.ContainsFunc(octets, func(c byte) bool { return !alphanumeric(c) })
}

// rightSubstitution: nothing, or a delimiter before an expression, before its
// replacement and before flags (RFC 3402 section 3.2).
func rightSubstitution(octets []byte) bool {
	if len(octets) == 0 {
		return true
	}
	delimiter, seen, i := octets[0], 1, 1
	for ; i < len(octets) && seen < 3; i++ {
		if octets[i] == '\\' {
			i++
		} else if octets[i] == delimiter {
			seen++
		}
	}
	return seen == 3 && !digit(delimiter) && delimiter != 'i' && delimiter != '\\' && strings.Trim(string(octets[i:]), "i") == ""
}

func alphanumeric(c byte) bool { return digit(c) || lower(c) >= 'a' && lower(c) <= 'z' }

// degrees is a number in a string (RFC 1712 section 3): up to most either way,
// or any if that is 0.
func degrees(most uint64) kind {
	return checked(func(octets []byte) bool {
		if len(octets) > 0 && (octets[0] == '-' || octets[0] == '+') {
			octets = octets[1:]
		}
		whole, part, _ := bytes.Cut(octets, []byte("."))
		n, ok := decimal(whole, 1<<31)
		return ok && (most == 0 || n <= most) && !slices.ContainsFunc(part, func(c byte) bool { return !digit(c) })
	}, "write a number as in -32.6882")
}
