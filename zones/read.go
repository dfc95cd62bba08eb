package zones

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// Limits on $INCLUDE. The second one stops a chain of files that each include
// the next one twice.
const (
	maxDepth    = 16
	maxIncludes = 10000
)

// reader turns the files of one zone into records. It understands entries,
// directives, owners, TTLs and classes itself, strictly and with lines; the
// RDATA of each record goes through one streaming dns.ZoneParser, which reads
// one entry at a time from the reader: "owner TTL IN TYPE RDATA\n".
type reader struct {
	source source
	dir    string // for messages
	faults *collector
	build  *builder

	stack    []*master // the file being read is the last
	includes int
	parser   *dns.ZoneParser

	entry entry
	at    place  // of the entry
	owner []byte // of the entry, unless it is a $GENERATE
	many  bool   // the entry is a $GENERATE
	typ   uint16 // of the entry

	text  []byte // what the parser is to read next
	read  int    // how much of it was read
	given bool   // the parser, asked for a record, was given an entry
	short bool   // that was not enough for it
	wire  []byte // room for one packed record

	defaultTTL uint32 // of $TTL, else the last one given
	haveTTL    bool
	ttlByOrder bool // defaultTTL comes from $TTL

	progress func(records int) // called every now and then; may be nil
}

// master is a master file being read.
type master struct {
	scanner
	name   string // in the folder
	file   uint16 // index into collector.files
	origin []byte // in force
	named  bool   // origin comes from a $ORIGIN
	owner  []byte // of the last record; nil: none yet
	lost   bool   // the last owner could not be read: records that share it are passed over
	told   bool   // the parser knows the origin
}

// records reads the zone file name and everything it includes.
func (r *reader) records(name string, origin []byte) {
	r.faults.files = append(r.faults.files, filepath.Join(r.dir, name))
	data, err := r.source.read(name)
	if err != nil {
		r.broken("cannot read the zone file: %v", err)
		return
	}
	r.push(name, data, 0, origin, false)
	r.wire = make([]byte, 1<<16+maxName+16)
	for {
		if r.parser == nil {
			r.parser = dns.NewZoneParser(r, ".", "")
		}
		r.given = false
		rr, ok := r.parser.Next()
		switch {
		case r.short:
			r.broken("the %s record ends too early: a field is missing", dns.Type(r.typ))
		case ok:
			r.add(rr)
			continue
		case r.parser.Err() == nil:
			return
		default:
			r.broken("%s", parserMessage(r.parser.Err(), r.typ))
		}
		// A parser stops at its first error: a new one goes on at the next entry.
		r.parser, r.text, r.read = nil, nil, 0
		for _, m := range r.stack {
			m.told = false
		}
	}
}

func (r *reader) push(name string, data []byte, file uint16, origin []byte, named bool) {
	r.stack = append(r.stack, &master{scanner: scanner{data: data, line: 1}, name: name, file: file, origin: origin, named: named})
}

// top is the file being read.
func (r *reader) top() *master { return r.stack[len(r.stack)-1] }

// Read is there because the parser asks for an io.Reader; it uses ReadByte.
func (r *reader) Read(p []byte) (int, error) {
	for i := range p {
		c, err := r.ReadByte()
		if err != nil {
			return i, err
		}
		p[i] = c
	}
	return len(p), nil
}

// ReadByte gives the parser the next byte. It goes on to the next entry only
// when the parser asks for it: what the parser returned before belongs to r.at.
// For one record the parser gets one entry: where a field is missing, it would
// look for it in the next one.
func (r *reader) ReadByte() (byte, error) {
	for r.read >= len(r.text) {
		if r.short = r.given; r.short || !r.next() {
			return 0, io.EOF
		}
		r.given = len(r.text) > 0
	}
	c := r.text[r.read]
	r.read++
	return c, nil
}

// next prepares the next entry for the parser in r.text, which stays empty if
// it is none for the parser. It returns false at the end of the zone.
func (r *reader) next() bool {
	r.text, r.read, r.typ, r.many = r.text[:0], 0, 0, false
	if len(r.stack) == 0 {
		return false
	}
	m := r.top()
	found, err := m.next(&r.entry)
	r.at = place{m.file, uint32(r.entry.line)}
	switch {
	case err != nil:
		r.broken("%v", err)
	case !found:
		r.pop()
	case !r.entry.blank && r.entry.tokens[0][0] == '$':
		r.directive(m)
	default:
		r.record(m)
	}
	return true
}

// pop ends a file: the origin and the owner of the one that included it are in
// force again (RFC 1035 section 5.1).
func (r *reader) pop() {
	r.stack = r.stack[:len(r.stack)-1]
	if len(r.stack) > 0 {
		r.top().told = false
	}
}

// fail reports a fault of the entry.
func (r *reader) fail(format string, args ...any) { r.faults.errorf(r.at, format, args...) }

// broken reports a fault that lost the entry, so that nothing of its type (0:
// of any type) is reported missing later.
func (r *reader) broken(format string, args ...any) {
	r.build.broken[r.typ] = true
	r.fail(format, args...)
}

// directive obeys $ORIGIN, $TTL, $INCLUDE and $GENERATE.
func (r *reader) directive(m *master) {
	args := r.entry.tokens[1:]
	switch name := strings.ToUpper(string(r.entry.tokens[0])); name {
	case "$ORIGIN":
		if len(args) != 1 {
			r.broken("$ORIGIN takes one name")
			return
		}
		origin, err := appendName(nil, args[0], m.origin)
		if err != nil {
			r.broken("the name %s %v", args[0], err)
			return
		}
		m.origin, m.named, m.told = origin, true, false
	case "$TTL":
		if len(args) != 1 {
			r.broken("$TTL takes one TTL")
			return
		}
		ttl, err := parseTTL(args[0])
		if err != nil {
			r.broken("%s is no TTL: %v", args[0], err)
			return
		}
		r.defaultTTL, r.haveTTL, r.ttlByOrder = ttl, true, true
	case "$INCLUDE":
		if err := r.include(m, args); err != nil {
			r.broken("%v", err)
		}
	case "$GENERATE":
		if err := r.generate(m, args); err != nil {
			r.broken("%v", err)
		}
	default:
		r.broken("%s is no directive; there are $ORIGIN, $TTL, $INCLUDE and $GENERATE (an owner that starts with $ is written \\$)", name)
	}
}

// include starts reading another file. Its path is relative to the file that
// includes it.
func (r *reader) include(m *master, args [][]byte) error {
	if len(args) < 1 || len(args) > 2 {
		return errors.New("$INCLUDE takes a file and perhaps an origin")
	}
	asked := strings.Trim(string(args[0]), `"`)
	name := path.Join(path.Dir(m.name), asked)
	if path.IsAbs(asked) || !filepath.IsLocal(name) {
		return fmt.Errorf("cannot include %s: name a file within the zones folder, relative to this one", asked)
	}
	origin := m.origin
	if len(args) == 2 {
		var err error
		if origin, err = appendName(nil, args[1], m.origin); err != nil {
			return fmt.Errorf("the name %s %w", args[1], err)
		}
	}
	if slices.ContainsFunc(r.stack, func(m *master) bool { return m.name == name }) {
		return fmt.Errorf("cannot include %s: it is being read already, so this would never end", asked)
	}
	if r.includes++; len(r.stack) > maxDepth || r.includes > maxIncludes {
		return fmt.Errorf("cannot include %s: at most %d levels and %d files are possible", asked, maxDepth, maxIncludes)
	}
	data, err := r.source.read(name)
	if err != nil {
		return fmt.Errorf("cannot include %s: %w", asked, err)
	}
	shown := filepath.Join(r.dir, name)
	file := slices.Index(r.faults.files, shown)
	if file < 0 {
		file = len(r.faults.files)
		r.faults.files = append(r.faults.files, shown)
	}
	r.push(name, data, uint16(file), origin, m.named || len(args) == 2)
	return nil
}

// generate hands a $GENERATE to the parser, with the TTL spelled out.
func (r *reader) generate(m *master, args [][]byte) error {
	if len(args) < 4 {
		return errors.New("$GENERATE takes a range, an owner, a type and RDATA")
	}
	rest, ttl, err := r.typeAndTTL(args[2:])
	if err != nil {
		return err
	}
	if len(rest) < 2 {
		return fmt.Errorf("no RDATA; add what the %s record should say", rest[0])
	}
	r.many = true
	r.tell(m)
	r.text = append(r.text, "$GENERATE "...)
	r.text = append(append(r.text, args[0]...), ' ')
	r.text = append(append(r.text, args[1]...), ' ')
	r.say(ttl, rest)
	return nil
}

// record hands an entry to the parser. Its owner is read here.
func (r *reader) record(m *master) {
	tokens := r.entry.tokens
	if !r.entry.blank {
		owner, err := appendName(m.owner[:0], tokens[0], m.origin)
		if m.lost = err != nil; m.lost {
			r.broken("the name %s %v", tokens[0], err)
			return
		}
		m.owner, tokens = owner, tokens[1:]
	} else if m.lost {
		return
	} else if m.owner == nil {
		r.broken("a record without an owner has no record before it in this file; name its owner")
		return
	}
	rest, ttl, err := r.typeAndTTL(tokens)
	if err == nil {
		rest, err = r.strict(rest)
	}
	if err != nil {
		r.broken("%v", err)
		return
	}
	r.owner = m.owner
	r.tell(m)
	r.text = append(r.text, ". "...)
	r.say(ttl, rest)
}

// tell makes the parser complete names by the origin in force.
func (r *reader) tell(m *master) {
	if !m.told {
		r.text = append(append(append(r.text, "$ORIGIN "...), nameText(m.origin)...), '\n')
		m.told = true
	}
}

// say writes the rest of an entry for the parser.
func (r *reader) say(ttl uint32, tokens [][]byte) {
	r.text = strconv.AppendUint(r.text, uint64(ttl), 10)
	r.text = append(r.text, " IN"...)
	for _, t := range tokens {
		r.text = append(append(r.text, ' '), t...)
	}
	r.text = append(r.text, '\n')
}

// typeAndTTL reads TTL and class, in either order and both optional, up to the
// type; rest starts with the type.
//
// A record without a TTL has that of $TTL (RFC 2308 section 4), else the last
// one given (RFC 1035 section 5.1), as BIND has it. Where there is neither,
// BIND takes the MINIMUM field for the SOA record, with a warning; here it is a
// fault, because the MINIMUM field means something else since RFC 2308.
func (r *reader) typeAndTTL(tokens [][]byte) (rest [][]byte, ttl uint32, err error) {
	var haveTTL, haveClass bool
	for ; len(tokens) > 0; tokens = tokens[1:] {
		word := tokens[0]
		if !haveTTL && digit(word[0]) {
			if ttl, err = parseTTL(word); err != nil {
				return nil, 0, fmt.Errorf("%s is no TTL: %w", word, err)
			}
			haveTTL = true
			continue
		}
		if typ, ok := typeOf(word); ok {
			r.typ = typ
			break
		}
		class, ok := classOf(word)
		if !ok || haveClass {
			return nil, 0, fmt.Errorf("%s is no record type; an unknown type is written TYPE followed by its number", word)
		}
		if class != dns.ClassINET {
			return nil, 0, fmt.Errorf("the class is %s; only IN is served", word)
		}
		haveClass = true
	}
	switch {
	case len(tokens) == 0:
		return nil, 0, errors.New("a record without a type; write OWNER TTL TYPE RDATA")
	case !storable(r.typ):
		return nil, 0, fmt.Errorf("%s cannot stand in a zone: it is for queries and messages only", tokens[0])
	case len(tokens) == 1 && r.typ != dns.TypeAPL:
		return nil, 0, fmt.Errorf("no RDATA; add what the %s record should say", tokens[0])
	case haveTTL && !r.ttlByOrder:
		r.defaultTTL, r.haveTTL = ttl, true
	case !haveTTL && r.haveTTL:
		ttl = r.defaultTTL
	case !haveTTL:
		return nil, 0, errors.New("no TTL; put a line like $TTL 3600 at the top of the file")
	}
	return tokens, ttl, nil
}

// strict checks RDATA where the parser would let things pass: strings that it
// would split, and the fields of SOA.
func (r *reader) strict(tokens [][]byte) ([][]byte, error) {
	switch {
	case len(tokens) == 1 || string(tokens[1]) == `\#`:
		return tokens, nil
	case ofStrings(r.typ):
		for _, token := range tokens[1:] {
			if n := stringLength(token); n > maxString {
				return nil, fmt.Errorf("%s record: a string of %d octets; one has at most %d, write several", tokens[0], n, maxString)
			}
		}
		return tokens, nil
	case r.typ != dns.TypeSOA:
		return tokens, nil
	}
	if len(tokens) != 8 {
		return nil, fmt.Errorf("an SOA record has 7 fields, this one %d: primary server, mailbox, serial, refresh, retry, expire, minimum", len(tokens)-1)
	}
	if _, err := strconv.ParseUint(string(tokens[3]), 10, 32); err != nil {
		return nil, fmt.Errorf("%s is no serial; write a whole number up to 4294967295", tokens[3])
	}
	strict := slices.Clone(tokens)
	for i, field := range []string{"refresh", "retry", "expire", "minimum"} {
		seconds, err := parseTTL(tokens[4+i])
		if err != nil {
			return nil, fmt.Errorf("%s is no %s of an SOA record: %w", tokens[4+i], field, err)
		}
		strict[4+i] = strconv.AppendUint(nil, uint64(seconds), 10)
	}
	return strict, nil
}

// maxString is the most octets of a character-string (RFC 1035 section 3.3).
const maxString = 255

// ofStrings reports whether RDATA of a type is character-strings and no more.
func ofStrings(typ uint16) bool {
	switch typ {
	case dns.TypeTXT, dns.TypeSPF, dns.TypeHINFO, dns.TypeAVC, dns.TypeNINFO, dns.TypeRESINFO:
		return true
	}
	return false
}

// stringLength returns the octets that a token stands for, escapes resolved.
func stringLength(token []byte) (n int) {
	if len(token) > 1 && token[0] == '"' {
		token = token[1 : len(token)-1]
	}
	for i := 0; i < len(token); i++ {
		if token[i] == '\\' && i+1 < len(token) {
			if i++; digit(token[i]) {
				i += 2
			}
		}
		n++
	}
	return n
}

// add packs a record and gives it to the builder.
func (r *reader) add(rr dns.RR) {
	h := rr.Header()
	if r.many {
		owner, err := appendName(nil, []byte(h.Name), nil)
		if err != nil {
			r.broken("the name %s %v", h.Name, err)
			return
		}
		r.owner, h.Name = owner, "."
		if h.Class != dns.ClassINET || h.Rrtype != r.typ {
			r.broken("a $GENERATE made a record of another class or type; take the $ out of them")
			return
		}
	}
	end, err := dns.PackRR(rr, r.wire, 0, nil, false)
	if err != nil {
		r.broken("%s record: %s; RDATA has at most 65535 octets, a name in it 255, a string in it 255", dns.Type(r.typ), strings.TrimPrefix(err.Error(), "dns: "))
		return
	}
	// The parser packs names that are too long; unpacking finds them.
	if h.Rrtype != dns.TypeA && h.Rrtype != dns.TypeAAAA && h.Rrtype != dns.TypeTXT {
		if _, _, err := dns.UnpackRR(r.wire[:end], 0); err != nil {
			r.broken("%s record: %s; a name in RDATA has at most 255 octets", dns.Type(r.typ), strings.TrimPrefix(err.Error(), "dns: "))
			return
		}
	}
	const header = 11 // the root as owner, type, class, TTL, length
	if _, known := dns.TypeToRR[h.Rrtype]; known && end == header && h.Rrtype != dns.TypeAPL && h.Rrtype != dns.TypeNULL {
		r.broken("no RDATA; add what the %s record should say", dns.Type(h.Rrtype))
		return
	}
	if n := len(r.build.records); n%(1<<16) == 0 && n > 0 && r.progress != nil {
		r.progress(n)
	}
	m := r.top()
	r.build.add(r.owner, h.Rrtype, h.Ttl, r.wire[header:end], r.at, m.named && bytes.Equal(r.owner, m.origin))
}

// parserMessage takes the parser's own file and line out of its message.
func parserMessage(err error, typ uint16) string {
	message := strings.TrimPrefix(err.Error(), "dns: ")
	if i := strings.LastIndex(message, " at line: "); i >= 0 {
		message = message[:i]
	}
	if typ == 0 {
		return message
	}
	return "cannot read the " + dns.Type(typ).String() + " record: " + message
}

// typeOf reads the mnemonic of a type, or TYPE and its number (RFC 3597 section 5).
func typeOf(word []byte) (uint16, bool) {
	if typ, ok := dns.StringToType[string(word)]; ok {
		return typ, true
	}
	upper := strings.ToUpper(string(word))
	if typ, ok := dns.StringToType[upper]; ok {
		return typ, true
	}
	return numbered(upper, "TYPE")
}

// classOf reads the mnemonic of a class, or CLASS and its number.
func classOf(word []byte) (uint16, bool) {
	upper := strings.ToUpper(string(word))
	if class, ok := dns.StringToClass[upper]; ok {
		return class, true
	}
	return numbered(upper, "CLASS")
}

func numbered(word, prefix string) (uint16, bool) {
	number, ok := strings.CutPrefix(word, prefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(number, 10, 16)
	return uint16(n), err == nil
}

// storable reports whether a type can stand in a zone: not OPT, and none of the
// meta types and query types of RFC 6895 section 3.1.
func storable(typ uint16) bool {
	return typ != 0 && typ != dns.TypeOPT && (typ < 128 || typ > 255)
}
