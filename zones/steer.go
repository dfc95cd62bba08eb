package zones

import (
	"bytes"
	"fmt"
	"maps"
	"math/bits"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// steerer finds which names are steered, and reports what breaks a rule.
//
// It is lenient for a last good version that was good under another
// configuration: what has no region any more is left out, with a warning.
type steerer struct {
	Steering
	*builder
	lenient   bool
	targets   []bool              // by name: it answers for the target of an NS record of this zone
	pinned    map[uint32]string   // name -> a target of NS records of other zones that it answers for
	effective []string            // those of pinned without which their name would be steered
	labels    map[uint32][]uint32 // owner -> its names REGION._region.OWNER
	inside    []bool              // by name: it is or lies below _region; nil: none does
}

// plan is what steering makes of a name. The zero value is a plain name.
type plan struct {
	// regions is where the owner has addresses; with two or more it is steered
	// by address.
	regions  uint64
	leaveOut bool // records that belong to no region are left out (lenient)
	labels   []labelled
}

// labelled is one type at the region labels of an owner.
type labelled struct {
	typ     uint16
	regions uint64
	records [][]uint32 // by region, in their order; without regions by label
}

// hides reports whether labels take the place of what the owner itself has of
// a type. That is a fault, so it matters to lenient loading alone.
func (p plan) hides(typ uint16) bool {
	return slices.ContainsFunc(p.labels, func(l labelled) bool {
		return l.typ == typ || l.typ == dns.TypeCNAME && !signing(typ)
	})
}

// signing reports whether a type may stand beside a CNAME.
func signing(typ uint16) bool { return typ == dns.TypeRRSIG || typ == dns.TypeNSEC }

func newSteerer(b *builder, s Steering, lenient bool) *steerer {
	return &steerer{Steering: s, builder: b, lenient: lenient, pinned: make(map[uint32]string)}
}

// plan decides about a name.
func (s *steerer) plan(i uint32) plan {
	var p plan
	if s.RegionOf == nil || s.cuts[i] != 0 {
		return p
	}
	if labels := s.labels[i]; len(labels) > 0 {
		p.labels = s.byLabel(i, labels)
	}
	if s.serves(i) {
		return s.pin(i, p)
	}
	if s.inside == nil || !s.inside[i] {
		p.regions, p.leaveOut = s.byAddress(i)
	}
	if len(p.labels) > 0 && bits.OnesCount64(p.regions) > 1 {
		s.fault(s.at(s.firstOf(s.labels[i][0])), "%s has addresses in several regions and region labels; choose one form", s.text(i))
		p.regions, p.leaveOut = 0, false
	}
	return p
}

// fault reports what breaks a steering rule.
func (s *steerer) fault(at place, format string, args ...any) {
	if s.lenient {
		s.faults.warnf(at, format, args...)
	} else {
		s.faults.errorf(at, format, args...)
	}
}

// static reports whether the configuration opts a name out.
func (s *steerer) static(i uint32) bool { return s.Static != nil && s.Static(s.text(i)) }

// regionNames lists regions for messages.
func (s *steerer) regionNames(regions uint64) string {
	var names []string
	for ; regions != 0; regions &= regions - 1 {
		names = append(names, s.Name(uint8(bits.TrailingZeros64(regions))))
	}
	return strings.Join(names, ", ")
}

// findTargets notes the names that answer for the targets of NS records: they
// are always static. It returns the targets, sorted, that other zones may have
// to answer for: those outside this zone and below its cuts. others is the
// targets of other zones within this one.
func (s *steerer) findTargets(others []string) (servers []string) {
	s.targets = make([]bool, s.names.len())
	outside := make(map[string]bool)
	var room [maxName]byte
	for _, i := range s.points {
		s.pace.Step()
		g, _ := s.get(i, dns.TypeNS)
		for r := range s.all(g) {
			target := appendLower(room[:0], s.record(r).rdata)
			if !under(target, s.names.name(s.apex)) {
				outside[string(target)] = true
				continue
			}
			t, ok := s.resolve(target)
			if ok {
				s.targets[t] = true
			}
			if s.cuts[t] != 0 {
				outside[string(target)] = true
			}
		}
	}
	for _, target := range others {
		if t, ok := s.resolve([]byte(target)); ok {
			s.pinned[t] = target
		}
	}
	return slices.Sorted(maps.Keys(outside))
}

// serves reports whether a name answers for the target of an NS record.
func (s *steerer) serves(i uint32) bool {
	_, pinned := s.pinned[i]
	return pinned || s.targets[i]
}

// pin is the plan for a name that answers for the target of an NS record, p what
// its labels say: it answers with all it has, whatever is drained. Resolvers
// would otherwise lose name servers with a region.
func (s *steerer) pin(i uint32, p plan) plan {
	regions, _ := s.addresses(i)
	for n := range p.labels {
		regions |= p.labels[n].regions
		p.labels[n].regions = 0
	}
	if target, pinned := s.pinned[i]; bits.OnesCount64(regions) > 1 && !s.static(i) {
		which := "an NS record points at it"
		if !s.targets[i] {
			which = fmt.Sprintf("an NS record of another zone points at %s", nameText([]byte(target)))
		}
		s.faults.warnf(s.placeOf(i), "%s is in several regions (%s) and yet static, because %s; if that is meant, list it in steering.static",
			s.text(i), s.regionNames(regions), which)
		if pinned && !s.targets[i] {
			s.effective = append(s.effective, target)
		}
	}
	return plan{labels: p.labels}
}

// placeOf returns where the addresses of a name start, or its region labels.
func (s *steerer) placeOf(i uint32) place {
	for g := range s.groupsOf(i) {
		if addressed(g.typ) {
			return s.at(g)
		}
	}
	return s.at(s.firstOf(s.labels[i][0]))
}

// addresses returns the regions in which the owner has addresses, and the
// records that are amiss if it is to be steered: with addresses in no region, or
// in several.
func (s *steerer) addresses(i uint32) (regions uint64, amiss []uint32) {
	for g := range s.groupsOf(i) {
		if !addressed(g.typ) {
			continue
		}
		for r := range s.all(g) {
			in, stray := s.locate(r)
			regions |= in
			if stray.IsValid() || bits.OnesCount64(in) > 1 {
				amiss = append(amiss, r)
			}
		}
	}
	return regions, amiss
}

// byAddress returns the regions in which the owner has addresses, none if it is
// plain, and whether some of its records are to be left out.
func (s *steerer) byAddress(i uint32) (regions uint64, leaveOut bool) {
	regions, amiss := s.addresses(i)
	if regions == 0 || s.static(i) {
		return 0, false
	}
	for _, r := range amiss {
		at := s.record(r).place
		if in, stray := s.locate(r); stray.IsValid() {
			s.fault(at, "%s of %s is in no region's prefixes, but other addresses of it are (%s); correct it, or list the name in steering.static",
				stray, s.text(i), s.regionNames(regions))
		} else {
			s.fault(at, "the hints of one record of %s lie in several regions (%s); write one record for each", s.text(i), s.regionNames(in))
		}
	}
	if bits.OnesCount64(regions) > 1 {
		s.compareTypes(i, regions)
	}
	return regions, len(amiss) > 0
}

// compareTypes warns where the regions of an owner have different types: a
// client's IPv4 and IPv6 may then meet in different data centers.
func (s *steerer) compareTypes(i uint32, regions uint64) {
	for g := range s.groupsOf(i) {
		if in := s.regionsOf(s.list(g), regions); in != 0 && in != regions {
			s.faults.warnf(s.at(g), "%s has %s records in %s only, but addresses in %s; give every region the same types",
				s.text(i), dns.Type(g.typ), s.regionNames(in), s.regionNames(regions))
		}
	}
}

// addressed reports whether records of a type can be steered by address.
func addressed(typ uint16) bool {
	return typ == dns.TypeA || typ == dns.TypeAAAA || typ == dns.TypeHTTPS || typ == dns.TypeSVCB
}

// usable returns the records that belong to one region, or to any.
func (s *steerer) usable(records []uint32) []uint32 {
	return slices.DeleteFunc(slices.Clone(records), func(r uint32) bool {
		in, stray := s.locate(r)
		return stray.IsValid() || bits.OnesCount64(in) > 1
	})
}

// regionsOf returns the regions that have one of the records, which are of one
// type; 0 if the RRset is static. regions is where the owner has addresses.
func (s *steerer) regionsOf(records []uint32, regions uint64) uint64 {
	if bits.OnesCount64(regions) < 2 || !addressed(s.typeOf(records[0])) {
		return 0
	}
	var union, hinted uint64
	for _, r := range records {
		in, _ := s.locate(r)
		hinted |= in
		union |= s.regionsOfRecord(r, regions)
	}
	if hinted == 0 {
		return 0 // HTTPS or SVCB without any hint
	}
	return union
}

// regionsOfRecord returns the regions that answer with a record: without hints,
// all of its owner's.
func (s *steerer) regionsOfRecord(r uint32, regions uint64) uint64 {
	if in, _ := s.locate(r); in != 0 {
		return in
	}
	return regions
}

// locate returns the regions of the addresses in a record, and one that lies in
// none.
func (s *steerer) locate(r uint32) (in uint64, stray netip.Addr) {
	rec := s.record(r)
	place := func(addresses []byte, size int) {
		for ; len(addresses) >= size; addresses = addresses[size:] {
			addr, _ := netip.AddrFromSlice(addresses[:size])
			if region, ok := s.RegionOf(addr); ok {
				in |= 1 << region
			} else {
				stray = addr
			}
		}
	}
	switch rec.typ {
	case dns.TypeA:
		place(rec.rdata, 4)
	case dns.TypeAAAA:
		place(rec.rdata, 16)
	case dns.TypeHTTPS, dns.TypeSVCB:
		for key, value := range parameters(rec.rdata) {
			switch key {
			case dns.SVCB_IPV4HINT:
				place(value, 4)
			case dns.SVCB_IPV6HINT:
				place(value, 16)
			}
		}
	}
	return in, stray
}

// parameters yields the SvcParams of an HTTPS or SVCB record (RFC 9460 section 2.2).
func parameters(rdata []byte) func(yield func(dns.SVCBKey, []byte) bool) {
	return func(yield func(dns.SVCBKey, []byte) bool) {
		if len(rdata) < 3 {
			return
		}
		for p := rdata[2+nameLength(rdata[2:]):]; len(p) >= 4; {
			size := 4 + int(p[2])<<8 + int(p[3])
			if size > len(p) || !yield(dns.SVCBKey(uint16(p[0])<<8|uint16(p[1])), p[4:size]) {
				return
			}
			p = p[size:]
		}
	}
}

// containsRegionLabel reports whether any name may have the label _region. It goes
// name by name: a search through the text of all could not be interrupted.
func (s *steerer) containsRegionLabel() bool {
	for i := range uint32(s.names.len()) {
		if bytes.Contains(s.names.name(i), []byte(regionLabel)) {
			return true
		}
	}
	return false
}
