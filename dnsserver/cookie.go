package dnsserver

import (
	"encoding/binary"
	"net/netip"

	"github.com/dchest/siphash"
)

// Sizes of cookies in octets (RFC 7873, 4; RFC 9018, 4).
const (
	clientCookie  = 8
	serverCookie  = 16
	longestCookie = 32 // of servers, ours or not
)

// Ages of server cookies in seconds (RFC 9018, 4.3).
const (
	cookieLife  = 3600
	cookieFresh = 1800 // after which a new one is given
	cookieAhead = 300  // clocks of servers that share a secret differ
)

// Secrets are what server cookies are made with: the first one makes them, and
// all are accepted, so that servers which share secrets can change them one
// after the other (RFC 9018, 5).
type Secrets struct{ keys [][2]uint64 }

// SecretSize is the length of a secret in octets.
const SecretSize = 16

// NewSecrets takes one secret or more.
func NewSecrets(secrets ...[SecretSize]byte) *Secrets {
	s := new(Secrets)
	for _, key := range secrets {
		s.keys = append(s.keys, [2]uint64{binary.LittleEndian.Uint64(key[:8]), binary.LittleEndian.Uint64(key[8:])})
	}
	return s
}

// cookie is the COOKIE option of a query.
type cookie struct {
	present bool
	client  [clientCookie]byte
	server  [longestCookie]byte
	n       uint8 // octets of server; 0: the client has none of ours yet
}

// parse reads the option's data. It returns false where RFC 7873, 5.2.2 asks for
// FORMERR.
func (c *cookie) parse(data []byte) bool {
	n := len(data) - clientCookie
	if n != 0 && (n < 8 || n > longestCookie) {
		return false
	}
	c.present = true
	c.n = uint8(n)
	copy(c.client[:], data)
	copy(c.server[:], data[clientCookie:])
	return true
}

// wireSize returns the octets that append writes.
func (c *cookie) wireSize() int {
	if !c.present {
		return 0
	}
	return optionSize(clientCookie + serverCookie)
}

// valid reports whether the server cookie is one of ours for that address, and
// whether it is as good as a new one.
func (c *cookie) valid(s *Secrets, from netip.Addr, now uint32) (ok, fresh bool) {
	if c.n != serverCookie || c.server[0] != 1 {
		return false, false
	}
	made := binary.BigEndian.Uint32(c.server[4:])
	age := int32(now - made) // serial number arithmetic
	if age > cookieLife || age < -cookieAhead {
		return false, false
	}
	for i, key := range s.keys {
		if c.hash(key, c.server[:8], from) == binary.LittleEndian.Uint64(c.server[8:]) {
			return true, i == 0 && age < cookieFresh
		}
	}
	return false, false
}

// append writes the option for the response: the client's cookie, and ours, a new
// one unless the one that came is fresh.
func (c *cookie) append(b []byte, s *Secrets, from netip.Addr, now uint32) []byte {
	b = append(appendOption(b, optionCookie, clientCookie+serverCookie), c.client[:]...)
	if _, fresh := c.valid(s, from, now); fresh {
		return append(b, c.server[:serverCookie]...)
	}
	b = binary.BigEndian.AppendUint32(append(b, 1, 0, 0, 0), now)
	return binary.LittleEndian.AppendUint64(b, c.hash(s.keys[0], b[len(b)-8:], from))
}

// hash is that of RFC 9018, 4.4: head is version, reserved octets and timestamp.
func (c *cookie) hash(key [2]uint64, head []byte, from netip.Addr) uint64 {
	var room [clientCookie + 8 + 16]byte
	in := append(append(room[:0], c.client[:]...), head...)
	if from.Is4() {
		v4 := from.As4()
		in = append(in, v4[:]...)
	} else {
		v6 := from.As16()
		in = append(in, v6[:]...)
	}
	return siphash.Hash(key[0], key[1], in)
}
