package zones

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/miekg/dns"
)

// compiler turns a builder's records into a Zone, name by name.
type compiler struct {
	*builder
	zone   *Zone
	steer  *steerer
	beside []beside

	owner []byte // the name that is being compiled
	spots []spot // suffixes that pointers of the RRset that is being compiled may lead to
}

// beside is a set that may have additional records, or a part of a steered set.
type beside struct {
	node, set uint32
	part      int // index into Zone.parts; negative: the set itself
}

// compile checks the records and makes the zone. If there are faults that are
// no warnings, the zone is of no use. others is where NS records of other zones
// point at.
func (b *builder) compile(s Steering, lenient bool, others targets) *Zone {
	b.arrange()
	z := &Zone{
		origin:  b.text(b.apex),
		records: len(b.order),
		slots:   b.names.slots,
		nodes:   make([]node, 0, b.names.len()),
		sets:    make([]set, 0, len(b.groups)),
		links:   make([]link, 1),
		wire:    make([]byte, 0, len(b.names.text)+len(b.rdata)+fixed*len(b.records)),
	}
	c := &compiler{builder: b, zone: z, steer: newSteerer(b, s, lenient)}
	if s.RegionOf != nil {
		z.servers = c.steer.findTargets(others.within(b.names.name(b.apex)))
		c.steer.findLabels()
	}
	b.checkApex()
	for i := range uint32(b.names.len()) {
		b.check(i)
		c.name(i)
	}
	for i, parent := range b.parents {
		if parent != 0 && b.wildcard(uint32(i)) {
			z.nodes[parent-1].wildcard = uint32(i) + 1
		}
	}
	for _, b := range c.beside {
		c.additional(b)
	}
	// Find has read the apex when a lookup reads what stands beside it.
	apex := z.nodes[b.apex]
	z.apex = z.wire[apex.name:][:apex.length:apex.length]
	c.soa()
	z.pinned = c.steer.effective
	slices.Sort(z.steered)
	slices.SortFunc(z.single, func(x, y OneRegion) int { return cmp.Compare(x.Name, y.Name) })
	return z
}

// name compiles a name and its RRsets.
func (c *compiler) name(i uint32) {
	z, name := c.zone, c.names.name(i)
	c.owner = name
	n := node{name: uint32(len(z.wire)), length: uint8(len(name)), sets: uint32(len(z.sets)), cut: c.cuts[i]}
	z.deepest = max(z.deepest, len(name))
	z.wire = append(z.wire, name...)
	p := c.steer.plan(i)
	for _, g := range c.groupsOf(i) {
		if g.typ == dns.TypeDNAME {
			n.flags |= isRedirect
		}
		c.rrset(g, p)
	}
	for _, l := range p.labels {
		c.labelled(l)
	}
	if own := z.sets[n.sets:]; len(p.labels) > 0 {
		slices.SortFunc(own, func(x, y set) int { return cmp.Compare(x.typ, y.typ) })
	}
	n.count = uint16(len(z.sets) - int(n.sets))
	for _, s := range z.sets[n.sets:] {
		if z.links[s.link].regions != 0 {
			n.flags |= isSteered
		}
	}
	if n.flags&isSteered != 0 {
		z.steered = append(z.steered, nameText(name))
	} else if p.regions != 0 {
		z.single = append(z.single, OneRegion{nameText(name), c.steer.regionNames(p.regions)})
	}
	z.nodes = append(z.nodes, n)
}

// rrset compiles an RRset that stands at the owner itself.
func (c *compiler) rrset(g group, p plan) {
	if p.hides(g.typ) {
		return
	}
	records := c.all(g)
	if p.leaveOut {
		if records = c.steer.usable(records); len(records) == 0 {
			return
		}
	}
	regions := c.steer.regionsOf(records, p.regions)
	if regions == 0 {
		c.static(g.typ, records)
		return
	}
	var groups [][]uint32
	for left := regions; left != 0; left &= left - 1 {
		region := left & -left
		groups = append(groups, slices.DeleteFunc(slices.Clone(records), func(r uint32) bool {
			return c.steer.regionsOfRecord(r, p.regions)&region == 0
		}))
	}
	c.split(g.typ, regions, groups)
}

// labelled compiles an RRset that stands at the region labels of the owner.
func (c *compiler) labelled(l labelled) {
	if bits.OnesCount64(l.regions) > 1 {
		c.split(l.typ, l.regions, l.records)
		return
	}
	if l.typ == dns.TypeCNAME {
		l.records = l.records[:1] // a name has one CNAME
	}
	c.static(l.typ, slices.Concat(l.records...))
}

// static appends an RRset that does not depend on the region.
func (c *compiler) static(typ uint16, records []uint32) {
	z := c.zone
	s := set{typ: typ, ttl: c.ttl(records)}
	s.wire, s.size, s.count = c.emit(records, s.ttl)
	if pointsOn(typ) {
		c.beside = append(c.beside, beside{uint32(len(z.nodes)), uint32(len(z.sets)), -1})
	}
	z.sets = append(z.sets, s)
}

// split appends an RRset of which every region has a part: groups[i] is the
// records of the i-th region of regions.
func (c *compiler) split(typ uint16, regions uint64, groups [][]uint32) {
	z := c.zone
	s := set{typ: typ, ttl: c.steer.TTL, link: uint32(len(z.links)), wire: uint32(len(z.wire))}
	z.links = append(z.links, link{regions: regions, parts: uint32(len(z.parts))})
	for _, records := range groups {
		ttl := min(c.ttl(records), c.steer.TTL)
		s.ttl = min(s.ttl, ttl)
		var p part
		p.wire, p.size, p.count = c.emit(records, ttl)
		if pointsOn(typ) {
			c.beside = append(c.beside, beside{uint32(len(z.nodes)), uint32(len(z.sets)), len(z.parts)})
		}
		z.parts = append(z.parts, p)
	}
	z.sets = append(z.sets, s)
}

// ttl returns the least TTL of records; they differ only across region labels.
func (c *compiler) ttl(records []uint32) uint32 {
	least := c.records[records[0]].ttl
	for _, r := range records[1:] {
		least = min(least, c.records[r].ttl)
	}
	return least
}

// fixed is the length of a record in RRset.Wire without its RDATA.
const fixed = 12

// emit appends records to the wire in the form of RRset.Wire.
func (c *compiler) emit(records []uint32, ttl uint32) (start, size uint32, count uint16) {
	z, at := c.zone, len(c.zone.wire)
	c.startNames(c.records[records[0]].typ)
	for _, i := range records {
		r := c.records[i]
		own := ttl
		if r.typ == dns.TypeRRSIG {
			own = r.ttl // that of the type it covers (RFC 4034 section 3)
		}
		if !hasNames(r.typ, c.data(r)) {
			c.faults.errorf(r.place, "the data of this %s record of %s is cut off, or its name is none", dns.Type(r.typ), c.text(r.owner))
			continue
		}
		z.wire = append(z.wire, 0xC0, 12)
		z.wire = binary.BigEndian.AppendUint16(z.wire, r.typ)
		z.wire = binary.BigEndian.AppendUint16(z.wire, dns.ClassINET)
		z.wire = binary.BigEndian.AppendUint32(z.wire, own)
		z.wire = append(z.wire, 0, 0)
		rdata := len(z.wire)
		c.compress(r.typ, c.data(r), at)
		binary.BigEndian.PutUint16(z.wire[rdata-2:], uint16(len(z.wire)-rdata))
	}
	// RFC 1035 section 4.2.2: a message over TCP has at most 65535 octets. The
	// header, the longest question and an OPT record take their share.
	const room = 65535 - 12 - (maxName + 4) - 64
	if length := len(z.wire) - at; length > room {
		first := c.records[records[0]]
		c.faults.errorf(first.place, "the %s records of %s take %d octets: no message can hold more than %d; take some out",
			dns.Type(first.typ), c.text(first.owner), length, room)
	}
	return uint32(at), uint32(len(z.wire) - at), uint16(len(records))
}

// appendLower appends the wire name at the start of b in lower case.
func appendLower(dst, b []byte) []byte {
	for _, c := range b[:nameLength(b)] {
		dst = append(dst, lower(c)) // no length octet is a letter: 63 < 'A'
	}
	return dst
}

// soa takes place, serial and the negative answer from the SOA record.
func (c *compiler) soa() {
	z := c.zone
	s, ok := z.typed(&z.nodes[c.apex], dns.TypeSOA)
	if !ok || s.Count != 1 || len(s.Wire) < fixed+20 {
		return // reported as a fault
	}
	g, _ := c.get(c.apex, dns.TypeSOA)
	z.file, z.line = c.faults.files[c.at(g).file], int(c.at(g).line)
	numbers := s.Wire[len(s.Wire)-20:]
	z.serial = binary.BigEndian.Uint32(numbers)
	s.TTL = min(s.TTL, binary.BigEndian.Uint32(numbers[16:]))
	s.Wire = bytes.Clone(s.Wire)
	binary.BigEndian.PutUint32(s.Wire[6:], s.TTL)
	z.negative = s
}
