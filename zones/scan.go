package zones

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// scanner splits a master file into entries (RFC 1035 section 5.1): an entry is
// a line, or several held together by parentheses. It takes away comments and
// parentheses; quotes and escapes stay in the tokens.
//
// It looks at a text through a window, which holds whole lines: only parentheses
// hold lines together.
type scanner struct {
	data []byte // in the window
	pos  int    // in data
	line int    // of pos, from 1

	rest io.ReaderAt // the text; nil: the window is all that there is
	at   int64       // offset in rest of what follows the window
	err  error       // of reading rest, not told yet
}

// entry is one entry of a master file.
type entry struct {
	line   int  // where it starts
	blank  bool // it starts with a blank: the owner is that of the entry before
	tokens [][]byte
}

var (
	errQuote  = errors.New("a quoted string does not end on its line; close it with a quotation mark")
	errJoined = errors.New("something follows a quoted string without a blank; put one there")
	errNested = errors.New("a parenthesis within parentheses; one pair holds all lines of an entry together")
	errOwner  = errors.New("a parenthesis before the owner; write the owner first")
	errReturn = errors.New("a carriage return within a line; lines end in LF or in CR LF")
)

// next reads the next entry that has tokens into e. It returns false at the end
// of the file. After an error (which is about e.line) it goes on at the next
// line.
func (s *scanner) next(e *entry) (bool, error) {
	for s.pos < len(s.data) || s.more(true) {
		e.line, e.tokens = s.line, e.tokens[:0]
		e.blank = s.data[s.pos] == ' ' || s.data[s.pos] == '\t'
		if err := s.entry(e); err != nil {
			s.skipLine()
			return true, err
		}
		if len(e.tokens) > 0 {
			return true, nil
		}
	}
	err := s.err
	s.err = nil
	return false, err
}

// done returns how much of the text was passed over, in octets.
func (s *scanner) done() int64 { return s.at - int64(len(s.data)-s.pos) }

// windowSize is how much of a text is looked at, in octets, unless a line is longer.
const windowSize = 64 << 10

// more moves the window on to the lines that follow. It returns false at the end
// of the text. Tokens stay what they are unless over says that nobody needs them.
func (s *scanner) more(over bool) bool {
	if s.rest == nil {
		return false
	}
	room := s.data[:cap(s.data)]
	if !over || len(room) == 0 {
		room = make([]byte, windowSize)
	}
	for n, err := 0, error(nil); ; room = slices.Concat(room, make([]byte, len(room))) {
		var got int
		got, err = s.rest.ReadAt(room[n:], s.at+int64(n))
		n += got
		end := bytes.LastIndexByte(room[:n], '\n') + 1
		if err != nil {
			end = n
			s.rest = nil
			if err != io.EOF {
				s.err = err
				end = 0
			}
		}
		if end > 0 || err != nil {
			s.data, s.pos, s.at = room[:end], 0, s.at+int64(end)
			return end > 0
		}
	}
}

// entry reads up to the newline that ends the entry.
func (s *scanner) entry(e *entry) error {
	depth, opened := 0, 0
	for s.pos < len(s.data) || depth > 0 && s.more(false) {
		switch c := s.data[s.pos]; c {
		case '\n':
			s.pos++
			s.line++
			if depth == 0 {
				return nil
			}
			if len(e.tokens) == 0 {
				e.line = s.line // the entry starts where its first token is
			}
		case ' ', '\t':
			s.pos++
		case '\r':
			if s.pos++; s.pos < len(s.data) && s.data[s.pos] != '\n' {
				return errReturn
			}
		case ';':
			s.skipComment()
		case '(':
			if depth > 0 {
				return errNested
			}
			opened = s.line
			depth++
			s.pos++
		case ')':
			if depth == 0 {
				return errors.New("a closing parenthesis has no opening one")
			}
			depth--
			s.pos++
		default:
			if depth > 0 && len(e.tokens) == 0 && !e.blank {
				return errOwner
			}
			if err := s.token(e); err != nil {
				return err
			}
		}
	}
	if depth > 0 {
		return fmt.Errorf("the parenthesis opened at line %d is never closed", opened)
	}
	return nil
}

// special are the octets that mean something in a token. Control characters
// mean that the file is no text.
var special = func() (table [256]bool) {
	for _, c := range []byte(" \t\r\n;()\"\\\x7f") {
		table[c] = true
	}
	for c := range byte(' ') {
		table[c] = true
	}
	return table
}()

// token reads one token. A quotation mark inside a token, as in alpn="h2 h3",
// belongs to it up to the closing one.
func (s *scanner) token(e *entry) error {
	start := s.pos
	for s.pos < len(s.data) {
		c := s.data[s.pos]
		if !special[c] {
			s.pos++
			continue
		}
		var err error
		switch c {
		case ' ', '\t', '\r', '\n', ';', '(', ')':
			e.tokens = append(e.tokens, s.data[start:s.pos])
			return nil
		case '"':
			if err = s.quote(); err == nil && s.data[start] == '"' && !s.atBlank() {
				err = errJoined
			}
		case '\\':
			err = s.escape()
		default:
			err = errControl(c)
		}
		if err != nil {
			return err
		}
	}
	e.tokens = append(e.tokens, s.data[start:s.pos])
	return nil
}

// atBlank reports whether a token may end here.
func (s *scanner) atBlank() bool {
	return s.pos == len(s.data) || strings.IndexByte(" \t\r\n;()", s.data[s.pos]) >= 0
}

// quote passes over a quoted string.
func (s *scanner) quote() error {
	for s.pos++; s.pos < len(s.data); {
		c := s.data[s.pos]
		switch {
		case !special[c] || c == ' ' || c == '\t' || c == ';' || c == '(' || c == ')':
			s.pos++
		case c == '"':
			s.pos++
			return nil
		case c == '\\':
			if err := s.escape(); err != nil {
				return err
			}
		case c == '\n' || c == '\r':
			return errQuote
		default:
			return errControl(c)
		}
	}
	return errQuote
}

func errControl(c byte) error {
	return fmt.Errorf(`the control character %d, which is no text; take it out, or write \%03d`, c, c)
}

// escape passes over an escape.
func (s *scanner) escape() error {
	c, size := unescape(s.data[s.pos:min(s.pos+4, len(s.data))])
	if size == 0 || size == 2 && (c == '\n' || c == '\r') {
		return fmt.Errorf("a word %w", errEscape)
	}
	s.pos += size
	return nil
}

func (s *scanner) skipComment() {
	if i := bytes.IndexByte(s.data[s.pos:], '\n'); i >= 0 {
		s.pos += i
	} else {
		s.pos = len(s.data)
	}
}

// skipLine passes over the rest of the line.
func (s *scanner) skipLine() {
	s.skipComment()
	if s.pos < len(s.data) {
		s.pos++
		s.line++
	}
}
