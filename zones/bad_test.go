package zones

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write the faults found into testdata; review them")

// testSteering has the regions eu, us and ap.
func testSteering() Steering {
	names := []string{"eu", "us", "ap"}
	prefixes := [][]netip.Prefix{
		{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8:1::/48")},
		{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:2::/48")},
		{netip.MustParsePrefix("203.0.113.0/24")},
	}
	return Steering{
		TTL: 30,
		RegionOf: func(a netip.Addr) (uint8, bool) {
			i := slices.IndexFunc(prefixes, func(list []netip.Prefix) bool {
				return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
			})
			return uint8(max(i, 0)), i >= 0
		},
		Named:  func(label string) (uint8, bool) { i := slices.Index(names, label); return uint8(max(i, 0)), i >= 0 },
		Name:   func(region uint8) string { return names[region] },
		Static: func(owner string) bool { return strings.HasPrefix(owner, "static.") },
	}
}

// lines are the faults as text, without the folder.
func lines(dir string, faults []Fault) []string {
	var list []string
	for _, f := range faults {
		list = append(list, strings.ReplaceAll(f.String(), dir+"/", ""))
	}
	return list
}

func loadFiles(t *testing.T, files map[string]string) []string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	z, faults := LoadFile(filepath.Join(dir, "bad.example.zone"), "bad.example", testSteering())
	if (z == nil) == good(faults) {
		t.Errorf("zone %v with faults %q", z, faults)
	}
	return lines(dir, faults)
}

// TestBadZones loads one small zone for each mistake. The comment of each
// archive is what must be said about it.
func TestBadZones(t *testing.T) {
	paths, err := filepath.Glob("testdata/bad/*.txtar")
	if err != nil || len(paths) < 60 {
		t.Fatalf("%d archives: %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text := string(a.Files[0].Data)
			got := loadFiles(t, map[string]string{"bad.example.zone": text})
			if *update {
				a.Comment = []byte(strings.Join(got, "\n") + "\n")
				if err := os.WriteFile(path, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want := strings.Split(strings.TrimSpace(string(a.Comment)), "\n")
			if !slices.Equal(got, want) {
				t.Errorf("got  %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
			}
			included(t, text, want)
		})
	}
}

// headLines is how many lines all the bad zones have in common: the good ones.
const headLines = 4

var lineNumber = regexp.MustCompile(`(bad\.example\.zone:|\bline )(\d+)`)

// included moves what comes after the common lines into an included file: the
// same must be said, with that file's name and lines.
func included(t *testing.T, text string, want []string) {
	all := strings.SplitAfter(text, "\n")
	if strings.Count(text, "\n") == headLines || strings.Contains(text, "$INCLUDE bad") || !strings.HasPrefix(text, "$TTL 60\n@ SOA ns hostmaster 1 3600 900 1209600 60\n@ NS ns\nns A") {
		return
	}
	got := loadFiles(t, map[string]string{
		"bad.example.zone": strings.Join(all[:headLines], "") + "$INCLUDE tail.inc\n",
		"tail.inc":         strings.Join(all[headLines:], ""),
	})
	for i, line := range want {
		want[i] = lineNumber.ReplaceAllStringFunc(line, func(s string) string {
			m := lineNumber.FindStringSubmatch(s)
			n, _ := strconv.Atoi(m[2])
			switch {
			case n > headLines && m[1] == "line ":
				return "line " + strconv.Itoa(n-headLines)
			case n > headLines:
				return "tail.inc:" + strconv.Itoa(n-headLines)
			case m[1] == "line ":
				return "bad.example.zone:" + m[2]
			}
			return s
		})
	}
	if !slices.Equal(got, want) {
		t.Errorf("included: got  %s\n          want %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}
