// Package geo says where addresses are. A Database (a MaxMind DB file, or the
// built-in one) holds a Record for each network; Compile turns it into a Map
// from an address to a small number of the caller's choice, its Class, and to
// the widest prefix for which that class holds.
//
// A Database and a Map are immutable, so any number of goroutines may share them.
package geo

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"time"

	"nearside/pace"
)

// Record is what a database says of a network.
type Record struct {
	Country     string // ISO 3166-1 alpha-2, "" if unknown
	Subdivision string // code or English name of the first-level subdivision, "" if unknown

	// Location is resolved: the database's coordinates, else the centre of the
	// subdivision, else of the country. It means nothing unless Located.
	Location Point
	Located  bool
}

// Database says where addresses are.
type Database struct {
	name   string
	built  time.Time
	digest string
	file   string // for messages; "" if there is none
	source source
	pace   pace.Pace
}

// source is the networks of a database, and their records by number.
type source interface {
	// records calls visit with each record, in the order of the numbers, from 1
	// on. It ends at the first error.
	records(visit func(Record) error) error
	// walk calls v4 and v6 with the first address of each range and the number
	// of its record, in ascending order per family. A range runs up to the next
	// one; what lies before the first is uncovered. It ends at the first error.
	walk(pacer *pace.Pacer, v4 func(addr4, recordID) error, v6 func(addr6, recordID) error) error
}

// recordID is a record's number in its database.
type recordID uint32

// uncovered is the number of no record: the database does not say.
const uncovered recordID = 0

// maxFile bounds what is read into memory, in bytes. The largest databases sold
// are under 1 GiB.
const maxFile = 2 << 30

// Open reads the MaxMind DB file (.mmdb) at path and verifies its search tree;
// Compile verifies the records. The file is read whole into memory, not mapped:
// one that is truncated or written over later does no harm. An error names the
// file and what to do.
func Open(path string, how pace.Pace) (*Database, error) {
	p := pace.New(how)
	content, err := readFile(path, p)
	if err != nil {
		return nil, err
	}
	db, err := parse(content, p)
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", path, err)
	}
	db.file = path
	return db, nil
}

// readFile reads a regular file of a sane size. Without O_NONBLOCK, opening a
// FIFO would wait for a writer that may never come.
func readFile(path string, pacer *pace.Pacer) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("%w; name a .mmdb file that the server may read", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("database %s: %w", path, err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("database %s: not a regular file; name a .mmdb file", path)
	case info.Size() > maxFile:
		return nil, fmt.Errorf("database %s: %d bytes are more than a database has (at most %d); name a .mmdb file", path, info.Size(), int64(maxFile))
	}
	content := make([]byte, info.Size())
	for piece := range slices.Chunk(content, pieceSize) {
		if _, err := io.ReadFull(f, piece); err != nil {
			return nil, fmt.Errorf("database %s: %w; it shrank while it was read: put the new file beside it and rename it", path, err)
		}
		pacer.Step()
	}
	return content, nil
}

// pieceSize is how much is read or summed up in one go, in octets.
const pieceSize = 1 << 14

// parse makes a Database of the content of a MaxMind DB file.
func parse(content []byte, pacer *pace.Pacer) (*Database, error) {
	if len(content) == 0 {
		return nil, errors.New("the file is empty; download it again")
	}
	source, err := newMMDB(content, pacer)
	if err != nil {
		return nil, err
	}
	return &Database{
		name:   source.reader.Metadata.DatabaseType,
		built:  source.reader.Metadata.BuildTime().UTC(),
		digest: digest(pacer, content),
		source: source,
		pace:   pacer.Pace(),
	}, nil
}

// Name returns the kind of the database, as its makers call it.
func (db *Database) Name() string { return db.name }

// Built returns when the database was made.
func (db *Database) Built() time.Time { return db.built }

// Digest returns the SHA-256 of the content in hexadecimal. Servers compare it.
func (db *Database) Digest() string { return db.digest }

func digest(pacer *pace.Pacer, parts ...[]byte) string {
	h := sha256.New()
	for _, p := range parts {
		for piece := range slices.Chunk(p, pieceSize) { // as a whole it could not be interrupted: see list
			h.Write(piece)
			pacer.Step()
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}
