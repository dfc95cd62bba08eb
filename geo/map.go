package geo

import (
	"fmt"
	"net/netip"
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
	v4 table4
	v6 table6
}

// Compile lays the database out for lookups. It calls classify once for each
// distinct record, and once with Record{} for what the database does not cover;
// the classes it returns should be small, at any rate below Special-1.
func Compile(db *Database, classify func(Record) Class) (*Map, error) {
	class := classifier{source: db.source, classify: classify, known: map[recordID]Class{}}
	unknown, err := class.of(uncovered)
	if err != nil {
		return nil, err
	}
	v4, v6 := newRanges[addr4](unknown), newRanges[addr6](unknown)
	err = db.source.walk(
		func(start addr4, id recordID) error {
			c, err := class.of(id)
			v4.add(start, c)
			return err
		},
		func(start addr6, id recordID) error {
			c, err := class.of(id)
			v6.add(start, c)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", db.name, err)
	}
	for _, p := range special4 {
		first, last := bounds4(p)
		v4.lay(first, last, Special)
	}
	for _, p := range special6 {
		first, last := bounds6(p)
		v6.lay(first, last, Special)
	}
	return &Map{newTable4(v4), newTable6(v6)}, nil
}

// classifier asks for the class of each record once.
type classifier struct {
	source   source
	classify func(Record) Class
	known    map[recordID]Class
	last     recordID // neighbours often share a record: spares half the map lookups
	class    Class
}

func (c *classifier) of(id recordID) (Class, error) {
	if id == c.last && len(c.known) > 0 {
		return c.class, nil
	}
	class, ok := c.known[id]
	if !ok {
		var r Record
		if id != uncovered {
			var err error
			if r, err = c.source.record(id); err != nil {
				return 0, err
			}
		}
		if class = c.classify(r); class >= mixed {
			return 0, fmt.Errorf("class %d of %+v is out of range: classes are below %d", class, r, mixed)
		}
		c.known[id] = class
	}
	c.last, c.class = id, class
	return class, nil
}

// Lookup4 returns the class of an IPv4 address and the length (0 to 32) of the
// widest prefix around it that lies wholly in that class.
func (m *Map) Lookup4(addr uint32) (Class, int) { return m.v4.lookup(addr) }

// Lookup6 returns the class of an IPv6 address, given as its upper and lower
// half, and the length (0 to 128) of the widest prefix around it that lies
// wholly in that class.
func (m *Map) Lookup6(hi, lo uint64) (Class, int) { return m.v6.lookup(hi, lo) }

// Lookup is Lookup4 or Lookup6; an IPv4-mapped address counts as IPv4.
func (m *Map) Lookup(a netip.Addr) (Class, int) {
	if a = a.Unmap(); a.Is4() {
		return m.v4.lookup(uint32(number4(a)))
	}
	n := number6(a)
	return m.v6.lookup(n.hi, n.lo)
}
