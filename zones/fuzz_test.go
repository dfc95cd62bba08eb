package zones

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"
	"golang.org/x/tools/txtar"

	"nearside/pace"
)

// folderFS is a source over a few files in memory.
type folderFS map[string]string

func (f folderFS) read(name string) (text, error) {
	contents, ok := f[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return strings.NewReader(contents), nil
}

// parsed is what miekg/dns reads from the files, each record once as wire.
func (f folderFS) parsed(name, origin string) (map[string]bool, error) {
	files := make(fstest.MapFS)
	for file, text := range f {
		files[file] = &fstest.MapFile{Data: []byte(text)}
	}
	p := dns.NewZoneParser(strings.NewReader(f[name]), origin, name)
	p.SetIncludeAllowed(true)
	p.SetIncludeFS(files)
	set := make(map[string]bool)
	room := make([]byte, 1<<17)
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		owner, err := appendName(nil, []byte(rr.Header().Name), nil)
		if err != nil {
			return nil, err
		}
		rr.Header().Name = "."
		end, err := dns.PackRR(rr, room, 0, nil, false)
		if err != nil {
			return nil, err
		}
		set[string(owner)+foldedRecord(string(room[1:end]))] = true
	}
	return set, p.Err()
}

const goodHead = "$TTL 60\n@ SOA ns.invalid. hostmaster 1 2 3 4 5\n@ NS ns.invalid.\nns A 192.0.2.53\n"

// goodText has every kind of entry that the loader understands.
const goodText = `$TTL 1h
@ 1h IN SOA ns hostmaster ( 1 ; serial
	2 3 4 1m )
	IN NS ns
ns IN 60 A 192.0.2.53
	60 IN AAAA 2001:db8::53
$ORIGIN deep
a\.b TXT "two; (words)" \065x
$ORIGIN example.
*.wild TYPE65280 \# 2 abcd
alias CNAME a.deep
redirect DNAME invalid.
child NS ns.child
ns.child A 192.0.2.54
svc HTTPS 1 . alpn="h2,h3" ipv4hint=192.0.2.1
$GENERATE 1-3/2 h$ 60 A 192.0.2.$
$INCLUDE part sub
last MX 10 ns
`

var manyDigits = regexp.MustCompile(`\d{5}`)

// costly is what takes long without being wrong.
func costly(text string) bool {
	generated := strings.Count(strings.ToUpper(text), "$GENERATE")
	return len(text) > 1<<14 || generated > 2 || generated > 0 && manyDigits.MatchString(text)
}

// FuzzLoad loads any bytes: there is a zone, or faults that say where. What both
// we and miekg/dns's own parser accept means the same.
func FuzzLoad(f *testing.F) {
	f.Add(goodText, "www TXT included\n")
	f.Add(tail(goodText), "@ AAAA 2001:db8::1\n")
	paths, err := filepath.Glob("testdata/bad/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		a, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		text := string(a.Files[0].Data)
		f.Add(text, "")
		f.Add(tail(text), "")
	}
	f.Fuzz(func(t *testing.T, text, part string) {
		if costly(text) || costly(part) {
			return
		}
		loadAsParser(t, text, part)
		loadAsParser(t, goodHead+text, part) // so that more is accepted
	})
}

// loadAsParser loads a zone with steering, where it checks the faults, and
// without, where it checks the records.
func loadAsParser(t *testing.T, text, part string) {
	files := folderFS{"example.zone": text, "part": part}
	j := job{source: files, dir: "zones", name: "example.zone", origin: wireName(t, "example."), fixed: true, steering: testSteering()}
	z, faults := j.load()
	checkFaults(t, z, faults)
	if z != nil {
		verify(t, z)
	}
	j.steering = Steering{}
	if z, _ = j.load(); z == nil {
		return
	}
	verify(t, z)
	got := records(z)
	upper := strings.ToUpper(text + part)
	if strings.Contains(upper, "$GENERATE") || glued.MatchString(upper) { // the parser does not take them as BIND does
		return
	}
	want, err := files.parsed("example.zone", "example.")
	if err != nil {
		return
	}
	if strings.Contains(upper, "$INCLUDE") {
		got, want = withoutTTLs(got), withoutTTLs(want)
	}
	misread := func(record string, _ bool) bool {
		rest := record[nameLength([]byte(record)):]
		return differs(binary.BigEndian.Uint16([]byte(rest)), strings.ToLower(upper))
	}
	maps.DeleteFunc(got, misread)
	maps.DeleteFunc(want, misread)
	if !maps.Equal(got, want) {
		t.Fatalf("got  %s\nwant %s", readable(got), readable(want))
	}
}

// tail is a zone without its SOA and NS records, as far as they come first.
func tail(text string) string {
	_, rest, _ := strings.Cut(text, "\nns ")
	return "ns " + rest
}

// checkFaults: without a zone there is a fault, each fault says where, and the
// loader was never caught off guard.
func checkFaults(t *testing.T, z *Zone, faults []Fault) {
	t.Helper()
	if (z == nil) == good(faults) {
		t.Errorf("zone %v with faults %q", z != nil, faults)
	}
	for _, f := range faults {
		if f.File == "" || f.Line < 0 || f.Message == "" || strings.Contains(f.Message, "the loader failed") {
			t.Errorf("fault %q", f)
		}
	}
}

// records is what a zone without steering holds, each record once as wire.
func records(z *Zone) map[string]bool {
	set := make(map[string]bool)
	for n := range z.arena.nodes() {
		owner := z.name(n)
		for at := range eachSet(z, n) {
			var s RRset
			z.arena.set(at, &s)
			for _, record := range recordsIn(owner, s.Wire) {
				set[string(owner)+foldedRecord(record)] = true
			}
		}
	}
	return set
}

// recordsIn returns the records of an RRset.Wire without their owners and without
// compression: its pointers hold behind a question for the owner.
func recordsIn(owner, wire []byte) []string {
	var list []string
	msg := slices.Concat(make([]byte, header), owner, make([]byte, question), wire)
	for at := len(msg) - len(wire); at < len(msg); {
		data := at + fixed
		end := data + int(binary.BigEndian.Uint16(msg[data-2:]))
		skip, names := Names(binary.BigEndian.Uint16(msg[at+2:]))
		rdata := bytes.Clone(msg[data : data+skip])
		data += skip
		for range names {
			name, next, err := dns.UnpackDomainName(msg, data)
			if err != nil {
				panic(err)
			}
			room := make([]byte, maxName)
			n, err := dns.PackDomainName(name, room, 0, nil, false)
			if err != nil {
				panic(err)
			}
			rdata, data = append(rdata, room[:n]...), next
		}
		rdata = append(rdata, msg[data:end]...)
		record := append(bytes.Clone(msg[at+2:at+fixed-2]), byte(len(rdata)>>8), byte(len(rdata)))
		list, at = append(list, string(append(record, rdata...))), end
	}
	return list
}

// foldedRecord is a record without its owner, its names in lower case: in letters
// alone records do not differ.
func foldedRecord(record string) string {
	const data = fixed - 2
	return string(appendFolded([]byte(record[:data]), binary.BigEndian.Uint16([]byte(record)), []byte(record[data:])))
}

// withoutTTLs sets all TTLs to 0: the parser forgets the $TTL of an included file.
func withoutTTLs(set map[string]bool) map[string]bool {
	plain := make(map[string]bool)
	for wire := range set {
		record := []byte(wire)
		clear(record[nameLength(record)+4:][:4])
		plain[string(record)] = true
	}
	return plain
}

// readable is a set of records for messages.
func readable(set map[string]bool) string {
	var list []string
	for wire := range set {
		rr, _, err := dns.UnpackRR([]byte(wire), 0)
		if err != nil {
			list = append(list, hex.EncodeToString([]byte(wire)))
			continue
		}
		list = append(list, strings.ReplaceAll(rr.String(), "\t", " "))
	}
	slices.Sort(list)
	return strings.Join(list, "\n     ")
}

// FuzzLastGood starts a store over any bytes in the place of a last good
// version: it is served or refused. Sealed bytes have a digest that fits, so
// that what lies behind it is reached too.
func FuzzLastGood(f *testing.F) {
	files := newFiles("", "example.zone", "", pace.Fast)
	files.source = folderFS{"example.zone": goodText, "part": "www TXT included\n"}
	z, faults := job{source: files, name: "example.zone", origin: wireName(f, "example."), fixed: true}.load()
	if z == nil {
		f.Fatal(faults)
	}
	sealed := func(body []byte) []byte {
		return fmt.Appendf(nil, "%s%x\n%s", keptFormat, sha256.Sum256(body), body)
	}
	body, _, err := newKept(z, files).body()
	if err != nil {
		f.Fatal(err)
	}
	rest, err := io.ReadAll(body)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed(rest), false)
	f.Add(rest, true)
	f.Add([]byte(`{"origin":"example.","file":"example.zone","files":[{"name":"example.zone","size":99}]}`+"\n"), true)
	f.Add([]byte(`{"origin":"example.","file":"../x.zone","records":1000,"files":[]}`+"\n"), true)

	zoneDir, keepDir := f.TempDir(), f.TempDir()
	f.Fuzz(func(t *testing.T, contents []byte, seal bool) {
		if costly(string(contents)) {
			return
		}
		if seal {
			contents = sealed(contents)
		}
		kept := filepath.Join(keepDir, "example.kept")
		if err := errors.Join(os.WriteFile(kept, contents, 0o644), os.WriteFile(filepath.Join(zoneDir, "example.zone"), nil, 0o644)); err != nil {
			t.Fatal(err)
		}
		s := NewStore(StoreConfig{Dir: zoneDir, KeepDir: keepDir, HoldShrink: true, Log: zerolog.Nop()})
		view := s.Reload()
		for _, row := range s.Status() {
			z, _ := view.Find(wireName(t, row.Origin))
			if z == nil || z.Failed() && len(row.Faults) == 0 {
				t.Errorf("zone %v, status %+v", z, row)
			}
			for _, fault := range row.Faults {
				if fault.File == "" || strings.Contains(fault.Message, "the loader failed") {
					t.Errorf("fault %q", fault)
				}
			}
		}
	})
}
