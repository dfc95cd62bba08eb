package healthsync

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"nearside/printable"
	"nearside/regions"
)

// ledger is what etcd holds below the prefix, as far as it is understood. It is
// pure: writes go in, regions.Inputs come out. What is not understood changes
// nothing: the key's last good value stays in force.
type ledger struct {
	table   *regions.Table
	entries map[string]entry // by key below the prefix

	// inputs follows from entries. Votes of the regions in shared are also in
	// inputs that were handed out: they are copied BEFORE a change.
	inputs regions.Inputs
	shared regions.Set
}

// entry is one key.
type entry struct {
	address
	good     bool   // there is a value in force
	value    string // the last one that was understood, without space around it
	revision int64  // of the newest write, understood or not
	held     bool   // a drain that is deleted in etcd and stays in force all the same

	why      string // why the newest write is not understood; "" if it is
	rejected string // that write, for people
}

// write is one key at one revision of etcd.
type write struct {
	key      string // below the prefix
	value    []byte
	deleted  bool
	revision int64 // of this write
	created  int64 // the revision since which the key has existed

	// past, where known, is what was in force when this write came.
	past *entry
}

func newLedger(table *regions.Table) *ledger {
	return &ledger{table: table, entries: make(map[string]entry), inputs: table.NewInputs()}
}

// transact applies the writes of one revision: they happened together.
//
// Where they delete two or more drains in force and leave none (`etcdctl del
// --prefix`), those drains are held: they stay in force until written again or
// released. It returns them.
func (l *ledger) transact(writes []write) (held []string) {
	var lost []string
	before := make(map[string]entry)
	for _, w := range writes {
		old := l.entries[w.key]
		switch {
		case !w.deleted:
			l.put(w, old)
		case !old.held: // a held drain was deleted before
			if l.inForce(old) {
				lost, before[w.key] = append(lost, w.key), old
			}
			l.erase(w.key)
		}
	}
	return l.hold(lost, before)
}

// replace returns the ledger of a complete list, which was read at one revision
// and comes after l: a key that is not in it was deleted.
func (l *ledger) replace(list []write) (next *ledger, held []string) {
	next = newLedger(l.table)
	for _, w := range list {
		old := l.entries[w.key]
		if old.revision < w.created && !old.held {
			old = entry{} // another life of the key
		}
		next.put(w, old)
	}
	var lost []string
	for key, old := range l.entries {
		if _, there := next.entries[key]; there {
			continue
		}
		if old.held {
			next.enter(key, old)
		} else if l.inForce(old) {
			lost = append(lost, key)
		}
	}
	slices.Sort(lost)
	return next, next.hold(lost, l.entries)
}

// put judges a write. old is what the key was before.
func (l *ledger) put(w write, old entry) {
	e := entry{address: parseKey(w.key), revision: w.revision}
	if e.kind == ignored {
		return
	}
	if err := e.check(w.value); err == nil {
		e.good, e.value = true, string(bytes.TrimSpace(w.value))
	} else {
		if w.past != nil {
			old = *w.past
		}
		e.good, e.value = old.good, old.value
		e.why, e.rejected = err.Error(), printable.Cut(string(w.value[:min(len(w.value), 2*maxShown)]), maxShown)
	}
	l.enter(w.key, e)
}

// hold brings the lost drains back as held ones if there were two or more and
// none is left. before has their entries.
func (l *ledger) hold(lost []string, before map[string]entry) []string {
	if len(lost) < 2 || l.anyDrain() {
		return nil
	}
	var names []string
	for _, key := range lost {
		e := before[key]
		e.held, e.why, e.rejected = true, "", ""
		l.enter(key, e)
		names = append(names, e.region)
	}
	return names
}

// release lets go of the held drains and reports whether there were any.
func (l *ledger) release() bool {
	held := l.held()
	for _, name := range held {
		l.erase("regions/" + name + "/drain")
	}
	return len(held) > 0
}

// held returns the regions whose drains are held, sorted.
func (l *ledger) held() []string {
	var names []string
	for _, e := range l.drains() {
		if e.held {
			names = append(names, e.region)
		}
	}
	slices.Sort(names)
	return names
}

// anyDrain reports whether a drain is in force that etcd still has.
func (l *ledger) anyDrain() bool {
	return slices.ContainsFunc(l.drains(), func(e entry) bool { return !e.held && l.inForce(e) })
}

// drains returns the drain keys of the configured regions.
func (l *ledger) drains() []entry {
	var list []entry
	for id := range l.table.All().All() {
		if e, there := l.entries["regions/"+l.table.Name(id)+"/drain"]; there {
			list = append(list, e)
		}
	}
	return list
}

// inForce reports whether e drains a configured region.
func (l *ledger) inForce(e entry) bool {
	id, known := l.table.Named(e.region)
	return e.kind == drainKey && e.good && known && l.inputs.Subjects[id].Drain.Percent > 0
}

// enter sets the entry of a key, and the input that follows from it.
func (l *ledger) enter(key string, e entry) {
	l.entries[key] = e
	id, known := l.table.Named(e.region)
	if !known {
		return // kept all the same: the region may be configured again
	}
	switch e.kind {
	case drainKey:
		l.inputs.Subjects[id].Drain = regions.Drain{}
		if e.good {
			l.inputs.Subjects[id].Drain, _ = ParseDrain([]byte(e.value))
		}
	case voteKey:
		if e.good {
			vote, _ := ParseVote([]byte(e.value))
			l.votes(id)[e.reporter] = vote
		}
	}
}

// erase forgets a key.
func (l *ledger) erase(key string) {
	e := l.entries[key]
	delete(l.entries, key)
	id, known := l.table.Named(e.region)
	if !known {
		return
	}
	switch e.kind {
	case drainKey:
		l.inputs.Subjects[id].Drain = regions.Drain{}
	case voteKey:
		delete(l.votes(id), e.reporter)
	}
}

// votes returns the votes on a region for writing.
func (l *ledger) votes(id regions.ID) map[string]regions.Vote {
	if l.shared.Has(id) || l.inputs.Subjects[id].Votes == nil {
		votes := make(map[string]regions.Vote, len(l.inputs.Subjects[id].Votes)+1)
		maps.Copy(votes, l.inputs.Subjects[id].Votes)
		l.inputs.Subjects[id].Votes = votes
		l.shared &^= regions.SetOf(id)
	}
	return l.inputs.Subjects[id].Votes
}

// share returns the inputs for good: the ledger will not change them any more.
func (l *ledger) share() regions.Inputs {
	l.shared = l.table.All()
	return regions.Inputs{Subjects: slices.Clone(l.inputs.Subjects)}
}

// rejection returns the entry of a key as Status shows it, if it is rejected.
func (l *ledger) rejection(key string) (Rejected, bool) {
	e, there := l.entries[key]
	why := e.why
	if _, known := l.table.Named(e.region); there && !known && e.kind != foreign {
		why = "unknown region: the configuration has " + strings.Join(l.table.Names(l.table.All()), ", ")
	}
	if why == "" {
		return Rejected{}, false
	}
	return Rejected{Key: printable.Cut(key, maxShown), Value: e.shown(), Why: why, Revision: e.revision, Effective: l.effective(e)}, true
}

// rejections returns the first MaxRejected rejected keys in order, and the
// number of all of them.
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

// effective says in a word what is in force at a key.
func (l *ledger) effective(e entry) string {
	if _, known := l.table.Named(e.region); !known || !e.good {
		return "none"
	}
	switch e.kind {
	case drainKey:
		if drain, _ := ParseDrain([]byte(e.value)); drain.Percent > 0 {
			return "drained"
		}
		return "not drained"
	default:
		if vote, _ := ParseVote([]byte(e.value)); vote.Down {
			return "down"
		}
		return "up"
	}
}
