package zones

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/template"

	"golang.org/x/tools/txtar"
)

// syntaxHead comes before a case, unless the case is a whole zone.
const syntaxHead = "$TTL 60\n@ SOA ns hostmaster 1 3600 900 1209600 60\n@ NS ns\nns A 192.0.2.53\n"

// A syntaxCase is a file of an archive in testdata/syntax. Its name there is
//
//	NAME [CHECKERS] VERDICT
//
// CHECKERS has B where named-checkzone accepts the zone, K where kzonecheck and
// N where nsd-checkzone does, a dot where it does not, and a question mark where
// it refuses because it does not know the type or directive at all. VERDICT is
// ours: accept or refuse. A NAME that starts with zone- says that the case is a
// whole zone. Its text is a template with repeat for what is long, zone for
// the name of the zone, and "..." for odd octets; what follows a line
// "; part.inc:" is that file.
type syntaxCase struct {
	name, checkers, verdict string
	zone                    string
	files                   map[string]string
	why                     bool // it says why our verdict is not just the strictest
}

// syntaxArchives are the archives of testdata/syntax.
func syntaxArchives(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob("testdata/syntax/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("%d archives: %v", len(paths), err)
	}
	return paths
}

// syntaxCases are the cases of all archives.
func syntaxCases(t testing.TB) (cases []syntaxCase) {
	t.Helper()
	for _, path := range syntaxArchives(t) {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			c, err := newSyntaxCase(f, "z0000.test")
			if err != nil {
				t.Fatal(err)
			}
			cases = append(cases, c)
		}
	}
	return cases
}

func newSyntaxCase(f txtar.File, zone string) (c syntaxCase, err error) {
	fields := strings.Fields(f.Name)
	if len(fields) != 3 {
		return c, fmt.Errorf("%q is not NAME [CHECKERS] VERDICT", f.Name)
	}
	c = syntaxCase{zone: zone, name: fields[0], checkers: strings.Trim(fields[1], "[]"), verdict: fields[2]}
	parsed, err := template.New(f.Name).Funcs(template.FuncMap{
		"repeat": strings.Repeat,
		"zone":   func() string { return zone },
	}).Parse(string(f.Data))
	if err != nil {
		return c, err
	}
	var text strings.Builder
	if !strings.HasPrefix(c.name, "zone-") {
		text.WriteString(syntaxHead)
	}
	if err := parsed.Execute(&text, nil); err != nil {
		return c, err
	}
	main, part, _ := strings.Cut(text.String(), "; part.inc:\n")
	c.files = map[string]string{zone + suffix: main, "part.inc": part}
	c.why = bytes.Contains(f.Data, []byte("; why: "))
	return c, nil
}

// TestSyntax holds us to what the three checkers agree on: we accept what all of
// them accept, and refuse the rest. One that does not know a type has no say.
func TestSyntax(t *testing.T) {
	cases := 0
	for _, path := range syntaxArchives(t) {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, f := range archive.Files {
			zone := fmt.Sprintf("z%04d.test", cases)
			cases++
			c, err := newSyntaxCase(f, zone)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			dir := t.TempDir()
			for name, text := range c.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			z, faults := LoadFile(filepath.Join(dir, zone+suffix), zone, Steering{})
			got := "refuse"
			if z != nil {
				got = "accept"
			}
			if *update {
				archive.Files[i].Name = fmt.Sprintf("%s [%s] %s", c.name, c.checkers, got)
			}
			where := fmt.Sprintf("%s: %s", filepath.Base(path), f.Name)
			if got != c.verdict {
				t.Errorf("%s: we %s it: %q", where, got, lines(dir, faults))
			}
			strict := "accept"
			if strings.Contains(c.checkers, ".") || c.checkers == "???" {
				strict = "refuse"
			}
			if got != strict && !c.why {
				t.Errorf("%s: we %s it and do not say why: %q", where, got, lines(dir, faults))
			}
		}
		if *update {
			if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if cases < 500 {
		t.Errorf("%d cases", cases)
	}
}
