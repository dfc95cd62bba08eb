// Package yamlfault says where a file is no YAML, and why, in words for people:
// the YAML parser names some lines one too low and others not at all.
package yamlfault

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
)

var (
	parserError   = regexp.MustCompile(`(?s)^yaml: (?:line (\d+): )?(.*)$`)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
)

// Locate returns the line of content at which the parser ended with err, 0 if
// that cannot be told, and what is wrong there. Tabs are the commonest reason,
// and the parser says so in words that nobody understands.
func Locate(err error, content []byte) (line int, what string) {
	if line := tabIndents(content); line > 0 {
		return line, "a tab indents this line; YAML wants spaces"
	}
	what = err.Error()
	named := 0 // the line that the parser names; it names none for the first
	if m := parserError.FindStringSubmatch(what); m != nil {
		named, _ = strconv.Atoi(m[1])
		what = m[2]
	}
	switch anchor := unknownAnchor.FindStringSubmatch(what); {
	case strings.HasPrefix(what, "did not find expected"):
		// The parser proper counts from 0, its scanner from 1. What it still
		// expects at the end of the file belongs to the last line.
		line = min(named+1, lineOf(content, len(bytes.TrimRight(content, "\n"))))
	case anchor != nil:
		line = lineOf(content, bytes.Index(content, []byte("*"+anchor[1])))
	case what == "control characters are not allowed":
		line = lineOf(content, bytes.IndexFunc(content, control))
	default:
		line = max(1, named)
	}
	return line, "no YAML: " + what
}

// tabIndents returns the first line that a tab indents, 0 if there is none.
func tabIndents(content []byte) int {
	n := 0
	for line := range bytes.Lines(content) {
		n++
		text := bytes.TrimLeft(line, " \t")
		if indent := line[:len(line)-len(text)]; bytes.ContainsRune(indent, '\t') && len(bytes.TrimSpace(text)) > 0 && text[0] != '#' {
			return n
		}
	}
	return 0
}

// lineOf returns the line of an offset, 0 for a negative one.
func lineOf(content []byte, at int) int {
	if at < 0 {
		return 0
	}
	return 1 + bytes.Count(content[:at], []byte("\n"))
}

// control reports whether YAML has no place for a character (YAML 1.2 section 5.1).
func control(r rune) bool {
	return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0x7F || r >= 0x80 && r < 0xA0 && r != 0x85
}
