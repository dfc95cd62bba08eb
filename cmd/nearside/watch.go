package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/rs/zerolog"
)

const (
	// quietTime without a write means that whoever writes has finished.
	quietTime = 200 * time.Millisecond
	// longestWait for quiet: then what is there is read, finished or not.
	longestWait = 5 * time.Second
	// pollInterval is how often files are looked at where inotify does not work,
	// and how often folders that are new are looked for where it does.
	pollInterval = 2 * time.Second
	// linkInterval is how often the targets of links are looked at: inotify
	// follows none.
	linkInterval = 5 * time.Second
)

// topic is a set of files that are read again together.
type topic struct {
	name    string
	folders func() []string   // where the files are; asked again and again
	wants   func(string) bool // whether the file of that path belongs to it
	changed func([]string)    // called when these files, nil is any, changed and are quiet
}

// burst is a run of writes that is waited out.
type burst struct {
	first, last time.Time
	paths       map[string]bool // what was written
	any         bool            // or more than that
}

// maxPaths is how many files of a burst are told apart.
const maxPaths = 10000

// write adds a write to a file; "" is any.
func (b *burst) write(now time.Time, path string) {
	if b.first.IsZero() {
		*b = burst{first: now, paths: make(map[string]bool)}
	}
	b.last = now
	if b.any = b.any || path == "" || len(b.paths) >= maxPaths; !b.any {
		b.paths[path] = true
	}
}

// files returns what was written, nil if that may be any file.
func (b *burst) files() []string {
	if b.any {
		return nil
	}
	return slices.Collect(maps.Keys(b.paths))
}

// due returns when the burst has been waited for long enough; zero is never.
func (b *burst) due() time.Time {
	if b.first.IsZero() {
		return time.Time{}
	}
	if quiet := b.last.Add(quietTime); quiet.Before(b.first.Add(longestWait)) {
		return quiet
	}
	return b.first.Add(longestWait)
}

// watcher tells topics of changes to their files.
type watcher struct {
	topics []topic
	bursts []burst
	log    zerolog.Logger

	notify *fsnotify.Watcher      // nil where inotify does not work
	inodes map[string]os.FileInfo // what the paths of watched folders stood for
	seen   []uint64               // by topic: what polling found last
	polled time.Time              // when that was

	listings map[string]listing // by folder
}

func newWatcher(log zerolog.Logger, topics ...topic) *watcher {
	w := &watcher{
		topics: topics, bursts: make([]burst, len(topics)), log: log,
		inodes: make(map[string]os.FileInfo), seen: make([]uint64, len(topics)), listings: make(map[string]listing),
	}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		w.poll(err)
		return w
	}
	w.notify = notify
	w.follow(time.Time{})
	w.mark(time.Time{})
	return w
}

// poll gives inotify up.
func (w *watcher) poll(why error) {
	w.log.Warn().Err(why).Msgf("files cannot be watched; they are looked at every %v instead", pollInterval)
	if w.notify != nil {
		w.notify.Close()
		w.notify = nil
	}
	w.mark(time.Time{})
}

// run watches until ctx ends.
func (w *watcher) run(ctx context.Context) {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		var events chan fsnotify.Event
		var problems chan error
		if w.notify != nil {
			events, problems = w.notify.Events, w.notify.Errors
		}
		select {
		case <-ctx.Done():
			if w.notify != nil {
				w.notify.Close()
			}
			return
		case event := <-events:
			w.wrote(event)
		case err := <-problems:
			w.overflow(err)
		case now := <-tick.C:
			w.look(now)
		case now := <-timer.C:
			w.fire(now)
		}
		if next := w.next(); !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

func (w *watcher) wrote(event fsnotify.Event) {
	if event.Op == fsnotify.Chmod {
		return
	}
	for i, t := range w.topics {
		switch {
		// Kubernetes replaces the files of a ConfigMap by turning one link, ..data.
		case filepath.Base(event.Name) == "..data" && slices.Contains(t.folders(), filepath.Dir(event.Name)):
			w.bursts[i].write(time.Now(), "")
		case t.wants(event.Name):
			w.bursts[i].write(time.Now(), event.Name)
		}
	}
}

// overflow treats lost events as changes of everything.
func (w *watcher) overflow(err error) {
	if !errors.Is(err, fsnotify.ErrEventOverflow) {
		w.log.Warn().Err(err).Msg("watching files")
	}
	for i := range w.bursts {
		w.bursts[i].write(time.Now(), "")
	}
}

// look finds what inotify does not tell: folders that are new or were replaced,
// what links lead to, and, where it does not work, the changes themselves.
func (w *watcher) look(now time.Time) {
	if w.notify != nil {
		w.follow(now)
	}
	if w.notify == nil || now.Sub(w.polled) >= linkInterval {
		w.mark(now)
	}
}

// mark compares files with what they were at the last mark: all of them, or
// those that are links where inotify sees to the others. At a time other than
// zero a difference is a change.
func (w *watcher) mark(now time.Time) {
	w.polled = now
	for i, t := range w.topics {
		mark := w.fingerprint(t, w.notify != nil)
		if mark != w.seen[i] && !now.IsZero() {
			w.bursts[i].write(now, "")
		}
		w.seen[i] = mark
	}
}

// follow watches the folders that are not watched yet, or whose path stands for
// another one now. At a time other than zero their files are new too.
func (w *watcher) follow(now time.Time) {
	watched := w.notify.WatchList()
	for i, t := range w.topics {
		for _, folder := range t.folders() {
			info, err := os.Stat(folder)
			if err == nil {
				if slices.Contains(watched, folder) {
					if os.SameFile(info, w.inodes[folder]) {
						continue
					}
					_ = w.notify.Remove(folder) // a link was turned; Add alone would keep the old folder
				}
				w.inodes[folder] = info
				err = w.notify.Add(folder)
			}
			switch {
			case err == nil && !now.IsZero():
				w.bursts[i].write(now, "")
			case err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission):
				w.poll(fmt.Errorf("watch %s: %w", folder, err))
				return
			}
		}
	}
}

func (w *watcher) next() time.Time {
	var next time.Time
	for i := range w.bursts {
		if due := w.bursts[i].due(); !due.IsZero() && (next.IsZero() || due.Before(next)) {
			next = due
		}
	}
	return next
}

func (w *watcher) fire(now time.Time) {
	for i := range w.bursts {
		if due := w.bursts[i].due(); !due.IsZero() && !due.After(now) {
			files := w.bursts[i].files()
			w.bursts[i] = burst{}
			w.topics[i].changed(files)
		}
	}
}

// fingerprint sums up names, sizes and times of the files of a topic, or of
// those alone that are links.
func (w *watcher) fingerprint(t topic, links bool) uint64 {
	sum := fnv.New64a()
	for _, folder := range t.folders() {
		for _, path := range w.list(folder, links) {
			if !t.wants(path) {
				continue
			}
			if info, err := os.Stat(path); err == nil {
				fmt.Fprintln(sum, path, info.Size(), info.ModTime().UnixNano())
			}
		}
	}
	return sum.Sum64()
}

// listing is the links of a folder as it was.
type listing struct {
	folder os.FileInfo
	links  []string
}

// list returns the paths of the files in a folder, or of the links alone. These
// are remembered: a folder may have 100,000 files and no link.
func (w *watcher) list(folder string, links bool) []string {
	info, err := os.Stat(folder)
	if err != nil {
		return nil
	}
	known, ok := w.listings[folder]
	if links && ok && os.SameFile(known.folder, info) && known.folder.ModTime().Equal(info.ModTime()) {
		return known.links
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil
	}
	var paths []string
	for _, entry := range entries {
		if !links || entry.Type()&os.ModeSymlink != 0 {
			paths = append(paths, filepath.Join(folder, entry.Name()))
		}
	}
	// What was changed this moment may change again without a change of its time.
	if links && time.Since(info.ModTime()) > pollInterval {
		w.listings[folder] = listing{info, paths}
	}
	return paths
}
