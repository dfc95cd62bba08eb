package zones

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"nearside/pace"
)

// source gives the texts of the files of a zone, by slash-separated path relative
// to the zones folder.
type source interface {
	read(name string) (text, error)
}

// text is the contents of a file as they were when it was read: whatever becomes
// of the file, they stay the same.
type text interface {
	io.ReaderAt
	Size() int64
}

// maxFile is the size of the largest file that is read, in bytes.
const maxFile = 2 << 30

// disk is the source that reads a folder. The zone files themselves may be
// symbolic links to anywhere; what they include must lie within the folder.
type disk struct {
	dir   string
	main  string // the zone file
	spool string // the folder for copies of large files; "": they are held in memory
	pace  *pace.Pacer
}

func (d disk) read(name string) (text, error) {
	open := func(flag int) (*os.File, error) {
		return os.OpenFile(filepath.Join(d.dir, name), flag, 0)
	}
	if name != d.main {
		root, err := os.OpenRoot(d.dir)
		if err != nil {
			return nil, err
		}
		defer root.Close()
		open = func(flag int) (*os.File, error) { return root.OpenFile(filepath.FromSlash(name), flag, 0) }
	}
	// Without O_NONBLOCK, opening a FIFO would wait for a writer.
	f, err := open(os.O_RDONLY | syscall.O_NONBLOCK)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer f.Close()
	size, err := sizeOf(f)
	if err != nil {
		return nil, err
	}
	if size >= large && d.spool != "" {
		if t, err := spool(f, size, d.spool, d.pace); err == nil {
			return t, nil
		}
		// The disk of the copies is no reason not to serve: Keep says what is wrong with it.
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, withoutPath(err)
		}
	}
	data, err := readWhole(f, size)
	if err != nil {
		return nil, err
	}
	return bytes.NewReader(data), nil
}

// large is the size from which on a file is better copied than held in memory,
// where it would lie beside two versions of the zone until that is kept. What is
// smaller than that is little beside the process itself.
const large = 16 << 20

// spooled is a copy of a file that nobody else can see or change. It goes when it
// is closed, or when the process ends.
type spooled struct {
	*os.File
	size int64
}

func (s spooled) Size() int64 { return s.size }

// spool copies a file of that size into a folder.
func spool(from *os.File, size int64, dir string, p *pace.Pacer) (s spooled, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return s, err
	}
	if s.File, err = os.CreateTemp(dir, ".reading-*"); err != nil {
		return s, err
	}
	if err = os.Remove(s.Name()); err == nil {
		s.size, err = pour(s.File, io.LimitReader(from, size), size, p)
	}
	if err != nil {
		s.Close()
	}
	return s, err
}

// whole reads a text from its start.
func whole(t text) io.Reader { return io.NewSectionReader(t, 0, t.Size()) }

// pour writes what it reads, about so many octets, and returns how many they were.
// It goes by small steps: a long one cannot be interrupted, and a collection of
// garbage would wait for it, with every query.
func pour(to io.Writer, from io.Reader, size int64, p *pace.Pacer) (total int64, err error) {
	step := make([]byte, min(size+1, 16<<10))
	for {
		p.Step()
		n, err := from.Read(step)
		if n, err := to.Write(step[:n]); err != nil {
			return total + int64(n), err
		}
		total += int64(n)
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// sizeOf returns the size of a regular file, if it can be read.
func sizeOf(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return 0, errors.New("it is no regular file")
	}
	if info.Size() > maxFile {
		return 0, fmt.Errorf("it is larger than %d bytes", maxFile)
	}
	return info.Size(), nil
}

// readWhole reads a file of that size.
func readWhole(f *os.File, size int64) ([]byte, error) {
	data := make([]byte, size)
	n, err := io.ReadFull(f, data)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, withoutPath(err)
	}
	return data[:n], nil
}

// withoutPath drops the path from an error of the file system: a Fault says it
// already.
func withoutPath(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}
