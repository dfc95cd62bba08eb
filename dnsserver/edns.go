package dnsserver

import "encoding/binary"

// optSize is an OPT record without options, in octets (RFC 6891, 6.1.2).
const optSize = 11

// Option codes of EDNS. https://www.iana.org/assignments/dns-parameters
const (
	optionNSID      = 3  // RFC 5001
	optionECS       = 8  // RFC 7871
	optionCookie    = 10 // RFC 7873
	optionKeepalive = 11 // RFC 7828
	optionEDE       = 15 // RFC 8914
)

// keepaliveSize is how many octets tell a time (RFC 7828, 3.1).
const keepaliveSize = 2

// opt is the OPT record of a query; the zero value means that it had none.
type opt struct {
	edns      bool
	version   byte
	do        bool   // DNSSEC OK (RFC 3225): copied to the response
	size      uint16 // UDP payload that the requester takes
	nsid      bool   // the server's name is wanted
	keepalive bool   // the time that an idle connection has is wanted
	cookie    cookie
	ecs       clientSubnet
}

// reset forgets what the last query had. What is not there is not zeroed: that
// would cost more than all the rest of a query without EDNS.
func (o *opt) reset() {
	o.edns, o.do, o.nsid, o.keepalive = false, false, false, false
	o.version, o.size = 0, 0
	o.cookie.present, o.ecs.present = false, false
}

// parseOPT reads an OPT record from its TYPE on (RFC 6891, 6.1.2).
func (q *query) parseOPT(record []byte) bool {
	q.edns = true
	q.size = binary.BigEndian.Uint16(record[2:])
	q.version = record[5]
	q.do = record[6]&0x80 != 0
	if q.version != 0 {
		return true // BADVERS follows: the options of another version mean nothing to us
	}
	for options := record[recordFix:]; len(options) > 0; {
		if len(options) < 4 {
			return false
		}
		n := int(binary.BigEndian.Uint16(options[2:]))
		if len(options) < 4+n || !q.option(binary.BigEndian.Uint16(options), options[4:4+n]) {
			return false
		}
		options = options[4+n:]
	}
	return true
}

// option takes one option; unknown ones are ignored. It returns false for one
// that is malformed, or that may come only once and came twice.
func (o *opt) option(code uint16, data []byte) bool {
	switch code {
	case optionNSID:
		o.nsid = true
	case optionECS:
		return !o.ecs.present && o.ecs.parse(data)
	case optionCookie:
		return !o.cookie.present && o.cookie.parse(data)
	case optionKeepalive:
		o.keepalive = true
	}
	return true
}

// setLimit says how long the records may get: it leaves room for OPT and what
// the client asked for in it.
func (r *responder) setLimit(stream bool) {
	if stream {
		r.room = wholeTCP
	} else if r.edns {
		r.room = max(plainUDP, min(r.limits.UDPSize, int(r.size)))
	}
	r.limit = r.room
	if r.edns {
		r.limit -= optSize + r.ecs.wireSize() + r.cookie.wireSize()
		if r.nsid {
			r.limit -= optionSize(len(r.snap.policy.ID))
		}
		if r.keepalive && stream {
			r.limit -= optionSize(keepaliveSize)
		}
	}
}

// optionSize is the size of an option with n octets of data.
func optionSize(n int) int { return 4 + n }

// appendOPT writes our OPT record: payload size, extended rcode, version 0, the
// DO bit as it came (RFC 6891), and the options.
func (r *responder) appendOPT(stream bool) {
	size := r.limits.UDPSize
	flags := byte(0)
	if r.do {
		flags = 0x80
	}
	b := append(r.msg, 0, 0, typeOPT, byte(size>>8), byte(size), byte(r.rcode>>4), 0, flags, 0, 0, 0)
	at := len(b)
	r.msg = b
	r.appendOptions(stream)
	binary.BigEndian.PutUint16(r.msg[at-2:], uint16(len(r.msg)-at))
	r.additional++
}

// appendOptions writes what was asked for, and why there is no better answer.
func (r *responder) appendOptions(stream bool) {
	b := r.msg
	if r.ecs.present {
		scope := r.scope
		if !r.ask.known {
			scope = 0 // not believed, or SOURCE 0: the source address decided
		}
		b = r.ecs.append(b, scope)
	}
	if r.cookie.present && r.snap.secrets != nil {
		b = r.cookie.append(b, r.snap.secrets, r.from, r.clock.Load())
	}
	if id := r.snap.policy.ID; r.nsid && id != "" {
		b = append(appendOption(b, optionNSID, len(id)), id...)
	}
	if r.keepalive && stream { // RFC 7828, 3.1: in tenths of a second
		b = binary.BigEndian.AppendUint16(appendOption(b, optionKeepalive, keepaliveSize), uint16(r.limits.Idle.Milliseconds()/100))
	}
	if n := 2 + len(r.why.text); r.why.given && len(b)+optionSize(n) <= r.room {
		b = binary.BigEndian.AppendUint16(appendOption(b, optionEDE, n), r.why.code)
		b = append(b, r.why.text...)
	}
	r.msg = b
}

// appendOption writes the head of an option with n octets of data.
func appendOption(b []byte, code uint16, n int) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, code), uint16(n))
}

// reason is an extended error (RFC 8914): why there is no better answer.
type reason struct {
	given bool
	code  uint16
	text  string
}

// Reasons. The codes are those of RFC 8914, section 4.
var (
	notOurs     = reason{true, 20, ""} // Not Authoritative
	noTransfers = reason{true, 18, "no zone transfers"}
	neverGood   = reason{true, 24, "the zone file has faults"}             // Invalid Data
	allDrained  = reason{true, 22, "every region of this name is drained"} // No Reachable Authority
	noneMay     = reason{true, 22, "no region may answer for this name"}   // the same
)
