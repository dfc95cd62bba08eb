package healthsync

// Input is a write to an input, and what became of it: for the journal.
type Input struct {
	Key       string `json:"key"`
	Value     string `json:"value,omitempty"` // printable, at most 200 octets
	Deleted   bool   `json:"deleted,omitempty"`
	Revision  int64  `json:"revision"`
	Verdict   string `json:"verdict"`
	Why       string `json:"why,omitempty"`
	Effective string `json:"effective,omitempty"` // what is in force now, in a word
	Server    string `json:"server,omitempty"`    // that judged, where it was not this one
}

// What Input.Verdict may be.
const (
	Accepted      = "accepted"
	Refused       = "refused"        // by the guard
	NotUnderstood = "not understood" // it changes nothing
	Held          = "held"           // deleted together with all other drains: it stays in force
	Released      = "released"       // no longer held
)

// maxNews bounds what is kept until the log and the journal take it.
const maxNews = 10000

// news is what happened to inputs.
type news struct {
	list    []Input
	dropped int // that did not fit
}

// tell notes what happened to an input.
func (l *ledger) tell(i Input) {
	if len(l.news.list) >= maxNews {
		l.news.dropped++
		return
	}
	i.Key = shown([]byte(i.Key))
	l.news.list = append(l.news.list, i)
}

// tellOf notes a write and what became of it.
func (l *ledger) tellOf(w write, e entry) {
	i := Input{Key: w.key, Value: shown(w.value), Revision: w.revision, Verdict: e.verdict(), Why: e.why, Effective: l.effective(e)}
	if !l.knows(e.address) {
		i.Verdict, i.Why = NotUnderstood, l.unknownOr(e)
	}
	if n := l.notes[w.key]; n.binds(w.revision) {
		i.Server = n.Server
	}
	l.tell(i)
}

// verdict says in a word what became of the newest write.
func (e entry) verdict() string {
	switch {
	case e.held:
		return Held
	case e.why == "":
		return Accepted
	case e.refused:
		return Refused
	}
	return NotUnderstood
}

// takeNews returns what happened since it was called last.
func (l *ledger) takeNews() news {
	taken := l.news
	l.news = news{}
	return taken
}
