package zones

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// files is the source for one reading of a zone. It remembers what was read, to
// tell later whether anything changed, and to keep a last good version.
type files struct {
	source
	dir  string
	list []seen // in the order of reading, the zone file first

	forgotten bool // the bytes are no longer there
}

// seen is one file as it was read.
type seen struct {
	name  string
	stamp stamp
	sum   [sha256.Size]byte
	err   error // of reading
	data  []byte
}

// stamp tells versions of a file apart without reading it.
type stamp struct {
	device, inode uint64
	size          int64
	changed       time.Time // of contents or inode, whichever is later
	settled       bool      // it is older than the clock's grain: see stampOf
}

func newFiles(dir, name string) *files {
	return &files{source: disk{dir: dir, main: name}, dir: dir}
}

// read reads a file once; the same bytes are given again later.
func (f *files) read(name string) ([]byte, error) {
	if i := slices.IndexFunc(f.list, func(s seen) bool { return s.name == name }); i >= 0 {
		return f.list[i].data, f.list[i].err
	}
	s := seen{name: name, stamp: stampOf(filepath.Join(f.dir, name))} // BEFORE reading: a change meanwhile shows next time
	s.data, s.err = f.source.read(name)
	s.sum = sumOf(s.data)
	f.list = append(f.list, s)
	return s.data, s.err
}

// untouched reports whether the stamps of all files are what they were.
func (f *files) untouched() bool {
	return !slices.ContainsFunc(f.list, func(s seen) bool {
		return !s.stamp.settled || s.err != nil || stampOf(filepath.Join(f.dir, s.name)) != s.stamp
	})
}

// same reports whether reading the files again gives the same; again is filled
// by it.
func (f *files) same(again *files) bool {
	equal := true
	for i, x := range f.list {
		again.read(x.name)
		y := again.list[i]
		equal = equal && x.sum == y.sum && (x.err == nil) == (y.err == nil)
	}
	return equal
}

// forget lets go of the bytes.
func (f *files) forget() {
	f.forgotten = true
	for i := range f.list {
		f.list[i].data = nil
	}
}

// stampOf returns the stamp of a file. A file written within the last two
// seconds may be written again without a change of its time, so its stamp
// settles nothing; the contents decide then.
func stampOf(file string) stamp {
	info, err := os.Stat(file)
	if err != nil {
		return stamp{}
	}
	s := stamp{size: info.Size(), changed: info.ModTime()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.device, s.inode = uint64(sys.Dev), sys.Ino
		if inode := time.Unix(sys.Ctim.Unix()); inode.After(s.changed) {
			s.changed = inode
		}
	}
	s.settled = time.Since(s.changed) > 2*time.Second
	return s
}
