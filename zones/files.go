package zones

import (
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"nearside/pace"
)

// files is the source for one reading of a zone. It remembers what was read, to
// tell later whether anything changed, and to keep a last good version.
type files struct {
	source
	dir  string
	pace *pace.Pacer
	list []seen // in the order of reading, the zone file first

	forgotten bool // the texts are no longer there
}

// seen is one file as it was read.
type seen struct {
	name  string
	stamp stamp
	sum   [sha256.Size]byte
	err   error // of reading
	text  text
}

// stamp tells versions of a file apart without reading it.
type stamp struct {
	device, inode uint64
	size          int64
	changed       time.Time // of contents or inode, whichever is later
	settled       bool      // it is older than the clock's grain: see stampOf
}

// newFiles is for reading a zone file. spool is as in disk.
func newFiles(dir, name, spool string, how pace.Pace) *files {
	p := pace.New(how)
	return &files{source: disk{dir: dir, main: name, spool: spool, pace: p}, dir: dir, pace: p}
}

// read reads a file once; the same text is given again later.
func (f *files) read(name string) (text, error) {
	if i := slices.IndexFunc(f.list, func(s seen) bool { return s.name == name }); i >= 0 {
		return f.list[i].text, f.list[i].err
	}
	s := seen{name: name, stamp: stampOf(filepath.Join(f.dir, name))} // BEFORE reading: a change meanwhile shows next time
	if s.text, s.err = f.source.read(name); s.err == nil {
		s.sum, s.err = sumOf(whole(s.text), s.text.Size(), f.pace)
	}
	f.list = append(f.list, s)
	return s.text, s.err
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

// digest sums up the texts, whatever their files are called.
func (f *files) digest() [sha256.Size]byte {
	var sums []byte
	for _, s := range f.list {
		if s.err == nil {
			sums = append(sums, s.sum[:]...)
		}
	}
	return sha256.Sum256(sums)
}

// forget lets go of the texts.
func (f *files) forget() {
	f.forgotten, f.source, f.pace = true, nil, nil
	for i := range f.list {
		if copied, ok := f.list[i].text.(io.Closer); ok {
			copied.Close()
		}
		f.list[i].text = nil
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
