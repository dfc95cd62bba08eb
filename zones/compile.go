package zones

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"
	"unsafe"

	"github.com/miekg/dns"

	"nearside/pace"
)

// compiler turns a builder's records into a Zone, name by name.
type compiler struct {
	*builder
	zone   *Zone
	steer  *steerer
	nodes  []uint32 // by name: the offset of its node; 0: it lies outside the zone
	beside []beside

	spreads spreads

	owner   []byte   // the name that is being compiled
	sets    []rrset  // of it
	service uint16   // of its steered RRsets
	cap     uint32   // on their TTLs
	list    []uint32 // the records of its sets
	spots   []spot   // suffixes that pointers of the RRset that is being compiled may lead to
}

// rrset is an RRset to be compiled.
type rrset struct {
	typ     uint16
	regions uint64     // 0: static
	records []uint32   // if it is static
	parts   [][]uint32 // else: the records of each region
}

// beside is records that may have additional ones.
type beside struct {
	owner uint32 // offset of its node
	typ   uint16
	set   uint32 // offset of their set
	span  uint32 // offset of their span
	size  uint32 // octets of the records behind it
}

// compile checks the records and makes the zone. If there are faults that are
// no warnings, the zone is of no use; it is nil if there is no room for it. others
// is where NS records of other zones point at.
func (b *builder) compile(s Steering, lenient bool, others targets) *Zone {
	if !b.arrange() {
		return nil
	}
	z := &Zone{origin: b.text(b.apex), apex: bytes.Clone(b.names.name(b.apex)), records: b.count}
	c := &compiler{builder: b, zone: z, steer: newSteerer(b, s, lenient), nodes: make([]uint32, b.names.len())}
	if s.RegionOf != nil {
		z.servers = c.steer.findTargets(others.within(z.apex))
		c.steer.findLabels()
	}
	b.checkApex()
	size := word + reach
	for i := range uint32(b.names.len()) {
		b.pace.Step()
		b.check(i)
		size += b.sizeOf(i)
	}
	soa, _ := b.get(b.apex, dns.TypeSOA)
	z.file, z.line = b.faults.files[b.at(soa).file], int(b.at(soa).line)
	b.dnames = nil
	z.arena = newArena(size)
	c.fill()
	c.connect()
	for _, b := range c.beside {
		c.pace.Step()
		c.additional(b)
	}
	z.arena = append(z.arena, make([]byte, reach)...)
	release(z.arena, len(z.arena))
	c.soa()
	z.pinned = c.steer.effective
	z.spreads = c.spreads.list
	slices.Sort(z.steered)
	slices.SortFunc(z.single, func(x, y OneRegion) int { return cmp.Compare(x.Name, y.Name) })
	return z
}

// fill compiles the names. All checks are done, so
// each looks at no names and records but its own and, where it has region labels,
// theirs. Names have their numbers in the order of their first records: what stands
// before those in the log is used up, and so are the names before. At the first
// load there is room for them.
func (c *compiler) fill() {
	letGo := c.pace.Pace() == pace.Gentle && c.steer.labels == nil
	for i := range uint32(c.names.len()) {
		c.pace.Step()
		if !c.ours(i) {
			continue
		}
		if c.zone.arena.full() {
			c.faults.errorf(place{}, "the zone takes %d octets or more in memory; split it", maxCompiled)
			return
		}
		if letGo {
			c.log.release(c.earliest(i))
			c.names.release(i)
		}
		c.nodes[i] = uint32(len(c.zone.arena))
		c.owner = c.names.name(i)
		c.name(i)
	}
}

// newArena makes an arena for so many octets.
func newArena(size int) arena {
	var room strings.Builder // its memory is not cleared, which would take all of it at once
	room.Grow(size)
	room.Write(make([]byte, word))
	return unsafe.Slice(unsafe.StringData(room.String()), room.Cap())[:word] // nobody else has the string
}

// earliest returns the offset of the first record of a name in the log, 0 if it
// has none.
func (b *builder) earliest(i uint32) uint32 {
	first := b.chains[i]
	for g := range b.groupsOf(i) {
		first = min(first, g.first)
	}
	return first
}

// sizeOf returns how many octets a name takes where nothing is steered, or
// compressed: an arena that has to grow is copied, and nothing interrupts that.
func (b *builder) sizeOf(i uint32) int {
	if !b.ours(i) {
		return 0 // and its name may be shorter than that of the apex
	}
	size := word + len(b.names.name(i)) - len(b.names.name(b.apex))
	for g := range b.groupsOf(i) {
		size += word
		if pointsOn(g.typ) {
			size += word // for the span
		}
		for r := range b.all(g) {
			size += fixed + len(b.record(r).rdata)
		}
	}
	return (size + align - 1) &^ (align - 1)
}

// name compiles a name and its RRsets.
func (c *compiler) name(i uint32) {
	z, at := c.zone, c.nodes[i]
	z.deepest = max(z.deepest, len(c.owner))
	name := z.relative(c.owner)
	z.arena = append(append(z.arena, make([]byte, word)...), name...)
	p := c.steer.plan(i)
	c.gather(i, p)
	var flags uint8
	if c.has(i, dns.TypeDNAME) && !p.hides(dns.TypeDNAME) { // at region labels it redirects nobody
		flags |= isRedirect
	}
	for _, s := range c.sets {
		if s.regions != 0 {
			if flags&isSteered == 0 {
				flags |= isSteered
				text := nameText(c.owner)
				z.steered = append(z.steered, text)
				c.service, c.cap = c.steer.Service(text)
			}
			c.spreads.add(Spread{c.service, s.regions, z.steered[len(z.steered)-1], 1})
		}
		c.set(at, s)
	}
	if flags&isSteered == 0 && p.regions != 0 {
		z.single = append(z.single, OneRegion{nameText(c.owner), c.steer.regionNames(p.regions)})
	}
	z.arena.put(at, uint64(len(name))|uint64(flags)<<8|uint64(len(c.sets))<<16)
	z.arena = append(z.arena, make([]byte, -len(z.arena)&(align-1))...)
}

// gather finds out which RRsets a name has, by type.
func (c *compiler) gather(i uint32, p plan) {
	c.sets, c.list = c.sets[:0], c.list[:0]
	for g := range c.groupsOf(i) {
		if p.hides(g.typ) {
			continue
		}
		start := len(c.list)
		for r := range c.all(g) {
			c.list = append(c.list, r)
		}
		s := rrset{typ: g.typ, records: c.list[start:]}
		if p.leaveOut {
			if s.records = c.steer.usable(s.records); len(s.records) == 0 {
				continue
			}
		}
		s.regions = c.steer.regionsOf(s.records, p.regions)
		for left := s.regions; left != 0; left &= left - 1 {
			region := left & -left
			s.parts = append(s.parts, slices.DeleteFunc(slices.Clone(s.records), func(r uint32) bool {
				return c.steer.regionsOfRecord(r, p.regions)&region == 0
			}))
		}
		c.sets = append(c.sets, s)
	}
	for _, l := range p.labels {
		s := rrset{typ: l.typ, regions: l.regions, parts: l.records}
		if bits.OnesCount64(l.regions) < 2 {
			s = rrset{typ: l.typ, records: slices.Concat(l.records...)}
			if l.typ == dns.TypeCNAME {
				s.records = s.records[:1] // a name has one CNAME
			}
		}
		c.sets = append(c.sets, s)
	}
	if len(p.labels) > 0 {
		slices.SortStableFunc(c.sets, func(x, y rrset) int { return cmp.Compare(x.typ, y.typ) })
	}
}

// set appends an RRset of a name.
func (c *compiler) set(owner uint32, s rrset) {
	z, set := c.zone, uint32(len(c.zone.arena))
	z.arena = append(z.arena, make([]byte, word)...)
	body := set + word
	w := uint64(s.typ)
	if pointsOn(s.typ) {
		w |= setSpanned
	}
	if s.regions == 0 {
		count := c.append(beside{owner: owner, typ: s.typ, set: set}, s.records, c.ttl(s.records))
		w |= uint64(count) << 16
	} else {
		w |= setSteered | uint64(c.service)<<16
		z.arena = append(z.arena, make([]byte, word+word*len(s.parts))...)
		z.arena.put(body, s.regions)
		for i, records := range s.parts {
			start := uint32(len(z.arena))
			count := c.append(beside{owner: owner, typ: s.typ, set: set}, records, min(c.ttl(records), c.cap))
			size := uint32(len(z.arena)) - start
			z.arena.put(body+word+word*uint32(i), uint64(start-body)|uint64(size)<<32|uint64(count)<<48)
		}
	}
	z.arena.put(set, w|uint64(uint32(len(z.arena))-body)<<32)
}

// append appends records, behind a span if they may have additional ones, and
// returns how many they are.
func (c *compiler) append(b beside, records []uint32, ttl uint32) (count uint16) {
	z := c.zone
	if pointsOn(b.typ) {
		b.span = uint32(len(z.arena))
		z.arena = append(z.arena, make([]byte, word)...)
	}
	b.size, count = c.emit(b.typ, records, ttl)
	if b.span != 0 {
		c.beside = append(c.beside, b)
	}
	return count
}

// connect makes each node lead to its cut, else to the wildcard below it, and
// enters all nodes in the index: many at once, as each waits for memory.
func (c *compiler) connect() {
	z, a := c.zone, c.zone.arena
	z.index = newIndex(len(c.nodes), len(a))
	var room [maxName]byte
	var hashes [64]uint64
	for first := 0; first < len(c.nodes); first += len(hashes) {
		c.pace.Look()
		nodes := c.nodes[first:min(first+len(hashes), len(c.nodes))]
		for i, at := range nodes {
			if at != 0 {
				n := a.node(at)
				name := z.appendName(room[:0], n)
				hashes[i] = Hash(name)
				c.lead(uint32(first+i), isWildcard(name))
			}
		}
		for i, at := range nodes {
			if at != 0 {
				z.index.add(hashes[i], at)
			}
		}
	}
	z.top = c.nodes[c.apex]
}

// lead makes a node lead to its cut, or its parent to it if it is a wildcard.
func (c *compiler) lead(i uint32, wildcard bool) {
	a, at := c.zone.arena, c.nodes[i]
	if cut := c.cuts[i]; cut != 0 {
		a.put(at, a.word(at)|uint64(isCut)<<8|uint64(c.nodes[cut-1])<<32)
	} else if wildcard && c.parents[i] != 0 {
		parent := c.nodes[c.parents[i]-1]
		a.put(parent, a.word(parent)|uint64(at)<<32)
	}
}

// ttl returns the least TTL of records; they differ only across region labels.
func (c *compiler) ttl(records []uint32) uint32 {
	least := c.field(records[0], logTTL)
	for _, r := range records[1:] {
		least = min(least, c.field(r, logTTL))
	}
	return least
}

// fixed is the length of a record in RRset.Wire without its RDATA.
const fixed = 12

// emit appends records in the form of RRset.Wire.
func (c *compiler) emit(typ uint16, records []uint32, ttl uint32) (size uint32, count uint16) {
	z, at := c.zone, len(c.zone.arena)
	c.startNames(typ)
	for _, i := range records {
		r := c.record(i)
		own := ttl
		if r.typ == dns.TypeRRSIG {
			own = r.ttl // that of the type it covers (RFC 4034 section 3)
		}
		if !hasNames(r.typ, r.rdata) {
			c.faults.errorf(r.place, "the data of this %s record of %s is cut off, or its name is none", dns.Type(r.typ), nameText(c.owner))
			continue
		}
		z.arena = append(z.arena, 0xC0, 12)
		z.arena = binary.BigEndian.AppendUint16(z.arena, r.typ)
		z.arena = binary.BigEndian.AppendUint16(z.arena, dns.ClassINET)
		z.arena = binary.BigEndian.AppendUint32(z.arena, own)
		z.arena = append(z.arena, 0, 0)
		rdata := len(z.arena)
		c.compress(r.typ, r.rdata, at)
		binary.BigEndian.PutUint16(z.arena[rdata-2:], uint16(len(z.arena)-rdata))
	}
	// RFC 1035 section 4.2.2: a message over TCP has at most 65535 octets. The
	// header, the longest question and an OPT record take their share.
	const room = 65535 - 12 - (maxName + 4) - 64
	length := len(z.arena) - at
	if length > room {
		c.faults.errorf(c.record(records[0]).place, "the %s records of %s take %d octets: no message can hold more than %d; take some out",
			dns.Type(typ), nameText(c.owner), length, room)
		z.arena = z.arena[:at] // nor could the words before them say so
		return 0, 0
	}
	return uint32(length), uint16(len(records))
}

// appendLower appends the wire name at the start of b in lower case.
func appendLower(dst, b []byte) []byte {
	for _, c := range b[:nameLength(b)] {
		dst = append(dst, lower(c)) // no length octet is a letter: 63 < 'A'
	}
	return dst
}

// soa takes serial and the negative answer from the SOA record.
func (c *compiler) soa() {
	z := c.zone
	apex := z.arena.node(z.top)
	s := &z.negative
	if !z.typed(apex, dns.TypeSOA, s) || s.Count != 1 || len(s.Wire) < fixed+20 {
		return // reported as a fault
	}
	numbers := s.Wire[len(s.Wire)-20:]
	z.serial = binary.BigEndian.Uint32(numbers)
	s.Wire = bytes.Clone(s.Wire)
	ttl := s.Wire[6:]
	binary.BigEndian.PutUint32(ttl, min(binary.BigEndian.Uint32(ttl), binary.BigEndian.Uint32(numbers[16:])))
}
