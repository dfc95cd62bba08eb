package dnsserver

import (
	"encoding/binary"
	"net/netip"
	"runtime/debug"
	"sync/atomic"

	"github.com/rs/zerolog"
	"nearside/regions"
	"nearside/zones"
)

// Limits of a response in octets.
const (
	plainUDP = 512   // without EDNS (RFC 1035, 4.2.1)
	safeUDP  = 1232  // with it, unless configured: never fragmented (RFC 9715)
	wholeTCP = 65535 // what the length field of TCP can say
)

// maxChain is how many CNAME or DNAME records a response follows; a longer
// chain is given in part, and the resolver asks on.
const maxChain = 16

// responder answers queries in its own memory, a batch or one at a time. Every UDP
// worker has one, and TCP connections borrow one while they answer.
type responder struct {
	counts *counts
	clock  *atomic.Uint32 // Unix seconds, kept by the server: a query asks no clock
	limits Limits
	log    zerolog.Logger // for bugs alone: see survive

	queries [batch]query
	*query         // the one that is being answered
	sink    uint32 // a use for what lookAhead reads

	msg   []byte // the message: question kept from the query, response appended
	room  int    // how long the message may get
	limit int    // the same without OPT and what the client asked for in it
	snap  *Snapshot

	qname []byte // the name being looked up, lower case: the one asked for, then each target of a chain
	at    int    // offset in msg of qname: owner names point to it or into it
	chain [maxChain]int

	dnames      [maxChain]int // offsets of the DNAME records in the answer section
	dnamesGiven int

	rcode      int
	why        reason
	authentic  bool // AA
	truncated  bool // TC
	answers    uint16
	authority  uint16
	additional uint16

	placed   bool         // the client was placed: a steered link needed it
	list     []regions.ID // its preference list
	place    int          // the ECS scope that justifies the list
	bySubnet bool         // the client subnet decided about it, not the source

	scope int    // ECS scope of the response
	ttl   uint32 // cap on the TTL of the RRset that was chosen
}

func newResponder(c *counts, clock *atomic.Uint32, limits Limits, log zerolog.Logger) responder {
	return responder{counts: c, clock: clock, limits: limits, log: log}
}

// respond answers one query by itself: that in buf[:n]. See reply.
func (r *responder) respond(s *Snapshot, buf []byte, n int, from netip.Addr, stream bool) int {
	r.queries[0].take(buf[:n], from)
	return r.reply(s, 0, stream)
}

// reply turns query i into its response in the same buffer and returns the
// response's length, or 0 for silence. The buffer has room for wholeTCP octets when
// stream is set, else for Limits.UDPSize.
func (r *responder) reply(s *Snapshot, i int, stream bool) (length int) {
	r.query = &r.queries[i]
	defer r.survive(&length)
	r.counts.add(countReceived, 1)
	if !r.prepared {
		r.prepare(s)
		r.seek()
	}
	if r.fault == silence {
		r.counts.add(countDropped, 1)
		return 0
	}
	r.reset(s, stream)
	judged := r.judge(stream)
	if judged == drop {
		r.counts.add(countLimited, 1)
		return 0
	}
	if r.rcode == rcodeNoError && r.end != 0 { // else a cookie is all that is wanted
		r.msg = r.msg[:r.end]
		if judged == slip {
			r.counts.add(countLimited, 1)
			r.truncated = true
		} else {
			r.answer()
		}
	}
	return r.finish(stream)
}

// judge applies the rate limit to a response that is about to be made. TCP and a
// valid cookie prove that the client's address is no forgery.
func (r *responder) judge(stream bool) verdict {
	limiter := r.snap.policy.Limiter
	if limiter == nil || stream {
		return pass
	}
	now := r.clock.Load()
	if r.cookie.present && r.snap.secrets != nil {
		if ok, _ := r.cookie.valid(r.snap.secrets, r.from, now); ok {
			return pass
		}
	}
	return limiter.judge(r.from, now)
}

// survive turns a panic, which would be a bug of ours, into a SERVFAIL for the
// one query that met it. The first is logged, and then ever fewer: whoever finds
// such a query can send it as fast as he likes.
func (r *responder) survive(length *int) {
	if cause := recover(); cause != nil {
		if n := r.counts.note(countPanics, 1); n&(n-1) == 0 { // 1, 2, 4, 8 ...
			r.log.Error().Interface("panic", cause).Bytes("stack", debug.Stack()).Uint64("times", n).
				Msg("a query hit a bug in nearside and was answered SERVFAIL: please report this")
		}
		r.query.discard()
		r.rcode, r.authentic, r.truncated = rcodeServFail, false, false
		*length = r.finish(true)
	}
}

// reset begins the response.
func (r *responder) reset(s *Snapshot, stream bool) {
	r.snap = s
	r.why.given = false
	r.msg = r.query.msg[:headerSize]
	r.rcode, r.authentic, r.truncated = r.fault, false, false
	r.answers, r.authority, r.additional = 0, 0, 0
	r.placed, r.list, r.scope = false, nil, 0
	r.dnamesGiven = 0
	r.room = plainUDP
	r.setLimit(stream)
}

// rest ends a batch of n queries: what was counted is published, and what the
// answers came from let go of, as a responder may be idle for long, and an old
// snapshot is much memory.
func (r *responder) rest(n int) {
	r.counts.publish()
	r.snap, r.list = nil, nil
	for i := range n {
		r.queries[i].zone = nil
	}
}

// finish writes OPT and the header and returns the length of the message. A
// message whose question could not be read is answered with a bare header.
func (r *responder) finish(stream bool) int {
	buf := r.query.msg[:cap(r.query.msg)]
	if r.rcode != rcodeNoError && r.rcode != rcodeNXDomain && r.rcode != rcodeYXDomain {
		r.msg = buf[:max(r.end, headerSize)]
		r.answers, r.authority, r.additional = 0, 0, 0
	}
	r.counts.rcode(r.rcode)
	if r.edns {
		r.appendOPT(stream)
	}
	if r.rcode == rcodeNotAuth && r.denial.n > 0 {
		r.appendDenial()
	}
	// CD is copied (RFC 4035, 3.1.6); RA, Z and AD are clear.
	flags := flagQR | buf[2]&(maskOpcode|flagRD)
	if r.authentic {
		flags |= flagAA
	}
	if r.truncated {
		r.counts.add(countTruncated, 1)
		flags |= flagTC
	}
	buf[2], buf[3] = flags, buf[3]&flagCD|byte(r.rcode)&0x0F
	var questions uint64
	if r.end != 0 {
		questions = 1
	}
	binary.BigEndian.PutUint64(buf[4:], questions<<48|uint64(r.answers)<<32|uint64(r.authority)<<16|uint64(r.additional))
	return len(buf[:len(r.msg)]) // a message that outgrew buf would be a bug: survive answers then
}

// answer fills the sections of a well-formed query of class IN.
func (r *responder) answer() {
	r.counts.question(r.qtype)
	r.counts.zone(r.snap.zones, r.index)
	if r.qclass == classCH {
		r.chaos()
		return
	}
	switch {
	case r.qclass == classIN && (r.qtype == typeAXFR || r.qtype == typeIXFR):
		r.transfer()
		return
	case r.zone == nil:
		r.rcode, r.why = rcodeRefused, notOurs
		return
	case r.zone.Failed():
		r.rcode, r.why = rcodeServFail, neverGood
		return
	}
	r.authentic = r.qclass == classIN // class ANY is no class to be the authority of (RFC 1034, 6.2.2)
	r.qname, r.at = r.name(), headerSize
	if !r.resolve() {
		r.truncate()
	}
}

// transfer refuses to hand out a zone (RFC 5936, 2.2.1).
func (r *responder) transfer() {
	if r.zone == nil || len(r.zone.Apex()) != r.nameLen {
		r.rcode, r.why = rcodeNotAuth, notOurs
		return
	}
	r.rcode, r.why = rcodeRefused, noTransfers
}

// truncate empties the response and sets TC: the client asks again by TCP, and
// half an RRset is no use to anybody (RFC 2181, 9).
func (r *responder) truncate() {
	r.msg = r.msg[:r.end]
	r.answers, r.authority, r.additional = 0, 0, 0
	r.truncated = true
}

// resolve follows RFC 1034, 4.3.2, within the zone: a chain that leaves it is
// left to the resolver. It returns false if the response does not fit.
func (r *responder) resolve() bool {
	var result zones.Result
	for hop := 0; ; hop++ {
		r.zone.LookupSought(r.qname, r.hash, r.node, r.qtype, &result)
		switch result.Outcome {
		case zones.Answer:
			return r.answerSet(&result.Set)
		case zones.NoData:
			return r.negative(rcodeNoError, result.Steered)
		case zones.NXDomain:
			return r.negative(rcodeNXDomain, false)
		case zones.Referral:
			return r.referral(&result)
		}
		if hop == maxChain {
			return true
		}
		r.chain[hop] = r.at
		var on, fits bool
		if result.Outcome == zones.Alias {
			on, fits = r.followCNAME(&result.Set)
		} else {
			on, fits = r.followDNAME(&result)
			on = on && r.qtype != typeCNAME // the synthesised one is what was asked for
		}
		if !on || !fits {
			return fits
		}
		for _, at := range r.chain[:hop+1] {
			if sameName(r.msg, at, r.qname) {
				return true // a loop: every record of it is in the answer already
			}
		}
	}
}

// answerSet puts the RRset asked for into the answer section.
func (r *responder) answerSet(set *zones.RRset) bool {
	if !r.choose(set) {
		return r.negative(rcodeNoError, true)
	}
	start := len(r.msg)
	if !r.appendChosen(set) {
		return false
	}
	// Who asks for ANY has no use for the set in particular, and gets no more
	// than it (RFC 8482, 4.1).
	return r.qtype == typeANY || r.appendAdditional(set, start, r.owner())
}

// owner is the name being looked up, where it stands in the message.
func (r *responder) owner() spot { return spot{r.at, len(r.qname)} }

// above is the end of the name being looked up that has so many octets.
func (r *responder) above(length int) spot { return spot{r.suffix(r.owner(), length), length} }

// choose makes of a steered RRset the records for this client: those of the
// chosen region. It returns false when no region may answer.
func (r *responder) choose(set *zones.RRset) bool {
	r.ttl = regions.NoCap
	if set.Regions == 0 {
		return true
	}
	state, candidates, service := r.snap.state, regions.Set(set.Regions), regions.ServiceID(set.Service)
	split, placeless := state.Split(candidates, service), state.Placeless(service)
	if !r.placed && (split || !placeless) {
		r.list, r.place, r.bySubnet = r.snap.places.Prefer(r.ask, r.from)
		r.placed = true
	}
	r.scope = max(r.scope, r.scopeOf(split, placeless))
	client := r.from
	if split && r.bySubnet {
		client = r.ask.addr()
	}
	region, ok := state.Choose(r.list, candidates, service, client)
	if !ok {
		r.exhausted(candidates, service)
		return false
	}
	r.counts.region(region)
	r.zone.Narrow(set, uint8(region))
	r.ttl = state.TTL(region, service)
	return true
}

// scopeOf returns the ECS scope of a steered link. Clients of one place get different
// answers where a region is open to some of them only (split), but not those of one
// network that is moved as a whole, nor those of a special block: all these are the
// source.
func (r *responder) scopeOf(split, placeless bool) int {
	switch {
	case placeless && !split:
		return 0 // the order of failover is everybody's
	case !split || !r.bySubnet:
		return r.place
	case placeless:
		return regions.ScopeBits(r.ask.addr())
	}
	return max(r.place, regions.ScopeBits(r.ask.addr()))
}

// exhausted notes why no region may answer.
func (r *responder) exhausted(candidates regions.Set, service regions.ServiceID) {
	if r.snap.state.Drains(candidates, service) {
		r.counts.add(countAllDrained, 1)
		r.why = allDrained
		return
	}
	r.counts.add(countWithheld, 1)
	r.why = noneMay
}

// followCNAME adds a CNAME and moves on to its target. It returns on=false
// where the chain ends: the target is in another zone, or there is no CNAME
// left to give.
func (r *responder) followCNAME(set *zones.RRset) (on, fits bool) {
	if !r.choose(set) {
		return false, r.negative(rcodeNoError, true)
	}
	start := len(r.msg)
	if !r.appendChosen(set) {
		return false, false
	}
	return r.moveTo(start + ownerPointer + recordFix), true
}

// followDNAME adds the DNAME, synthesises its CNAME (RFC 6672, 3.1) and moves on.
func (r *responder) followDNAME(result *zones.Result) (on, fits bool) {
	dname, ok := r.appendDNAME(result)
	if !ok {
		return false, false
	}
	record := result.Set.Wire
	target := len(record) - ownerPointer - recordFix // octets
	prefix := len(r.qname) - result.Owner
	if prefix+target > maxName {
		r.rcode = rcodeYXDomain // RFC 6672, 2.2
		return false, true
	}
	// The target of a CNAME may be compressed, that of a DNAME never is.
	if !r.fits(ownerPointer + recordFix + prefix + ownerPointer) {
		return false, false
	}
	b := appendPointer(r.msg, r.suffix(r.owner(), len(r.qname)))
	b = append(b, 0, typeCNAME)
	b = append(b, record[ownerPointer+2:ownerPointer+8]...) // CLASS and TTL of the DNAME
	r.msg = binary.BigEndian.AppendUint16(b, uint16(prefix+ownerPointer))
	name := len(r.msg)
	r.appendLabels(r.owner(), result.Owner)
	r.msg = appendPointer(r.msg, dname+ownerPointer+recordFix)
	r.answers++
	return r.moveTo(name), true
}

// appendDNAME adds the DNAME of a redirection, unless the chain came by it
// before, and returns where the record is.
func (r *responder) appendDNAME(result *zones.Result) (at int, ok bool) {
	for _, given := range r.dnames[:r.dnamesGiven] {
		if sameName(r.msg, given, r.qname[len(r.qname)-result.Owner:]) {
			return given, true
		}
	}
	at = len(r.msg)
	if !r.appendRecords(&result.Set, r.above(result.Owner), &r.answers) {
		return 0, false
	}
	r.dnames[r.dnamesGiven] = at
	r.dnamesGiven++
	return at, true
}

// moveTo makes the name at offset at of the message the next one to look up. It
// returns false if it lies outside the zone. maxChain keeps at within the reach
// of a pointer.
func (r *responder) moveTo(at int) bool {
	r.nameLen = lowerOwn(r.nameBuf[:], r.msg, at)
	r.qname, r.at = r.name(), at
	r.hash = zones.Hash(r.qname)
	next, _ := r.zoneIn(r.snap.zones)
	r.node = r.zone.Seek(r.hash)
	return next == r.zone
}

// negative adds the SOA of a NODATA or NXDOMAIN (RFC 2308, 3). steered caps its
// TTL: the name is a steered one, so the next state may have an answer.
func (r *responder) negative(rcode int, steered bool) bool {
	r.rcode = rcode
	soa := r.zone.Negative()
	if !r.appendRecords(soa, r.above(int(soa.OwnerLength)), &r.authority) {
		return false
	}
	if steered {
		ttl := r.msg[len(r.msg)-len(soa.Wire)+ownerPointer+4:]
		binary.BigEndian.PutUint32(ttl, min(binary.BigEndian.Uint32(ttl), r.snap.policy.NegativeTTL))
	}
	return true
}

// referral answers with the NS RRset of a zone cut and its glue.
func (r *responder) referral(result *zones.Result) bool {
	if r.answers == 0 {
		r.authentic = false // AA tells of the first name in the answer section
	}
	start, cut := len(r.msg), r.above(result.Owner)
	return r.appendRecords(&result.Set, cut, &r.authority) && r.appendAdditional(&result.Set, start, cut)
}

// appendAdditional adds what belongs beside the records of set, which start at
// offset start of the message. What does not fit is left out, but glue at or
// below a cut is not optional (RFC 9471): false is returned if it does not fit.
func (r *responder) appendAdditional(set *zones.RRset, start int, owner spot) bool {
	for i := range r.zone.Beside(set) {
		more := r.zone.Additional(set, i)
		at := owner.at
		if more.Target >= 0 {
			at = start + more.Target
		}
		if !r.appendBeside(&more.Set, at) && more.Required {
			return false
		}
	}
	return true
}
