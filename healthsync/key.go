package healthsync

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"nearside/printable"
	"nearside/regions"
)

// kind is what a key below the prefix stands for.
type kind uint8

const (
	foreign      kind = iota // nothing that this version understands
	drainKey                 // operators write it: a region, or a service in it, is out
	voteKey                  // a reporter writes it: up or down
	heartbeatKey             // an agent in the region keeps it alive
	probeKey                 // a probe host keeps it alive
	verdictKey               // servers write it: what became of a write to another key
	recordKey                // servers write it: when a region or service last changed
	ignored                  // servers write it about themselves
)

// address is a key below the prefix, taken apart.
type address struct {
	kind    kind
	service string // "": the region itself
	region  string // a correct name, though perhaps of no configured region
	name    string // of a reporter, agent or probe host
	judges  string // of a verdict: the key
	why     string // why the key is foreign
}

// subject names the region, or the service in a region, that a key speaks of.
func (a address) subject() string {
	if a.service == "" {
		return a.region
	}
	return a.service + "/" + a.region
}

// drainKey returns the key of the drain of what a speaks of.
func (a address) drainKey() string {
	if a.service == "" {
		return "regions/" + a.region + "/drain"
	}
	return "services/" + a.service + "/" + a.region + "/drain"
}

// parseKey takes a key apart. key is what follows the prefix and its slash.
func parseKey(key string) address {
	top, rest, below := strings.Cut(key, "/")
	if !below {
		return address{why: "no such key: below the prefix are regions/, services/ and probes/"}
	}
	parts := strings.Split(rest, "/")
	switch top {
	case "regions":
		return parseInput("", parts)
	case "services":
		if err := regions.CheckName(parts[0]); err != nil {
			return address{why: fmt.Sprintf("%s names no service: %v", printable.Cut(parts[0], maxShown), err)}
		}
		return parseInput(parts[0], parts[1:])
	case "probes":
		if err := checkName(rest); err != nil || len(parts) > 1 {
			return address{why: "no such key: write probes/HOST"}
		}
		return address{kind: probeKey, name: rest}
	case "verdicts":
		return address{kind: verdictKey, judges: rest}
	case "transitions":
		service, region, more := strings.Cut(rest, "/")
		if !more {
			service, region = "", rest
		}
		if regions.CheckName(region) != nil || more && regions.CheckName(service) != nil {
			return address{kind: ignored} // nobody asks for it
		}
		return address{kind: recordKey, service: service, region: region}
	case "servers", "alive":
		return address{kind: ignored}
	}
	return address{why: "no such key: below the prefix are regions/, services/ and probes/"}
}

// parseInput takes apart what follows regions/ or services/SERVICE/.
func parseInput(service string, parts []string) address {
	if len(parts) < 2 {
		return address{why: "no such key: inputs are regions/REGION/drain, regions/REGION/health/REPORTER and regions/REGION/heartbeat/AGENT; " +
			"services/SERVICE/REGION has the first two"}
	}
	a, leaf := address{service: service, region: parts[0]}, parts[1:]
	if err := regions.CheckName(a.region); err != nil {
		return address{why: fmt.Sprintf("%s names no region: %v", printable.Cut(a.region, maxShown), err)}
	}
	switch {
	case len(leaf) == 1 && leaf[0] == "drain":
		a.kind = drainKey
	case len(leaf) == 2 && leaf[0] == "health":
		a.kind, a.name = voteKey, leaf[1]
	case len(leaf) == 2 && leaf[0] == "heartbeat" && service == "":
		a.kind, a.name = heartbeatKey, leaf[1]
	case service == "":
		return address{why: "no such key: below a region are drain, health/REPORTER and heartbeat/AGENT"}
	default:
		return address{why: "no such key: below a service's region are drain and health/REPORTER"}
	}
	if a.kind != drainKey {
		if err := checkName(a.name); err != nil {
			return address{why: err.Error()}
		}
	}
	return a
}

// checkName keeps names of reporters, agents and probe hosts out that nobody could
// read in a status.
func checkName(name string) error {
	unreadable := func(r rune) bool { return !unicode.IsGraphic(r) }
	if name == "" || len(name) > maxShown || !utf8.ValidString(name) || strings.ContainsFunc(name, unreadable) {
		return fmt.Errorf("a name has 1 to %d octets of readable UTF-8", maxShown)
	}
	return nil
}

// maxJudgedKey is the length of the keys that get verdicts, in octets. The verdict's
// own key is longer.
const maxJudgedKey = 4 << 10

// getsVerdict reports whether a key gets a verdict where its value is not understood.
func getsVerdict(key string) bool {
	top, _, below := strings.Cut(key, "/")
	return below && slices.Contains([]string{"regions", "services", "probes"}, top) && len(key) <= maxJudgedKey
}

// check reports why value is not understood at a.
func (a address) check(value []byte) error {
	var err error
	switch a.kind {
	case drainKey:
		_, err = ParseDrain(value)
	case voteKey:
		_, err = ParseVote(value)
	case foreign:
		err = errors.New(a.why)
	}
	return err
}

// hasValue reports whether the value matters: of the others, existence alone counts.
func (a address) hasValue() bool { return a.kind == drainKey || a.kind == voteKey }

// kept returns what is kept of a value that is understood.
func (a address) kept(value []byte) string {
	if a.hasValue() {
		return string(bytes.TrimSpace(value))
	}
	return ""
}
