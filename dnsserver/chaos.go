package dnsserver

import "encoding/binary"

const (
	classCH = 3
	typeTXT = 16
	typeANY = 255
)

// MaxVersion is how many octets Policy.Version may have: what one
// character-string of a TXT record holds (RFC 1035, 3.3).
const MaxVersion = 255

// Names of class CH, in wire form: what servers tell of themselves (RFC 4892,
// and the older ones of BIND).
const (
	nameVersion  = "\x07version\x04bind\x00"
	nameHostname = "\x08hostname\x04bind\x00"
	nameID       = "\x02id\x06server\x00"
	nameState    = "\x05state\x08nearside\x00"
)

// chaos answers a query of class CH.
func (r *responder) chaos() {
	var text string
	switch string(r.name()) {
	case nameVersion:
		text = r.snap.policy.Version
	case nameHostname, nameID:
		text = r.snap.policy.ID
	case nameState:
		text = r.snap.stateText
	}
	if text == "" {
		r.rcode, r.why = rcodeRefused, notOurs
		return
	}
	r.authentic = true
	if r.qtype != typeTXT && r.qtype != typeANY {
		return
	}
	text = text[:min(len(text), MaxVersion)]
	b := appendPointer(r.msg, headerSize)
	b = append(b, 0, typeTXT, 0, classCH, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(1+len(text)))
	b = append(b, byte(len(text)))
	r.msg = append(b, text...)
	r.answers++
}
