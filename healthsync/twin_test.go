package healthsync

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"nearside/regions"
)

// plain is a ledger for those who have seen every write: what is in force at each
// key, and nothing else. It is slow and obvious.
type plain struct {
	table *regions.Table
	force map[string]string // by key
	held  map[string]bool   // keys of drains that etcd has no more
}

// inputs says what follows from the values in force.
func (p *plain) inputs() regions.Inputs {
	in := p.table.NewInputs()
	in.Probes = make(map[string]bool)
	for key, value := range p.force {
		part := strings.Split(key, "/")
		if part[0] == "probes" {
			in.Probes[part[1]] = true
			continue
		}
		subject := p.subject(&in, part)
		if subject == nil {
			continue
		}
		switch name := part[len(part)-1]; {
		case name == "drain":
			subject.Drain, _ = ParseDrain([]byte(value))
		case part[len(part)-2] == "heartbeat":
			subject.Heartbeats++
		default:
			if subject.Votes == nil {
				subject.Votes = make(map[string]regions.Vote)
			}
			subject.Votes[name], _ = ParseVote([]byte(value))
		}
	}
	return in
}

// subject returns what a key of regions/ or services/ speaks of; nil: of nothing that
// there is.
func (p *plain) subject(in *regions.Inputs, part []string) *regions.Subject {
	k := regions.Key{}
	known := true
	if part[0] == "services" {
		k.Service, known = p.table.ServiceNamed(part[1])
		part = part[1:]
	}
	id, is := p.table.Named(part[1])
	if k.Region = id; !known || !is || part[2] == "heartbeat" && k.Service != regions.Anyone {
		return nil
	}
	return &in.Subjects[p.table.Index(k)]
}

// out is how much a key takes out now, or will, if it has a value.
func (p *plain) out(key, value string, now time.Time) int {
	in := p.table.NewInputs()
	if part := strings.Split(key, "/"); part[len(part)-1] != "drain" || p.subject(&in, part) == nil {
		return 0
	}
	d, err := ParseDrain([]byte(value))
	if err != nil || !d.Until.IsZero() && !now.Before(d.Until) {
		return 0
	}
	return d.Percent
}

// write is one revision: first what takes the least out.
func (p *plain) write(writes []write, now time.Time) {
	percent := func(w write) int {
		d, _ := ParseDrain(w.value)
		if w.deleted || !strings.HasSuffix(w.key, "/drain") {
			return 0
		}
		return d.Percent
	}
	slices.SortFunc(writes, func(a, b write) int {
		if percent(a) != percent(b) {
			return percent(a) - percent(b)
		}
		return strings.Compare(a.key, b.key)
	})
	lost := make(map[string]string)
	for _, w := range writes {
		old, good := p.force[w.key]
		if !w.deleted {
			delete(p.held, w.key)
			if p.understood(w) && !p.refused(w, now) {
				p.force[w.key] = string(w.value)
			}
			continue
		}
		if good && p.out(w.key, old, now) > 0 {
			lost[w.key] = old
		}
		delete(p.force, w.key)
	}
	for key, value := range p.force {
		if !p.held[key] && p.out(key, value, now) > 0 {
			return
		}
	}
	if len(lost) > 1 {
		maps.Copy(p.force, lost)
		for key := range lost {
			p.held[key] = true
		}
	}
}

func (p *plain) understood(w write) bool {
	var err error
	if strings.HasSuffix(w.key, "/drain") {
		_, err = ParseDrain(w.value)
	} else if strings.Contains(w.key, "/health/") {
		_, err = ParseVote(w.value)
	}
	return err == nil
}

// refused asks the guard.
func (p *plain) refused(w write, now time.Time) bool {
	in := p.inputs()
	subject := p.subject(&in, strings.Split(w.key, "/"))
	if !strings.HasSuffix(w.key, "/drain") || subject == nil {
		return false
	}
	d, _ := ParseDrain(w.value)
	for i := range in.Subjects {
		if &in.Subjects[i] == subject {
			return p.table.Judge(in, p.table.Key(i), d, nil, now) != ""
		}
	}
	return false
}

// Whatever is written, what is in force on servers that see every write is what it is
// for the twin, however many they hear of at once.
func TestLedgerTwin(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 8))
		w := newWorld(t, guarded(t), 2)
		p := &plain{table: w.table, force: map[string]string{"regions/ap/heartbeat/a": ""}, held: make(map[string]bool)}
		for range 60 {
			heard := len(w.history)
			for range 1 + r.IntN(3) {
				randomTransaction(w, r)
			}
			for _, writes := range w.history[heard:] {
				p.write(slices.Clone(writes), w.now)
			}
			w.hear(w.servers[0], r.IntN(3))
			w.quiet()
			for _, s := range w.servers {
				if got, want := told(s.share()), told(p.inputs()); got != want {
					t.Fatalf("seed %d, revision %d: %s has\n%s\nnot\n%s", seed, w.revision, s.name, got, want)
				}
			}
			w.now = w.now.Add(time.Duration(r.IntN(20)) * time.Second)
		}
	}
}

// randomTransaction writes what operators, probes and agents may.
func randomTransaction(w *world, r *rand.Rand) {
	if r.IntN(12) == 0 {
		w.clear([]string{"regions/", "services/", "regions/eu/", "probes/"}[r.IntN(4)])
		return
	}
	var pairs []string
	for range 1 + r.IntN(2) {
		pair := randomWrite(r, w.now)
		if top, _, _ := strings.Cut(pair[0], "/"); top != "verdicts" && top != "transitions" && !slices.Contains(pairs, pair[0]) {
			pairs = append(pairs, pair...)
		}
	}
	w.put(pairs...)
}

// told writes down inputs, but for records.
func told(in regions.Inputs) string {
	var list []string
	for i, s := range in.Subjects {
		list = append(list, fmt.Sprintf("%d: %+v %v %d", i, s.Drain, s.Votes, s.Heartbeats))
	}
	return strings.Join(list, "\n") + fmt.Sprint("\n", in.Probes)
}
