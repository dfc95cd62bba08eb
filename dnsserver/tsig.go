package dnsserver

import "encoding/binary"

// We have no TSIG keys, so every signed query is signed with one that we do not
// know: RFC 8945, 5.2.1, wants NOTAUTH and BADKEY in a TSIG record without MAC.

const (
	tsigBefore = 10 // of its data: time signed, fudge and MAC size, before the MAC
	tsigAfter  = 6  // original id, error and size of other data, after it
	tsigBadKey = 17
)

// denial is the TSIG record of the response to a signed query.
type denial struct {
	n    int // octets; 0: the query was not signed
	wire [maxName + recordFix + maxName + tsigBefore + tsigAfter]byte
}

// deny reads the TSIG record at the end of msg, whose owner is at offset start
// and whose TYPE at fixed, and makes the denial. It returns false if the record
// is malformed (RFC 8945, 4.2).
func (d *denial) deny(msg []byte, start, fixed int) bool {
	const class, ttl, data = 2, 4, recordFix // offsets from TYPE
	owner, ok := expandName(d.wire[:maxName], msg, start)
	if !ok || binary.BigEndian.Uint16(msg[fixed+class:]) != classANY || binary.BigEndian.Uint32(msg[fixed+ttl:]) != 0 {
		return false
	}
	var lower [maxName]byte
	algorithm, _, ok := lowerName(lower[:], msg[fixed+data:])
	rest := msg[fixed+data+algorithm:]
	if !ok || len(rest) < tsigBefore {
		return false
	}
	mac := int(binary.BigEndian.Uint16(rest[tsigBefore-2:]))
	if len(rest) < tsigBefore+mac+tsigAfter {
		return false
	}
	after := rest[tsigBefore+mac:]
	if len(after) != tsigAfter+int(binary.BigEndian.Uint16(after[4:])) {
		return false
	}
	b := append(d.wire[:owner], msg[fixed:fixed+recordFix-2]...)
	b = binary.BigEndian.AppendUint16(b, uint16(algorithm+tsigBefore+tsigAfter))
	b = append(b, msg[fixed+data:fixed+data+algorithm]...)
	b = append(append(b, rest[:tsigBefore-2]...), 0, 0)
	b = append(append(b, after[:2]...), 0, tsigBadKey, 0, 0)
	d.n = len(b)
	return true
}

// appendDenial ends the response with the TSIG record, or tells to come by TCP,
// where there is room for it.
func (r *responder) appendDenial() {
	if len(r.msg)+r.denial.n > r.room {
		r.truncated = true
		return
	}
	r.msg = append(r.msg, r.denial.wire[:r.denial.n]...)
	r.additional++
}

// expandName copies the name at offset at of msg, which may be compressed, to
// dst and returns its length. A pointer leads backwards (RFC 1035, 4.1.4), so
// there is no loop.
func expandName(dst, msg []byte, at int) (n int, ok bool) {
	for before := at; at < len(msg); {
		label := int(msg[at])
		switch {
		case label&0xC0 == 0xC0:
			if at+1 >= len(msg) {
				return 0, false
			}
			to := int(binary.BigEndian.Uint16(msg[at:]) & maxPointer)
			if to >= before {
				return 0, false
			}
			before, at = to, to
			continue
		case label > maxLabel || at+1+label > len(msg) || n+1+label > len(dst):
			return 0, false
		}
		n += copy(dst[n:], msg[at:at+1+label])
		at += 1 + label
		if label == 0 {
			return n, true
		}
	}
	return 0, false
}
