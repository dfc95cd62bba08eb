package dnsserver

import (
	"encoding/binary"

	"nearside/regions"
	"nearside/zones"
)

const (
	ownerPointer = 2      // octets of a compression pointer (RFC 1035, 4.1.4)
	pointerBits  = 0xC000 // its two bits that say that it is one
	maxPointer   = 0x3FFF // the highest offset it can hold
)

// spot is a name in the message: where it starts, perhaps to go on behind a
// pointer, and how many octets it has without compression.
type spot struct{ at, length int }

// fits reports whether n more octets fit into the message.
func (r *responder) fits(n int) bool { return len(r.msg)+n <= r.limit }

// suffix returns where the last octets of a name, so many, start in the message.
func (r *responder) suffix(n spot, length int) int {
	if n.at < r.end { // in the question: nothing stands before it to point to
		return n.at + n.length - length
	}
	at := n.at
	for left := n.length; ; {
		label := int(r.msg[at])
		if label > maxLabel {
			at = pointerAt(r.msg, at)
			continue
		}
		if left == length {
			return at
		}
		at += 1 + label
		left -= 1 + label
	}
}

// appendRecords adds the records of an RRset. All or none: it returns false if
// they do not fit.
func (r *responder) appendRecords(set *zones.RRset, owner spot, section *uint16) bool {
	if !r.fits(len(set.Wire)) {
		return false
	}
	start := len(r.msg)
	r.msg = append(r.msg, set.Wire...)
	*section += set.Count
	if owner.at == headerSize {
		_, names := zones.Names(set.Type)
		if names == 0 || owner.length == int(set.OwnerLength) && start == compiledStart(set) {
			return true // they stand where they were made for
		}
	}
	r.patch(set, start, owner)
	return true
}

// appendChosen adds an RRset to the answer section, behind choose: all or none.
func (r *responder) appendChosen(set *zones.RRset) bool {
	start := len(r.msg)
	if !r.appendRecords(set, r.owner(), &r.answers) {
		return false
	}
	if r.ttl != regions.NoCap {
		r.capTTLs(start)
	}
	return true
}

// capTTLs lowers the TTLs of the records that start at offset start, and whose
// owners are pointers, to r.ttl.
func (r *responder) capTTLs(start int) {
	for at := start + ownerPointer; at < len(r.msg); {
		ttl := r.msg[at+4:]
		binary.BigEndian.PutUint32(ttl, min(binary.BigEndian.Uint32(ttl), r.ttl))
		at += recordFix + int(binary.BigEndian.Uint16(r.msg[at+8:])) + ownerPointer
	}
}

// compiledStart is the offset in a message for which the records of an RRset
// were made.
func compiledStart(set *zones.RRset) int { return headerSize + int(set.OwnerLength) + questionFix }

// patch corrects the compression pointers of the records of set, which end the
// message: those of the owners, those that lead into the owner, and those that
// lead to other records of the RRset.
func (r *responder) patch(set *zones.RRset, start int, owner spot) {
	skip, names := zones.Names(set.Type)
	first := compiledStart(set)
	to := r.suffix(owner, owner.length)
	msg := r.msg
	for at := start; at < len(msg); {
		putPointer(msg[at:], to)
		name := at + ownerPointer + recordFix
		at = name + int(binary.BigEndian.Uint16(msg[name-2:]))
		name += skip
		for range names {
			for msg[name]-1 < maxLabel { // neither the root nor a pointer
				name += 1 + int(msg[name])
			}
			if msg[name] == 0 {
				name++
				continue
			}
			if old := pointerAt(msg, name); old < first {
				putPointer(msg[name:], r.suffix(owner, headerSize+int(set.OwnerLength)-old))
			} else {
				putPointer(msg[name:], old-first+start)
			}
			name += ownerPointer
		}
	}
}

// appendBeside adds an RRset, whose RDATA has no compressed names, to the
// additional section. Its owner is the name at offset at of the message, perhaps
// beyond what a pointer can reach.
func (r *responder) appendBeside(set *zones.RRset, at int) bool {
	if at <= maxPointer {
		return r.appendRecords(set, spot{at: at}, &r.additional)
	}
	owner := spot{at, nameLength(r.msg, at)}
	if !r.fits(len(set.Wire) + int(set.Count)*(owner.length-ownerPointer)) {
		return false
	}
	for wire := set.Wire; len(wire) > 0; {
		end := ownerPointer + recordFix + int(binary.BigEndian.Uint16(wire[ownerPointer+8:]))
		r.appendLabels(owner, 1)
		r.msg = append(append(r.msg, 0), wire[ownerPointer:end]...)
		wire = wire[end:]
	}
	r.additional += set.Count
	return true
}

// appendLabels adds the first labels of a name, all before its last octets, so
// many, without compression.
func (r *responder) appendLabels(n spot, suffix int) {
	for at, left := n.at, n.length; left > suffix; {
		label := int(r.msg[at])
		if label > maxLabel {
			at = pointerAt(r.msg, at)
			continue
		}
		r.msg = append(r.msg, r.msg[at:at+1+label]...)
		at += 1 + label
		left -= 1 + label
	}
}

// appendPointer writes a compression pointer.
func appendPointer(b []byte, to int) []byte {
	return binary.BigEndian.AppendUint16(b, pointerBits|uint16(to))
}

func putPointer(b []byte, to int) { binary.BigEndian.PutUint16(b, pointerBits|uint16(to)) }

// pointerAt returns where the pointer at offset at leads.
func pointerAt(msg []byte, at int) int {
	return int(binary.BigEndian.Uint16(msg[at:]) &^ pointerBits)
}

// nameLength returns how many octets the name at offset at of the message has
// without compression.
func nameLength(msg []byte, at int) (n int) {
	for {
		label := int(msg[at])
		switch {
		case label > maxLabel:
			at = pointerAt(msg, at)
			continue
		case label == 0:
			return n + 1
		}
		n += 1 + label
		at += 1 + label
	}
}

// lowerOwn copies the name at offset at of the message, which the server
// itself wrote, to dst in lower case and without compression, and returns its
// length.
func lowerOwn(dst, msg []byte, at int) (n int) {
	for {
		label := int(msg[at])
		if label > maxLabel {
			at = pointerAt(msg, at)
			continue
		}
		for i, c := range msg[at : at+1+label] { // no length octet is a letter: 63 < 'A'
			dst[n+i] = lowerLetter(c)
		}
		n += 1 + label
		if label == 0 {
			return n
		}
		at += 1 + label
	}
}

// sameName reports whether the name at offset at of the message is lower, which
// is in lower case.
func sameName(msg []byte, at int, lower []byte) bool {
	for len(lower) > 0 {
		label := int(msg[at])
		if label > maxLabel {
			at = pointerAt(msg, at)
			continue
		}
		if label != int(lower[0]) {
			return false
		}
		for i, c := range msg[at+1 : at+1+label] {
			if lowerLetter(c) != lower[1+i] {
				return false
			}
		}
		at += 1 + label
		lower = lower[1+label:]
	}
	return true
}

func lowerLetter(c byte) byte {
	if c-'A' < 26 {
		c += 'a' - 'A'
	}
	return c
}
