package nearside

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// faultKind finds what the faults of TestChaos are called.
var faultKind = regexp.MustCompile(`(?:kind: +|tr\.part\(|f\.kind = |f\.kind, f\.on = )"([^"]+)"`)

// failuresPage tells what fails, and what happens then.
const failuresPage = "docs/failure-modes.md"

// TestFailures keeps docs/failure-modes.md true: each row names the tests that
// show it, and those exist, as do the faults of TestChaos; and there is no fault
// of TestChaos without a row.
func TestFailures(t *testing.T) {
	page, err := os.ReadFile(failuresPage)
	if err != nil {
		t.Fatal(err)
	}
	var source []byte
	for _, name := range []string{"integration/chaos_faults_test.go", "integration/chaos_probes_test.go"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		source = append(source, text...)
	}
	tests := declaredTests(t)
	shown := make(map[string]bool)
	for i, line := range strings.Split(string(page), "\n") {
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != 4 || cells[3] == " test " || cells[3] == "---" {
			continue
		}
		names, faults, _ := strings.Cut(cells[3], "`TestChaos`:")
		for _, m := range quoted.FindAllStringSubmatch(names, -1) {
			if !tests[m[1]] {
				t.Errorf("%s:%d: there is no test %s", failuresPage, i+1, m[1])
			}
		}
		for fault := range strings.SplitSeq(faults, ", ") {
			if fault = strings.TrimSpace(fault); fault != "" && !strings.Contains(string(source), `"`+fault+`"`) {
				t.Errorf("%s:%d: TestChaos has no fault %q", failuresPage, i+1, fault)
			}
			shown[fault] = true
		}
		if !quoted.MatchString(cells[3]) {
			t.Errorf("%s:%d: which test shows it?", failuresPage, i+1)
		}
	}
	for _, m := range faultKind.FindAllStringSubmatch(string(source), -1) {
		if !shown[m[1]] {
			t.Errorf("%s has no row for the fault %q of TestChaos", failuresPage, m[1])
		}
	}
}
