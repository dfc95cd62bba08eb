package geo

import (
	"cmp"
	"fmt"
	"net/netip"

	"nearside/pace"
)

// Class is what the caller makes of a Record: a small number.
type Class uint32

// Special is the class of private and special-purpose blocks: they have no place.
const Special Class = 1<<32 - 1

// mixed marks a /64 that holds more than one class. It never leaves this package.
const mixed = Special - 1

// Map says for each address its class and the widest prefix around it that
// lies wholly in that class. A special-purpose block stays a prefix of its own.
type Map struct {
	v4 table[addr4]
	v6 table6
}

// Compile lays the database out for lookups. It calls classify once for each
// distinct record, and once, at first, with Record{} for what the database does
// not cover; the classes it returns should be small, at any rate below 1<<24-2.
// An error says what is wrong with the database.
func Compile(db *Database, classify func(Record) Class) (*Map, error) {
	m, err := compile(db, classify)
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", cmp.Or(db.file, db.name), err)
	}
	return m, nil
}

func compile(db *Database, classify func(Record) Class) (*Map, error) {
	p := pace.New(db.pace)
	v4, v6, err := cut(db, classify, p)
	if err != nil {
		return nil, err
	}
	return &Map{newTable4(v4, p), newTable6(v6, p)}, nil
}

// cut cuts both address spaces into ranges of one class.
func cut(db *Database, classify func(Record) Class, p *pace.Pacer) (*ranges[addr4], *ranges[addr6], error) {
	classes, err := classesOf(db.source, classify, p)
	if err != nil {
		return nil, nil, err
	}
	v4 := newRanges(classes.at(0), special4, bounds4)
	v6 := newRanges(classes.at(0), special6, bounds6)
	err = db.source.walk(p,
		func(start addr4, id recordID) error {
			v4.add(start, classes.at(int(id)))
			return nil
		},
		func(start addr6, id recordID) error {
			v6.add(start, classes.at(int(id)))
			return nil
		})
	if err != nil {
		return nil, nil, err
	}
	v4.end()
	v6.end()
	return v4, v6, nil
}

// classesOf returns the class of each record, by number.
func classesOf(s source, classify func(Record) Class, p *pace.Pacer) (classes list[Class], err error) {
	add := func(r Record) error {
		c := classify(r)
		if c >= maxClasses {
			return fmt.Errorf("class %d of %+v is out of range: classes are below %d", c, r, maxClasses)
		}
		classes.append(c)
		p.Step()
		return nil
	}
	if err := add(Record{}); err != nil {
		return classes, err
	}
	return classes, s.records(add)
}

// Lookup4 returns the class of an IPv4 address and the length (0 to 32) of the
// widest prefix around it that lies wholly in that class.
func (m *Map) Lookup4(addr uint32) (Class, int) { return m.v4.lookup(addr4(addr)) }

// Lookup6 returns the class of an IPv6 address, given as its upper and lower
// half, and the length (0 to 128) of the widest prefix around it that lies
// wholly in that class.
func (m *Map) Lookup6(hi, lo uint64) (Class, int) { return m.v6.lookup(hi, lo) }

// Touch4 reads the memory that Lookup4 will read. Whoever has many addresses to look
// up touches them all first: the processor then waits for the memory of all at once.
// What it returns means nothing; use it, or the compiler leaves the reading out.
func (m *Map) Touch4(addr uint32) uint32 { return m.v4.touch(addr4(addr)) }

// Touch6 is Touch4 for the upper half of an IPv6 address.
func (m *Map) Touch6(hi uint64) uint32 { return m.v6.touch(hi) }

// Lookup is Lookup4 or Lookup6; an IPv4-mapped address counts as IPv4.
func (m *Map) Lookup(a netip.Addr) (Class, int) {
	if a = a.Unmap(); a.Is4() {
		return m.v4.lookup(number4(a))
	}
	n := number6(a)
	return m.v6.lookup(n.hi, n.lo)
}
