package healthsync

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"nearside/printable"
	"nearside/regions"
)

// kind is what a key below the prefix stands for.
type kind uint8

const (
	foreign kind = iota // nothing that this version understands
	drainKey
	voteKey
	ignored // written by servers about themselves
)

// address is a key below the prefix, taken apart.
type address struct {
	kind     kind
	region   string // a correct name, though perhaps of no configured region
	reporter string // of a vote
	why      string // why the key is foreign
}

// later names the parts of the key space that other versions use.
var later = map[string]string{
	"services":    "services are not supported by this version",
	"probes":      "probes are not supported by this version",
	"verdicts":    "verdicts are not supported by this version",
	"transitions": "transitions are not supported by this version",
}

// parseKey takes a key apart. key is what follows the prefix and its slash.
func parseKey(key string) address {
	parts := strings.Split(key, "/")
	switch top := parts[0]; {
	case len(parts) > 1 && (top == "servers" || top == "alive"):
		return address{kind: ignored}
	case len(parts) > 1 && later[top] != "":
		return address{why: later[top]}
	case top != "regions" || len(parts) < 3:
		return address{why: "no such key: inputs are regions/REGION/drain and regions/REGION/health/REPORTER"}
	}
	name, leaf := parts[1], parts[2:]
	if err := regions.CheckName(name); err != nil {
		return address{why: fmt.Sprintf("%s names no region: %v", printable.Cut(name, maxShown), err)}
	}
	switch {
	case len(leaf) == 1 && leaf[0] == "drain":
		return address{kind: drainKey, region: name}
	case len(leaf) == 2 && leaf[0] == "health":
		if err := checkReporter(leaf[1]); err != nil {
			return address{why: err.Error()}
		}
		return address{kind: voteKey, region: name, reporter: leaf[1]}
	case len(leaf) == 2 && leaf[0] == "heartbeat":
		return address{why: "heartbeats are not supported by this version"}
	}
	return address{why: "no such key: below a region are drain and health/REPORTER"}
}

// checkReporter keeps names out that nobody could read in a status.
func checkReporter(name string) error {
	unreadable := func(r rune) bool { return !unicode.IsGraphic(r) }
	if name == "" || len(name) > maxShown || !utf8.ValidString(name) || strings.ContainsFunc(name, unreadable) {
		return fmt.Errorf("a reporter's name has 1 to %d octets of readable UTF-8", maxShown)
	}
	return nil
}

// check reports why value is not understood at a.
func (a address) check(value []byte) error {
	var err error
	switch a.kind {
	case drainKey:
		_, err = ParseDrain(value)
	case voteKey:
		_, err = ParseVote(value)
	default:
		err = errors.New(a.why)
	}
	return err
}
