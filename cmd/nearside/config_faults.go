package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"nearside/printable"
)

// Fault is one thing wrong with the configuration. Its text is fit to be shown,
// whatever stands in the file.
type Fault struct {
	Where string // the file, an environment variable or a flag
	Line  int    // in the file; 0 if Where is no file or is wrong as a whole
	What  string
}

// newFault is the one place where faults are made.
func newFault(where string, line int, format string, arguments ...any) Fault {
	return Fault{Where: printable.Text(where), Line: line, What: printable.Text(fmt.Sprintf(format, arguments...))}
}

func (f Fault) String() string {
	if f.Line == 0 {
		return f.Where + ": " + f.What
	}
	return fmt.Sprintf("%s:%d: %s", f.Where, f.Line, f.What)
}

// Faults is everything wrong with the configuration, as an error of one line each.
type Faults []Fault

func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// sorted returns the faults in the order of the file, or nil if there are none.
func (fs Faults) sorted() error {
	if len(fs) == 0 {
		return nil
	}
	slices.SortStableFunc(fs, func(a, b Fault) int {
		// What has no line (environment, flags) was laid over last: it comes last.
		return cmp.Or(cmp.Compare(min(b.Line, 1), min(a.Line, 1)), cmp.Compare(a.Line, b.Line))
	})
	return slices.Compact(fs)
}
