package nearside

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// rfcPage tells how far we follow each RFC.
const rfcPage = "docs/rfc.md"

var (
	quoted   = regexp.MustCompile("`([^`]+)`")
	testName = regexp.MustCompile(`^(Test|Fuzz|Benchmark)[A-Z]\w*$`)
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	filePath = regexp.MustCompile(`^[\w.-]+(/[\w.-]+)+$`)
	number   = regexp.MustCompile(`\d{4}`)
	cited    = regexp.MustCompile(`RFC[\s/]+(\d{4})`) // a line of a comment may end in between
)

// TestRFCs keeps docs/rfc.md true: the files and tests in it exist, each line says
// what shows it, and it has a line for each RFC that the protocol's code cites.
func TestRFCs(t *testing.T) {
	page, err := os.ReadFile(rfcPage)
	if err != nil {
		t.Fatal(err)
	}
	tests := declaredTests(t)
	known := make(map[string]bool)
	for i, line := range strings.Split(string(page), "\n") {
		for _, m := range quoted.FindAllStringSubmatch(line, -1) {
			switch name := m[1]; {
			case testName.MatchString(name) && !tests[name]:
				t.Errorf("%s:%d: there is no test %s", rfcPage, i+1, name)
			case filePath.MatchString(name):
				if _, err := os.Stat(name); err != nil {
					t.Errorf("%s:%d: %v", rfcPage, i+1, err)
				}
			}
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != 4 || !number.MatchString(cells[0]) {
			continue
		}
		for _, n := range number.FindAllString(cells[0], -1) {
			if known[n] {
				t.Errorf("%s:%d: RFC %s has a line already", rfcPage, i+1, n)
			}
			known[n] = true
		}
		if shown := strings.TrimSpace(cells[3]); shown != "none" && !quoted.MatchString(shown) {
			t.Errorf("%s:%d: which test shows it? Write none if there is none", rfcPage, i+1)
		}
	}
	for _, dir := range []string{"dnsserver", "zones"} {
		for path, text := range goFiles(t, dir) {
			for _, m := range cited.FindAllStringSubmatch(text, -1) {
				if !known[m[1]] {
					t.Errorf("%s cites RFC %s, which has no line in %s", path, m[1], rfcPage)
				}
			}
		}
	}
}

// declaredTests returns the names of all tests of the module.
func declaredTests(t *testing.T) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	for path, text := range goFiles(t, ".") {
		if strings.HasSuffix(path, "_test.go") {
			for _, m := range testFunc.FindAllStringSubmatch(text, -1) {
				names[m[1]] = true
			}
		}
	}
	return names
}

// goFiles returns the Go files below dir by path.
func goFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		text, err := os.ReadFile(path)
		files[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
