package zones

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// source gives the bytes of the files of a zone, by slash-separated path
// relative to the zones folder.
type source interface {
	read(name string) ([]byte, error)
}

// maxFile is the size of the largest file that is read, in bytes.
const maxFile = 2 << 30

// disk is the source that reads a folder. The zone files themselves may be
// symbolic links to anywhere; what they include must lie within the folder.
type disk struct {
	dir  string
	main string // the zone file
}

func (d disk) read(name string) ([]byte, error) {
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
	return readRegular(f)
}

// readRegular reads a regular file whole.
func readRegular(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("it is larger than %d bytes", maxFile)
	}
	data := make([]byte, info.Size())
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
