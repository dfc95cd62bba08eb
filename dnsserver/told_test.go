package dnsserver

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// What is told is read as it was meant, however many regions are drained, and fits
// one character-string.
func TestTold(t *testing.T) {
	var list strings.Builder
	for i := range 64 {
		fmt.Fprintf(&list, "%s%d 1 1\n", strings.Repeat("r", i%60), i)
	}
	h := newHealth(t, readTable(t, list.String(), "casino names=casino.bet.example", ""))
	h.state.Cluster, h.state.Revision = 1<<64-1, 1<<63-1
	for id := range h.table.All().All() {
		told := ToldOf(strings.Repeat("n", 63), h.state)
		text := told.String()
		got, err := ParseTold(text)
		if err != nil || !reflect.DeepEqual(got, told) || len(text) > MaxVersion {
			t.Fatalf("%q of %d octets is read as %+v, %v; it was %+v", text, len(text), got, err, told)
		}
		if n := len(told.Drained) + told.More; n != int(id) || told.Digest == 0 || n > 0 && told.Drained[0] != "0" {
			t.Fatalf("%d drained: %q", id, text)
		}
		h.change(t, []string{"drain", h.table.Name(id)})
		h.state.Cluster, h.state.Revision = 1<<64-1, 1<<63-1
	}
	h.change(t, []string{"restore"})
	h.change(t, []string{"drain", "casino/0"})
	if told := ToldOf("ns1", h.state); len(told.Drained) != 1 || told.Drained[0] != "casino/0" {
		t.Errorf("a service is drained: %q", told)
	}
}

// Who does not tell its ID does not tell its state either.
func TestToldIsASecret(t *testing.T) {
	h := newHealth(t, readTable(t, "eu 53 -6", "", ""))
	if s := Compile(nil, nil, h.state, Policy{}); s.stateText != "" {
		t.Errorf("it tells %q", s.stateText)
	}
	if s := Compile(nil, nil, h.state, Policy{ID: "ns1"}); s.stateText == "" {
		t.Error("it does not tell its state")
	}
}

func TestParseTold(t *testing.T) {
	const good = "id=ns1 cluster=ff revision=7 state=00000000000000ab drained="
	for text, want := range map[string]string{
		good:                                  "",
		good + " age=9":                       "",
		good + "a,b,+3":                       "",
		good + "+3":                           "",
		"":                                    "id is not told",
		good[7:]:                              "id is not told",
		"id=a revision=7 state=ab drained=":   "cluster is not told",
		"id=a cluster=ff revision=7 state=ab": "drained is not told",
		"id=a cluster=g" + good[17:]:          "cluster: ",
		good + " revision=8":                  "revision is told twice",
		good + "a,+x":                         "drained: ",
		good + "+0,a,":                        "drained: ",
		good + "a,,b":                         "drained: ",
		good + "+-1":                          "drained: ",
	} {
		_, err := ParseTold(text)
		if (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
