package zones

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"iter"
	"math"
	"slices"

	"github.com/miekg/dns"

	"nearside/pace"
)

// builder gathers the records of a zone while its files are read, without a
// pointer per record, then orders them by owner and type, checks them and
// compiles them. A name is its number in names all the way into the zone, a
// record its offset in log.
type builder struct {
	faults *collector
	pace   *pace.Pacer
	names  *table
	log    pile     // the records, in the order of the files: see record
	chains []uint32 // by name: while files are read its last record, which leads to the first; then its first RRset; 0: none
	last   uint32   // owner of the last record: the records of a name mostly stand together
	count  int      // of records; in the end without duplicates
	octets int      // of RDATA, and 16 for each record
	soas   []soa
	broken map[uint16]bool // types of entries that were lost to faults; 0: of an unknown type
	full   bool            // the arenas cannot hold more

	apex      uint32
	points    []uint32 // names that own NS records
	redirects bool     // some name owns a DNAME record
	parents   []uint32 // by name, plus one; 0: the apex, or out of the zone
	cuts      []uint32 // by name: the cut at or above it, plus one
	dnames    []uint32 // by name: the DNAME above it, plus one
}

func newBuilder(c *collector, p *pace.Pacer) *builder {
	b := &builder{faults: c, pace: p, names: newTable(p), broken: make(map[uint16]bool)}
	b.log.add(word) // so that offset 0 is no record's
	return b
}

// record is a record at rest.
type record struct {
	ttl uint32
	place
	typ   uint16
	rdata []byte
}

// A record in the log, octets little-endian: the offset of the next one of its
// RRset (32 bits; while files are read, of its owner), of the next RRset of its
// owner (32; in the first record of an RRset), TTL (32), line (32), file (16),
// type (16), octets of RDATA (16), RDATA.
const (
	logNext  = 0
	logGroup = 4
	logTTL   = 8
	logLine  = 12
	logFile  = 16
	logType  = 18
	logSize  = 20
	logRDATA = 22
)

// group is an RRset: its first record, and its type.
type group struct {
	first uint32
	typ   uint16
}

// soa is an SOA record as met while reading.
type soa struct {
	place
	owner  uint32
	origin bool // it stands at the $ORIGIN in force
}

// maxArena bounds the sum of names and RDATA, so that the offsets of the
// compiled zone fit 32 bits.
const maxArena = math.MaxUint32 / 4

// add takes a record. atOrigin says that its owner is the $ORIGIN in force.
func (b *builder) add(owner []byte, typ uint16, ttl uint32, rdata []byte, at place, atOrigin bool) {
	if b.octets+b.names.text.size() > maxArena || b.log.size() > maxPile {
		b.full = true
		return
	}
	i := b.last
	if i >= uint32(b.names.len()) || !bytes.Equal(b.names.name(i), owner) {
		i = b.names.intern(owner)
		b.last = i
	}
	for len(b.chains) <= int(i) {
		b.chains = append(b.chains, 0)
	}
	r, entry := b.log.add(logRDATA + len(rdata))
	first := r
	if tail := b.chains[i]; tail != 0 {
		first = b.field(tail, logNext)
		b.setField(tail, logNext, r)
	}
	b.chains[i] = r
	binary.LittleEndian.PutUint32(entry[logNext:], first)
	binary.LittleEndian.PutUint32(entry[logTTL:], ttl)
	binary.LittleEndian.PutUint32(entry[logLine:], at.line)
	binary.LittleEndian.PutUint16(entry[logFile:], at.file)
	binary.LittleEndian.PutUint16(entry[logType:], typ)
	binary.LittleEndian.PutUint16(entry[logSize:], uint16(len(rdata)))
	copy(entry[logRDATA:], rdata)
	b.count++
	b.octets += 16 + len(rdata)
	if typ == dns.TypeSOA {
		b.soas = append(b.soas, soa{at, i, atOrigin})
	}
}

// field returns a field of a record that has 32 bits.
func (b *builder) field(r uint32, field int) uint32 {
	return binary.LittleEndian.Uint32(b.log.from(r)[field:])
}

func (b *builder) setField(r uint32, field int, to uint32) {
	binary.LittleEndian.PutUint32(b.log.from(r)[field:], to)
}

// reserve makes room for so many times the names that there are, so that a large
// table does not grow by copies of itself. A file of that size has no more by
// itself, whatever $GENERATE made before.
func (b *builder) reserve(times int, size int64) {
	names := min(b.names.len()*times, int(size/8))
	b.names.reserve(names)
	b.chains = slices.Grow(b.chains, names)
}

// findApex decides what the zone is: origin, or where the SOA record stands at
// a $ORIGIN that says otherwise, unless origin is fixed. It returns false when
// there is none, and nothing can be said about the rest.
func (b *builder) findApex(origin []byte, fixed bool) bool {
	apex := slices.IndexFunc(b.soas, func(s soa) bool { return bytes.Equal(b.names.name(s.owner), origin) })
	if apex < 0 && !fixed {
		apex = slices.IndexFunc(b.soas, func(s soa) bool { return s.origin })
	}
	if apex >= 0 {
		b.apex = b.soas[apex].owner
		origin = b.names.name(b.apex)
	}
	for i, s := range b.soas {
		switch {
		case apex < 0 || s.owner != b.apex:
			b.faults.errorf(s.place, "an SOA record at %s, but the zone is %s; it belongs to the apex alone (a $ORIGIN or the file's name says what that is)",
				nameText(b.names.name(s.owner)), nameText(origin))
		case i > apex:
			b.faults.errorf(s.place, "a second SOA record; the first is at %s", b.faults.line(s.place, b.soas[apex].place))
		}
	}
	if len(b.soas) == 0 && !b.lost(dns.TypeSOA) {
		first := place{line: 1}
		if b.count > 0 {
			first = b.record(word).place
		}
		b.faults.errorf(first, "no SOA record for %s; a zone has one at its apex", nameText(origin))
	}
	return apex >= 0
}

// lost reports whether a record of the type may have been lost to a fault that
// is reported already, so that its absence is no news.
func (b *builder) lost(types ...uint16) bool {
	return b.broken[0] || slices.ContainsFunc(types, func(t uint16) bool { return b.broken[t] })
}

// arrange orders what was gathered. It returns false if there is too much.
func (b *builder) arrange() bool {
	if !b.addParents() {
		return false
	}
	b.order()
	b.markCuts()
	return true
}

// addParents makes every name between an owner and the apex exist: those
// without records are the empty non-terminals (RFC 4592 section 2.2.2). It
// returns false if there is no room for them.
func (b *builder) addParents() bool {
	apex := bytes.Clone(b.names.name(b.apex))
	b.parents = make([]uint32, 0, b.names.len())
	for i := uint32(0); i < uint32(b.names.len()); i++ { // grows as parents come
		b.pace.Step()
		name, parent := b.names.name(i), uint32(0)
		if i != b.apex && under(name, apex) {
			parent = b.names.intern(name[1+int(name[0]):]) + 1
		}
		if b.names.text.size() > maxPile {
			b.full = true
			return false
		}
		b.parents = append(b.parents, parent)
	}
	b.chains = append(b.chains, make([]uint32, b.names.len()-len(b.chains))...)
	return true
}

// order makes each name lead to its RRsets by type, and each RRset to its
// records, in the order of the files.
func (b *builder) order() {
	b.count = 0
	var room []typed
	for i, tail := range b.chains {
		b.pace.Step()
		if tail == 0 {
			continue
		}
		room = room[:0]
		sorted := true
		for r := b.field(tail, logNext); ; r = b.field(r, logNext) {
			t := typed{r, b.typeOf(r)}
			sorted = sorted && (len(room) == 0 || room[len(room)-1].typ <= t.typ)
			if room = append(room, t); r == tail {
				break
			}
		}
		if !sorted {
			slices.SortStableFunc(room, func(x, y typed) int { return cmp.Compare(x.typ, y.typ) })
		}
		b.chains[i] = b.group(uint32(i), room)
	}
}

// typed is a record and its type.
type typed struct {
	record uint32
	typ    uint16
}

// group forms the RRsets of a name from its records, which are ordered by type,
// and returns the first.
func (b *builder) group(owner uint32, records []typed) uint32 {
	for rest := records; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].typ == rest[0].typ {
			n++
		}
		kept := rest[:n]
		if n > 1 {
			kept = b.unique(owner, kept)
		}
		rest = rest[n:]
		for k, r := range kept {
			next := uint32(0)
			if k+1 < len(kept) {
				next = kept[k+1].record
			}
			b.setField(r.record, logNext, next)
		}
		next := uint32(0)
		if len(rest) > 0 {
			next = rest[0].record
		}
		b.setField(kept[0].record, logGroup, next)
		b.count += len(kept)
		switch kept[0].typ {
		case dns.TypeNS:
			b.points = append(b.points, owner)
		case dns.TypeDNAME:
			b.redirects = true
		}
	}
	return records[0].record
}

// unique leaves of the records of one RRset each RDATA once, in place. RFC 2181
// section 5: duplicates are suppressed (5), TTLs must agree (5.2).
func (b *builder) unique(owner uint32, records []typed) []typed {
	seen := make(map[string]place, len(records))
	var rdata []byte
	first, kept := b.record(records[0].record), records[:0]
	for _, t := range records {
		r := b.record(t.record)
		if r.ttl != first.ttl && r.typ != dns.TypeRRSIG { // of several types covered
			b.faults.errorf(r.place, "TTL %d differs from %d at %s: the %s records of %s need one TTL",
				r.ttl, first.ttl, b.faults.line(r.place, first.place), dns.Type(r.typ), b.text(owner))
		}
		rdata = appendFolded(rdata[:0], r.typ, r.rdata)
		if before, twice := seen[string(rdata)]; twice && r.typ != dns.TypeSOA {
			b.faults.warnf(r.place, "the same %s record of %s is at %s already; it counts once", dns.Type(r.typ), b.text(owner), b.faults.line(r.place, before))
			continue
		}
		seen[string(rdata)] = r.place
		kept = append(kept, t)
	}
	return kept
}

// markCuts finds for every name the delegation and the DNAME it lies below. A
// wildcard owner delegates nothing: what it has is plain data.
func (b *builder) markCuts() {
	n := b.names.len()
	b.cuts, b.dnames = make([]uint32, n), make([]uint32, n)
	for _, i := range b.points {
		if i != b.apex && !b.wildcard(i) {
			b.cuts[i] = i + 1
		}
	}
	done := make([]bool, n)
	var path []uint32
	for i := range uint32(n) {
		b.pace.Step()
		for at := i; !done[at]; at = b.parents[at] - 1 {
			path = append(path, at)
			if b.parents[at] == 0 {
				break
			}
		}
		for ; len(path) > 0; path = path[:len(path)-1] {
			at := path[len(path)-1]
			if parent := b.parents[at]; parent != 0 {
				b.cuts[at] = cmp.Or(b.cuts[parent-1], b.cuts[at])
				if b.dnames[at] = b.dnames[parent-1]; b.dnames[at] == 0 && b.redirects && b.has(parent-1, dns.TypeDNAME) {
					b.dnames[at] = parent
				}
			}
			done[at] = true
		}
	}
}

// ours reports whether a name lies in the zone.
func (b *builder) ours(i uint32) bool { return b.parents[i] != 0 || i == b.apex }

// groupsOf yields the RRsets of a name, by type.
func (b *builder) groupsOf(i uint32) iter.Seq[group] {
	return func(yield func(group) bool) {
		for r := b.chains[i]; r != 0; {
			e := b.log.from(r)
			if !yield(group{r, binary.LittleEndian.Uint16(e[logType:])}) {
				return
			}
			r = binary.LittleEndian.Uint32(e[logGroup:])
		}
	}
}

// owns reports whether a name has records.
func (b *builder) owns(i uint32) bool { return b.chains[i] != 0 }

// firstOf returns the first RRset of a name that owns records.
func (b *builder) firstOf(i uint32) group { return group{b.chains[i], b.typeOf(b.chains[i])} }

// get returns the RRset of a name and type.
func (b *builder) get(i uint32, typ uint16) (group, bool) {
	for g := range b.groupsOf(i) {
		if g.typ == typ {
			return g, true
		}
	}
	return group{}, false
}

func (b *builder) has(i uint32, types ...uint16) bool {
	for g := range b.groupsOf(i) {
		if slices.Contains(types, g.typ) {
			return true
		}
	}
	return false
}

// all yields the records of an RRset.
func (b *builder) all(g group) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for r := g.first; r != 0 && yield(r); r = b.field(r, logNext) {
		}
	}
}

// list returns the records of an RRset.
func (b *builder) list(g group) []uint32 { return slices.Collect(b.all(g)) }

// record returns a record.
func (b *builder) record(r uint32) record {
	e := b.log.from(r)
	return record{
		ttl:   binary.LittleEndian.Uint32(e[logTTL:]),
		place: place{binary.LittleEndian.Uint16(e[logFile:]), binary.LittleEndian.Uint32(e[logLine:])},
		typ:   binary.LittleEndian.Uint16(e[logType:]),
		rdata: e[logRDATA:][:binary.LittleEndian.Uint16(e[logSize:])],
	}
}

func (b *builder) typeOf(r uint32) uint16 {
	return binary.LittleEndian.Uint16(b.log.from(r)[logType:])
}

// at returns where an RRset starts.
func (b *builder) at(g group) place { return b.record(g.first).place }

// text returns a name for messages.
func (b *builder) text(i uint32) string { return nameText(b.names.name(i)) }

// wildcard reports whether the first label of a name is "*".
func (b *builder) wildcard(i uint32) bool { return isWildcard(b.names.name(i)) }

func isWildcard(name []byte) bool { return len(name) > 2 && name[0] == 1 && name[1] == '*' }
