package healthsync

import (
	"maps"
	"slices"
	"time"

	"nearside/regions"
)

// savedVerdict is one verdict as it lies in etcd.
type savedVerdict struct {
	Key string `json:"key"` // that it judges
	Mod int64  `json:"mod"` // its own revision
	Verdict
	Rubbish  bool `json:"rubbish,omitempty"`
	Released bool `json:"released,omitempty"`
}

// savedTransition is the record of a region, or of a service in one.
type savedTransition struct {
	Subject string `json:"subject"`
	recordValue
	Mod      int64 `json:"mod,omitempty"`      // the revision of its key; 0: there is none
	Recorded bool  `json:"recorded,omitempty"` // the key says the same
}

// save returns the ledger as the state file keeps it: every key with a value in
// force, and of the others as many as Status lists; their verdicts; all records.
func (l *ledger) save() saved {
	v := saved{Keys: make([]savedKey, 0, len(l.entries))}
	spare, left := MaxRejected, make(map[string]bool)
	for _, key := range slices.Sorted(maps.Keys(l.entries)) {
		e := l.entries[key]
		if !e.good {
			if spare--; spare < 0 {
				left[key] = true
				continue
			}
		}
		k := savedKey{Key: key, Revision: e.revision, Held: e.held, Why: e.why, Refused: e.refused, Rejected: e.rejected, Unjudged: !e.judged}
		if e.good {
			k.Value = &e.value
		}
		v.Keys = append(v.Keys, k)
	}
	for _, key := range slices.Sorted(maps.Keys(l.notes)) {
		if n := l.notes[key]; !left[key] {
			v.Verdicts = append(v.Verdicts, savedVerdict{Key: key, Mod: n.mod, Verdict: n.Verdict, Rubbish: n.rubbish, Released: n.released})
		}
	}
	for _, subject := range slices.Sorted(maps.Keys(l.records)) {
		if r := l.records[subject]; r.known {
			v.Transitions = append(v.Transitions, savedTransition{subject, recordOf(r.Record), r.mod, r.recorded})
		}
	}
	return v
}

// load enters what was saved, and was confirmed then. Values are judged anew: the
// version that wrote them may have understood others.
func (l *ledger) load(v saved, confirmed time.Time) {
	for _, k := range v.Keys {
		e := entry{address: parseKey(k.Key), revision: k.Revision, judged: !k.Unjudged, held: k.Held, why: k.Why, refused: k.Refused, rejected: k.Rejected}
		if e.kind == ignored || e.kind == verdictKey || e.kind == recordKey {
			continue
		}
		if k.Value != nil {
			if err := e.check([]byte(*k.Value)); err == nil {
				e.good, e.value = true, e.kept([]byte(*k.Value))
			} else if e.why == "" {
				e.why, e.rejected = err.Error(), shown([]byte(*k.Value))
			}
		}
		e.held = e.held && e.good && e.kind == drainKey
		l.enter(k.Key, e)
		l.look(k.Key)
	}
	for _, n := range v.Verdicts {
		l.notes[n.Key] = note{Verdict: n.Verdict, mod: n.Mod, rubbish: n.Rubbish, released: n.Released}
		l.look(n.Key)
	}
	for _, t := range v.Transitions {
		r, err := t.record()
		if a := parseKey("transitions/" + t.Subject); err == nil && a.kind == recordKey {
			l.setRecord(t.Subject, record{Record: r, known: true, mod: t.Mod, recorded: t.Recorded})
			l.look("transitions/" + t.Subject)
		}
	}
	for _, region := range v.Down {
		if a := parseKey("transitions/" + region); a.kind == recordKey {
			l.setRecord(region, record{Record: regions.Record{To: regions.Down, Since: confirmed}, known: true})
			l.look("transitions/" + region)
		}
	}
}
