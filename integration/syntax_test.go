package integration

import (
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/template"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write the verdicts of the checkers into the cases; review them")

// syntaxCase is a zone of ../zones/testdata/syntax: see zones/syntax_test.go for
// their form.
type syntaxCase struct {
	name, checkers, verdict string
	zone, dir               string // its folder has its files
}

// syntaxCases writes the files of the cases of an archive, in folders of their
// own. The first zone is called by the number from.
func syntaxCases(t *testing.T, a *txtar.Archive, from int) []*syntaxCase {
	t.Helper()
	var cases []*syntaxCase
	for i, f := range a.Files {
		c := &syntaxCase{zone: fmt.Sprintf("z%04d.test", from+i), dir: t.TempDir()}
		if _, err := fmt.Sscanf(f.Name, "%s [%3s] %s", &c.name, &c.checkers, &c.verdict); err != nil {
			t.Fatalf("%q: %v", f.Name, err)
		}
		var text strings.Builder
		if !strings.HasPrefix(c.name, "zone-") {
			text.WriteString("$TTL 60\n@ SOA ns hostmaster 1 3600 900 1209600 60\n@ NS ns\nns A 192.0.2.53\n")
		}
		functions := template.FuncMap{"repeat": strings.Repeat, "zone": func() string { return c.zone }}
		if err := template.Must(template.New(f.Name).Funcs(functions).Parse(string(f.Data))).Execute(&text, nil); err != nil {
			t.Fatal(err)
		}
		main, part, _ := strings.Cut(text.String(), "; part.inc:\n")
		own := strings.NewReplacer("part.inc", c.zone+".inc") // the server has all in one folder
		write(t, filepath.Join(c.dir, c.zone+".zone"), own.Replace(main))
		write(t, filepath.Join(c.dir, c.zone+".inc"), own.Replace(part))
		cases = append(cases, c)
	}
	return cases
}

// checkers are the programs that judge zone files. %[1]s stands for the zone.
var checkers = []struct {
	letter  string
	program string
	args    string
}{
	{"B", "named-checkzone", "-i local -D -F raw -o dump %[1]s %[1]s.zone"},
	{"K", "kzonecheck", "-v -o %[1]s %[1]s.zone"},
	{"N", "nsd-checkzone", "%[1]s %[1]s.zone"},
}

// unknown is what they say of a type or a directive that they do not know.
var unknown = regexp.MustCompile(`unknown RR type '[A-Z]{2}|unsupported record type|\(invalid directive\)|unknown directive|unrecognized RR type '[A-Z]{2}|Unknown directive`)

// judge asks the three checkers: a letter for each.
func (c *syntaxCase) judge() (verdicts string, said []string) {
	for _, k := range checkers {
		cmd := exec.Command(k.program, strings.Fields(fmt.Sprintf(k.args, c.zone))...)
		cmd.Dir = c.dir
		text, err := cmd.CombinedOutput()
		switch {
		case err == nil:
			verdicts += k.letter
		case unknown.Match(text):
			verdicts += "?"
		default:
			verdicts += "."
		}
		said = append(said, string(text))
	}
	return verdicts, said
}

// TestSyntax holds the verdicts that the cases record to what the checkers of
// BIND, Knot and NSD say, and what we answer of the zones that both we and BIND
// accept to what BIND reads in them. It runs alone: its thousands of processes
// would hold up the tests beside it.
func TestSyntax(t *testing.T) {
	paths, err := filepath.Glob("../zones/testdata/syntax/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("%d archives: %v", len(paths), err)
	}
	var g sync.WaitGroup
	turn := make(chan bool, runtime.GOMAXPROCS(0))
	var all []*syntaxCase
	archives := make(map[string]*txtar.Archive)
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		archives[path] = archive
		cases := syntaxCases(t, archive, len(all))
		all = append(all, cases...)
		for i, c := range cases {
			turn <- true
			g.Go(func() {
				defer func() { <-turn }()
				got, said := c.judge()
				if got != c.checkers {
					t.Errorf("%s: %s: now %s:\n%s", filepath.Base(path), archive.Files[i].Name, got, strings.Join(said, ""))
				}
				if *update {
					archive.Files[i].Name = fmt.Sprintf("%s [%s] %s", c.name, got, c.verdict)
				}
			})
		}
	}
	g.Wait()
	for path, archive := range archives {
		if *update {
			if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	compareWire(t, all)
}

// compareWire serves the zones that we and BIND accept, and asks for everything
// that BIND's dump of them has.
func compareWire(t *testing.T, all []*syntaxCase) {
	s := newServer(t, setup{etcd: embedded(t)})
	var cases []*syntaxCase
	for _, c := range all {
		if c.verdict == "accept" && strings.HasPrefix(c.checkers, "B") {
			cases = append(cases, c)
			for _, suffix := range []string{".inc", ".zone"} {
				write(t, s.path("zones/"+c.zone+suffix), contents(t, filepath.Join(c.dir, c.zone+suffix)))
			}
		}
	}
	succeed(t, s.nearside("reload"))
	conn, err := dns.Dial("tcp", s.address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, c := range cases {
		for _, set := range rawSets(t, []byte(contents(t, filepath.Join(c.dir, "dump")))) {
			want := set.records
			got := answered(t, conn, set)
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(slices.Compact(got), slices.Compact(want)) {
				t.Errorf("%s (%s) %s %s:\nwe   %q\nBIND %q", c.zone, c.name, set.owner, dns.Type(set.typ), got, want)
			}
		}
	}
	t.Logf("%d cases, %d zones served", len(all), len(cases))
}

func contents(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// rawSet is an RRset of a dump: records are TTL and RDATA as they are on the wire.
type rawSet struct {
	owner   string
	typ     uint16
	records []string
}

// rawSets reads a dump in BIND's raw format: a header of six numbers, then of
// each RRset its length, class, type, the type that signatures cover, TTL,
// number of records, owner and RDATA, all with their lengths first.
func rawSets(t *testing.T, dump []byte) []rawSet {
	t.Helper()
	const header = 6 * 4
	number := binary.BigEndian
	var sets []rawSet
	for rest := dump[header:]; len(rest) > 0; {
		length := number.Uint32(rest)
		set, ttl, count := rest[4:length], rest[10:14], number.Uint32(rest[14:])
		s := rawSet{typ: number.Uint16(set[2:])}
		data := rest[18:length]
		owner := data[2 : 2+number.Uint16(data)]
		data = data[2+len(owner):]
		var err error
		if s.owner, _, err = dns.UnpackDomainName(owner, 0); err != nil {
			t.Fatal(err)
		}
		for range count {
			size := number.Uint16(data)
			s.records = append(s.records, string(ttl)+string(data[2:2+size]))
			data = data[2+size:]
		}
		sets, rest = append(sets, s), rest[length:]
	}
	return sets
}

// compressed has the types whose RDATA may have compressed names (RFC 3597, 4):
// the octets before the names, and how many names there are.
var compressed = map[uint16]struct{ before, names int }{
	dns.TypeNS: {0, 1}, dns.TypeMD: {0, 1}, dns.TypeMF: {0, 1}, dns.TypeCNAME: {0, 1}, dns.TypeSOA: {0, 2}, dns.TypeMB: {0, 1},
	dns.TypeMG: {0, 1}, dns.TypeMR: {0, 1}, dns.TypePTR: {0, 1}, dns.TypeMINFO: {0, 2}, dns.TypeMX: {2, 1},
}

// expanded is the RDATA m[at:end] without compression.
func expanded(t *testing.T, m []byte, typ uint16, at, end int) string {
	form := compressed[typ]
	rdata := slices.Clone(m[at : at+form.before])
	at += form.before
	for range form.names {
		name, next, err := dns.UnpackDomainName(m, at)
		if err != nil {
			t.Fatalf("%v in %x", err, m)
		}
		wire := make([]byte, 255)
		n, err := dns.PackDomainName(name, wire, 0, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		rdata, at = append(rdata, wire[:n]...), next
	}
	return string(append(rdata, m[at:end]...))
}

// answered returns the records of an RRset that the server answers, in any section:
// NS records of a delegation stand in the second. The question is in lower case: a
// name in RDATA may be a pointer to it.
func answered(t *testing.T, conn *dns.Conn, set rawSet) (records []string) {
	t.Helper()
	conn.SetDeadline(time.Now().Add(patience))
	q := new(dns.Msg)
	q.SetQuestion(strings.ToLower(set.owner), set.typ)
	q.SetEdns0(dns.DefaultMsgSize, true)
	if err := conn.WriteMsg(q); err != nil {
		t.Fatal(err)
	}
	m := make([]byte, dns.MaxMsgSize)
	n, err := conn.Read(m)
	if err != nil {
		t.Fatal(err)
	}
	number := binary.BigEndian
	m = m[:n]
	_, at, err := dns.UnpackDomainName(m, 12)
	for at += 4; at < n && err == nil; {
		var owner string
		if owner, at, err = dns.UnpackDomainName(m, at); err != nil {
			break
		}
		end := at + 10 + int(number.Uint16(m[at+8:]))
		if number.Uint16(m[at:]) == set.typ && strings.EqualFold(owner, set.owner) {
			records = append(records, string(m[at+4:at+8])+expanded(t, m, set.typ, at+10, end))
		}
		at = end
	}
	if err != nil {
		t.Fatalf("%s %s: %v in %x", set.owner, dns.Type(set.typ), err, m)
	}
	return records
}
