package integration

import (
	"slices"
	"strings"
	"testing"
)

// TestDifferentialMessages sends NSD, Knot and BIND the conversations. What those
// three agree on is right.
func TestDifferentialMessages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	z := &generated{origin: "msg.example.", path: dir + "/msg.example.zone"}
	write(t, z.path, messageZoneText())
	peers := newPeers(t, dir, []*generated{z})
	agreed := 0
	for _, c := range conversations {
		m := parseMessage(t, c.message)
		var said, heard []string
		for _, p := range peers {
			text := m.tell(t, thisMachine, p.address)
			heard = append(heard, p.name+": "+text)
			said = append(said, gist(text))
		}
		theirs := slices.Compact(said[ours+1:])
		if len(theirs) > 1 {
			continue
		}
		if agreed++; said[ours] != theirs[0] {
			t.Errorf("%s: %s\n%s", c.why, c.message, strings.Join(heard, "\n"))
		}
	}
	t.Logf("they agree on %d of %d", agreed, len(conversations))
}

// gist is what must be the same everywhere: the code, AA, TC, the version and
// flags of EDNS, the error of TSIG. A FORMERR has our OPT too if the message had
// one (RFC 6891, 6.1.1); theirs has none where it is OPT that is malformed.
func gist(described string) string {
	var words []string
	for i, w := range strings.Fields(described) {
		name, value, _ := strings.Cut(w, "=")
		switch {
		case name == "edns" && !strings.HasPrefix(described, "FORMERR"):
			version, _, _ := strings.Cut(value, ",")
			words = append(words, "edns="+version)
			if strings.Contains(value, "flags=0x8000") {
				words = append(words, "do")
			}
		case i == 0, w == "aa", w == "tc", name == "tsig":
			words = append(words, w)
		}
	}
	return strings.Join(words, " ")
}
