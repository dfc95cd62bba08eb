package zones

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
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

	charString  = kind{read: readString, end: stringEnd}
	charStrings = kind{read: readStrings, end: stringsEnd}
	freeText    = kind{read: readText, end: rest(0)}
	hexadecimal = kind{read: readHex, end: rest(1)}
	base64Text  = kind{read: readBase64, end: rest(1)}
	typeBitmap  = kind{read: readBitmap, end: bitmapEnd, optional: true}
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

// maxString is the most octets of a character-string (RFC 1035 section 3.3).
const maxString = 255

// errMark is for a quotation mark within a word that is no string by itself.
var errMark = errors.New(`has a quotation mark within; write blanks around a string in quotation marks, or \" for one that is part of it`)

// unquoted takes the quotation marks from around a word. There must be none within.
func unquoted(word []byte) ([]byte, error) {
	if len(word) > 1 && word[0] == '"' {
		return word[1 : len(word)-1], nil // the scanner ends it at the first that is not escaped
	}
	for i := 0; i < len(word); i++ {
		switch word[i] {
		case '\\':
			i++
		case '"':
			return nil, fmt.Errorf("%s %w", shown(word), errMark)
		}
	}
	return word, nil
}

// appendUnescaped appends the octets that a word stands for. The scanner let
// no bad escape pass.
func appendUnescaped(dst, word []byte) []byte {
	for i := 0; i < len(word); {
		c, size := word[i], 1
		if c == '\\' {
			c, size = unescape(word[i:])
		}
		dst = append(dst, c)
		i += size
	}
	return dst
}

func readString(r *rdata, name string) error {
	word, err := unquoted(r.word())
	if err != nil {
		return err
	}
	start := len(r.wire)
	r.wire = appendUnescaped(append(r.wire, 0), word)
	length := len(r.wire) - start - 1
	if length > maxString {
		return fmt.Errorf("a %s of %d octets; at most %d fit into one", name, length, maxString)
	}
	r.wire[start] = byte(length)
	return nil
}

func stringEnd(wire []byte, at int) int {
	if at >= len(wire) {
		return -1
	}
	return octets(1+int(wire[at]))(wire, at)
}

func readStrings(r *rdata, name string) error {
	for len(r.words) > 0 {
		if err := readString(r, name); err != nil {
			return err
		}
	}
	return nil
}

// stringsEnd is the end of one or more strings.
func stringsEnd(wire []byte, at int) int {
	at = stringEnd(wire, at)
	for at >= 0 && at < len(wire) {
		at = stringEnd(wire, at)
	}
	return at
}

// readText reads a string that needs no length, because it is the last field.
func readText(r *rdata, _ string) error {
	word, err := unquoted(r.word())
	if err != nil {
		return err
	}
	r.wire = appendUnescaped(r.wire, word)
	return nil
}

// readHex reads all words as hexadecimal.
func readHex(r *rdata, name string) error {
	joined := slices.Concat(r.words...)
	octets, err := hex.AppendDecode(r.wire, joined)
	if err != nil {
		return no(joined, "hexadecimal "+name, "write two hexadecimal digits for each octet")
	}
	r.wire, r.words = octets, nil
	return nil
}

// readBase64 reads all words as base64.
func readBase64(r *rdata, name string) error {
	joined := slices.Concat(r.words...)
	octets, err := base64.StdEncoding.Strict().AppendDecode(r.wire, joined)
	if err != nil || len(octets) == len(r.wire) {
		return no(joined, "base64 "+name, "write groups of four of A-Z a-z 0-9 + /, the last one filled up with =")
	}
	r.wire, r.words = octets, nil
	return nil
}

// digest is hexadecimal whose length follows from the octet at some offset,
// where that has a meaning known here; else it is least at the least.
func digest(by, least int, sizes map[byte]int) kind {
	right := func(wire []byte, at int) bool {
		size, known := sizes[wire[by]]
		return !known && len(wire)-at >= least || len(wire)-at == size
	}
	return kind{
		read: func(r *rdata, name string) error {
			at := len(r.wire)
			if err := readHex(r, name); err != nil {
				return err
			}
			if !right(r.wire, at) {
				return fmt.Errorf("a %s of %d octets; one of type %d has %d", name, len(r.wire)-at, r.wire[by], max(least, sizes[r.wire[by]]))
			}
			return nil
		},
		end: func(wire []byte, at int) int {
			if at >= len(wire) || !right(wire, at) {
				return -1
			}
			return len(wire)
		},
	}
}

// readBitmap reads all words as the types of RFC 4034 section 4.1.2.
func readBitmap(r *rdata, name string) error {
	types, err := r.types(name)
	if err != nil {
		return err
	}
	for i := 0; i < len(types); {
		window := types[i] >> 8
		var bits [32]byte
		for ; i < len(types) && types[i]>>8 == window; i++ {
			bits[types[i]>>3&31] |= 0x80 >> (types[i] & 7)
		}
		length := types[i-1]>>3&31 + 1
		r.wire = append(append(r.wire, byte(window), byte(length)), bits[:length]...)
	}
	return nil
}

// types reads all words as types, and sorts them.
func (r *rdata) types(name string) ([]uint16, error) {
	var types []uint16
	for len(r.words) > 0 {
		word := r.word()
		typ, ok := typeOf(word)
		if !ok || !storable(typ) && typ != dns.TypeNXNAME { // RFC 9824 section 3
			return nil, no(word, name+" of records", "write record types, or TYPE followed by their numbers")
		}
		types = append(types, typ)
	}
	slices.Sort(types)
	return types, nil
}

// someTypesEnd: what has NSEC has at least that type (RFC 4034 section 4.1.2).
func someTypesEnd(wire []byte, at int) int {
	if at == len(wire) {
		return -1
	}
	return bitmapEnd(wire, at)
}

func bitmapEnd(wire []byte, at int) int {
	for last := -1; at < len(wire); {
		if at+2 > len(wire) || int(wire[at]) <= last {
			return -1
		}
		length := int(wire[at+1])
		end := at + 2 + length
		if length == 0 || length > 32 || end > len(wire) || wire[end-1] == 0 {
			return -1
		}
		last, at = int(wire[at]), end
	}
	return at
}

// Kinds of one type or two.
var (
	digitString   = checked(rightAddress, "write at least four digits")
	caaTag        = quoted(checked(rightTag, "write letters and digits, as in issue"), false)
	substitution  = checked(rightSubstitution, `write !EXPRESSION!REPLACEMENT! with some other character if there is a ! within`)
	someTypes     = kind{read: readBitmap, end: someTypesEnd}
	gatewayKey    = kind{read: readGatewayKey, end: gatewayKeyEnd, optional: true}
	saltOrDash    = kind{read: readSalt, end: stringEnd}
	nextHash      = kind{read: readNextHash, end: nextHashEnd}
	oldBitmap     = kind{read: readOldBitmap, end: oldBitmapEnd}
	hexGroups     = kind{read: readGroups, end: octets(8)}
	discoveryFlag = kind{read: readDiscovery, end: octets(0)}
	relayType     = kind{read: readRelayType, end: octets(1)}
	hostIdentity  = kind{read: readIdentity, end: identityEnd}
	hostNames     = kind{read: readServers, end: serversEnd, optional: true}
)

// checked is a character-string that has a form.
func checked(right func(octets []byte) bool, write string) kind {
	return kind{
		read: func(r *rdata, name string) error {
			word, start := r.words[0], len(r.wire)+1
			if err := readString(r, name); err != nil {
				return err
			}
			if !right(r.wire[start:]) {
				return no(word, name, write)
			}
			return nil
		},
		end: func(wire []byte, at int) int {
			end := stringEnd(wire, at)
			if end < 0 || !right(wire[at+1:end]) {
				return -1
			}
			return end
		},
	}
}

// rightAddress: RFC 1183 section 3.1.
func rightAddress(octets []byte) bool {
	return len(octets) >= 4 && !slices.ContainsFunc(octets, func(c byte) bool { return !digit(c) })
}

// rightTag: RFC 8659 section 4.1.
func rightTag(octets []byte) bool {
	return len(octets) > 0 && !slices.ContainsFunc(octets, func(c byte) bool { return !alphanumeric(c) })
}

// rightSubstitution: nothing, or a delimiter before an expression, before its
// replacement and before flags (RFC 3402 section 3.2).
func rightSubstitution(octets []byte) bool {
	if len(octets) == 0 {
		return true
	}
	delimiter, seen, i := octets[0], 1, 1
	for ; i < len(octets) && seen < 3; i++ {
		if octets[i] == '\\' {
			i++
		} else if octets[i] == delimiter {
			seen++
		}
	}
	return seen == 3 && !digit(delimiter) && delimiter != 'i' && delimiter != '\\' && strings.Trim(string(octets[i:]), "i") == ""
}

func alphanumeric(c byte) bool { return digit(c) || lower(c) >= 'a' && lower(c) <= 'z' }

// readSalt reads the salt of NSEC3 (RFC 5155 section 3.3): "-" for none.
func readSalt(r *rdata, name string) error {
	word := r.word()
	if string(word) == "-" {
		r.wire = append(r.wire, 0)
		return nil
	}
	octets, err := hex.DecodeString(string(word))
	if err != nil || len(octets) > maxString {
		return no(word, "hexadecimal "+name, "write two digits for each of at most 255 octets, or - for none")
	}
	r.wire = append(append(r.wire, byte(len(octets))), octets...)
	return nil
}

// readNextHash reads a hash in base32 with the extended alphabet (RFC 5155
// section 3.3).
func readNextHash(r *rdata, name string) error {
	word := r.word()
	octets, err := base32.HexEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(string(word)))
	if err != nil || !rightHash(r.wire, len(octets)) {
		return no(word, name, "write it in base32 with the digits 0-9 a-v, without =")
	}
	r.wire = append(append(r.wire, byte(len(octets))), octets...)
	return nil
}

func nextHashEnd(wire []byte, at int) int {
	end := stringEnd(wire, at)
	if end < 0 || !rightHash(wire, end-at-1) {
		return -1
	}
	return end
}

// rightHash reports whether a hash can have so many octets: SHA-1, the only
// algorithm there is, has 20.
func rightHash(wire []byte, size int) bool {
	const sha1 = 1
	return size == 20 || wire[0] != sha1 && size > 0 && size <= maxString
}

// readOldBitmap reads the types of NXT (RFC 2535 section 5.2): one bitmap, of
// types up to 127.
func readOldBitmap(r *rdata, name string) error {
	types, err := r.types(name)
	if err != nil {
		return err
	}
	var bits [16]byte
	for _, typ := range types {
		if typ > 127 {
			return fmt.Errorf("type %s does not fit; only types up to 127 do", dns.Type(typ))
		}
		bits[typ>>3] |= 0x80 >> (typ & 7)
	}
	r.wire = append(r.wire, bits[:types[len(types)-1]>>3+1]...)
	return nil
}

func oldBitmapEnd(wire []byte, at int) int {
	if bits := wire[at:]; len(bits) == 0 || len(bits) > 16 || bits[0]&0x80 != 0 || bits[len(bits)-1] == 0 {
		return -1
	}
	return len(wire)
}

// degrees is a number in a string (RFC 1712 section 3): up to most either way,
// or any if that is 0.
func degrees(most uint64) kind {
	return checked(func(octets []byte) bool {
		if len(octets) > 0 && (octets[0] == '-' || octets[0] == '+') {
			octets = octets[1:]
		}
		whole, part, _ := bytes.Cut(octets, []byte("."))
		n, ok := decimal(whole, 1<<31)
		return ok && (most == 0 || n <= most) && !slices.ContainsFunc(part, func(c byte) bool { return !digit(c) })
	}, "write a number as in -32.6882")
}

// readGroups reads four groups of four hexadecimal digits (RFC 6742 section 2.1).
func readGroups(r *rdata, name string) error {
	word := r.word()
	parts := strings.Split(string(word), ":")
	for _, part := range parts {
		octets, err := hex.DecodeString(part)
		if err != nil || len(octets) != 2 || len(parts) != 4 {
			return no(word, name, "write four groups of four hexadecimal digits, as in 0014:4fff:ff20:ee64")
		}
		r.wire = append(r.wire, octets...)
	}
	return nil
}

// pairs is n octets as pairs of hexadecimal digits (RFC 7043).
func pairs(n int) kind {
	return kind{end: octets(n), read: func(r *rdata, name string) error {
		word := r.word()
		parts := strings.Split(string(word), "-")
		for _, part := range parts {
			octet, err := hex.DecodeString(part)
			if err != nil || len(octet) != 1 || len(parts) != n {
				return no(word, name, fmt.Sprintf("write %d pairs of hexadecimal digits with hyphens between them", n))
			}
			r.wire = append(r.wire, octet...)
		}
		return nil
	}}
}

// The types of a gateway (RFC 4025 section 2.3) and of a relay (RFC 8777
// section 4.2.3).
const (
	noGateway = iota
	gatewayIPv4
	gatewayIPv6
	gatewayName
)

// gateway is a field whose kind is told by the octet at some offset.
func gateway(by int) kind {
	kinds := map[byte]kind{noGateway: {read: readDot, end: octets(0)}, gatewayIPv4: ipv4, gatewayIPv6: ipv6, gatewayName: domainName}
	return kind{
		read: func(r *rdata, name string) error {
			k, ok := kinds[r.wire[by]&0x7f]
			if !ok {
				return fmt.Errorf("%d is no %s type; there are 0 for none, 1 for IPv4, 2 for IPv6 and 3 for a name", r.wire[by]&0x7f, name)
			}
			return k.read(r, name)
		},
		end: func(wire []byte, at int) int {
			k, ok := kinds[wire[by]&0x7f]
			if !ok {
				return -1
			}
			return k.end(wire, at)
		},
	}
}

// readGatewayKey reads a public key, unless the octet before says that there is
// none (RFC 4025 section 2.4).
func readGatewayKey(r *rdata, name string) error {
	none := r.wire[2] == 0
	switch {
	case none && len(r.words) > 0:
		return fmt.Errorf("algorithm 0 means that there is no %s; leave it out or name its algorithm", name)
	case none:
		return nil
	case len(r.words) == 0:
		return fmt.Errorf("the %s is missing; only with algorithm 0 there is none", name)
	}
	return readBase64(r, name)
}

func gatewayKeyEnd(wire []byte, at int) int {
	if none := wire[2] == 0; none != (at == len(wire)) {
		return -1
	}
	return len(wire)
}

// readDot reads the dot that stands for no gateway.
func readDot(r *rdata, name string) error {
	if word := r.word(); string(word) != "." {
		return no(word, name+" of type 0", "write a dot")
	}
	return nil
}

// readDiscovery reads the D bit of AMTRELAY; the relay type joins it in its octet.
func readDiscovery(r *rdata, name string) error {
	word := r.word()
	d, ok := decimal(word, 1)
	if !ok {
		return no(word, name, "write 0 or 1")
	}
	r.wire = append(r.wire, byte(d)<<7)
	return nil
}

func readRelayType(r *rdata, name string) error {
	word := r.word()
	n, ok := decimal(word, 127)
	if !ok {
		return no(word, name, "write a whole number up to 127")
	}
	r.wire[len(r.wire)-1] |= byte(n)
	return nil
}

// readIdentity reads the fields of HIP whose lengths come first on the wire
// (RFC 8005 section 5): algorithm, host identity tag, public key.
func readIdentity(r *rdata, _ string) error {
	if len(r.words) < 3 {
		return errors.New("a field is missing; it has: algorithm, host identity tag, public key, rendezvous servers")
	}
	alg, ok := decimal(r.words[0], 255)
	if !ok {
		return no(r.words[0], "algorithm", "write a whole number up to 255")
	}
	hit, err := hex.DecodeString(string(r.words[1]))
	if err != nil || len(hit) == 0 || len(hit) > 255 {
		return no(r.words[1], "host identity tag", "write two hexadecimal digits for each of at most 255 octets")
	}
	key, err := base64.StdEncoding.Strict().DecodeString(string(r.words[2]))
	if err != nil || len(key) == 0 || len(key) > maxRDATA {
		return no(r.words[2], "public key", "write it in base64, in one word")
	}
	r.words = r.words[3:]
	r.wire = append(r.wire, byte(len(hit)), byte(alg), byte(len(key)>>8), byte(len(key)))
	r.wire = append(append(r.wire, hit...), key...)
	return nil
}

func identityEnd(wire []byte, at int) int {
	if len(wire) < at+4 || wire[at] == 0 {
		return -1
	}
	key := int(binary.BigEndian.Uint16(wire[at+2:]))
	if key == 0 {
		return -1
	}
	return octets(4+int(wire[at])+key)(wire, at)
}

func readServers(r *rdata, name string) error {
	for len(r.words) > 0 {
		if err := readName(r, name); err != nil {
			return err
		}
	}
	return nil
}

func serversEnd(wire []byte, at int) int {
	for at >= 0 && at < len(wire) {
		at = nameEnd(wire, at)
	}
	return at
}
