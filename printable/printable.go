// Package printable makes what others wrote fit to be shown to people: names and
// contents of files, values of etcd, the environment.
package printable

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Text escapes whatever a terminal does not show, so that text can neither forge a
// line nor tell the terminal what to do. What is printable already stays as it is.
func Text(text string) string {
	var b strings.Builder
	for len(text) > 0 {
		shown, octets := first(text)
		b.WriteString(shown)
		text = text[octets:]
	}
	return b.String()
}

// Cut is Text, cut to at most size octets.
func Cut(text string, size int) string {
	const cut = "…"
	var b strings.Builder
	for len(text) > 0 {
		shown, octets := first(text)
		if b.Len()+len(shown)+len(cut) > size {
			return b.String() + cut
		}
		b.WriteString(shown)
		text = text[octets:]
	}
	return b.String()
}

// first returns how the first character of text is shown, and its length in text.
func first(text string) (shown string, octets int) {
	r, octets := utf8.DecodeRuneInString(text)
	shown = text[:octets]
	if r == utf8.RuneError && octets == 1 || !strconv.IsPrint(r) {
		shown = strings.Trim(strconv.Quote(shown), `"`)
	}
	return shown, octets
}
