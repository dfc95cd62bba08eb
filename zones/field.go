package zones

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// The kinds of fields that several types have.
var (
	u8  = number(8)
	u16 = number(16)
	u32 = number(32)

	ipv4            = kind{read: readIPv4, end: octets(4)}
	ipv6            = kind{read: readIPv6, end: octets(16)}
	domainName      = kind{read: readName, end: nameEnd}
	interval        = kind{read: readSeconds, end: octets(4)}
	timestamp       = kind{read: readTime, end: octets(4)}
	typeCovered     = kind{read: readType, end: octets(2)}
	algorithm       = mnemonic(8, dns.StringToAlgorithm, "an algorithm's number up to 255, or a name such as ECDSAP256SHA256")
	certificateType = mnemonic(16, dns.StringToCertType, "a type's number up to 65535, or a name such as PKIX")
)

// optional is a field of kind k, or nothing.
func optional(k kind) kind {
	return kind{
		read: func(r *rdata, name string) error {
			if len(r.words) == 0 {
				return nil
			}
			return k.read(r, name)
		},
		end: func(wire []byte, at int) int {
			if at == len(wire) {
				return at
			}
			return k.end(wire, at)
		},
		optional: true,
	}
}

// quoted is a field of kind k that must stand, or must not, in quotation marks.
func quoted(k kind, must bool) kind {
	read := k.read
	k.read = func(r *rdata, name string) error {
		switch word := r.words[0]; {
		case must && word[0] != '"':
			return no(word, name, "write it in quotation marks")
		case !must && word[0] == '"':
			return no(word, name, "take away the quotation marks")
		}
		return read(r, name)
	}
	return k
}

// octets is the end of a field that has n octets.
func octets(n int) func([]byte, int) int {
	return func(wire []byte, at int) int {
		if at+n > len(wire) {
			return -1
		}
		return at + n
	}
}

// rest is the end of a field that takes all octets left, at least n.
func rest(n int) func([]byte, int) int {
	return func(wire []byte, at int) int {
		if len(wire)-at < n {
			return -1
		}
		return len(wire)
	}
}

// decimal reads a whole number of at most most.
func decimal(word []byte, most uint64) (n uint64, ok bool) {
	for _, c := range word {
		if !digit(c) {
			return 0, false
		}
		if n = n*10 + uint64(c-'0'); n > most {
			return 0, false
		}
	}
	return n, len(word) > 0
}

// number is an unsigned number of so many bits.
func number(bits int) kind { return mnemonic[uint8](bits, nil, "a whole number") }

// mnemonic is a number that may have a name.
func mnemonic[N uint8 | uint16](bits int, names map[string]N, what string) kind {
	most := uint64(1)<<bits - 1
	return kind{end: octets(bits / 8), read: func(r *rdata, name string) error {
		word := r.word()
		n, ok := decimal(word, most)
		if !ok {
			var named N
			named, ok = names[strings.ToUpper(string(word))]
			n = uint64(named)
		}
		switch {
		case !ok && names == nil:
			return no(word, name, fmt.Sprintf("write %s up to %d", what, most))
		case !ok:
			return no(word, name, "write "+what)
		}
		for shift := bits - 8; shift >= 0; shift -= 8 {
			r.wire = append(r.wire, byte(n>>shift))
		}
		return nil
	}}
}

func readIPv4(r *rdata, name string) error {
	word, n, dots, digits := r.word(), 0, 0, 0
	for i := 0; i <= len(word); i++ {
		switch {
		case i < len(word) && digit(word[i]) && n <= 25 && (digits == 0 || n > 0):
			n, digits = n*10+int(word[i]-'0'), digits+1
		case digits > 0 && n <= 255 && (i == len(word) && dots == 3 || i < len(word) && word[i] == '.' && dots < 3):
			r.wire = append(r.wire, byte(n))
			n, dots, digits = 0, dots+1, 0
		default:
			return no(word, "IPv4 "+name, "write four numbers up to 255 with dots between them, as in 192.0.2.1")
		}
	}
	return nil
}

func readIPv6(r *rdata, name string) error {
	word := r.word()
	address, err := netip.ParseAddr(string(word))
	if err != nil || !address.Is6() || address.Zone() != "" {
		return no(word, "IPv6 "+name, "write one as in 2001:db8::1")
	}
	octets := address.As16()
	r.wire = append(r.wire, octets[:]...)
	return nil
}

func readName(r *rdata, name string) (err error) {
	word := r.word()
	if r.wire, err = appendCased(r.wire, word, r.origin); err != nil {
		return fmt.Errorf("the %s %s %w", name, shown(word), err)
	}
	return nil
}

func nameEnd(wire []byte, at int) int {
	n := nameLength(wire[at:])
	if n == 0 || n > maxName {
		return -1
	}
	return at + n
}

func readSeconds(r *rdata, name string) error {
	word := r.word()
	n, ok := parseSeconds(word, math.MaxUint32)
	if !ok {
		return no(word, name, "write whole seconds up to 4294967295, or numbers that each have a unit, as in 1h30m")
	}
	r.wire = binary.BigEndian.AppendUint32(r.wire, n)
	return nil
}

// readTime reads a time of RFC 4034 section 3.2: YYYYMMDDHHmmSS in UTC, or
// seconds since 1970.
func readTime(r *rdata, name string) error {
	word := r.word()
	n, ok := decimal(word, 1<<32-1)
	if len(word) == 14 {
		t, err := time.Parse("20060102150405", string(word))
		n, ok = uint64(t.Unix()), err == nil && t.Unix() >= 0 && t.Unix() < 1<<32
	}
	if !ok {
		return no(word, name, "write YYYYMMDDHHmmSS, or seconds since 1970 up to 4294967295")
	}
	r.wire = binary.BigEndian.AppendUint32(r.wire, uint32(n))
	return nil
}

func readType(r *rdata, name string) error {
	word := r.word()
	typ, ok := typeOf(word)
	if !ok {
		return no(word, name, "write a record type, or TYPE followed by its number")
	}
	r.wire = binary.BigEndian.AppendUint16(r.wire, typ)
	return nil
}
