package zones

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
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
// and KeepFailures may be called from any.
type Store struct {
	StoreConfig
	keeper  keeper
	started bool               // what is kept has been listed
	members map[string]*member // by file name; a zone without a file by its origin
	left    []*Zone            // served at the last reload, in members no more
	pointed pointed

	removals []string       // origins of zones whose last good versions are to go
	folder   *Fault         // what is wrong with the folder itself
	told     map[Fault]bool // faults that stand in the log already

	status      atomic.Pointer[[]Status]
	folderFault atomic.Pointer[Fault]
	unkept      atomic.Int64
}

// NewStore makes a store. Nothing is read before Reload.
func NewStore(c StoreConfig) *Store {
	return &Store{
		StoreConfig: c, keeper: keeper{c.KeepDir}, members: make(map[string]*member),
		pointed: pointed{zones: make(map[string]int)},
	}
}

// Reload reads what changed since last time and returns the view to serve. It
// never fails as a whole: what is wrong is in Status.
func (s *Store) Reload() *View { return s.reload(false) }

// ReloadAll reads every file again, whatever its time stamps say.
func (s *Store) ReloadAll() *View { return s.reload(true) }

// Accept lifts the holds of one zone, or of all for "", and reloads.
func (s *Store) Accept(origin string) *View {
	wire, err := parseOrigin(origin)
	for _, e := range s.members {
		e.accepted = e.state == StateHeld && (origin == "" || err == nil && e.origin() == nameText(wire))
	}
	return s.reload(false)
}

// Folders returns the folders to watch: the zones folder and those of included
// files, sorted.
func (s *Store) Folders() []string {
	folders := []string{filepath.Clean(s.Dir)}
	for _, e := range s.members {
		if e.files == nil {
			continue
		}
		for _, name := range e.files.names {
			folders = append(folders, filepath.Dir(filepath.Join(s.Dir, name)))
		}
	}
	slices.Sort(folders)
	return slices.Compact(folders)
}

func (s *Store) reload(all bool) *View {
	if !s.started {
		s.started = true
		s.recall()
	}
	before := 0 // zones that were good
	for _, e := range s.members {
		if e.good() && !e.twin {
			before++
		}
	}
	s.look()
	s.refresh(all)
	s.separate()
	s.part(before)
	view := s.pin(s.view())
	s.publish()
	s.tell()
	for _, e := range s.members {
		e.accepted = false
		if s.KeepDir == "" {
			e.unkept = nil
		}
		if e.files != nil && e.files != e.unkept {
			e.files.forget()
		}
	}
	return view
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
		s.members[key] = &member{name: key, kept: l}
	}
}

// look lists the folder. While it cannot be read, every zone stays as it is.
func (s *Store) look() {
	s.folder = nil
	listed, err := os.ReadDir(s.Dir)
	if err != nil {
		s.folder = &Fault{File: s.Dir, Message: fmt.Sprintf("cannot read the zones folder, so every zone stays as it was: %v", withoutPath(err))}
		return
	}
	present := make(map[string]bool)
	for _, d := range listed {
		name := d.Name()
		if !strings.HasSuffix(name, suffix) || strings.HasPrefix(name, ".") {
			continue
		}
		present[name] = true
		if s.members[name] == nil {
			s.members[name] = &member{name: name}
		}
	}
	for _, e := range s.members {
		if e.gone && present[e.name] {
			e.files = nil // it is back: read it, even if it is what it was
		}
		e.gone = !present[e.name]
	}
}

// refresh brings every zone up to date, several at a time. Each stands alone,
// so the order does not matter.
func (s *Store) refresh(all bool) {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	count := s.counter()
	for _, e := range s.members {
		if e.gone {
			continue
		}
		g.Go(func() error {
			defer count()
			if s.folder == nil {
				s.update(e, all)
			} else if e.zone == nil && e.files == nil {
				e.faults = nil
				s.fallBack(e)
			}
			return nil
		})
	}
	g.Wait()
}

// eachOf calls f with every number below n, several at a time.
func eachOf(n int, f func(i int)) {
	var next atomic.Int64
	var g sync.WaitGroup
	for range min(n, 2*runtime.GOMAXPROCS(0)) { // some wait for the disk
		g.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				f(int(i))
			}
		})
	}
	g.Wait()
}

// counter says in the log every now and then how many zones are up to date.
func (s *Store) counter() func() {
	var mu sync.Mutex
	done, last := 0, time.Now()
	return func() {
		mu.Lock()
		defer mu.Unlock()
		if done++; time.Since(last) >= progressPeriod {
			last = time.Now()
			s.Log.Info().Int("done", done).Int("zones", len(s.members)).Msg("still loading zones")
		}
	}
}

// sorted returns the members by file name.
func (s *Store) sorted() []*member {
	list := make([]*member, 0, len(s.members))
	for _, e := range s.members {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b *member) int { return cmp.Compare(a.name, b.name) })
	return list
}

// separate finds zones that two files claim: the first by name is served.
func (s *Store) separate() {
	owners := make(map[string]*member)
	for _, e := range s.sorted() {
		if e.former != nil { // the file has become another zone
			f := e.former
			e.former = nil
			s.members[f.name] = f
		}
		first := owners[e.origin()]
		if e.gone || e.zone == nil {
			continue
		}
		if e.twin = first != nil; !e.twin {
			owners[e.origin()] = e
			continue
		}
		twice := Fault{File: filepath.Join(s.Dir, e.name),
			Message: fmt.Sprintf("the zone %s is in %s too, which is served; delete one of them", e.origin(), filepath.Join(s.Dir, first.name))}
		if e.state == StateOK {
			twice.File, twice.Line = e.zone.file, e.zone.line
		}
		e.faults = append(slices.Clone(e.faults), twice)
		e.files = nil // so that it is read again, in case the other one goes
		e.state = StateFailed
	}
}

// part takes leave of the zones whose files are gone, unless they are too many
// at once: then an operator has to accept that.
func (s *Store) part(before int) {
	present := make(map[string]bool)
	for _, e := range s.members {
		if !e.gone && e.good() {
			present[e.origin()] = true
		}
	}
	var gone []*member
	for _, e := range s.sorted() {
		if !e.gone {
			continue
		}
		if !e.good() || e.twin || present[e.origin()] {
			s.drop(e) // never served, or served from another file
			continue
		}
		gone = append(gone, e)
	}
	drastic := s.HoldShrink && 2*len(gone) > before
	for _, e := range gone {
		held := e.state == StateHeld
		if !e.accepted && (drastic || held) {
			e.faults = []Fault{{File: filepath.Join(s.Dir, e.name),
				Message: fmt.Sprintf("the file is gone; %s stays as it was, because most zones vanished at once: bring it back, or run: nearside reload --accept %s", e.origin(), e.origin())}}
			s.fallBack(e)
			e.state = StateHeld
			continue
		}
		s.drop(e)
		s.removals = append(s.removals, e.origin())
	}
}

// drop forgets a member.
func (s *Store) drop(e *member) {
	delete(s.members, e.name)
	if e.counted != nil {
		s.left = append(s.left, e.counted)
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
	var fresh []*member
	for _, e := range s.members {
		if e.unkept != nil && !e.twin {
			fresh = append(fresh, e)
		}
	}
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
	}
	return unkept
}

// keepFailed logs a failure to keep a zone; it is served all the same.
func (s *Store) keepFailed(err error, origin string) {
	if err != nil {
		s.Log.Error().Err(err).Str("zone", origin).Msg("cannot keep the last good version; a restart may not have it")
	}
}

// view makes what is to be served. A zone that was never good is in it too, so
// that its names get SERVFAIL, unless another file serves it.
func (s *Store) view() *View {
	byOrigin := make(map[string]*Zone)
	for _, e := range s.sorted() {
		if e.zone != nil && !e.twin {
			byOrigin[e.origin()] = e.zone
		}
	}
	for _, e := range s.sorted() {
		wire, err := parseOrigin(e.origin())
		if e.zone == nil && err == nil && byOrigin[nameText(wire)] == nil {
			byOrigin[nameText(wire)] = &Zone{origin: nameText(wire), apex: wire, failed: true}
		}
	}
	zones := make([]*Zone, 0, len(byOrigin))
	for _, z := range byOrigin {
		zones = append(zones, z)
	}
	slices.SortFunc(zones, func(a, b *Zone) int { return cmp.Compare(a.origin, b.origin) })
	return newView(zones)
}
