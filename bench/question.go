package main

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
)

const (
	typeA    = 1
	typeAAAA = 28
	// udpSize is what the queries offer by EDNS, as resolvers do (RFC 9715).
	udpSize = 1232
)

// question is a query in wire form and the answer that it must get.
type question struct {
	wire []byte // its id is set when it is sent
	end  int    // where the question section ends
	kind uint16
	want []byte // the one address; nil: it depends on where the query comes from
}

// newQuestion makes a query for name, which is absolute and lower case. With a
// valid subnet it carries a client subnet (RFC 7871).
func newQuestion(name string, kind uint16, subnet netip.Prefix, want []byte) question {
	b := make([]byte, 12, 80)
	b[5], b[11] = 1, 1 // one question, one additional record
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		b = append(append(b, byte(len(label))), label...)
	}
	b = append(b, 0, 0, byte(kind), 0, 1)
	q := question{end: len(b), kind: kind, want: want}
	b = append(b, 0, 0, 41, udpSize>>8, udpSize&0xff, 0, 0, 0, 0, 0, 0)
	if subnet.IsValid() {
		address := subnet.Addr().As4()
		octets := address[:(subnet.Bits()+7)/8]
		b[len(b)-1] = byte(8 + len(octets))
		b = append(b, 0, 8, 0, byte(4+len(octets)), 0, 1, byte(subnet.Bits()), 0)
		b = append(b, octets...)
	}
	q.wire = b
	return q
}

// check reports whether reply is the authoritative answer to q with the one
// address want. The caller has matched the id.
func (q *question) check(reply, want []byte) bool {
	const (
		mask  = 0xfe0f // all but RD, RA, Z, AD, CD
		right = 0x8400 // a response, authoritative, whole, NOERROR
	)
	if len(reply) < q.end+12 || binary.BigEndian.Uint16(reply[2:])&mask != right ||
		binary.BigEndian.Uint16(reply[6:]) != 1 || !bytes.Equal(reply[12:q.end], q.wire[12:q.end]) {
		return false
	}
	record := reply[q.end:]
	if record[0]&0xc0 == 0xc0 {
		record = record[2:]
	} else {
		name := q.wire[12 : q.end-4]
		if !bytes.HasPrefix(record, name) {
			return false
		}
		record = record[len(name):]
	}
	return len(record) >= 10+len(want) && binary.BigEndian.Uint16(record) == q.kind &&
		int(binary.BigEndian.Uint16(record[8:])) == len(want) && bytes.Equal(record[10:10+len(want)], want)
}
