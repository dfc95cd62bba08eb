package printable

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "",
		`plain é "quoted" \x1b`:     `plain é "quoted" \x1b`,
		"a\nb\r\tc":                 `a\nb\r\tc`,
		"\x1b[31m \x9b31m \x00\x7f": `\x1b[31m \x9b31m \x00\x7f`,
		"\u009b31m \u202e \ufffd":   `\u009b31m \u202e ` + "\ufffd",
		"caf\xe9":                   `caf\xe9`,
	} {
		got := Text(text)
		if got != want {
			t.Errorf("%q is shown as %s, want %s", text, got, want)
		}
		if again := Text(got); again != got {
			t.Errorf("%s is shown as %s when it comes again", got, again)
		}
	}
}

func TestCut(t *testing.T) {
	for _, text := range []string{"short", strings.Repeat("é", 100), strings.Repeat("\x1b", 100), strings.Repeat("\xff", 100)} {
		got := Cut(text, 20)
		if len(got) > 20 || !utf8.ValidString(got) || len(Text(text)) > 20 != strings.HasSuffix(got, "…") {
			t.Errorf("%q is cut to %s", text, got)
		}
	}
}
