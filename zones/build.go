package zones

import (
	"bytes"
	"cmp"
	"math"
	"slices"

	"github.com/miekg/dns"
)

// builder gathers the records of a zone while its files are read, without a
// pointer per record, then orders them by owner and type, checks them and
// compiles them. A name is its number in names all the way into the zone.
type builder struct {
	faults  *collector
	names   *table
	records []record
	rdata   []byte
	last    uint32 // owner of the last record: the records of a name mostly stand together
	soas    []soa
	broken  map[uint16]bool // types of entries that were lost to faults; 0: of an unknown type
	full    bool            // the arenas cannot hold more

	apex    uint32
	order   []uint32 // records by owner, type and order in the files
	groups  []group  // RRsets by owner and type
	owned   []uint32 // by name: its first group; and the end of the last
	parents []uint32 // by name, plus one; 0: the apex, or out of the zone
	cuts    []uint32 // by name: the cut at or above it, plus one
	dnames  []uint32 // by name: the DNAME above it, plus one
}

// record is a record at rest.
type record struct {
	owner uint32
	rdata uint32 // offset
	ttl   uint32
	place
	size uint16 // of RDATA
	typ  uint16
}

// group is an RRset: records order[first:first+count].
type group struct {
	first, count uint32
	typ          uint16
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
	if len(b.rdata)+len(b.names.text)+16*len(b.records) > maxArena {
		b.full = true
		return
	}
	i := b.last
	if i >= uint32(b.names.len()) || !bytes.Equal(b.names.name(i), owner) {
		i = b.names.intern(owner)
		b.last = i
	}
	b.records = append(b.records, record{owner: i, rdata: uint32(len(b.rdata)), ttl: ttl, place: at, size: uint16(len(rdata)), typ: typ})
	b.rdata = append(b.rdata, rdata...)
	if typ == dns.TypeSOA {
		b.soas = append(b.soas, soa{at, i, atOrigin})
	}
}

// reserve makes room for so many times what there is, so that the arenas of a
// large zone do not grow by copies of themselves. A file of that size has no
// more by itself, whatever $GENERATE made before.
func (b *builder) reserve(times, size int) {
	b.records = slices.Grow(b.records, min(len(b.records)*times, size/8))
	b.rdata = slices.Grow(b.rdata, min(len(b.rdata)*times, size))
	b.names.reserve(min(b.names.len()*times, size/8), min(len(b.names.text)*times, size))
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
		if len(b.records) > 0 {
			first = b.records[0].place
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

// arrange orders what was gathered.
func (b *builder) arrange() {
	b.addParents()
	b.sort()
	b.group()
	b.markCuts()
}

// addParents makes every name between an owner and the apex exist: those
// without records are the empty non-terminals (RFC 4592 section 2.2.2).
func (b *builder) addParents() {
	apex := bytes.Clone(b.names.name(b.apex))
	b.parents = make([]uint32, 0, b.names.len())
	for i := uint32(0); i < uint32(b.names.len()); i++ { // grows as parents come
		name, parent := b.names.name(i), uint32(0)
		if i != b.apex && under(name, apex) {
			parent = b.names.intern(name[1+int(name[0]):]) + 1
		}
		b.parents = append(b.parents, parent)
	}
}

// sort orders the records by owner (counting, in linear time), then by type,
// and leaves the order of the files otherwise.
func (b *builder) sort() {
	n := b.names.len()
	start := make([]uint32, n+1)
	for _, r := range b.records {
		start[r.owner+1]++
	}
	for i := range n {
		start[i+1] += start[i]
	}
	b.order = make([]uint32, len(b.records))
	next := slices.Clone(start)
	for i, r := range b.records {
		b.order[next[r.owner]] = uint32(i)
		next[r.owner]++
	}
	for i := range n {
		if owned := b.order[start[i]:start[i+1]]; len(owned) > 1 {
			slices.SortStableFunc(owned, func(x, y uint32) int { return cmp.Compare(b.records[x].typ, b.records[y].typ) })
		}
	}
}

// group forms the RRsets and drops duplicates from them.
func (b *builder) group() {
	b.owned = make([]uint32, 0, b.names.len()+1)
	b.groups = make([]group, 0, len(b.order))
	kept := b.order[:0] // never ahead of what is read
	for i := 0; i < len(b.order); {
		r := b.records[b.order[i]]
		end := i + 1
		for end < len(b.order) && b.records[b.order[end]].owner == r.owner && b.records[b.order[end]].typ == r.typ {
			end++
		}
		for len(b.owned) <= int(r.owner) {
			b.owned = append(b.owned, uint32(len(b.groups)))
		}
		first := len(kept)
		kept = b.unique(kept, b.order[i:end])
		b.groups = append(b.groups, group{first: uint32(first), count: uint32(len(kept) - first), typ: r.typ})
		i = end
	}
	for len(b.owned) <= b.names.len() {
		b.owned = append(b.owned, uint32(len(b.groups)))
	}
	b.order = kept
}

// unique appends the records of one RRset to kept, each RDATA once. RFC 2181
// section 5: duplicates are suppressed (5), TTLs must agree (5.2).
func (b *builder) unique(kept, records []uint32) []uint32 {
	if len(records) == 1 {
		return append(kept, records...)
	}
	seen := make(map[string]place, len(records))
	var rdata []byte
	first := b.records[records[0]]
	for _, i := range records {
		r := b.records[i]
		if r.ttl != first.ttl && r.typ != dns.TypeRRSIG { // of several types covered
			b.faults.errorf(r.place, "TTL %d differs from %d at %s: the %s records of %s need one TTL",
				r.ttl, first.ttl, b.faults.line(r.place, first.place), dns.Type(r.typ), b.text(r.owner))
		}
		rdata = appendFolded(rdata[:0], r.typ, b.data(r))
		if before, twice := seen[string(rdata)]; twice && r.typ != dns.TypeSOA {
			b.faults.warnf(r.place, "the same %s record of %s is at %s already; it counts once", dns.Type(r.typ), b.text(r.owner), b.faults.line(r.place, before))
			continue
		}
		seen[string(rdata)] = r.place
		kept = append(kept, i)
	}
	return kept
}

// markCuts finds for every name the delegation and the DNAME it lies below. A
// wildcard owner delegates nothing: what it has is plain data.
func (b *builder) markCuts() {
	n := b.names.len()
	b.cuts, b.dnames = make([]uint32, n), make([]uint32, n)
	done := make([]bool, n)
	var path []uint32
	for i := range uint32(n) {
		for at := i; !done[at]; at = b.parents[at] - 1 {
			path = append(path, at)
			if b.parents[at] == 0 {
				break
			}
		}
		for ; len(path) > 0; path = path[:len(path)-1] {
			at := path[len(path)-1]
			if parent := b.parents[at]; parent != 0 {
				b.cuts[at] = b.cuts[parent-1]
				if b.dnames[at] = b.dnames[parent-1]; b.dnames[at] == 0 && b.has(parent-1, dns.TypeDNAME) {
					b.dnames[at] = parent
				}
			}
			if b.cuts[at] == 0 && at != b.apex && b.has(at, dns.TypeNS) && !b.wildcard(at) {
				b.cuts[at] = at + 1
			}
			done[at] = true
		}
	}
}

// ours reports whether a name lies in the zone.
func (b *builder) ours(i uint32) bool { return b.parents[i] != 0 || i == b.apex }

// groupsOf returns the RRsets of a name.
func (b *builder) groupsOf(i uint32) []group { return b.groups[b.owned[i]:b.owned[i+1]] }

// get returns the RRset of a name and type.
func (b *builder) get(i uint32, typ uint16) (group, bool) {
	for _, g := range b.groupsOf(i) {
		if g.typ == typ {
			return g, true
		}
	}
	return group{}, false
}

func (b *builder) has(i uint32, types ...uint16) bool {
	return slices.ContainsFunc(types, func(t uint16) bool { _, ok := b.get(i, t); return ok })
}

// all returns the records of an RRset, as indices.
func (b *builder) all(g group) []uint32 { return b.order[g.first : g.first+g.count] }

// at returns where an RRset starts.
func (b *builder) at(g group) place { return b.records[b.order[g.first]].place }

// data returns the RDATA of a record.
func (b *builder) data(r record) []byte { return b.rdata[r.rdata : r.rdata+uint32(r.size)] }

// text returns a name for messages.
func (b *builder) text(i uint32) string { return nameText(b.names.name(i)) }

// wildcard reports whether the first label of a name is "*".
func (b *builder) wildcard(i uint32) bool { return isWildcard(b.names.name(i)) }

func isWildcard(name []byte) bool { return len(name) > 2 && name[0] == 1 && name[1] == '*' }
