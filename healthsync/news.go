package healthsync

import "nearside/journal"

// maxNews bounds what is kept until the log and the journal take it.
const maxNews = 10000

// news is what happened to inputs.
type news struct {
	list    []journal.Entry
	dropped int // that did not fit
}

// tell notes what happened to an input.
func (l *ledger) tell(e journal.Entry) {
	if len(l.news.list) >= maxNews {
		l.news.dropped++
		return
	}
	e.Kind = journal.Input
	l.news.list = append(l.news.list, e)
}

// tellOf notes what became of the newest write to a key. judge is the server that
// decided, if it was another one.
func (l *ledger) tellOf(key string, e entry, judge string) {
	news := journal.Entry{
		Key: key, Value: e.shown(), Revision: e.revision, Deleted: e.held,
		Verdict: e.verdict(), Why: e.why, Effective: l.effective(e),
	}
	if !l.knows(e.address) {
		news.Verdict, news.Why = journal.NotUnderstood, l.unknown(e)
	}
	if judge != "" && judge != l.server && news.Why != "" {
		news.Why += ", says " + judge
	}
	if d, err := ParseDrain([]byte(e.value)); e.kind == drainKey && e.why == "" && !e.held && err == nil { // a deletion does not say whose it is
		news.By = d.By
	}
	l.tell(news)
}

// tellGone notes that a key is deleted.
func (l *ledger) tellGone(key string, revision int64) {
	l.tell(journal.Entry{Key: key, Revision: revision, Deleted: true, Verdict: journal.Accepted})
}

// verdict says in a word what became of the newest write.
func (e entry) verdict() string {
	switch {
	case e.held:
		return journal.Held
	case e.why == "":
		return journal.Accepted
	case e.refused:
		return journal.Refused
	}
	return journal.NotUnderstood
}

// takeNews returns what happened since it was called last.
func (l *ledger) takeNews() news {
	taken := l.news
	l.news = news{}
	return taken
}
