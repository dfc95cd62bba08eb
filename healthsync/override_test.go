package healthsync

import "testing"

// TestOverrideFaults: what is wrong with the break-glass file is said with its
// line: it is written in a hurry.
func TestOverrideFaults(t *testing.T) {
	for content, want := range map[string]string{
		"drain: [eu-west\n":            "f:1: no YAML: did not find expected ',' or ']'",
		"drain: eu-west: us-east\n":    "f:1: no YAML: mapping values are not allowed in this context",
		"up: []\n\tdrain: [eu-west]\n": "f:2: a tab indents this line; YAML wants spaces",
		"up: []\n---\ndrain: @\n":      "f:3: no YAML: found character that cannot start any token",
		"up: []\n---\ndrain: []\n":     "f:2: a second document follows: write one",
		"drain: []\nout: []\n":         "f:2: unknown key out: there are drain and up",
		"drain:\n- eu-west\n- nil\n":   "f:3: unknown region nil: the configuration has eu-west, us-east, ap-southeast",
		"- eu-west\n":                  "f:1: write drain: [REGION, ...] and up: [REGION, ...]",
	} {
		if _, err := parseOverride("f", []byte(content), table(t)); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", content, err, want)
		}
	}
}
