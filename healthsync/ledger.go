package healthsync

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"nearside/journal"
	"nearside/regions"
)

// ledger is what etcd holds below the prefix, as far as it is understood, and what
// this server makes of it. It is pure: writes go in; regions.Inputs come out, and
// duties: what the servers should record. What is not understood, and what the guard
// refuses, changes nothing: the key's last good value stays in force.
type ledger struct {
	table   *regions.Table
	server  string                   // the name of this judge in verdicts
	steered func() []regions.Steered // names for the guard; nil: none

	entries map[string]entry   // inputs, by key below the prefix
	waiting map[string]waiting // writes whose judging is left to others for a while
	next    time.Time          // when the first of them may be judged here; zero: never
	notes   map[string]note    // verdicts in etcd, by the key that they judge
	records map[string]record  // by subject
	open    [2]map[string]bool // keys whose duty may have changed: the urgent ones, the others
	news    news               // what happened, for the log and the journal

	// inputs follows from entries and records. Maps in inputs that were handed out
	// are copied BEFORE a change.
	inputs       regions.Inputs
	sharedVotes  []bool // by Table.Index
	sharedProbes bool
}

// entry is one input.
type entry struct {
	address
	good     bool   // there is a value in force
	value    string // that value, without space around it
	revision int64  // of the newest write, in force or not; of a held drain, of its deletion
	judged   bool   // by the servers or, until they have, by this one
	held     bool   // a drain that is deleted in etcd and stays in force all the same

	why      string // why the newest write is not in force; "" if it is
	refused  bool   // it was understood, but refused
	rejected string // that write, for people
}

// write is one key at one revision of etcd.
type write struct {
	key      string // below the prefix
	value    []byte
	deleted  bool
	revision int64 // of this write
	created  int64 // the revision since which the key has existed

	// past, where known, is what was in force when this write came. A watch, which
	// misses nothing, need not say.
	past    *entry
	follows bool // the write to the key before this one is in the list, too
}

// waiting is a write that only those can judge who know what was in force before.
type waiting struct {
	write
	until time.Time // they have judged by then, or nobody will
}

// courtesy is how long a judging is left to those who can do it better.
const courtesy = 5 * time.Second

func newLedger(table *regions.Table, server string, steered func() []regions.Steered) *ledger {
	l := &ledger{
		table: table, server: server, steered: steered,
		entries: make(map[string]entry), waiting: make(map[string]waiting),
		notes: make(map[string]note), records: make(map[string]record),
		open:   [2]map[string]bool{make(map[string]bool), make(map[string]bool)},
		inputs: table.NewInputs(),
	}
	l.inputs.Probes = make(map[string]bool)
	l.sharedVotes = make([]bool, len(l.inputs.Subjects))
	return l
}

// transact applies the writes of one revision: they happened together.
//
// Where they delete two or more drains in force and leave none (`etcdctl del
// --prefix`), those drains are held: they stay in force until written again or
// released.
func (l *ledger) transact(writes []write, now time.Time) {
	slices.SortFunc(writes, inOrder)
	lost := make(map[string]entry)
	var freed []write // verdicts that held a drain, and were deleted
	for _, w := range writes {
		switch a := parseKey(w.key); {
		case a.kind == ignored:
		case a.kind == recordKey:
			l.record(a, w)
		case a.kind == verdictKey && w.deleted && l.notes[a.judges].holds():
			freed = append(freed, w)
		case a.kind == verdictKey:
			l.note(a.judges, w, now)
		case w.deleted:
			old := l.entries[w.key]
			if old.held { // it was deleted before
				continue
			}
			l.remove(w)
			if old.revision = w.revision; l.inForce(old, now) {
				lost[w.key] = old
				continue
			}
			l.tellGone(w.key, w.revision)
		case l.waiting[w.key].key != "" && l.needsPast(w):
			l.await(w, l.waiting[w.key].until)
		default:
			l.put(w, l.entries[w.key], now)
		}
	}
	for _, w := range freed {
		l.free(w, len(freed) > 1, now)
	}
	l.hold(lost, now)
}

// inOrder is the order in which writes are judged: that of revisions, and within
// one what takes the least out comes first.
func inOrder(a, b write) int {
	if a.revision != b.revision {
		return cmp.Compare(a.revision, b.revision)
	}
	return cmp.Or(cmp.Compare(a.weight(), b.weight()), cmp.Compare(a.key, b.key))
}

func (w write) weight() int {
	if w.deleted || parseKey(w.key).kind != drainKey {
		return 0
	}
	d, _ := ParseDrain(w.value)
	return d.Percent
}

// replace returns the ledger of a complete list, which was read at one revision
// and comes after l, which knows all up to its own revision known: a key that is
// not in the list was deleted.
func (l *ledger) replace(list []write, revision, known int64, now time.Time) *ledger {
	next := newLedger(l.table, l.server, l.steered)
	next.news = l.news
	inputs := next.inherit(l, list)
	slices.SortFunc(inputs, inOrder)
	// What was in force before is so while the writes to other keys are judged.
	for _, w := range inputs {
		before := l.entries[w.key]
		if base, sure := next.base(w, before); sure && w.created < w.revision {
			before = base
		}
		if before.good && !w.follows {
			next.enter(w.key, before)
		}
	}
	for _, w := range inputs {
		next.arrive(w, l.entries[w.key], now)
	}
	survived := slices.ContainsFunc(list, func(w write) bool { return w.revision <= known })
	lost := make(map[string]entry)
	for key, old := range l.entries {
		if _, there := next.entries[key]; there {
			continue
		}
		switch {
		case old.held && l.notes[key].holds() && !next.notes[key].holds(): // let go elsewhere
			next.tell(journal.Entry{Key: key, Revision: revision, Deleted: true, Verdict: journal.Released})
		case old.held:
			next.enter(key, old)
		case l.inForce(old, now) && !next.deliberate(key, l, survived):
			old.revision = revision
			lost[key] = old
		default:
			next.tellGone(key, revision)
		}
		next.look(key)
	}
	next.hold(lost, now)
	for key, n := range next.notes {
		if n.holds() {
			next.keep(key, n)
		}
	}
	return next
}

// inherit takes over notes and records, those of the list where they are newer, and
// returns the inputs of the list.
func (l *ledger) inherit(old *ledger, list []write) (inputs []write) {
	for subject, r := range old.records {
		if r.mod != 0 {
			r.mod, r.recorded, r.before = 0, false, nil // until it is met below
		}
		l.setRecord(subject, r)
		l.look("transitions/" + subject)
	}
	for _, w := range list {
		switch a := parseKey(w.key); a.kind {
		case ignored:
		case recordKey:
			if was := old.records[a.subject()]; was.mod == w.revision {
				l.setRecord(a.subject(), was)
			} else {
				l.record(a, w)
			}
		case verdictKey:
			n := readNote(w, parseKey(a.judges))
			n.released = n.mod == old.notes[a.judges].mod && old.notes[a.judges].released
			l.notes[a.judges] = n
			l.look(a.judges)
		default:
			inputs = append(inputs, w)
		}
	}
	return inputs
}

// deliberate reports whether other servers have seen a drain go, which is not in the
// list, and did not hold it: then it was not deleted together with all others. They
// have recorded that its region returned, or removed the verdict on it while other
// keys survived.
func (l *ledger) deliberate(key string, old *ledger, survived bool) bool {
	n, stays := l.notes[key]
	if stays && n.holds() {
		return false
	}
	subject := parseKey(key).subject()
	is, was := l.records[subject], old.records[subject]
	returned := was.To&regions.Drained != 0 && is.recorded && is.To&regions.Drained == 0
	return returned || survived && !stays && old.notes[key].mod > 0
}

// arrive enters a write of a list. old is what the ledger before had at the key.
func (l *ledger) arrive(w write, old entry, now time.Time) {
	n := l.notes[w.key]
	base, sure := l.base(w, old)
	switch {
	case w.follows:
		l.put(w, l.entries[w.key], now)
	case old.revision == w.revision && !old.held && old.judged && l.knows(old.address):
		l.enter(w.key, old)
		l.look(w.key)
		if n.binds(w.revision) {
			l.adopt(w.key, n)
		}
	case sure || n.binds(w.revision) || !l.needsPast(w):
		l.put(w, base, now)
	default:
		l.await(w, now.Add(courtesy))
	}
}

// base returns what was in force when a write of a list came, and whether that is
// known.
func (l *ledger) base(w write, old entry) (base entry, sure bool) {
	n := l.notes[w.key]
	sameLife := old.good && old.revision >= w.created && old.revision < w.revision
	switch {
	case w.past != nil:
		return *w.past, true
	case old.held:
		return old, true
	case w.created == w.revision:
		return entry{}, true
	case n.tells(w) && (!sameLife || n.Revision > old.revision):
		return n.entry(w.key), true
	case sameLife:
		return old, true
	}
	return entry{}, false
}

// needsPast reports whether it matters to a write what was in force before.
func (l *ledger) needsPast(w write) bool {
	a := parseKey(w.key)
	return l.knows(a) && (a.kind == drainKey || a.check(w.value) != nil)
}

// put enters a write. old is what was in force before.
func (l *ledger) put(w write, old entry, now time.Time) {
	l.proceed(w.key)
	if parseKey(w.key).kind == drainKey {
		l.enter(w.key, old) // which the guard compares it with
	}
	e := l.judge(w, old, now)
	l.enter(w.key, e)
	l.look(w.key)
	judge := ""
	if n := l.notes[w.key]; n.binds(w.revision) {
		judge = n.Server
	}
	l.tellOf(w.key, e, judge)
}

// remove enters a deletion.
func (l *ledger) remove(w write) {
	l.proceed(w.key)
	l.erase(w.key)
	l.look(w.key)
}

// await leaves the judging of a write to others. What was in force stays so: if
// nobody knows what it was, then that which the record tells of.
func (l *ledger) await(w write, until time.Time) {
	l.waiting[w.key] = waiting{w, until}
	l.wake(until)
	a := parseKey(w.key)
	if r := l.records[a.subject()]; a.kind == drainKey && !l.entries[w.key].good && r.To&regions.Drained != 0 {
		l.enter(w.key, entry{address: a, good: true, value: "true"})
	}
}

// proceed ends the waiting for a judgement.
func (l *ledger) proceed(key string) {
	if _, waits := l.waiting[key]; !waits {
		return
	}
	if delete(l.waiting, key); len(l.waiting) == 0 {
		for subject := range l.records {
			l.look("transitions/" + subject) // which waited, too
		}
	}
}

// settle judges what others have not judged in time.
func (l *ledger) settle(now time.Time) {
	if l.next.IsZero() || now.Before(l.next) {
		return
	}
	var late []write
	l.next = time.Time{}
	for _, w := range l.waiting {
		if now.Before(w.until) {
			l.wake(w.until)
		} else {
			late = append(late, w.write)
		}
	}
	slices.SortFunc(late, inOrder)
	for _, w := range late {
		l.put(w, l.entries[w.key], now)
	}
}

// wake makes settle look at what waits at a time.
func (l *ledger) wake(at time.Time) {
	if l.next.IsZero() || at.Before(l.next) {
		l.next = at
	}
}

// record enters what etcd says of a transition. What it does not say any more, or
// not so that it can be read, stays as it is known and is due to be written again.
func (l *ledger) record(a address, w write) {
	r := l.records[a.subject()]
	r.mod, r.recorded, r.before = w.revision, false, nil
	if w.deleted {
		r.mod = 0
	} else if read, err := readRecord(w.value); err == nil {
		r = record{Record: read, known: true, mod: w.revision, recorded: true}
	}
	l.setRecord(a.subject(), r)
	l.look(w.key)
}

// change enters changes of status that this server has seen, until etcd says what
// the servers agreed on.
func (l *ledger) change(list []regions.Due) {
	for _, due := range list {
		subject := l.subject(due.Key)
		r := l.records[subject]
		before := r.before
		if before == nil {
			before = &r
		}
		l.setRecord(subject, record{Record: due.Record, known: true, mod: r.mod, before: before})
		l.look("transitions/" + subject)
	}
}

// unsee forgets changes of status that this server alone has seen: they followed from a
// judgement that does not hold.
func (l *ledger) unsee(subject string) {
	if r := l.records[subject]; r.before != nil {
		l.setRecord(subject, *r.before)
		l.look("transitions/" + subject)
	}
}

// enter sets the entry of a key, and the input that follows from it.
func (l *ledger) enter(key string, e entry) {
	l.apply(l.entries[key], false)
	l.entries[key] = e
	l.apply(e, true)
}

// erase forgets a key.
func (l *ledger) erase(key string) {
	l.apply(l.entries[key], false)
	delete(l.entries, key)
}

// apply makes a value count, or no more.
func (l *ledger) apply(e entry, counts bool) {
	i, known := l.index(e.address)
	if !e.good || !known {
		return // of an unknown region it is kept all the same: it may be configured again
	}
	subject := &l.inputs.Subjects[i]
	switch {
	case e.kind == drainKey && counts:
		subject.Drain, _ = ParseDrain([]byte(e.value))
	case e.kind == drainKey:
		subject.Drain = regions.Drain{}
	case e.kind == voteKey && counts:
		l.votes(i)[e.name], _ = ParseVote([]byte(e.value))
	case e.kind == voteKey:
		delete(l.votes(i), e.name)
	case e.kind == heartbeatKey && counts:
		subject.Heartbeats++
	case e.kind == heartbeatKey:
		subject.Heartbeats--
	case e.kind == probeKey && counts:
		l.probes()[e.name] = true
	case e.kind == probeKey:
		delete(l.probes(), e.name)
	}
}

// setRecord sets the record of a subject.
func (l *ledger) setRecord(subject string, r record) {
	l.records[subject] = r
	if i, known := l.index(parseKey("transitions/" + subject)); known {
		l.inputs.Subjects[i].Record = r.Record
	}
}

// index returns the place of what a key speaks of in Inputs.Subjects, and whether
// the configuration has it. Probe hosts need no place.
func (l *ledger) index(a address) (int, bool) {
	if a.kind == probeKey || a.kind == foreign || a.kind == ignored {
		return 0, a.kind == probeKey
	}
	service := regions.Anyone
	region, known := l.table.Named(a.region)
	if a.service != "" && known {
		service, known = l.table.ServiceNamed(a.service)
	}
	if !known {
		return 0, false
	}
	return l.table.Index(regions.Key{Service: service, Region: region}), true
}

// knows reports whether the configuration has what a key speaks of.
func (l *ledger) knows(a address) bool {
	_, known := l.index(a)
	return known
}

// subject is the inverse of index.
func (l *ledger) subject(k regions.Key) string {
	return address{service: l.table.Service(k.Service).Name, region: l.table.Name(k.Region)}.subject()
}

// votes returns the votes on a subject for writing.
func (l *ledger) votes(i int) map[string]regions.Vote {
	subject := &l.inputs.Subjects[i]
	if l.sharedVotes[i] || subject.Votes == nil {
		votes := make(map[string]regions.Vote, len(subject.Votes)+1)
		maps.Copy(votes, subject.Votes)
		subject.Votes, l.sharedVotes[i] = votes, false
	}
	return subject.Votes
}

// probes returns the probe hosts that live for writing.
func (l *ledger) probes() map[string]bool {
	if l.sharedProbes {
		l.inputs.Probes, l.sharedProbes = maps.Clone(l.inputs.Probes), false
	}
	return l.inputs.Probes
}

// share returns the inputs for good: the ledger will not change them any more.
func (l *ledger) share() regions.Inputs {
	for i := range l.sharedVotes {
		l.sharedVotes[i] = true
	}
	l.sharedProbes = true
	return regions.Inputs{Subjects: slices.Clone(l.inputs.Subjects), Probes: l.inputs.Probes}
}
