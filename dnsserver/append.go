package dnsserver

import (
	"encoding/binary"

	"nearside/zones"
)

const (
	ownerPointer = 2      // octets of a compression pointer (RFC 1035, 4.1.4)
	maxPointer   = 0x3FFF // the highest offset it can hold
)

// fits reports whether n more octets fit into the message.
func (r *responder) fits(n int) bool { return len(r.msg)+n <= r.limit }

// appendRecords adds n records in wire form, whose owners point to the question
// (C0 0C), with the owner at offset owner instead. All or none: it returns false
// if they do not fit.
func (r *responder) appendRecords(wire []byte, n uint16, owner int, section *uint16) bool {
	if !r.fits(len(wire)) {
		return false
	}
	at := len(r.msg)
	r.msg = append(r.msg, wire...)
	*section += n
	if owner == headerSize {
		return true
	}
	for at < len(r.msg) {
		binary.BigEndian.PutUint16(r.msg[at:], 0xC000|uint16(owner))
		at += ownerPointer + recordFix + int(binary.BigEndian.Uint16(r.msg[at+ownerPointer+8:]))
	}
	return true
}

// appendBeside adds an RRset to the additional section. Its owner stands
// uncompressed at offset target of the message, perhaps beyond what a pointer
// can reach.
func (r *responder) appendBeside(set zones.RRset, target int) bool {
	if target <= maxPointer {
		return r.appendRecords(set.Wire, set.Count, target, &r.additional)
	}
	owner := r.msg[target : target+nameLength(r.msg[target:])]
	if !r.fits(len(set.Wire) + int(set.Count)*(len(owner)-ownerPointer)) {
		return false
	}
	for wire := set.Wire; len(wire) > 0; {
		end := ownerPointer + recordFix + int(binary.BigEndian.Uint16(wire[ownerPointer+8:]))
		r.msg = append(append(r.msg, owner...), wire[ownerPointer:end]...)
		wire = wire[end:]
	}
	r.additional += set.Count
	return true
}

// nameLength returns the length of the uncompressed name at the start of wire.
func nameLength(wire []byte) (n int) {
	for wire[n] != 0 {
		n += 1 + int(wire[n])
	}
	return n + 1
}

// appendPointer writes a compression pointer.
func appendPointer(b []byte, to int) []byte {
	return binary.BigEndian.AppendUint16(b, 0xC000|uint16(to))
}

// sameName reports whether the uncompressed name at the start of wire is lower,
// which is in lower case.
func sameName(wire, lower []byte) bool {
	if len(wire) < len(lower) {
		return false
	}
	for i, c := range wire[:len(lower)] {
		if c-'A' < 26 {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// inDomain reports whether the uncompressed name at the start of wire lies at or
// below cut, which is in lower case.
func inDomain(wire, cut []byte) bool {
	for {
		if sameName(wire, cut) {
			return true
		}
		label := int(wire[0])
		if label == 0 {
			return false
		}
		wire = wire[1+label:]
	}
}
