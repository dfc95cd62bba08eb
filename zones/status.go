package zones

import (
	"crypto/sha256"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"

	"nearside/printable"
)

// The states of a zone in Status.
const (
	StateOK       = "ok"        // what the file says is served
	StateLastGood = "last good" // the file is bad: the version before it is served
	StateHeld     = "held"      // the change is too drastic: the old version is served until Accept
	StateFailed   = "failed"    // never good: SERVFAIL
	StateTwice    = "twice"     // another file has this zone: that is served
)

// Status is what is to be known about one zone.
type Status struct {
	Origin    string
	File      string
	Serial    uint32
	Records   int
	Digest    [sha256.Size]byte // of the texts that the version served was made of; zero: there is none
	State     string
	Faults    []Fault     // of the file as it is now, and of a last good version that was read leniently
	Loaded    time.Time   // when the version served was loaded
	Steered   []string    // steered names, sorted
	OneRegion []OneRegion // sorted by name: a drain does not touch them
}

// Status returns what is to be known about every zone, sorted by origin, then
// by file. It is the store's own: do not change it.
func (s *Store) Status() []*Status {
	if list := s.status.Load(); list != nil {
		return *list
	}
	return nil
}

// Folder returns why the folder cannot be read, and every zone stays as it was;
// nil if it can.
func (s *Store) Folder() *Fault { return s.folderFault.Load() }

// Unkept returns how many zones are served in a version that could not be kept
// on disk. Keep tries again.
func (s *Store) Unkept() int { return int(s.unkept.Load()) }

// publish makes Status say how things are now; due is the members about which
// there may be news. It returns those.
func (s *Store) publish(due []*member) (list []news) {
	s.folderFault.Store(s.folder)
	s.took = s.folder == nil
	rows := make([]*Status, len(s.order))
	if last := s.Status(); len(last) == len(rows) {
		copy(rows, last) // where arrange changed the order, all are due
	}
	for _, e := range due {
		row := &Status{Origin: e.origin(), File: printable.Text(filepath.Join(s.Dir, e.name)), State: e.state, Faults: e.faults, Loaded: e.loaded}
		if z := e.zone; z != nil && !e.twin {
			row.Serial, row.Records, row.Digest, row.Steered, row.OneRegion = z.serial, z.records, z.digest, z.steered, z.single
		}
		rows[e.row] = row
		if n, ok := newsOf(e.shown, row); ok {
			list = append(list, n)
		}
		s.took = s.took && !e.refused(row)
		e.shown = row
	}
	s.status.Store(&rows)
	return list
}

// refused reports whether the reload that leads to row found something changed
// that cannot be served. A twin is read again each time, changed or not.
func (e *member) refused(row *Status) bool {
	if row.State == StateOK {
		return false
	}
	known := e.shown != nil && e.shown.State == row.State
	return !known || e.changed && row.State != StateTwice
}

// tell writes each fault to the log, once for as long as it lasts.
func (s *Store) tell() {
	last := s.told
	s.told = make(map[Fault]bool)
	tell := func(f Fault, zone, state string) {
		if s.told[f] = true; last[f] {
			return
		}
		level := zerolog.ErrorLevel
		if f.Warning {
			level = zerolog.WarnLevel
		}
		line := s.Log.WithLevel(level)
		if zone != "" {
			line.Str("zone", zone).Str("state", state)
		}
		line.Msg(f.String())
	}
	if s.folder != nil {
		tell(*s.folder, "", "")
	}
	for _, row := range *s.status.Load() {
		for _, f := range row.Faults {
			tell(f, row.Origin, row.State)
		}
	}
}
