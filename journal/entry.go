package journal

import (
	"time"

	"nearside/printable"
)

// Kind is what an entry is about.
type Kind string

const (
	Input      Kind = "input"      // a write to a key that decides who is out, and what became of it
	Transition Kind = "transition" // a region, or a service in a region, that is in another state now
	Server     Kind = "server"     // what this server, or its operator, did
	Gap        Kind = "gap"        // entries that are missing
)

// Verdicts on an input.
const (
	Accepted      = "accepted"
	Refused       = "refused"
	NotUnderstood = "not understood"
	Held          = "held"     // deleted together with all other drains: it stays in force
	Released      = "released" // no longer held
)

// Entry is one line of the journal: a JSON object. Fields that say nothing about
// its kind are left out, and so are those that are empty.
type Entry struct {
	Time   time.Time `json:"time"`   // Append fills it in, if that is left to it
	Server string    `json:"server"` // whose journal this is; Append fills it in
	Kind   Kind      `json:"kind"`

	Key      string `json:"key,omitempty"`      // of an input, or that a transition follows from; below the prefix
	Revision int64  `json:"revision,omitempty"` // of etcd

	// Of an input.
	Value     string `json:"value,omitempty"` // an empty one takes a region out, too, unless Deleted
	Deleted   bool   `json:"deleted,omitempty"`
	Verdict   string `json:"verdict,omitempty"`   // Accepted, Refused, NotUnderstood, Held or Released
	Effective string `json:"effective,omitempty"` // what is in force at the key now

	// Of a transition.
	Region  string    `json:"region,omitempty"`
	Service string    `json:"service,omitempty"` // "" is the region as a whole
	From    string    `json:"from,omitempty"`
	To      string    `json:"to,omitempty"`
	Since   time.Time `json:"since,omitzero"` // when it happened, by the first server to see it

	Event   string `json:"event,omitempty"`   // of a server: start, stop, accept, override
	Dropped uint64 `json:"dropped,omitempty"` // of a gap: how many entries

	Why string `json:"why,omitempty"`
	By  string `json:"by,omitempty"` // who did it, as he says himself
}

// maxText bounds a text of an entry, in octets: a reason fits, a flood does not.
const maxText = 1 << 10

// bounded returns the entry as it is written: others wrote its texts, and
// somebody will look at the file with a terminal.
func (e Entry) bounded() Entry {
	for _, text := range []*string{&e.Key, &e.Value, &e.Effective, &e.Region, &e.Service, &e.From, &e.To, &e.Event, &e.Why, &e.By} {
		if !plain(*text) {
			*text = printable.Cut(*text, maxText)
		}
	}
	return e
}

// plain reports whether a text can stay as it is, as nearly all do.
func plain(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return len(text) <= maxText
}
