package healthsync

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"nearside/journal"
	"nearside/printable"
	"nearside/regions"
)

// judge says what becomes of a write. old is what was in force before. A verdict of
// the servers decides; else what is not understood, and what the guard refuses,
// leaves it in force.
func (l *ledger) judge(w write, old entry, now time.Time) entry {
	e := entry{address: parseKey(w.key), revision: w.revision}
	known := l.knows(e.address)
	n, err := l.notes[w.key], e.check(w.value)
	switch {
	case known && e.hasValue() && n.binds(w.revision):
		e.good, e.value = n.entry(w.key).good, n.entry(w.key).value
		if !n.Accepted {
			e.why, e.refused = cmp.Or(n.Why, "refused by "+n.Server), err == nil
		}
	case err != nil:
		e.good, e.value, e.why = old.good, old.value, err.Error()
	case known && e.kind == drainKey:
		e.good, e.value, e.why = true, e.kept(w.value), l.guard(e.address, w.value, now)
		if e.refused = e.why != ""; e.refused {
			e.good, e.value = old.good, old.value
		}
	default:
		e.good, e.value = true, e.kept(w.value)
	}
	e.judged = known
	if e.why != "" {
		e.rejected = shown(w.value)
	}
	return e
}

// guard says why the guard refuses a drain, or "".
func (l *ledger) guard(a address, value []byte, now time.Time) string {
	i, _ := l.index(a)
	d, _ := ParseDrain(value)
	var names []regions.Steered
	if l.steered != nil {
		names = l.steered()
	}
	return l.table.Judge(l.inputs, l.table.Key(i), d, names, now)
}

// entry returns what a verdict leaves in force at a key.
func (n note) entry(key string) entry {
	e := entry{address: parseKey(key), revision: n.Revision, judged: true, held: n.Held}
	if n.Effective != nil {
		e.good, e.value = true, e.kept([]byte(*n.Effective))
	}
	return e
}

// tells reports whether the verdict says what was in force when a write came.
func (n note) tells(w write) bool {
	return n.mod > 0 && !n.rubbish && !n.Unknown && !n.Held && n.Revision >= w.created && n.Revision < w.revision
}

// note enters what etcd says of a verdict on a key.
func (l *ledger) note(key string, w write, now time.Time) {
	l.look(key)
	if w.deleted {
		delete(l.notes, key)
		return
	}
	n := readNote(w, parseKey(key))
	l.notes[key] = n
	e, there := l.entries[key]
	switch waits := l.waiting[key]; {
	case waits.key != "":
		if n.binds(waits.revision) {
			l.put(waits.write, entry{}, now)
		}
	case n.holds():
		l.keep(key, n)
	case there && n.binds(e.revision):
		l.adopt(key, n)
	}
}

// adopt makes a verdict of the servers replace our own judgement.
func (l *ledger) adopt(key string, n note) {
	e := l.entries[key]
	ruled := n.entry(key)
	if e.held || !e.hasValue() || !l.knows(e.address) || e.good == ruled.good && e.value == ruled.value && (e.why == "") == n.Accepted {
		return
	}
	ruled.rejected, ruled.why = "", ""
	if !n.Accepted {
		ruled.why, ruled.refused, ruled.rejected = cmp.Or(n.Why, "refused by "+n.Server), e.why == "" || e.refused, e.shown()
	}
	l.enter(key, ruled)
	if e.kind == drainKey {
		l.unsee(e.subject())
	}
	l.tellOf(key, ruled, n.Server)
}

// hold brings lost drains back as held ones if there were two or more and none is
// left that etcd still has.
func (l *ledger) hold(lost map[string]entry, now time.Time) {
	gone := len(lost) < 2
	for _, e := range l.entries {
		gone = gone || !e.held && l.inForce(e, now)
	}
	for _, key := range slices.Sorted(maps.Keys(lost)) {
		e := lost[key]
		if gone {
			l.tellGone(key, e.revision)
			continue
		}
		e.held, e.why, e.refused, e.rejected = true, "", false, ""
		l.enter(key, e)
		l.look(key)
		l.tellOf(key, e, "")
	}
}

// keep enters a drain that the servers hold. The newest deletion counts, where some
// have seen more of them than others.
func (l *ledger) keep(key string, n note) {
	e, there := l.entries[key]
	if there && (!e.held || e.revision > n.Revision) {
		return
	}
	l.enter(key, n.entry(key))
	if !there {
		l.tellOf(key, l.entries[key], n.Server)
	}
}

// free enters the deletion of a verdict that holds a drain, which lets it go. But
// whoever deletes all of them at once knows as little of it as the first time.
func (l *ledger) free(w write, all bool, now time.Time) {
	key := parseKey(w.key).judges
	l.note(key, w, now)
	if e := l.entries[key]; e.held && !all {
		l.erase(key)
		l.tell(journal.Entry{Key: key, Revision: w.revision, Deleted: true, Verdict: journal.Released})
	}
}

// release lets go of the held drains and reports whether there were any. Their
// verdicts are due to be removed, and so the other servers let go, too.
func (l *ledger) release() bool {
	any := false
	for key, e := range l.entries {
		if !e.held {
			continue
		}
		any = true
		n := l.notes[key]
		n.released = true
		l.notes[key] = n
		l.erase(key)
		l.look(key)
		l.tell(journal.Entry{Key: key, Revision: e.revision, Deleted: true, Verdict: journal.Released, Why: "`nearside state accept` on this server"})
	}
	return any
}

// held returns the regions and services whose drains are held, sorted.
func (l *ledger) held() []string {
	names := []string{}
	for _, e := range l.entries {
		if e.held && l.knows(e.address) {
			names = append(names, e.subject())
		}
	}
	slices.Sort(names)
	return names
}

// inForce reports whether e sends clients away now, or will.
func (l *ledger) inForce(e entry, now time.Time) bool {
	if e.kind != drainKey || !e.good || !l.knows(e.address) {
		return false
	}
	d, _ := ParseDrain([]byte(e.value))
	return d.Percent > 0 && (d.Until.IsZero() || now.Before(d.Until))
}

// rejection returns the entry of a key as Status shows it, if its newest write is
// not in force.
func (l *ledger) rejection(key string) (Rejected, bool) {
	e, there := l.entries[key]
	why := e.why
	if there {
		why = cmp.Or(l.unknown(e), why)
	}
	if why == "" {
		return Rejected{}, false
	}
	return Rejected{Key: printable.Cut(key, maxShown), Value: e.shown(), Why: why, Revision: e.revision, Effective: l.effective(e), Refused: e.refused}, true
}

// unknown says what this server does not know of an entry's key; "" if it knows it.
func (l *ledger) unknown(e entry) string {
	if l.knows(e.address) {
		return ""
	}
	if e.kind == foreign {
		return e.why
	}
	if _, known := l.table.Named(e.region); !known {
		return "unknown region: the configuration has " + strings.Join(l.table.Names(l.table.All()), ", ")
	}
	var names []string
	for id := 1; id < l.table.Services(); id++ {
		names = append(names, l.table.Service(regions.ServiceID(id)).Name)
	}
	return "unknown service: the configuration has " + cmp.Or(strings.Join(names, ", "), "none")
}

// rejections returns the first MaxRejected keys in order whose newest write is not
// in force, and the number of all of them.
func (l *ledger) rejections() (list []Rejected, count int) {
	list = []Rejected{}
	var keys []string
	for key := range l.entries {
		if _, rejected := l.rejection(key); rejected {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys[:min(len(keys), MaxRejected)] {
		r, _ := l.rejection(key)
		list = append(list, r)
	}
	return list, len(keys)
}

// shown returns the newest write for people.
func (e entry) shown() string {
	if e.why != "" {
		return e.rejected
	}
	return printable.Cut(e.value, maxShown)
}

// shown returns a value for people.
func shown(value []byte) string {
	return printable.Cut(string(value[:min(len(value), 2*maxShown)]), maxShown)
}

// effective says in a word what is in force at a key.
func (l *ledger) effective(e entry) string {
	if !l.knows(e.address) || !e.good {
		return "none"
	}
	switch e.kind {
	case drainKey:
		switch drain, _ := ParseDrain([]byte(e.value)); drain.Percent {
		case 0:
			return "not drained"
		case 100:
			return "drained"
		default:
			return printable.Cut(e.value, maxShown)
		}
	case voteKey:
		if vote, _ := ParseVote([]byte(e.value)); vote.Down {
			return "down"
		}
		return "up"
	}
	return "alive"
}
