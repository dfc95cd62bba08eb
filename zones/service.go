package zones

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// svcParams are the SvcParams of SVCB and HTTPS records (RFC 9460 section 2.1).
var svcParams = kind{read: readParameters, end: parametersEnd, optional: true}

// parameter is a SvcParam in wire form.
type parameter struct {
	key   uint16
	value []byte
}

// keyNames are the keys that have a name, by number (RFC 9460 section 14.3.2,
// RFC 9461, RFC 9540).
var keyNames = []string{"mandatory", "alpn", "no-default-alpn", "port", "ipv4hint", "ech", "ipv6hint", "dohpath", "ohttp"}

// values has, by key, how its value is written and what is right on the wire.
// No read means that there is no value.
var values = []struct {
	read  func(text []byte) ([]byte, error)
	right func(value []byte) bool
}{
	{readKeys, rightKeys},
	{readALPN, rightALPN},
	{nil, exactly(0)},
	{readPort, exactly(2)},
	{hints(ipv4), multiple(4)},
	{readECH, func(value []byte) bool { return len(value) > 0 }},
	{hints(ipv6), multiple(16)},
	{readPath, rightPath},
	{nil, exactly(0)},
}

const (
	keyMandatory     = 0
	keyALPN          = 1
	keyNoDefaultALPN = 2
)

func readParameters(r *rdata, _ string) error {
	var list []parameter
	for len(r.words) > 0 {
		word := r.word()
		p, err := readParameter(word)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(list, func(q parameter) bool { return q.key == p.key }) {
			return fmt.Errorf("the parameter %s stands there twice", keyName(p.key))
		}
		list = append(list, p)
	}
	slices.SortFunc(list, func(p, q parameter) int { return cmp.Compare(p.key, q.key) })
	for _, p := range list {
		r.wire = binary.BigEndian.AppendUint16(r.wire, p.key)
		r.wire = binary.BigEndian.AppendUint16(r.wire, uint16(len(p.value)))
		r.wire = append(r.wire, p.value...)
	}
	return consistent(list)
}

// readParameter reads KEY, KEY=VALUE or KEY="VALUE".
func readParameter(word []byte) (p parameter, err error) {
	name, text, given := bytes.Cut(word, []byte("="))
	var ok bool
	if p.key, ok = keyOf(string(name)); !ok {
		return p, no(name, "parameter", "there are "+strings.Join(keyNames, ", ")+", and key with a number")
	}
	empty := len(text) == 0
	if text, err = unquoted(text); err != nil {
		return p, err
	}
	named := int(p.key) < len(values) && keyNames[p.key] == string(name)
	switch {
	case named && values[p.key].read == nil && given:
		return p, fmt.Errorf("%s takes no value; write it alone", name)
	case named && values[p.key].read != nil && empty:
		return p, fmt.Errorf("%s has no value; write it behind a =, without blanks", name)
	case given && empty:
		return p, fmt.Errorf("%s has no value after its =; leave the = out", name)
	case named && given:
		if p.value, err = values[p.key].read(text); err != nil {
			return p, fmt.Errorf("%s: %w", name, err)
		}
	default:
		p.value = appendUnescaped(nil, text)
	}
	switch {
	case len(p.value) > maxRDATA:
		return p, fmt.Errorf("%s has %d octets; at most %d fit", name, len(p.value), maxRDATA)
	case !p.right():
		return p, fmt.Errorf("%s is no value of %s", shown(text), keyName(p.key))
	}
	return p, nil
}

// right reports whether the value can be one of the key.
func (p parameter) right() bool {
	return int(p.key) >= len(values) || values[p.key].right(p.value)
}

// keyOf reads the name of a key, or key and its number.
func keyOf(name string) (uint16, bool) {
	if key := slices.Index(keyNames, name); key >= 0 {
		return uint16(key), true
	}
	text, ok := strings.CutPrefix(name, "key")
	n, digits := decimal([]byte(text), 65535)
	return uint16(n), ok && digits && (text == "0" || text[0] != '0')
}

func keyName(key uint16) string {
	if int(key) < len(keyNames) {
		return keyNames[key]
	}
	return "key" + strconv.Itoa(int(key))
}

// consistent checks what parameters say about each other (RFC 9460 sections
// 7.1.1 and 8). They are sorted.
func consistent(list []parameter) error {
	has := func(key uint16) bool {
		return slices.ContainsFunc(list, func(p parameter) bool { return p.key == key })
	}
	if has(keyNoDefaultALPN) && !has(keyALPN) {
		return errors.New("no-default-alpn needs alpn beside it")
	}
	if !has(keyMandatory) {
		return nil
	}
	for keys := list[0].value; len(keys) > 0; keys = keys[2:] {
		if key := binary.BigEndian.Uint16(keys); !has(key) {
			return fmt.Errorf("mandatory lists %s, which is not there", keyName(key))
		}
	}
	return nil
}

func parametersEnd(wire []byte, at int) int {
	var list []parameter
	for at < len(wire) {
		if at+4 > len(wire) {
			return -1
		}
		p := parameter{key: binary.BigEndian.Uint16(wire[at:])}
		end := at + 4 + int(binary.BigEndian.Uint16(wire[at+2:]))
		if end > len(wire) || len(list) > 0 && list[len(list)-1].key >= p.key {
			return -1
		}
		if p.value = wire[at+4 : end]; !p.right() {
			return -1
		}
		list, at = append(list, p), end
	}
	if consistent(list) != nil {
		return -1
	}
	return at
}

func exactly(n int) func([]byte) bool { return func(value []byte) bool { return len(value) == n } }

func multiple(n int) func([]byte) bool {
	return func(value []byte) bool { return len(value) > 0 && len(value)%n == 0 }
}

// readKeys reads the value of mandatory.
func readKeys(text []byte) ([]byte, error) {
	var keys []uint16
	for name := range strings.SplitSeq(string(text), ",") {
		key, ok := keyOf(name)
		if !ok || key == keyMandatory || slices.Contains(keys, key) {
			return nil, no([]byte(name), "key to be listed", "name each other key that a client must know once, with commas between them")
		}
		keys = append(keys, key)
	}
	slices.Sort(keys)
	var wire []byte
	for _, key := range keys {
		wire = binary.BigEndian.AppendUint16(wire, key)
	}
	return wire, nil
}

func rightKeys(value []byte) bool {
	last := uint16(keyMandatory)
	for at := 0; at+2 <= len(value); at += 2 {
		key := binary.BigEndian.Uint16(value[at:])
		if key <= last {
			return false
		}
		last = key
	}
	return len(value) > 0 && len(value)%2 == 0
}

// readALPN reads a list of protocols. Within one, a backslash stands before a
// comma or a backslash (RFC 9460 appendix A.1).
func readALPN(text []byte) ([]byte, error) {
	value := appendUnescaped(nil, text)
	var wire []byte
	start := 0
	wire = append(wire, 0)
	end := func() error {
		length := len(wire) - start - 1
		if length == 0 || length > maxString {
			return fmt.Errorf("a protocol of %d octets; write one to 255 for each, with commas between them", length)
		}
		wire[start] = byte(length)
		return nil
	}
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == ',':
			if err := end(); err != nil {
				return nil, err
			}
			start = len(wire)
			wire = append(wire, 0)
		case c == '\\' && i+1 < len(value) && (value[i+1] == ',' || value[i+1] == '\\'):
			i++
			wire = append(wire, value[i])
		case c == '\\':
			return nil, errors.New(`a backslash within a protocol; write \\ for one, \, for a comma (and each backslash twice, as it is in a string)`)
		default:
			wire = append(wire, c)
		}
	}
	return wire, end()
}

func rightALPN(value []byte) bool {
	for at := 0; at < len(value); {
		end := stringEnd(value, at)
		if end < at+2 {
			return false
		}
		at = end
	}
	return len(value) > 0
}

func readPort(text []byte) ([]byte, error) {
	n, ok := decimal(text, 65535)
	if !ok {
		return nil, no(text, "port", "write a whole number up to 65535")
	}
	return binary.BigEndian.AppendUint16(nil, uint16(n)), nil
}

// hints is a list of addresses.
func hints(address kind) func([]byte) ([]byte, error) {
	return func(text []byte) ([]byte, error) {
		r := rdata{words: bytes.Split(text, []byte(","))}
		for len(r.words) > 0 {
			if err := address.read(&r, "address"); err != nil {
				return nil, err
			}
		}
		return r.wire, nil
	}
}

func readECH(text []byte) ([]byte, error) {
	octets, err := base64.StdEncoding.Strict().AppendDecode(nil, text)
	if err != nil || len(octets) == 0 {
		return nil, no(text, "base64", "write groups of four of A-Z a-z 0-9 + /, the last one filled up with =")
	}
	return octets, nil
}

func readPath(text []byte) ([]byte, error) {
	value := appendUnescaped(nil, text)
	if !rightPath(value) {
		return nil, no(value, "path", "write one that starts with / and has {?dns} in it")
	}
	return value, nil
}

// rightPath: RFC 9461 section 5.
func rightPath(value []byte) bool {
	return len(value) > 0 && value[0] == '/' && utf8.Valid(value) && bytes.Contains(value, []byte("{?dns}"))
}
