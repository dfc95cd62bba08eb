package dnsserver

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"nearside/geo"
	"nearside/regions"
)

// readTable reads the files of a fixture that configure steering. Lines of regions
// and services, and the one of policy, are
//
//	REGION LATITUDE LONGITUDE [PREFIX | heartbeat | standby]...
//	SERVICE names=NAME,... [regions=REGION,...] [failover] [ttl=N] [exhausted=any|none|REGION]
//	[hold=DURATION] [ramp=DURATION] [ttl=N]
func readTable(t testing.TB, list, services, policy string) *regions.Table {
	t.Helper()
	table, err := regions.New(readRegions(t, list))
	if err != nil {
		t.Fatal(err)
	}
	rules := regions.Policy{MaxOut: 100, TTL: 30}
	for _, word := range strings.Fields(policy) {
		switch option, value, _ := strings.Cut(word, "="); option {
		case "hold":
			rules.Hold = readDuration(t, value)
		case "ramp":
			rules.Ramp = readDuration(t, value)
		case "ttl":
			rules.TTL = uint32(readInt(t, value))
		default:
			t.Fatalf("policy %q", word)
		}
	}
	table, err = table.With(readServices(t, table, services), rules)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func readRegions(t testing.TB, text string) (list []regions.Region) {
	t.Helper()
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		lat, err1 := strconv.ParseFloat(f[1], 64)
		lon, err2 := strconv.ParseFloat(f[2], 64)
		if err1 != nil || err2 != nil {
			t.Fatalf("region %q", line)
		}
		r := regions.Region{Name: f[0], Location: geo.Point{Latitude: lat, Longitude: lon}, Weight: 100}
		for _, word := range f[3:] {
			switch word {
			case "heartbeat":
				r.Heartbeat = true
			case "standby":
				r.Standby = true
			default:
				r.Prefixes = append(r.Prefixes, netip.MustParsePrefix(word))
			}
		}
		list = append(list, r)
	}
	return list
}

func readServices(t testing.TB, table *regions.Table, text string) (list []regions.Service) {
	t.Helper()
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		s := regions.Service{Name: f[0]}
		for _, word := range f[1:] {
			switch option, value, _ := strings.Cut(word, "="); option {
			case "names":
				s.Names = strings.Split(value, ",")
			case "regions":
				for name := range strings.SplitSeq(value, ",") {
					s.Regions = append(s.Regions, named(t, table, name))
				}
			case "failover":
				s.Failover = true
			case "ttl":
				s.TTL = uint32(readInt(t, value))
			case "exhausted":
				s.OnExhausted = readExhausted(t, table, value)
			default:
				t.Fatalf("service %q", line)
			}
		}
		list = append(list, s)
	}
	return list
}

func readExhausted(t testing.TB, table *regions.Table, word string) regions.Exhausted {
	switch word {
	case "any":
		return regions.Exhausted{}
	case "none":
		return regions.Exhausted{Kind: regions.NoRegion}
	}
	return regions.Exhausted{Kind: regions.OneRegion, Region: named(t, table, word)}
}

func named(t testing.TB, table *regions.Table, name string) regions.ID {
	t.Helper()
	id, ok := table.Named(name)
	if !ok {
		t.Fatalf("no region %s", name)
	}
	return id
}

func readInt(t testing.TB, word string) int {
	t.Helper()
	n, err := strconv.Atoi(word)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func readDuration(t testing.TB, word string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(word)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// health is the inputs of a fixture, and the state that follows from them. Time
// stands still but for "> wait".
type health struct {
	table  *regions.Table
	inputs regions.Inputs
	now    time.Time
	state  *regions.State
}

func newHealth(t testing.TB, table *regions.Table) *health {
	t.Helper()
	h := &health{table: table, now: time.Unix(1e9, 0)}
	h.restore()
	h.evaluate()
	return h
}

// restore makes everything as well as it can be, with no memory of other times.
func (h *health) restore() {
	h.inputs = h.table.NewInputs()
	for id := range h.table.All().All() {
		if h.table.Region(id).Heartbeat {
			h.inputs.Subjects[id].Heartbeats = 1
		}
	}
}

// evaluate makes the state, and records what is due as servers would.
func (h *health) evaluate() {
	for {
		h.state = h.table.Evaluate(h.inputs, regions.Clock{Now: h.now, Back: h.now})
		if len(h.state.Due) == 0 {
			return
		}
		for _, due := range h.state.Due {
			h.inputs.Subjects[h.table.Index(due.Key)].Record = due.Record
		}
	}
}

// change takes one of the lines
//
//	> drain KEY... [N%] [at=DURATION] [until=DURATION] | undrain KEY...
//	> down KEY... | up KEY... | silent REGION... | alive REGION... | restore
//	> force drain REGION... | force up REGION...
//	> wait DURATION
//
// where KEY is REGION or SERVICE/REGION, and at and until are counted from now.
// It returns false for another line.
func (h *health) change(t testing.TB, words []string) bool {
	t.Helper()
	switch words[0] {
	case "wait":
		h.wait(readDuration(t, words[1]))
		return true
	case "restore":
		h.restore()
	case "force":
		for _, name := range words[2:] {
			if set := regions.SetOf(named(t, h.table, name)); words[1] == "drain" {
				h.inputs.ForcedDrain |= set
			} else {
				h.inputs.ForcedUp |= set
			}
		}
	case "drain", "undrain", "down", "up", "silent", "alive":
		h.changeSubjects(t, words)
	default:
		return false
	}
	h.evaluate()
	return true
}

// wait lets time pass, and nothing that happens meanwhile is missed.
func (h *health) wait(d time.Duration) {
	for end := h.now.Add(d); h.now.Before(end); {
		next := h.state.Next
		if next.IsZero() || next.After(end) {
			next = end
		}
		h.now = next
		h.evaluate()
	}
}

// changeSubjects changes what is known of some keys.
func (h *health) changeSubjects(t testing.TB, words []string) {
	t.Helper()
	drain := regions.Drain{Percent: 100}
	keys := slices.DeleteFunc(slices.Clone(words[1:]), func(word string) bool {
		percent, isShare := strings.CutSuffix(word, "%")
		option, value, isOption := strings.Cut(word, "=")
		switch {
		case isShare:
			drain.Percent = readInt(t, percent)
		case isOption && option == "at":
			drain.At = h.now.Add(readDuration(t, value))
		case isOption && option == "until":
			drain.Until = h.now.Add(readDuration(t, value))
		default:
			return false
		}
		return true
	})
	for _, key := range keys {
		subject := &h.inputs.Subjects[h.table.Index(h.key(t, key))]
		switch words[0] {
		case "drain":
			subject.Drain = drain
		case "undrain":
			subject.Drain = regions.Drain{}
		case "down", "up":
			subject.Votes = map[string]regions.Vote{"test": {Down: words[0] == "down"}}
		case "silent":
			subject.Heartbeats = 0
		case "alive":
			subject.Heartbeats = 1
		}
	}
}

// key reads REGION or SERVICE/REGION.
func (h *health) key(t testing.TB, text string) regions.Key {
	t.Helper()
	service, region, isPair := strings.Cut(text, "/")
	if !isPair {
		return regions.Key{Region: named(t, h.table, text)}
	}
	id, ok := h.table.ServiceNamed(service)
	if !ok {
		t.Fatalf("no service %s", service)
	}
	return regions.Key{Service: id, Region: named(t, h.table, region)}
}
