package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
)

// maxLine is more than any line has, in octets.
const maxLine = 128 << 10

// Reader reads a journal from its oldest entry on, while a server may append to
// it. It takes whole lines alone, and leaves out what is no entry.
type Reader struct {
	path   string
	file   *os.File
	offset int64  // behind the last whole line that was read from file
	lines  []byte // whole lines that were read and not yet returned
	buffer []byte
}

// Line is an entry as it stands in the file.
type Line struct {
	Entry
	Text string // without the end of the line
}

// OpenReader opens the journal at path. Where there is none the error is
// fs.ErrNotExist.
func OpenReader(path string) (*Reader, error) {
	r := &Reader{path: path, buffer: make([]byte, maxLine)}
	var err error
	if r.file, err = os.Open(path + ".1"); errors.Is(err, fs.ErrNotExist) {
		r.file, err = os.Open(path)
	}
	return r, err
}

// Close ends the reading.
func (r *Reader) Close() error { return r.file.Close() }

// Next returns the next entry, or io.EOF when there is none yet: then it may be
// called again.
func (r *Reader) Next() (Line, error) {
	for {
		for len(r.lines) > 0 {
			text, rest, _ := bytes.Cut(r.lines, []byte("\n"))
			r.lines = rest
			line := Line{Text: string(text)}
			if json.Unmarshal(text, &line.Entry) == nil && line.Kind != "" && !line.Time.IsZero() {
				return line, nil
			}
		}
		more, err := r.read()
		if err == nil && !more {
			more, err = r.follow()
		}
		if err != nil {
			return Line{}, err
		}
		if !more {
			return Line{}, io.EOF
		}
	}
}

// read reads whole lines from the file, and reports whether there were any.
func (r *Reader) read() (more bool, err error) {
	n, err := r.file.ReadAt(r.buffer, r.offset)
	if err != nil && err != io.EOF {
		return false, err
	}
	whole := bytes.LastIndexByte(r.buffer[:n], '\n') + 1
	if whole == 0 && n == len(r.buffer) {
		whole = n // no line is that long
	}
	r.lines = r.buffer[:whole]
	r.offset += int64(whole)
	return whole > 0, nil
}

// follow goes on to the file after the one that was read to its end, and reports
// whether there is one. A file becomes the older half BEFORE the next one is
// made: so the newer one is looked at first.
func (r *Reader) follow() (more bool, err error) {
	newer, err := openIfThere(r.path)
	if err != nil {
		return false, err
	}
	if same(newer, r.file) {
		return false, newer.Close()
	}
	older, err := openIfThere(r.path + ".1")
	if err != nil {
		return false, errors.Join(err, closeIfThere(newer))
	}
	next := older
	if older == nil || same(older, r.file) {
		next = newer
		err = closeIfThere(older)
	} else {
		err = closeIfThere(newer)
	}
	if next == nil || err != nil {
		return false, err
	}
	// Something may have been written to the old one since it was read.
	if more, err := r.read(); more || err != nil {
		return more, errors.Join(err, next.Close())
	}
	err = r.file.Close()
	r.file, r.offset = next, 0
	return err == nil, err
}

func openIfThere(path string) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return f, err
}

func closeIfThere(f *os.File) error {
	if f == nil {
		return nil
	}
	return f.Close()
}

// same reports whether two files are one.
func same(a, b *os.File) bool {
	if a == nil || b == nil {
		return false
	}
	x, errX := a.Stat()
	y, errY := b.Stat()
	return errX == nil && errY == nil && os.SameFile(x, y)
}
