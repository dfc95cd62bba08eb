package zones

import (
	"github.com/miekg/dns"
)

// checkApex reports what a zone must have at its apex.
func (b *builder) checkApex() {
	if !b.has(b.apex, dns.TypeNS) && !b.lost(dns.TypeNS) {
		soa, _ := b.get(b.apex, dns.TypeSOA)
		b.faults.errorf(b.at(soa), "no NS record at the apex %s; a zone names its servers there", b.text(b.apex))
	}
	for _, typ := range []uint16{dns.TypeDNSKEY, dns.TypeRRSIG, dns.TypeNSEC3PARAM} {
		if g, ok := b.get(b.apex, typ); ok {
			b.faults.warnf(b.at(g), "%s is signed (%s records), but answers are sent without signatures: while its parent has a DS record for it, resolvers that validate refuse them; have the DS record taken out of the parent, then serve the zone without its signatures",
				b.text(b.apex), dns.Type(typ))
			break
		}
	}
}

// check reports what is wrong with a name, steering aside.
func (b *builder) check(i uint32) {
	if !b.owns(i) {
		return
	}
	if !b.ours(i) {
		for g := range b.groupsOf(i) {
			for r := range b.all(g) {
				b.faults.errorf(b.record(r).place, "%s lies outside the zone %s; a missing final dot or a wrong $ORIGIN does this", b.text(i), b.text(b.apex))
			}
		}
		return
	}
	alias, points := false, false
	for g := range b.groupsOf(i) {
		alias = alias || g.typ == dns.TypeCNAME || g.typ == dns.TypeDNAME
		points = points || g.typ == dns.TypeNS || g.typ == dns.TypeMX || g.typ == dns.TypeSRV
	}
	if alias {
		b.checkAlias(i)
	}
	if b.cuts[i] != 0 || b.dnames[i] != 0 {
		b.checkOccluded(i)
	}
	if !alias && !points {
		return
	}
	for g := range b.groupsOf(i) {
		switch g.typ {
		case dns.TypeNS, dns.TypeMX, dns.TypeSRV:
			b.checkTargets(i, g)
		}
		if b.wildcard(i) && (g.typ == dns.TypeNS || g.typ == dns.TypeDNAME) {
			b.faults.warnf(b.at(g), "%s records at the wildcard %s are plain data to the names that it matches: these are neither delegated nor redirected", dns.Type(g.typ), b.text(i))
		}
	}
}

// checkAlias: a CNAME stands alone (RFC 1034 section 3.6.2) save for what
// DNSSEC puts beside it (RFC 4035 section 2.5), and a name has one CNAME and
// one DNAME (RFC 6672 section 2.4).
func (b *builder) checkAlias(i uint32) {
	for _, typ := range []uint16{dns.TypeCNAME, dns.TypeDNAME} {
		g, ok := b.get(i, typ)
		if !ok {
			continue
		}
		if r := b.field(g.first, logNext); r != 0 {
			second := b.record(r)
			b.faults.errorf(second.place, "a second %s record at %s; the first is at %s", dns.Type(typ), b.text(i), b.faults.line(second.place, b.at(g)))
		}
	}
	alias, ok := b.get(i, dns.TypeCNAME)
	if !ok {
		return
	}
	for g := range b.groupsOf(i) {
		if g.typ == dns.TypeCNAME || g.typ == dns.TypeRRSIG || g.typ == dns.TypeNSEC {
			continue
		}
		b.faults.errorf(later(b.at(alias), b.at(g)), "%s has CNAME and %s records; a CNAME stands alone", b.text(i), dns.Type(g.typ))
	}
}

// later returns the place that was read later.
func later(x, y place) place {
	if x.file > y.file || x.file == y.file && x.line > y.line {
		return x
	}
	return y
}

// checkOccluded: at a cut stand NS and DS, below it nothing but glue (RFC 1034
// section 4.2.1, RFC 2181 section 6), below a DNAME nothing at all (RFC 6672
// section 2.4).
func (b *builder) checkOccluded(i uint32) {
	for g := range b.groupsOf(i) {
		cut := b.cuts[i]
		glue := g.typ == dns.TypeA || g.typ == dns.TypeAAAA
		atCut := cut == i+1 && (g.typ == dns.TypeNS || g.typ == dns.TypeDS || g.typ == dns.TypeNSEC || g.typ == dns.TypeRRSIG)
		switch {
		case b.dnames[i] != 0:
			b.faults.errorf(b.at(g), "%s records at %s, below the DNAME of %s, are never seen; take out one or the other", dns.Type(g.typ), b.text(i), b.text(b.dnames[i]-1))
		case cut != 0 && !glue && !atCut:
			b.faults.errorf(b.at(g), "%s records at %s, at or below the delegation of %s, are never seen; only addresses stand there, as glue", dns.Type(g.typ), b.text(i), b.text(cut-1))
		}
	}
}

// checkTargets: the names that NS, MX and SRV records of the zone point at are
// no aliases (RFC 2181 section 10.3), and name servers in the zone have
// addresses: below a cut, resolvers reach the child through nothing else.
func (b *builder) checkTargets(i uint32, g group) {
	var room [maxName]byte
	for r := range b.all(g) {
		rec := b.record(r)
		offset, _ := target(g.typ, rec.rdata)
		target := appendLower(room[:0], rec.rdata[offset:])
		if !under(target, b.names.name(b.apex)) {
			continue
		}
		t, ok := b.resolve(target)
		switch {
		case ok && b.has(t, dns.TypeCNAME) && g.typ == dns.TypeNS:
			b.faults.errorf(rec.place, "the NS target %s is an alias (CNAME); point at the name that has the addresses", nameText(target))
		case ok && b.has(t, dns.TypeCNAME):
			b.faults.warnf(rec.place, "the %s target %s is an alias (CNAME); point at the name that has the addresses", dns.Type(g.typ), nameText(target))
		case g.typ != dns.TypeNS || b.lost(dns.TypeA, dns.TypeAAAA):
		case ok && b.has(t, dns.TypeA, dns.TypeAAAA):
		case b.cuts[t] != 0 && b.cuts[t] != b.cuts[i]:
			// Another child's name: that child's servers know its addresses.
		case b.cuts[t] != 0:
			b.faults.errorf(rec.place, "no glue for the NS target %s: it lies in the zone it serves; add its A or AAAA record", nameText(target))
		default:
			b.faults.errorf(rec.place, "the NS target %s has no address in this zone; add its A or AAAA record", nameText(target))
		}
	}
}

// resolve returns the name that answers for target: itself, or the wildcard
// that covers it. ok is false if there is neither, and i then is the closest
// encloser.
func (b *builder) resolve(target []byte) (i uint32, ok bool) {
	if i, ok = b.names.find(target); ok {
		return i, true
	}
	for !ok {
		target = target[1+int(target[0]):]
		i, ok = b.names.find(target)
	}
	star := append([]byte{1, '*'}, target...)
	if w, ok := b.names.find(star); ok && b.cuts[i] == 0 {
		return w, true
	}
	return i, false
}
