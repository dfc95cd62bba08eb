package zones

import (
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"nearside/pace"
)

// StoreConfig is what a Store needs to know.
type StoreConfig struct {
	Dir        string // every *.zone file in it is a zone
	KeepDir    string // where last good versions are kept; "": nowhere
	HoldShrink bool   // hold back a reload that drops most zones or most of a zone
	Steering   Steering
	Log        zerolog.Logger
}

// Store keeps the zones of a folder. One goroutine may use it, save that Status
// and what follows it may be called from any.
//
// A reload costs what changed, not what there is: among 100,000 zones, reading
// one again must not touch the others.
type Store struct {
	StoreConfig
	keeper  keeper
	started bool               // what is kept has been listed
	pace    pace.Pace          // of this reload: only the first one has the cores for itself
	members map[string]*member // by file name; a zone without a file by its origin
	folder  *Fault             // what is wrong with the folder itself
	told    map[Fault]bool     // faults that stand in the log already
	took    bool               // see Took

	// As of the last reload:
	order     []*member        // all, by origin, then by file name
	good      int              // how many have a version that can be served, twins aside
	view      *View            // what is served
	again     map[*member]bool // to be read again whatever changes
	including map[*member]bool // with files beside the zone file
	unwritten map[*member]bool // with a version that is still to be kept
	removals  []string         // origins whose last good versions are to go
	left      []*Zone          // versions in pointed whose members are gone
	pointed   pointed

	status      atomic.Pointer[[]*Status]
	folderFault atomic.Pointer[Fault]
	unkept      atomic.Int64
}

// NewStore makes a store. Nothing is read before Reload.
func NewStore(c StoreConfig) *Store {
	return &Store{
		StoreConfig: c, keeper: keeper{c.KeepDir}, members: make(map[string]*member), view: newView(nil),
		again: make(map[*member]bool), including: make(map[*member]bool), unwritten: make(map[*member]bool),
		pointed: pointed{zones: make(map[string]int)},
	}
}

// Reload reads what changed since last time and returns the view to serve. It
// never fails as a whole: what is wrong is in Status.
func (s *Store) Reload() *View { return s.reload(nil, false) }

// ReloadFiles is Reload for who knows which files changed: the others are not
// even looked at. A path starts with one of Folders.
func (s *Store) ReloadFiles(paths []string) *View {
	changed := make(map[string]bool)
	for _, path := range paths {
		if name, err := filepath.Rel(s.Dir, path); err == nil {
			changed[filepath.ToSlash(name)] = true
		}
	}
	return s.reload(changed, false)
}

// ReloadAll reads every file again, whatever its time stamps say.
func (s *Store) ReloadAll() *View { return s.reload(nil, true) }

// Accept lifts the holds of one zone, or of all for "", and reloads.
func (s *Store) Accept(origin string) *View {
	wire, err := parseOrigin(origin)
	for _, e := range s.order {
		e.accepted = e.state == StateHeld && (origin == "" || err == nil && e.origin() == nameText(wire))
	}
	return s.reload(nil, false)
}

// Took reports whether the last reload serves whatever it found changed. What was
// bad before and did not change is no concern of it.
func (s *Store) Took() bool { return s.took }

// Folders returns the folders to watch: the zones folder and those of included
// files, sorted.
func (s *Store) Folders() []string {
	folders := []string{filepath.Clean(s.Dir)}
	for e := range s.including {
		for _, f := range e.files.list {
			folders = append(folders, filepath.Dir(filepath.Join(s.Dir, f.name)))
		}
	}
	slices.Sort(folders)
	return slices.Compact(folders)
}

// reload brings up to date the zones of files that changed; nil is any of them.
func (s *Store) reload(changed map[string]bool, all bool) *View {
	first, went := !s.started, len(s.removals)
	if s.pace = pace.Gentle; first {
		s.pace = pace.Fast
		s.started = true
		s.recall()
	}
	due := s.due(changed, s.look(changed))
	s.refresh(due, all)
	if slices.ContainsFunc(due, (*member).moved) {
		due = s.arrange()
	} else {
		s.view = s.view.with(due)
	}
	due = slices.Concat(due, s.pin(due))
	list := s.publish(due)
	s.tell()
	if !first { // then whoever started says what there is
		s.report(list, s.removals[went:])
	}
	s.note(due)
	return s.view
}

// note remembers what later reloads and Keep need to know of members that were
// brought up to date.
func (s *Store) note(due []*member) {
	set := func(of map[*member]bool, e *member, in bool) {
		if in {
			of[e] = true
		} else {
			delete(of, e)
		}
	}
	for _, e := range due {
		e.accepted, e.changed = false, false
		if s.KeepDir == "" {
			e.unkept = nil
		}
		if e.files != nil && e.files != e.unkept {
			e.files.forget()
		}
		set(s.again, e, e.files == nil && !e.gone)
		set(s.including, e, e.files != nil && len(e.files.list) > 1)
		set(s.unwritten, e, e.unkept != nil && !e.twin)
	}
}

// recall makes a member of each last good version of the run before.
func (s *Store) recall() {
	list, err := s.keeper.list()
	if err != nil {
		s.Log.Error().Err(err).Msg("some last good zones cannot be read")
	}
	for _, l := range list {
		key := l.File
		if s.members[key] != nil {
			key = l.Origin
		}
		s.members[key] = &member{name: key, kept: l, serves: true}
	}
	s.good = len(list)
}

// look finds out which zone files there are, and returns the members that came,
// went or came back. While the folder cannot be read, every zone stays as it is.
func (s *Store) look(changed map[string]bool) (moved []*member) {
	if changed != nil && s.folder == nil && s.present(changed) {
		return nil
	}
	s.folder = nil
	names, err := readNames(s.Dir)
	if err != nil {
		fault := newFault(s.Dir, 0, "cannot read the zones folder, so every zone stays as it was: %v", withoutPath(err))
		s.folder = &fault
		return nil
	}
	present := make(map[string]bool, len(names))
	for _, name := range names {
		if isZoneFile(name) {
			present[name] = true
			s.found(name)
		}
	}
	for _, e := range s.members {
		gone := !present[e.name]
		if gone != e.gone || e.placed == (shape{}) {
			moved = append(moved, e)
		}
		if e.gone && !gone {
			e.files = nil // it is back: read it, even if it is what it was
		}
		e.gone = gone
	}
	return moved
}

// present reports whether all of the zone files named are there, as far as they
// are known. One that is missing may mean that the whole folder is.
func (s *Store) present(names map[string]bool) bool {
	for name := range names {
		if !isZoneFile(name) {
			continue
		}
		if e := s.members[name]; e != nil && e.gone {
			return false
		}
		if _, err := os.Lstat(filepath.Join(s.Dir, name)); err != nil {
			return false
		}
		s.found(name)
	}
	return true
}

// found makes sure that a zone file has a member.
func (s *Store) found(name string) {
	if s.members[name] == nil {
		s.members[name] = &member{name: name}
	}
}

// isZoneFile reports whether the file of that name, relative to the zones
// folder, is a zone.
func isZoneFile(name string) bool {
	return strings.HasSuffix(name, suffix) && !strings.HasPrefix(name, ".") && !strings.Contains(name, "/")
}

// readNames lists a folder, in no order.
func readNames(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

// due returns the members that may not be up to date, moved among them.
func (s *Store) due(changed map[string]bool, moved []*member) []*member {
	if changed == nil || s.folder != nil {
		return slices.Collect(maps.Values(s.members))
	}
	due := maps.Clone(s.again)
	for _, e := range moved {
		due[e] = true
	}
	for name := range changed {
		if e := s.members[name]; e != nil {
			due[e] = true
		}
	}
	for e := range s.including {
		if e.files != nil && slices.ContainsFunc(e.files.list, func(f seen) bool { return changed[f.name] }) {
			due[e] = true
		}
	}
	return slices.Collect(maps.Keys(due))
}

// refresh brings zones up to date, several at a time. Each stands alone, so the
// order does not matter.
func (s *Store) refresh(due []*member, all bool) {
	count := s.counter(len(due))
	eachOf(len(due), s.pace, func(i int) {
		defer count()
		switch e := due[i]; {
		case e.gone:
		case s.folder == nil:
			s.update(e, all)
		case e.zone == nil && e.files == nil:
			e.faults = nil
			s.fallBack(e)
		}
	})
}

// eachOf calls f with every number below n, several at a time.
func eachOf(n int, how pace.Pace, f func(i int)) {
	var next atomic.Int64
	var g sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		g.Go(func() {
			p := pace.New(how)
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				f(int(i))
				p.Look()
			}
		})
	}
	g.Wait()
}

// counter says in the log every now and then how many zones are up to date.
func (s *Store) counter(zones int) func() {
	var mu sync.Mutex
	done, last := 0, time.Now()
	return func() {
		mu.Lock()
		defer mu.Unlock()
		if done++; time.Since(last) >= progressPeriod {
			last = time.Now()
			s.Log.Info().Int("done", done).Int("zones", zones).Msg("still loading zones")
		}
	}
}

// keepBatch is how many versions are written and forced to the disk at once.
const keepBatch = 4096

// Keep writes the versions that are new since last time, so that a restart has
// them. It is for after the view is served: no answer waits for the disk.
func (s *Store) Keep() {
	if s.KeepDir == "" {
		return
	}
	if err := os.MkdirAll(s.KeepDir, 0o755); err != nil {
		s.keepFailed(err, "")
	}
	for _, origin := range s.removals {
		s.keepFailed(s.keeper.remove(origin), origin)
	}
	s.removals = nil
	fresh := slices.Collect(maps.Keys(s.unwritten))
	unkept := 0
	for batch := range slices.Chunk(fresh, keepBatch) {
		unkept += s.keepAll(batch)
	}
	s.unkept.Store(int64(unkept))
}

// keepAll writes the versions of some zones and returns how many it could not.
func (s *Store) keepAll(batch []*member) (unkept int) {
	list := make([]version, len(batch))
	for i, e := range batch {
		list[i] = version{kept: newKept(e.zone, e.unkept), before: e.kept.digest}
		if list[i].Origin != e.kept.Origin {
			list[i].before = ""
		}
	}
	s.keeper.write(list)
	for i, e := range batch {
		if err := list[i].err; err != nil {
			s.keepFailed(err, e.origin())
			unkept++
			continue
		}
		e.kept = list[i].keptInfo
		e.kept.Files = nil
		e.unkept.forget()
		e.unkept = nil
		delete(s.unwritten, e)
	}
	return unkept
}

// keepFailed logs a failure to keep a zone; it is served all the same.
func (s *Store) keepFailed(err error, origin string) {
	if err != nil {
		s.Log.Error().Err(err).Str("zone", origin).Msg("cannot keep the last good version; a restart may not have it")
	}
}
