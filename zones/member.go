package zones

import (
	"path/filepath"
	"slices"
	"strings"
	"time"

	"nearside/pace"
	"nearside/printable"
)

// member is one zone of a Store.
type member struct {
	name     string // of the zone file in the folder
	zone     *Zone  // what is served; nil: never good
	state    string
	faults   []Fault
	loaded   time.Time
	files    *files   // the last reading; nil: none
	kept     keptInfo // the last good version on disk; zero: none
	unkept   *files   // what zone was made of, while that is still to be kept; else nil
	gone     bool     // the file is no longer in the folder
	twin     bool     // another file claims the zone and is served
	serves   bool     // this file has the zone: it did when Reload ended last, or the last run did
	changed  bool     // its files are not what they were at the last reload
	accepted bool     // an operator lifts the hold
	former   *member  // the zone that the file was before its origin changed
	shown    *Status  // as of the last reload; nil: it was not there
	counted  *Zone    // the version that is in Store.pointed; nil: none
	placed   shape    // as of the last arrange
	row      int      // in Store.order
	index    int      // in the view; -1: not in it
}

// good reports whether there is a version that can be served.
func (e *member) good() bool { return e.zone != nil || e.kept.Origin != "" }

// origin returns the name of the zone, as far as it is known.
func (e *member) origin() string {
	switch {
	case e.zone != nil:
		return e.zone.origin
	case e.kept.Origin != "":
		return e.kept.Origin
	}
	wire, err := originOf(e.name)
	if err != nil {
		return printable.Text(strings.TrimSuffix(e.name, suffix))
	}
	return nameText(wire)
}

// records returns the size of the version in force.
func (e *member) records() int {
	if e.zone != nil {
		return e.zone.records
	}
	return e.kept.Records
}

// update reads the files of a zone if they changed, and decides which version
// is served.
func (s *Store) update(e *member, all bool) {
	force := e.accepted || e.files == nil
	if !force && !all && e.files.untouched() {
		return
	}
	again := s.open(e.name)
	if e.files != nil && e.files.same(again) && !force {
		e.files = again
		return
	}
	e.files, e.changed = again, true
	zone, faults := s.load(e.name, again)
	e.faults = faults
	switch {
	case zone == nil:
		s.fallBack(e)
	case s.shrinks(e, zone):
		s.hold(e, zone)
	default:
		e.adopt(zone)
	}
}

// open makes the source for a reading of a zone file. When it is read again there
// is the version that is served beside the new one, and queries come.
func (s *Store) open(name string) *files {
	if s.pace == pace.Fast {
		return newFiles(s.Dir, name, "", s.pace)
	}
	return newFiles(s.Dir, name, s.KeepDir, s.pace)
}

// load reads the zone of a file strictly.
func (s *Store) load(name string, from *files) (z *Zone, faults []Fault) {
	origin, err := originOf(name)
	if err != nil {
		return nil, []Fault{newFault(filepath.Join(s.Dir, name), 0, "the file's name is no zone's: %v", err)}
	}
	z, faults = job{source: from, dir: s.Dir, name: name, origin: origin, steering: s.Steering, others: s.pointed.list, pace: s.pace, progress: s.progress(name)}.load()
	if z != nil {
		z.digest = from.digest()
	}
	return z, faults
}

// progressPeriod is how often a load that takes long shows in the log.
const progressPeriod = 5 * time.Second

// progress says in the log every now and then how far the load of a zone is.
func (s *Store) progress(name string) func(records int) {
	last := time.Now()
	return func(records int) {
		if time.Since(last) >= progressPeriod {
			last = time.Now()
			s.Log.Info().Str("file", name).Int("records", records).Msg("still loading a zone")
		}
	}
}

// adopt makes a new version the one that is served.
func (e *member) adopt(z *Zone) {
	if e.good() && e.origin() != z.origin {
		former := *e
		former.name, former.files, former.gone, former.placed = e.origin(), nil, true, shape{}
		e.former, e.kept, e.counted, e.serves = &former, keptInfo{}, nil, false
	}
	e.zone, e.state, e.loaded, e.unkept = z, StateOK, time.Now(), e.files
}

// shrinks reports whether a new version has lost more than half of over 100
// records.
func (s *Store) shrinks(e *member, z *Zone) bool {
	return s.HoldShrink && !e.accepted && e.good() && e.origin() == z.origin &&
		e.records() > 100 && 2*z.records < e.records()
}

// hold keeps the old version until an operator accepts the new one.
func (s *Store) hold(e *member, z *Zone) {
	was := e.records()
	s.fallBack(e)
	if e.zone == nil {
		e.adopt(z) // nothing older can be read
		return
	}
	e.state = StateHeld
	e.faults = append(e.faults, newFault(filepath.Join(s.Dir, e.name), 0,
		"the zone shrinks from %d to %d records; it stays as it was: correct the file, or run: nearside reload --accept %s", was, z.records, e.origin()))
}

// fallBack goes on with the version in force: the one in memory, else the one
// kept on disk, else none.
func (s *Store) fallBack(e *member) {
	e.state = StateLastGood
	if e.zone != nil {
		return
	}
	e.state = StateFailed
	if e.kept.Origin == "" {
		return
	}
	z, faults := s.restore(e.kept)
	e.faults = append(e.faults, faults...)
	if z != nil {
		e.zone, e.state, e.loaded = z, StateLastGood, time.Now()
	}
}

// restore reads a last good version. It was good when it was kept; if it breaks
// a steering rule now, the configuration has changed, and it is read leniently.
func (s *Store) restore(l keptInfo) (*Zone, []Fault) {
	path := s.keeper.path(l.Origin)
	k, err := s.keeper.load(l.Origin)
	if err != nil {
		return nil, []Fault{newFault(path, 0, "cannot read the last good version: %v", err)}
	}
	origin, err := parseOrigin(l.Origin)
	if err != nil {
		return nil, []Fault{newFault(path, 0, "%v", err)}
	}
	again := &files{source: k, pace: pace.New(s.pace)}
	j := job{source: again, dir: path, name: k.File, origin: origin, fixed: true, steering: s.Steering, others: s.pointed.list, pace: s.pace, progress: s.progress(path)}
	z, faults := j.load()
	if z == nil {
		j.lenient = true
		z, faults = j.load()
	}
	if z != nil {
		z.digest = again.digest()
		faults = slices.DeleteFunc(faults, func(f Fault) bool { return !j.lenient })
	}
	return z, faults
}
