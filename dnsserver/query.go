package dnsserver

import (
	"encoding/binary"
	"net/netip"

	"nearside/zones"
)

// Sizes of a message and its parts in octets (RFC 1035, 2.3.4 and 4.1.1).
const (
	headerSize  = 12
	maxName     = 255
	maxLabel    = 63
	questionFix = 4 // QTYPE and QCLASS
	recordFix   = 10
)

// Types and classes the path itself must know.
const (
	typeCNAME = 5
	typeOPT   = 41
	typeDS    = 43
	typeTSIG  = 250
	typeIXFR  = 251
	typeAXFR  = 252

	classIN  = 1
	classANY = 255
)

// Response codes (RFC 1035, 4.1.1; RFC 2136; RFC 6891; RFC 8945).
const (
	rcodeNoError  = 0
	rcodeFormErr  = 1
	rcodeServFail = 2
	rcodeNXDomain = 3
	rcodeNotImp   = 4
	rcodeRefused  = 5
	rcodeYXDomain = 6
	rcodeNotAuth  = 9
	rcodeBadVers  = 16
)

// Flags of the header's third and fourth octets.
const (
	flagQR     = 0x80
	flagAA     = 0x04
	flagTC     = 0x02
	flagRD     = 0x01
	flagCD     = 0x10 // in the fourth octet
	maskOpcode = 0x78
)

// query is a message and what it asks.
type query struct {
	msg  []byte // as it came, in the buffer for the response
	from netip.Addr

	prepared bool
	fault    int // what is wrong with the message itself: silence, an RCODE, or rcodeNoError

	qtype   uint16
	qclass  uint16
	end     int // offset of the octet after the question
	nameLen int

	zone  *zones.Zone // that answers; nil: none of ours
	index int         // of zone in the view, or -1
	hash  uint64      // of the name
	node  uint32      // of the name in zone: see zones.Zone.Seek
	ask   client      // the subnet that counts, if any

	opt
	nameBuf [maxName]byte
	denial  denial
}

// silence is the fault of what is no query: answering a response could make two
// servers talk to each other for ever.
const silence = -1

// take makes a message the next query.
func (q *query) take(msg []byte, from netip.Addr) {
	q.msg, q.from, q.prepared = msg, from, false
}

// prepare reads the message and finds the zone that answers.
func (q *query) prepare(s *Snapshot) {
	q.discard()
	q.zone, q.index, q.ask = nil, -1, client{}
	q.fault = q.read()
	if q.fault == rcodeNoError && q.end != 0 && (q.qclass == classIN || q.qclass == classANY) {
		q.zone, q.index = q.zoneIn(s.zones)
		if q.ecs.present && s.policy.believes(q.from) {
			q.ask = q.ecs.client()
		}
	}
}

// seek ends what prepare began.
func (q *query) seek() {
	if q.zone != nil {
		q.node = q.zone.Seek(q.hash)
	}
	q.prepared = true
}

// read reads the message and returns its fault.
func (q *query) read() int {
	switch {
	case len(q.msg) < headerSize || q.msg[2]&flagQR != 0:
		return silence
	case !q.parse(q.msg):
		edns, do, end := q.edns, q.do, q.end
		q.discard()
		q.edns, q.do, q.end = edns, do, end // so much the response may show
		return rcodeFormErr
	case q.version != 0:
		return rcodeBadVers
	case q.denial.n > 0:
		return rcodeNotAuth
	case q.msg[2]&maskOpcode != 0:
		return rcodeNotImp
	}
	return rcodeNoError
}

// zoneIn returns the zone that knows the name, and its index in the view: the
// deepest one, save for DS at its apex, which is the parent's to tell (RFC 4035,
// 3.1.4.1).
func (q *query) zoneIn(v *zones.View) (*zones.Zone, int) {
	zone, index := v.Find(q.name())
	if zone != nil && q.qtype == typeDS && len(zone.Apex()) == q.nameLen && q.nameLen > 1 {
		if parent, i := v.Find(q.name()[1+q.nameBuf[0]:]); parent != nil {
			return parent, i
		}
	}
	return zone, index
}

// name returns the name asked for in wire form, in lower case.
func (q *query) name() []byte { return q.nameBuf[:q.nameLen] }

// parse reads question, OPT and TSIG of msg, which has a whole header. q.end,
// q.qtype, q.opt and q.denial are empty before. It returns false for a message that is
// malformed; q.end is then 0 if not even the question could be read.
//
// A query has one question (RFC 9619), or none if it is for a cookie alone (RFC
// 7873, 5.4): then q.end stays 0.
func (q *query) parse(msg []byte) bool {
	switch questions := binary.BigEndian.Uint16(msg[4:]); {
	case msg[2]&maskOpcode != 0:
		q.parseForeign(msg)
		return true
	case questions == 0:
		return q.parseRest(msg, headerSize) && q.cookie.present
	case questions == 1:
		return q.parseQuestion(msg) && q.parseRest(msg, q.end)
	}
	return false
}

// parseForeign reads a message whose opcode we do not have, and which may have a
// format of its own. If it looks like others, its question and OPT are in the
// response too (RFC 6891, 6.1.1).
func (q *query) parseForeign(msg []byte) {
	records := int(binary.BigEndian.Uint16(msg[6:])) + int(binary.BigEndian.Uint16(msg[8:]))
	if binary.BigEndian.Uint16(msg[4:]) == 1 && q.parseQuestion(msg) {
		if at, ok := skipRecords(msg, q.end, records); ok && q.parseAdditional(msg, at) {
			return
		}
	}
	q.discard()
}

// discard is for a message that is malformed: nothing in it counts.
func (q *query) discard() {
	q.end, q.qtype = 0, 0
	q.opt.reset()
	q.denial.n = 0
}

func (q *query) parseQuestion(msg []byte) bool {
	at := headerSize
	n, hash, ok := lowerName(q.nameBuf[:], msg[at:])
	if !ok || at+n+questionFix > len(msg) {
		return false
	}
	q.nameLen, q.hash = n, hash
	at += n
	q.qtype = binary.BigEndian.Uint16(msg[at:])
	q.qclass = binary.BigEndian.Uint16(msg[at+2:])
	q.end = at + questionFix
	return true
}

// parseRest reads what follows the question of a query, from offset at on. It
// brings no records but additional ones; IXFR brings the client's SOA in the
// authority section (RFC 1995, 3).
func (q *query) parseRest(msg []byte, at int) bool {
	answers := binary.BigEndian.Uint16(msg[6:])
	authority := binary.BigEndian.Uint16(msg[8:])
	if answers != 0 || authority != 0 && (q.qtype != typeIXFR || authority != 1) {
		return false
	}
	at, ok := skipRecords(msg, at, int(authority))
	return ok && q.parseAdditional(msg, at)
}

// parseAdditional reads the additional section at offset at.
func (q *query) parseAdditional(msg []byte, at int) bool {
	for left := binary.BigEndian.Uint16(msg[10:]); left > 0; left-- {
		start := at
		fixed, end, ok := skipRecord(msg, start)
		if !ok {
			return false
		}
		at = end
		switch binary.BigEndian.Uint16(msg[fixed:]) {
		case typeOPT:
			// There is one at most, and the root owns it (RFC 6891, 6.1.1 and 6.1.2).
			if q.edns || msg[start] != 0 || !q.parseOPT(msg[fixed:end]) {
				return false
			}
		case typeTSIG:
			// It is the last record (RFC 8945, 5.1).
			if left != 1 || !q.denial.deny(msg[:end], start, fixed) {
				return false
			}
		}
	}
	return true
}

// lowerName copies the uncompressed name at the start of wire to dst in lower case
// and returns its length and hash. A compression pointer, which nothing before a
// question could be the target of, is refused.
func lowerName(dst, wire []byte) (n int, hash uint64, ok bool) {
	wire = wire[:min(len(wire), maxName)]
	for n < len(wire) {
		label := int(wire[n])
		if label > maxLabel {
			break
		}
		n += 1 + label
		if label == 0 {
			return n, zones.Lower(dst, wire[:n]), true
		}
	}
	return 0, 0, false
}

// skipRecords returns the offset after n records that begin at offset at.
func skipRecords(msg []byte, at, n int) (end int, ok bool) {
	for range n {
		if _, at, ok = skipRecord(msg, at); !ok {
			return 0, false
		}
	}
	return at, true
}

// skipRecord returns the offsets of the TYPE of the resource record at offset at
// and of what follows the record.
func skipRecord(msg []byte, at int) (fixed, end int, ok bool) {
	for {
		if at >= len(msg) {
			return 0, 0, false
		}
		label := int(msg[at])
		switch {
		case label == 0:
			at++
		case label&0xC0 == 0xC0:
			at += 2
		case label <= maxLabel:
			at += 1 + label
			continue
		default:
			return 0, 0, false
		}
		break
	}
	if at+recordFix > len(msg) {
		return 0, 0, false
	}
	end = at + recordFix + int(binary.BigEndian.Uint16(msg[at+8:]))
	return at, end, end <= len(msg)
}
