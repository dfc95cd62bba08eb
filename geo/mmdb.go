package geo

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/oschwald/maxminddb-golang/v2"
)

// mmdb is a source in the MaxMind DB format. A record's number is its offset.
type mmdb struct {
	reader *maxminddb.Reader
}

var errNoPlaces = errors.New("no network in it has a country or coordinates; use a City or Country database (GeoIP2, GeoLite2, DB-IP)")

// newMMDB opens and verifies a database: the whole tree is walked and every
// record decoded once, so that whoever uses it later meets no error. (The
// reader's own Verify asks for a description, which many good files lack.)
func newMMDB(content []byte) (db *mmdb, err error) {
	// The reader promises errors, but its input is a file from elsewhere and a
	// bug there must not stop the server.
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, fmt.Errorf("cannot be read (%v); download it again", r)
		}
	}()
	reader, err := maxminddb.OpenBytes(content)
	if err != nil {
		return nil, fmt.Errorf("not a MaxMind DB file, or a damaged one (%w); name a .mmdb file or download it again", err)
	}
	if err := checkTree(content, reader.Metadata); err != nil {
		return nil, fmt.Errorf("damaged: %w; download it again", err)
	}
	db = &mmdb{reader}
	places, err := db.verify()
	if err != nil {
		return nil, fmt.Errorf("damaged: %w; download it again", err)
	}
	if !places {
		return nil, errNoPlaces
	}
	return db, nil
}

// verify meets every network and every record, and reports whether any record
// says where it is.
func (db *mmdb) verify() (places bool, err error) {
	seen := map[recordID]bool{uncovered: true}
	check := func(id recordID) error {
		if seen[id] {
			return nil
		}
		seen[id] = true
		r, err := db.record(id)
		places = places || r.Located || r.Country != ""
		return err
	}
	err = db.walk(
		func(_ addr4, id recordID) error { return check(id) },
		func(_ addr6, id recordID) error { return check(id) })
	return places, err
}

// walk implements source. In a database of IPv6 the IPv4 space sits at ::/96;
// other ways into it (::ffff:0:0/96, 2002::/16) are aliases, which the reader skips.
func (db *mmdb) walk(v4 func(addr4, recordID) error, v6 func(addr6, recordID) error) error {
	w4 := cover[addr4]{visit: v4}
	w6 := cover[addr6]{visit: v6}
	for network := range db.reader.Networks() {
		if err := network.Err(); err != nil {
			return err
		}
		if err := visit(&w4, &w6, network.Prefix(), recordID(network.Offset())); err != nil {
			return err
		}
	}
	return errors.Join(w4.end(), w6.end())
}

// visit passes one network on, split where it covers the IPv4 space and more.
func visit(w4 *cover[addr4], w6 *cover[addr6], p netip.Prefix, id recordID) error {
	if p.Addr().Is4() {
		first, last := bounds4(p)
		return w4.network(first, last, id)
	}
	first, last := bounds6(p)
	if first.hi == 0 && first.lo <= 1<<32-1 { // p holds ::/96 whole
		if err := w4.network(0, 1<<32-1, id); err != nil {
			return err
		}
		if first = (addr6{0, 1 << 32}); last.compare(first) < 0 {
			return nil
		}
	}
	return w6.network(first, last, id)
}

// cover turns networks into ranges without gaps.
type cover[A address[A]] struct {
	visit func(A, recordID) error
	next  A    // everything before it was visited
	done  bool // next has run over the end of the address space
}

func (c *cover[A]) network(first, last A, id recordID) error {
	if c.done || first.compare(c.next) < 0 {
		return errors.New("its networks overlap")
	}
	if first.compare(c.next) > 0 {
		if err := c.visit(c.next, uncovered); err != nil {
			return err
		}
	}
	next, more := last.next()
	c.next, c.done = next, !more
	return c.visit(first, id)
}

func (c *cover[A]) end() error {
	if c.done {
		return nil
	}
	return c.visit(c.next, uncovered)
}

// record implements source.
func (db *mmdb) record(id recordID) (Record, error) {
	var f fields
	err := db.reader.LookupOffset(uintptr(id)).Decode(&f)
	// Fields are read leniently, so a mismatch means that the record is no map.
	if mismatch := (maxminddb.UnmarshalTypeError{}); errors.As(err, &mismatch) {
		return Record{}, nil
	}
	return f.resolve(), err
}
