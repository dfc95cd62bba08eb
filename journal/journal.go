// Package journal keeps a record that an auditor can read: JSON lines in a file
// that is bounded in size. A server appends to it; anybody may read meanwhile.
//
// It never holds its caller up. Append puts an entry into a queue; one goroutine
// writes. Where the disk is full or slow for longer than the queue lasts,
// entries are dropped and counted, and the journal says so itself, in a line of
// the kind Gap, when it can be written again.
//
// What was written survives the end of the process at any moment. What the end
// of the machine can take is the last second: the file is synced that often, and
// before another takes its place.
package journal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// DefaultLimit bounds both files of a journal together, in octets: a quarter of
// a million entries.
const DefaultLimit = 64 << 20

const (
	queueLength = 16 << 10  // entries
	largeBatch  = 256 << 10 // octets that are written at once
	syncGap     = time.Second
	closeTime   = 2 * time.Second // that Close waits for a slow disk
)

// Journal is a journal that is open for appending. Its methods may be called
// concurrently.
type Journal struct {
	path   string // the older half is path + ".1"
	half   int64  // of the limit
	server string
	log    zerolog.Logger
	retry  time.Duration // after a write that failed; differs in tests

	queue   chan Entry
	dropped atomic.Uint64 // not yet told by a Gap
	closing chan struct{}
	closed  chan struct{}
	close   sync.Once

	mu    sync.Mutex
	fault error // why it cannot be written; nil if it can

	// What follows is the writer's.
	file    *os.File // nil until it could be opened
	batch   []byte   // whole lines, not yet written
	unsaved bool     // something was written and not synced
}

// Open opens the journal of a server at path, whose files may have limit octets
// in all. It does not fail: what cannot be written is an alarm, and tried again.
func Open(path string, limit int64, server string, log zerolog.Logger) *Journal {
	j := newJournal(path, limit, server, log)
	go j.run()
	return j
}

func newJournal(path string, limit int64, server string, log zerolog.Logger) *Journal {
	return &Journal{
		path: path, half: limit / 2, server: server, log: log, retry: 5 * time.Second,
		queue: make(chan Entry, queueLength), closing: make(chan struct{}), closed: make(chan struct{}),
	}
}

// Append adds an entry. It never waits.
func (j *Journal) Append(e Entry) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Time, e.Server = e.Time.UTC(), j.server
	select {
	case j.queue <- e.bounded():
	default:
		j.dropped.Add(1)
	}
}

// Close writes what waits, as far as the disk takes it soon.
func (j *Journal) Close() {
	j.close.Do(func() { close(j.closing) })
	select {
	case <-j.closed:
	case <-time.After(closeTime):
	}
}

// Alarms says what an operator must see to.
func (j *Journal) Alarms() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fault == nil {
		return nil
	}
	return []string{fmt.Sprintf("the journal cannot be written, %d entries are lost so far: %v; see to the disk", j.dropped.Load(), j.fault)}
}

// run writes until Close.
func (j *Journal) run() {
	defer close(j.closed)
	timer := time.NewTimer(syncGap)
	defer timer.Stop()
	for {
		if j.file == nil {
			j.report(j.open())
		}
		select {
		case e := <-j.queue:
			j.encode(e)
		case <-timer.C:
			j.sync()
			timer.Reset(syncGap)
		case <-j.closing:
			j.last()
			return
		}
		for j.fill(); len(j.batch) > 0; {
			err := j.write()
			j.report(err)
			if err == nil {
				break
			}
			select {
			case <-time.After(j.retry):
			case <-j.closing:
				j.last()
				return
			}
		}
	}
}

// last writes what waits, once.
func (j *Journal) last() {
	for j.fill(); len(j.batch) > 0 && j.write() == nil; j.fill() {
	}
	j.sync()
}

// fill adds what waits to the batch, until that is large. When nothing waits any
// more it is the time to tell what was dropped.
func (j *Journal) fill() {
	for int64(len(j.batch)) < min(largeBatch, j.half/4) {
		select {
		case e := <-j.queue:
			j.encode(e)
			continue
		default:
		}
		if n := j.dropped.Swap(0); n > 0 {
			j.encode(Entry{Time: time.Now().UTC(), Server: j.server, Kind: Gap, Dropped: n, Why: "the disk was full or slow"})
		}
		return
	}
}

func (j *Journal) encode(e Entry) {
	line, err := json.Marshal(e)
	if err != nil { // a year of five digits
		j.dropped.Add(1)
		return
	}
	j.batch = append(append(j.batch, line...), '\n')
}

// write writes the batch: all of it, or nothing that a reader would take.
func (j *Journal) write() error {
	size, err := j.ready()
	if err != nil {
		return err
	}
	if _, err := j.file.Write(j.batch); err != nil {
		// What is there of it would be there twice after the next try.
		_ = j.file.Truncate(size)
		j.drop()
		return err
	}
	j.batch, j.unsaved = j.batch[:0], true
	return nil
}

// ready makes the file ready for the batch, and returns its size.
func (j *Journal) ready() (size int64, err error) {
	for {
		if j.file == nil {
			if err := j.open(); err != nil {
				return 0, err
			}
		}
		info, err := j.file.Stat()
		if err != nil {
			j.drop()
			return 0, err
		}
		if there, err := os.Stat(j.path); err != nil || !os.SameFile(info, there) {
			j.drop() // somebody moved it away
			continue
		}
		if info.Size() == 0 || info.Size()+int64(len(j.batch)) <= j.half {
			return info.Size(), nil
		}
		if err := j.rotate(); err != nil {
			return 0, err
		}
	}
}

// open opens the file for appending. What a killed process left of a line is cut
// off: the next line would be joined with it.
func (j *Journal) open() error {
	f, err := os.OpenFile(j.path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := cutTorn(f); err != nil {
		f.Close()
		return err
	}
	j.file = f
	return syncFolder(j.path)
}

// cutTorn makes a file end with a whole line.
func cutTorn(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", f.Name())
	}
	end := info.Size()
	tail := make([]byte, min(end, maxLine))
	if _, err := f.ReadAt(tail, end-int64(len(tail))); err != nil && err != io.EOF {
		return err
	}
	last := bytes.LastIndexByte(tail, '\n')
	if last == len(tail)-1 {
		return nil // also where it is empty
	}
	if last < 0 && int64(len(tail)) < end { // this is no journal: leave it as it is, and begin a line
		_, err := f.Write([]byte("\n"))
		return err
	}
	return f.Truncate(end - int64(len(tail)-1-last))
}

// rotate makes the file the older half, in place of that.
func (j *Journal) rotate() error {
	if err := j.file.Sync(); err != nil {
		return err
	}
	j.drop()
	if err := os.Rename(j.path, j.path+".1"); err != nil {
		return err
	}
	return syncFolder(j.path)
}

// sync makes what was written outlive the machine.
func (j *Journal) sync() {
	if !j.unsaved || j.file == nil {
		return
	}
	j.unsaved = false
	if err := j.file.Sync(); err != nil {
		j.report(err)
		j.drop()
	}
}

// drop closes the file. It is opened again when it is needed.
func (j *Journal) drop() {
	j.file.Close()
	j.file, j.unsaved = nil, false
}

func syncFolder(path string) error {
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}

// report raises the alarm, or takes it back. It says so once.
func (j *Journal) report(err error) {
	j.mu.Lock()
	was := j.fault
	j.fault = err
	j.mu.Unlock()
	if err != nil && was == nil {
		j.log.Error().Err(err).Msg("the journal cannot be written; entries wait, and are dropped when there are too many")
	} else if err == nil && was != nil {
		j.log.Info().Msg("the journal can be written again")
	}
}
