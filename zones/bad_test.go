package zones

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
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
		RegionOf: func(a netip.Addr) (uint8, bool) {
			i := slices.IndexFunc(prefixes, func(list []netip.Prefix) bool {
				return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
			})
			return uint8(max(i, 0)), i >= 0
		},
		Named:  func(label string) (uint8, bool) { i := slices.Index(names, label); return uint8(max(i, 0)), i >= 0 },
		Name:   func(region uint8) string { return names[region] },
		Static: func(owner string) bool { return strings.HasPrefix(owner, "static.") },
		Service: func(owner string) (uint16, uint32) {
			if strings.HasPrefix(owner, "casino") {
				return MaxServices - 1, 7
			}
			return 0, 30
		},
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

var inZoneFile = regexp.MustCompile(`bad\.example\.zone:(\d)`)

// included moves the whole zone into an included file: the same must be said
// about its records, with that file's name. What is said about the zone as a
// whole stays with the zone file.
func included(t *testing.T, text string, want []string) {
	got := loadFiles(t, map[string]string{"bad.example.zone": "$INCLUDE body.inc\n", "body.inc": text})
	for i := range want {
		want[i] = inZoneFile.ReplaceAllString(want[i], "body.inc:$1")
	}
	if !slices.Equal(got, want) {
		t.Errorf("included: got  %s\n          want %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

// TestFaultNamesBothFiles: where two records are at odds, both places are named.
func TestFaultNamesBothFiles(t *testing.T) {
	got := loadFiles(t, map[string]string{
		"bad.example.zone": "$TTL 60\n@ SOA ns h 1 3600 900 1209600 60\n@ NS ns\nns A 198.18.0.53\nwww TXT x\n$INCLUDE tail.inc\nwww TXT y\nwww 5 TXT z\n",
		"tail.inc":         "\n@ SOA ns h 2 3600 900 1209600 60\nwww 7 TXT t\nwww TXT t\n",
	})
	want := []string{
		"bad.example.zone:8: TTL 5 differs from 60 at line 5: the TXT records of www.bad.example. need one TTL",
		"tail.inc:2: a second SOA record; the first is at bad.example.zone:2",
		"tail.inc:3: TTL 7 differs from 60 at bad.example.zone:5: the TXT records of www.bad.example. need one TTL",
		"tail.inc:4: warning: the same TXT record of www.bad.example. is at line 3 already; it counts once",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

// TestFaultsStayOnTheirLine: whatever is wrong with a record of any type, it
// takes nothing from the next one.
func TestFaultsStayOnTheirLine(t *testing.T) {
	const first, second = 5, 7
	for typ := range dns.TypeToRR {
		for _, word := range []string{"1", "a", "0a", `"1"`, "192.0.2.1", "::", `\# 1`} {
			for n := range 5 {
				record := "www " + dns.Type(typ).String() + strings.Repeat(" "+word, n)
				_, faults := loadText(goodHead+record+"\n\nnext A 192.0.2.300\n", Steering{})
				last := faults[len(faults)-1]
				if last.Line != second || !strings.Contains(last.Message, "192.0.2.300") || len(faults) > 2 || faults[0].Line != first && len(faults) == 2 {
					t.Errorf("%s: %q", record, faults)
				}
			}
		}
	}
}
