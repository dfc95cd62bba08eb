package dnsserver

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"nearside/geo"
	"nearside/regions"
)

// Places is the clients map: what geography makes of an address. A class of
// the map is a distinct preference list, so neighbouring networks that prefer
// the same regions in the same order are one range, and the length of that
// range's prefix is the ECS scope.
type Places struct {
	clients *geo.Map
	lists   []regions.ID // the preference list of class c is lists[c*size:(c+1)*size]
	size    int          // regions in a list: all of them
}

// nowhere is the class of clients that geography knows nothing of: they prefer
// the configured order.
const nowhere geo.Class = 0

// BuildPlaces compiles the clients map from a database and the regions. It
// takes as long as reading the database whole does: call it in the background.
func BuildPlaces(db *geo.Database, t *regions.Table, depth int) (*Places, error) {
	if t.Len() == 0 {
		return nil, errors.New("there are no regions to rank")
	}
	p := &Places{lists: t.Listed(), size: t.Len()}
	known := map[string]geo.Class{listKey(p.lists): nowhere}
	clients, err := geo.Compile(db, func(r geo.Record) geo.Class {
		if !r.Located {
			return nowhere
		}
		list := t.Rank(r.Location, depth)
		key := listKey(list)
		class, ok := known[key]
		if !ok {
			class = geo.Class(len(known))
			known[key] = class
			p.lists = append(p.lists, list...)
		}
		return class
	})
	if err != nil {
		return nil, err
	}
	p.clients = clients
	return p, nil
}

// listKey makes a preference list comparable.
func listKey(list []regions.ID) string {
	key := make([]byte, len(list))
	for i, id := range list {
		key[i] = byte(id)
	}
	return string(key)
}

// Classes returns the number of distinct preference lists.
func (p *Places) Classes() int { return len(p.lists) / p.size }

// list returns the preference list of a class.
func (p *Places) list(class geo.Class) []regions.ID {
	if class == geo.Special {
		class = nowhere
	}
	first := int(class) * p.size
	return p.lists[first : first+p.size]
}

// client is an address as the clients map reads it, in words. The zero value is none.
type client struct {
	hi, lo     uint64
	known, is4 bool // an IPv4 address is the upper half of hi
}

func clientAt(addr netip.Addr) client {
	if addr.Is4() { // ::ffff:0:0/96 is a special block of IPv6, not IPv4
		a := addr.As4()
		return client{hi: uint64(binary.BigEndian.Uint32(a[:])) << 32, known: true, is4: true}
	}
	a := addr.As16()
	return client{hi: binary.BigEndian.Uint64(a[:8]), lo: binary.BigEndian.Uint64(a[8:]), known: true}
}

// addr is the inverse of clientAt.
func (c client) addr() netip.Addr {
	if c.is4 {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], uint32(c.hi>>32))
		return netip.AddrFrom4(a)
	}
	var a [16]byte
	binary.BigEndian.PutUint64(a[:8], c.hi)
	binary.BigEndian.PutUint64(a[8:], c.lo)
	return netip.AddrFrom16(a)
}

// lookup returns the class of an address and the length of the widest prefix around
// it that has the same class throughout.
func (p *Places) lookup(c client) (geo.Class, int) {
	if c.is4 {
		return p.clients.Lookup4(uint32(c.hi >> 32))
	}
	return p.clients.Lookup6(c.hi, c.lo)
}

// touch reads the memory that Prefer will read: see geo.Map.Touch4.
func (p *Places) touch(subnet client, source netip.Addr) uint32 {
	c := subnet
	if !c.known {
		c = clientAt(source)
	}
	if c.is4 {
		return p.clients.Touch4(uint32(c.hi >> 32))
	}
	return p.clients.Touch6(c.hi)
}

// Prefer returns the preference list for a client and the ECS scope that
// justifies it. subnet is the client subnet as sent, if there is one that counts;
// source is the address the query came from. A private or special-purpose subnet
// says nothing: the source decides (then bySubnet is false), and the scope is the
// length of that block.
func (p *Places) Prefer(subnet client, source netip.Addr) (list []regions.ID, scope int, bySubnet bool) {
	if subnet.known {
		var class geo.Class
		if class, scope = p.lookup(subnet); class != geo.Special {
			return p.list(class), scope, true
		}
	}
	class, _ := p.lookup(clientAt(source))
	return p.list(class), scope, false
}
