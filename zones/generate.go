package zones

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// maxGenerated bounds the records of one $GENERATE: a slip of the finger in its
// range would fill the memory.
const maxGenerated = 1 << 20

// generate obeys $GENERATE, in BIND's syntax: RANGE OWNER [TTL] [CLASS] TYPE
// RDATA makes a record for each number of the range. BIND takes one word of
// RDATA; as there, one in quotation marks stands for what is in it. Several
// words are several words.
func (r *reader) generate(m *master, args [][]byte) error {
	if len(args) < 4 {
		return errors.New("$GENERATE takes a range, an owner, a type and RDATA")
	}
	numbers, err := parseSeries(args[0])
	if err != nil {
		return err
	}
	words, ttl, err := r.typeAndTTL(args[2:])
	if err != nil {
		return err
	}
	if len(words) == 0 {
		return errors.New("$GENERATE takes RDATA after the type")
	}
	words = slices.Clone(words)
	var owner []byte
	for n := numbers.first; n <= numbers.last && !r.build.full; n += numbers.step {
		r.pace.Step()
		text, err := expand(args[1], n)
		if err != nil {
			return err
		}
		if owner, err = appendName(owner[:0], text, m.origin); err != nil {
			return fmt.Errorf("the name %s %w", shown(text), err)
		}
		rdata, err := expandAll(words, n)
		if err != nil {
			return err
		}
		if err := r.add(m, owner, ttl, rdata); err != nil {
			return fmt.Errorf("for %d: %w", n, err)
		}
	}
	return nil
}

// series is the numbers of a $GENERATE.
type series struct{ first, last, step int64 }

// parseSeries reads FIRST-LAST or FIRST-LAST/STEP.
func parseSeries(word []byte) (s series, err error) {
	numbers, step, stepped := bytes.Cut(word, []byte("/"))
	from, to, _ := bytes.Cut(numbers, []byte("-"))
	const most = 1<<31 - 1
	first, ok1 := decimal(from, most)
	last, ok2 := decimal(to, most)
	by, ok3 := uint64(1), true
	if stepped {
		by, ok3 = decimal(step, most)
	}
	switch {
	case !ok1 || !ok2 || !ok3 || by == 0:
		return s, no(word, "range", "write FIRST-LAST or FIRST-LAST/STEP, with whole numbers up to 2147483647")
	case first > last:
		return s, fmt.Errorf("the range %s ends before it starts", word)
	case (last-first)/by >= maxGenerated:
		return s, fmt.Errorf("the range %s has more than %d numbers; write several", word, maxGenerated)
	}
	return series{int64(first), int64(last), int64(by)}, nil
}

// expandAll returns the words of RDATA with their dollars replaced.
func expandAll(words [][]byte, n int64) ([][]byte, error) {
	if len(words) == 1 && words[0][0] == '"' {
		text, err := expand(withoutMarks(words[0]), n)
		if err != nil {
			return nil, err
		}
		e := entry{blank: true}
		if err := (&scanner{data: text}).entry(&e); err != nil {
			return nil, err
		}
		return e.tokens, nil
	}
	var all [][]byte
	for _, word := range words {
		text, err := expand(word, n)
		if err != nil {
			return nil, err
		}
		all = append(all, text)
	}
	return all, nil
}

// withoutMarks is what is in quotation marks. Those within lose their backslash.
func withoutMarks(word []byte) []byte {
	var text []byte
	for i := 1; i < len(word)-1; i++ {
		if word[i] == '\\' {
			if i++; word[i] != '"' {
				text = append(text, '\\')
			}
		}
		text = append(text, word[i])
	}
	return text
}

// expand replaces each dollar of a word by n: "$" alone, or with how to write it
// in braces. "$$" and "\$" stand for a dollar.
func expand(word []byte, n int64) ([]byte, error) {
	var text []byte
	for i := 0; i < len(word); i++ {
		switch {
		case word[i] == '\\' && i+1 < len(word):
			text = append(text, word[i], word[i+1])
			i++
		case word[i] != '$':
			text = append(text, word[i])
		case i+1 < len(word) && word[i+1] == '$':
			text = append(text, '\\', '$')
			i++
		case i+1 < len(word) && word[i+1] == '{':
			length := bytes.IndexByte(word[i:], '}')
			if length < 0 {
				return nil, errBraces(word[i:])
			}
			var err error
			if text, err = appendFormatted(text, word[i:i+length+1], n); err != nil {
				return nil, err
			}
			i += length
		default:
			text = strconv.AppendInt(text, n, 10)
		}
	}
	return text, nil
}

func errBraces(word []byte) error {
	return no(word, "number of a $GENERATE", "write ${OFFSET}, ${OFFSET,WIDTH} or ${OFFSET,WIDTH,BASE} with a BASE of d, o, x, X, n or N")
}

// appendFormatted appends n as ${OFFSET,WIDTH,BASE} has it.
func appendFormatted(dst, braces []byte, n int64) ([]byte, error) {
	parts := bytes.Split(braces[2:len(braces)-1], []byte(","))
	offset, err := strconv.ParseInt(string(parts[0]), 10, 32)
	width, ok, base := uint64(0), true, byte('d')
	if len(parts) > 1 {
		width, ok = decimal(parts[1], maxName)
	}
	if len(parts) > 2 && len(parts[2]) == 1 {
		base = parts[2][0]
	} else if len(parts) > 2 {
		ok = false
	}
	if err != nil || !ok || len(parts) > 3 {
		return dst, errBraces(braces)
	}
	if n += offset; n < 0 {
		return dst, fmt.Errorf("%s is negative at %d; no name or number is", braces, n-offset)
	}
	switch base {
	case 'd', 'o', 'x', 'X':
		verb := "%0*" + string(base)
		return fmt.Appendf(dst, verb, int(width), n), nil
	case 'n', 'N':
		return appendNibbles(dst, n, int(width), base == 'N'), nil
	}
	return dst, errBraces(braces)
}

// appendNibbles appends the hexadecimal digits of n, the last first, with dots
// between them, as names below ip6.arpa have them. width counts dots too, so
// that an even one ends in a dot.
func appendNibbles(dst []byte, n int64, width int, upper bool) []byte {
	digits := "0123456789abcdef"
	if upper {
		digits = "0123456789ABCDEF"
	}
	for more := true; more; more = n > 0 || width > 0 {
		dst = append(dst, digits[n&15])
		n >>= 4
		if width--; n > 0 || width > 0 {
			dst = append(dst, '.')
			width--
		}
	}
	return dst
}
