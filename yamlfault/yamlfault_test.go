package yamlfault

import (
	"fmt"
	"testing"

	"gopkg.in/yaml.v3"
)

func TestLocate(t *testing.T) {
	for content, want := range map[string]string{
		"a: [1\n":                     "1 no YAML: did not find expected ',' or ']'",
		"\na: [1\nb: 2\n":             "2 no YAML: did not find expected ',' or ']'",
		"a: {]\n":                     "1 no YAML: did not find expected node content",
		"a: b: c\n":                   "1 no YAML: mapping values are not allowed in this context",
		"a: 1\nb: c: d\n":             "2 no YAML: mapping values are not allowed in this context",
		"a: 1\nb: @\n":                "2 no YAML: found character that cannot start any token",
		"a: 1\n\tb: 2\n":              "2 a tab indents this line; YAML wants spaces",
		"a: 1\n\t\n \t# c\nb:\n\t- 2": "5 a tab indents this line; YAML wants spaces",
		"a: 1\nb: *c\n":               "2 no YAML: unknown anchor 'c' referenced",
		"a: 1\nb: \x01\n":             "2 no YAML: control characters are not allowed",
	} {
		var n yaml.Node
		err := yaml.Unmarshal([]byte(content), &n)
		if err == nil {
			t.Errorf("%q is YAML", content)
			continue
		}
		line, what := Locate(err, []byte(content))
		if got := fmt.Sprint(line, " ", what); got != want {
			t.Errorf("%q: got %s, want %s", content, got, want)
		}
	}
}
