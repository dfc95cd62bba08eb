package geo

import (
	"errors"
	"fmt"

	"github.com/oschwald/maxminddb-golang/v2"

	"nearside/pace"
)

// mmdb is a source in the MaxMind DB format: the search tree is walked here,
// records are decoded by the library.
type mmdb struct {
	reader  *maxminddb.Reader
	tree    *tree
	numbers *numbers // of records, by offset
}

var errNoPlaces = errors.New("no network in it has a country or coordinates; use a City or Country database (GeoIP2, GeoLite2, DB-IP)")

// newMMDB opens a database and walks its tree once, for the records there are.
func newMMDB(content []byte, pacer *pace.Pacer) (*mmdb, error) {
	reader, err := maxminddb.OpenBytes(content)
	if err != nil {
		return nil, fmt.Errorf("not a MaxMind DB file, or a damaged one (%w); name a .mmdb file or download it again", err)
	}
	db := &mmdb{reader: reader}
	if db.tree, err = newTree(content, reader.Metadata); err != nil {
		return nil, damaged(err)
	}
	data := uint64(len(content)) - db.tree.nodes*db.tree.size/4
	db.numbers = newNumbers(data)
	err = db.tree.walk(pacer, func(l leaf) error {
		offset, ok := db.tree.data(l.record)
		if ok && offset >= data {
			return errors.New("its search tree points beyond the file")
		}
		if ok {
			db.numbers.mark(offset)
		}
		return nil
	})
	if err != nil {
		return nil, damaged(err)
	}
	db.numbers.assign()
	return db, nil
}

func damaged(err error) error { return fmt.Errorf("damaged: %w; download it again", err) }

// records implements source. Every one is decoded, so that whoever uses the
// database later meets no error. (The reader's own Verify asks for a
// description, which many good files lack.)
func (db *mmdb) records(visit func(Record) error) error {
	places := false
	err := db.numbers.all(func(offset uint64) error {
		r, err := db.decode(offset)
		if err != nil {
			return damaged(err)
		}
		places = places || r.Located || r.Country != ""
		return visit(r)
	})
	if err == nil && !places {
		err = errNoPlaces
	}
	return err
}

// walk implements source.
func (db *mmdb) walk(pacer *pace.Pacer, v4 func(addr4, recordID) error, v6 func(addr6, recordID) error) error {
	return db.tree.walk(pacer, func(l leaf) error {
		id := uncovered
		if offset, ok := db.tree.data(l.record); ok {
			id = db.numbers.of(offset)
		}
		if !isIPv4(l.first) {
			return v6(l.first, id)
		}
		if err := v4(addr4(l.first.lo), id); err != nil || l.bits >= ipv4Depth {
			return err
		}
		return v6(addr6{0, 1 << 32}, id) // it holds ::/96 whole, and more
	})
}

// decode returns the record at an offset of the data section.
func (db *mmdb) decode(offset uint64) (r Record, err error) {
	// The reader promises errors, but its input is a file from elsewhere and a
	// bug there must not stop the server.
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("its record at %d cannot be read (%v)", offset, cause)
		}
	}()
	var f fields
	err = db.reader.LookupOffset(uintptr(offset)).Decode(&f)
	// Fields are read leniently, so a mismatch means that the record is no map.
	if mismatch := (maxminddb.UnmarshalTypeError{}); errors.As(err, &mismatch) {
		return Record{}, nil
	}
	return f.resolve(), err
}
