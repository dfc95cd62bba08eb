package healthsync

import (
	"encoding/json"
)

// duty is a record that is missing in etcd, or wrong there. Any server may write it;
// the first one does.
type duty struct {
	key   string // below the prefix: of a verdict or a transition
	value []byte // nil: it is to be removed
	mod   int64  // the revision that the record has now; 0: there is none

	// judges is the key that a verdict speaks of, with the revision that it has; 0:
	// it is deleted.
	judges   string
	revision int64

	urgent  bool // clients depend on it
	patient bool // servers that know more can do it better: this one waits
}

// look makes the duty that may follow from a key be looked at again.
func (l *ledger) look(key string) {
	switch a := parseKey(key); a.kind {
	case recordKey:
		l.open[0][key] = true
	case drainKey:
		l.open[0]["verdicts/"+key] = true
		l.open[0]["transitions/"+a.subject()] = true // which waits for it
	default:
		l.open[1]["verdicts/"+key] = true
	}
}

// due returns what is to be written: all that is urgent, and some others.
func (l *ledger) due(others int) (list []duty) {
	for i, open := range l.open {
		for key := range open {
			if i > 0 {
				if others <= 0 {
					return list
				}
				others--
			}
			if d, undone := l.duty(key); undone {
				d.urgent = i == 0
				list = append(list, d)
			} else {
				delete(open, key)
			}
		}
	}
	return list
}

// duty returns what is to be done about a record.
func (l *ledger) duty(key string) (duty, bool) {
	a := parseKey(key)
	if a.kind == verdictKey {
		return l.verdictDuty(key, a.judges)
	}
	r := l.records[a.subject()]
	d := duty{key: key, mod: r.mod}
	if r.recorded || !l.knows(a) || len(l.waiting) > 0 { // those who know more are better judges
		return duty{}, false
	}
	drain := a.drainKey()
	if _, first := l.verdictDuty("verdicts/"+drain, drain); first { // until then others may see another status
		return duty{}, false
	}
	if !r.known { // rubbish, and nothing to write in its place
		return d, r.mod != 0
	}
	var err error
	d.value, err = json.Marshal(recordOf(r.Record))
	return d, err == nil // a clock beyond the year 9999 cannot be written
}

// verdictDuty returns what is to be done about the verdict on a key.
func (l *ledger) verdictDuty(key, on string) (duty, bool) {
	e, there := l.entries[on]
	n := l.notes[on]
	d := duty{key: key, mod: n.mod, judges: on}
	if l.waiting[on].key != "" {
		return duty{}, false
	}
	if there && !e.held {
		d.revision = e.revision
	}
	v := Verdict{Revision: e.revision, Accepted: e.why == "", Why: e.why, Server: l.server}
	if e.good {
		v.Effective = &e.value
	}
	switch known := l.knows(e.address); {
	case !there && n.mod == 0:
		return duty{}, false
	case !there || !getsVerdict(on):
		return d, n.mod != 0
	case e.held:
		if n.holds() && *n.Effective == e.value {
			return duty{}, false
		}
		v.Held, v.Accepted, v.Why = true, false, "deleted together with all other drains: it stays in force until it is written again or `nearside state accept`"
	case !known:
		if n.on(e.revision) {
			return duty{}, false
		}
		d.patient, v.Unknown, v.Accepted, v.Effective = true, true, false, nil
		v.Why = l.unknown(e)
	case e.kind == drainKey || e.why != "":
		if n.on(e.revision) && !n.Unknown {
			return duty{}, false
		}
	default: // understood, and no drain: it needs no verdict
		return d, n.mod != 0 && !n.on(e.revision)
	}
	var err error
	d.value, err = json.Marshal(v)
	return d, err == nil
}
