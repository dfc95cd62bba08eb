package zones

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"path"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"nearside/pace"
)

// Limits on $INCLUDE. The second one stops a chain of files that each include
// the next one twice.
const (
	maxDepth    = 16
	maxIncludes = 10000
)

// reader turns the files of one zone into records: entries, directives, owners,
// TTLs and classes here, RDATA in rdata.
type reader struct {
	source source
	dir    string // for messages
	faults *collector
	build  *builder
	pace   *pace.Pacer

	stack    []*master // the file being read is the last
	includes int

	entry entry
	at    place  // of the entry
	typ   uint16 // of the entry
	rdata rdata  // of the entry

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
}

// records reads the zone file name and everything it includes.
func (r *reader) records(name string, origin []byte) {
	r.faults.files = append(r.faults.files, filepath.Join(r.dir, name))
	text, err := r.source.read(name)
	if err != nil {
		r.broken("cannot read the zone file: %v", err)
		return
	}
	if text.Size() >= large && r.pace.Pace() == pace.Gentle {
		debug.FreeOSMemory() // what the reload before left must not lie beside what this one makes
	}
	r.push(name, text, 0, origin, false)
	const sample = 64 // what a part of a large file holds foretells the whole
	small := text.Size() < 1<<20
	for len(r.stack) > 0 {
		m := r.top()
		if !small && m.done() > text.Size()/sample {
			r.build.reserve(sample, text.Size())
			small = true
		}
		r.next(m)
	}
}

func (r *reader) push(name string, t text, file uint16, origin []byte, named bool) {
	m := &master{scanner: scanner{line: 1, rest: t}, name: name, file: file, origin: origin, named: named}
	m.data = make([]byte, 0, min(t.Size()+1, windowSize))
	if m.more(true) {
		if m.data = r.unmarked(m.data, file); m.data == nil {
			m.rest = nil
		}
	}
	r.stack = append(r.stack, m)
}

// unmarked takes the byte order mark off that some editors put before a text. It
// is a fault, as it would be part of the first word; BIND, Knot and NSD refuse it too.
func (r *reader) unmarked(data []byte, file uint16) []byte {
	first := place{file, 1}
	switch {
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		r.faults.errorf(first, "the file begins with a byte order mark; save it without one, as plain UTF-8 or ASCII")
		return data[3:]
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")):
		r.faults.errorf(first, "the file is UTF-16; save it as UTF-8 or ASCII, without a byte order mark")
		r.build.broken[0] = true
		return nil
	}
	return data
}

// top is the file being read.
func (r *reader) top() *master { return r.stack[len(r.stack)-1] }

// next reads the next entry of a file. At the end of an included file the
// origin and the owner of the one that included it are in force again (RFC 1035
// section 5.1).
func (r *reader) next(m *master) {
	r.pace.Step()
	r.typ = 0
	found, err := m.next(&r.entry)
	r.at = place{m.file, uint32(r.entry.line)}
	switch {
	case err != nil && found:
		r.broken("%v", err)
	case err != nil:
		r.broken("cannot read the rest of the file: %v", err)
	case !found:
		r.stack = r.stack[:len(r.stack)-1]
	case !r.entry.blank && r.entry.tokens[0][0] == '$':
		r.directive(m)
	default:
		r.record(m)
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
			r.broken("the name %s %v", shown(args[0]), err)
			return
		}
		m.origin, m.named = origin, true
	case "$TTL":
		if len(args) != 1 {
			r.broken("$TTL takes one TTL")
			return
		}
		ttl, err := parseTTL(args[0])
		if err != nil {
			r.broken("%s is no TTL; %v", shown(args[0]), err)
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
			return fmt.Errorf("the name %s %w", shown(args[1]), err)
		}
	}
	if slices.ContainsFunc(r.stack, func(m *master) bool { return m.name == name }) {
		return fmt.Errorf("cannot include %s: it is being read already, so this would never end", asked)
	}
	if r.includes++; len(r.stack) > maxDepth || r.includes > maxIncludes {
		return fmt.Errorf("cannot include %s: at most %d levels and %d files are possible", asked, maxDepth, maxIncludes)
	}
	text, err := r.source.read(name)
	if err != nil {
		return fmt.Errorf("cannot include %s: %w", asked, err)
	}
	shown := filepath.Join(r.dir, name)
	file := slices.Index(r.faults.files, shown)
	if file < 0 {
		file = len(r.faults.files)
		r.faults.files = append(r.faults.files, shown)
	}
	r.push(name, text, uint16(file), origin, m.named || len(args) == 2)
	return nil
}

// record reads an entry that is a record.
func (r *reader) record(m *master) {
	words := r.entry.tokens
	if !r.entry.blank {
		owner, err := appendName(m.owner[:0], words[0], m.origin)
		if m.lost = err != nil; m.lost {
			r.broken("the name %s %v", shown(words[0]), err)
			return
		}
		m.owner, words = owner, words[1:]
	} else if m.lost {
		return
	} else if m.owner == nil {
		r.broken("a record without an owner has no record before it in this file; name its owner")
		return
	}
	words, ttl, err := r.typeAndTTL(words)
	if err == nil {
		err = r.add(m, m.owner, ttl, words)
	}
	if err != nil {
		r.broken("%v", err)
	}
}

// add reads RDATA and gives the record to the builder.
func (r *reader) add(m *master, owner []byte, ttl uint32, words [][]byte) error {
	r.rdata.words, r.rdata.origin = words, m.origin
	if err := r.rdata.read(r.typ); err != nil {
		return err
	}
	if n := r.build.count; n%(1<<16) == 0 && n > 0 && r.progress != nil {
		r.progress(n)
	}
	r.build.add(owner, r.typ, ttl, r.rdata.wire, r.at, m.named && bytes.Equal(owner, m.origin))
	return nil
}

// typeAndTTL reads TTL and class, in either order and both optional, up to the
// type; rest is what follows that.
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
				return nil, 0, fmt.Errorf("%s is no TTL; %w", shown(word), err)
			}
			haveTTL = true
			continue
		}
		class, isClass := classOf(word)
		if typ, ok := typeOf(word); ok && !isClass {
			r.typ = typ
			break
		}
		if !isClass || haveClass {
			return nil, 0, fmt.Errorf("%s is no record type; an unknown type is written TYPE followed by its number", shown(word))
		}
		if class != dns.ClassINET {
			return nil, 0, fmt.Errorf("the class is %s; only IN is served", shown(word))
		}
		haveClass = true
	}
	switch {
	case len(tokens) == 0:
		return nil, 0, errors.New("a record without a type; write OWNER TTL TYPE RDATA")
	case !storable(r.typ):
		return nil, 0, fmt.Errorf("%s cannot stand in a zone: it is for queries and messages only", tokens[0])
	case haveTTL && !r.ttlByOrder:
		r.defaultTTL, r.haveTTL = ttl, true
	case !haveTTL && r.haveTTL:
		ttl = r.defaultTTL
	case !haveTTL:
		return nil, 0, errors.New("no TTL; put a line like $TTL 3600 at the top of the file")
	}
	return tokens[1:], ttl, nil
}

// typeOf reads the mnemonic of a type, or TYPE and its number (RFC 3597 section 5).
func typeOf(word []byte) (uint16, bool) {
	if typ, ok := dns.StringToType[string(word)]; ok {
		return typ, true
	}
	if typ, ok := dns.StringToType[strings.ToUpper(string(word))]; ok {
		return typ, true
	}
	return numbered(word, "TYPE")
}

// classOf reads the mnemonic of a class, or CLASS and its number.
func classOf(word []byte) (uint16, bool) {
	switch {
	case len(word) != 2:
		return numbered(word, "CLASS")
	case bytes.EqualFold(word, []byte("IN")):
		return dns.ClassINET, true
	case bytes.EqualFold(word, []byte("CH")):
		return dns.ClassCHAOS, true
	case bytes.EqualFold(word, []byte("HS")):
		return dns.ClassHESIOD, true
	}
	return 0, false
}

// numbered reads a prefix and a number.
func numbered(word []byte, prefix string) (uint16, bool) {
	if len(word) <= len(prefix) || !strings.EqualFold(string(word[:len(prefix)]), prefix) {
		return 0, false
	}
	n, ok := decimal(word[len(prefix):], math.MaxUint16)
	return uint16(n), ok
}

// storable reports whether a type can stand in a zone: not OPT, and none of the
// meta types and query types of RFC 6895 section 3.1.
func storable(typ uint16) bool {
	return typ != 0 && typ != dns.TypeOPT && (typ < 128 || typ > 255)
}
