package healthsync

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxShown is the number of octets of a value or key that people are shown.
const maxShown = 200

// printable returns text for people: whatever a terminal cannot show is
// escaped, and what goes beyond maxShown octets is cut.
func printable(text string) string {
	const cut = "…"
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		shown := text[:size]
		if r == utf8.RuneError && size == 1 || !strconv.IsPrint(r) {
			shown = strings.Trim(strconv.Quote(shown), `"`)
		}
		if b.Len()+len(shown)+len(cut) > maxShown {
			return b.String() + cut
		}
		b.WriteString(shown)
		text = text[size:]
	}
	return b.String()
}
