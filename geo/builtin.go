package geo

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"nearside/pace"
)

//go:generate go run ./generate

// The built-in database is DB-IP City Lite (CC BY 4.0), cut down by the command
// in generate; builtin/LICENSE says what was changed.
var (
	//go:embed builtin/v4.gz
	builtin4 []byte
	//go:embed builtin/v6.gz
	builtin6 []byte
	//go:embed builtin/classes.tsv
	builtinClasses string
)

// Builtin returns the database that is part of the program: the country of each
// address, and the first-level subdivision in large countries.
func Builtin() (*Database, error) {
	db, err := readBuiltin()
	if err != nil {
		return nil, fmt.Errorf("built-in database: %w; this build is damaged: build it again", err)
	}
	return db, nil
}

func readBuiltin() (*Database, error) {
	name, built, records, err := parseClasses(builtinClasses)
	if err != nil {
		return nil, err
	}
	v4, err := gunzip(builtin4)
	if err != nil {
		return nil, err
	}
	v6, err := gunzip(builtin6)
	if err != nil {
		return nil, err
	}
	return &Database{
		name:   name,
		built:  built,
		digest: digest(pace.New(pace.Fast), builtin4, builtin6, []byte(builtinClasses)),
		source: &packed{v4: v4, v6: v6, list: records},
	}, nil
}

func gunzip(b []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// parseClasses reads the table of records. Its first line is the name and the
// time of the database; each further one, separated by tabs, the number (from 1,
// in order), country, subdivision, latitude and longitude of a record. Record 0
// is the one that says nothing.
func parseClasses(table string) (name string, built time.Time, records []Record, err error) {
	head, table, _ := strings.Cut(table, "\n")
	name, stamp, _ := strings.Cut(head, "\t")
	if built, err = time.Parse(time.RFC3339, stamp); err != nil {
		return "", time.Time{}, nil, err
	}
	records = []Record{{}}
	for line := range strings.Lines(table) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 5 || f[0] != strconv.Itoa(len(records)) {
			return "", time.Time{}, nil, fmt.Errorf("class %d: not understood: %q", len(records), line)
		}
		at, err := parsePoint(f[3], f[4])
		if err != nil {
			return "", time.Time{}, nil, fmt.Errorf("class %s: %w", f[0], err)
		}
		records = append(records, Record{Country: f[1], Subdivision: f[2], Location: at, Located: true})
	}
	return name, built, records, nil
}

func parsePoint(latitude, longitude string) (Point, error) {
	var p Point
	var err1, err2 error
	p.Latitude, err1 = strconv.ParseFloat(latitude, 64)
	p.Longitude, err2 = strconv.ParseFloat(longitude, 64)
	if err := errors.Join(err1, err2); err != nil {
		return Point{}, err
	}
	if !p.Valid() {
		return Point{}, fmt.Errorf("no such place as latitude %s, longitude %s", latitude, longitude)
	}
	return p, nil
}

// packed is a source in the format of the built-in database: the ranges of a
// family as pairs of unsigned varints, the step from the start of the range
// before (the first: from 0) and the number of the record. IPv4 counts
// addresses, IPv6 /48s.
type packed struct {
	v4, v6 []byte
	list   []Record // by number
}

// records implements source.
func (p *packed) records(visit func(Record) error) error {
	for _, r := range p.list[1:] {
		if err := visit(r); err != nil {
			return err
		}
	}
	return nil
}

// walk implements source.
func (p *packed) walk(_ *pace.Pacer, v4 func(addr4, recordID) error, v6 func(addr6, recordID) error) error {
	err := p.unpack(p.v4, 1<<32, func(start uint64, id recordID) error {
		return v4(addr4(start), id)
	})
	if err != nil {
		return err
	}
	return p.unpack(p.v6, 1<<48, func(start uint64, id recordID) error {
		return v6(addr6{start << 16, 0}, id)
	})
}

// unpack calls visit for each range of an address space of the given size.
func (p *packed) unpack(b []byte, size uint64, visit func(start uint64, id recordID) error) error {
	start := uint64(0)
	for first := true; len(b) > 0; first = false {
		step, n := binary.Uvarint(b)
		if n <= 0 {
			return errors.New("ranges end within a number")
		}
		id, m := binary.Uvarint(b[n:])
		if m <= 0 {
			return errors.New("ranges end within a number")
		}
		b = b[n+m:]
		if step >= size-start || step == 0 && !first {
			return fmt.Errorf("a range that starts %d after %d is out of order", step, start)
		}
		if id >= uint64(len(p.list)) {
			return fmt.Errorf("no class %d", id)
		}
		start += step
		if err := visit(start, recordID(id)); err != nil { // record 0 is uncovered
			return err
		}
	}
	return nil
}
