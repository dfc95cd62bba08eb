package zones

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"nearside/printable"
)

// Fault is something wrong with a zone, and where. A zone with a fault that is
// no warning is not loaded. Its text is fit to be shown, whatever stands in the
// files and in their names.
type Fault struct {
	File    string
	Line    int // 0: the file as a whole
	Message string
	Warning bool
}

// maxMessage is how much of a message is shown, in octets: a file that is no zone
// may have words of megabytes.
const maxMessage = 2000

// newFault is the one place where faults are made. Line 0 is the file as a whole.
func newFault(file string, line int, format string, args ...any) Fault {
	return Fault{File: printable.Text(file), Line: line, Message: printable.Cut(fmt.Sprintf(format, args...), maxMessage)}
}

// String returns "file:line: message".
func (f Fault) String() string {
	where := f.File
	if f.Line > 0 {
		where += ":" + strconv.Itoa(f.Line)
	}
	if f.Warning {
		return where + ": warning: " + f.Message
	}
	return where + ": " + f.Message
}

// warning makes the fault one that keeps no zone from being loaded.
func (f Fault) warning() Fault {
	f.Warning = true
	return f
}

// good reports whether all faults are warnings.
func good(faults []Fault) bool {
	return !slices.ContainsFunc(faults, func(f Fault) bool { return !f.Warning })
}

// maxFaults is how many errors, and how many warnings, of a zone are spelled
// out: a million are no more help than a hundred.
const maxFaults = 100

// place is a line of one of the files of a zone.
type place struct {
	file uint16 // in the order of reading
	line uint32
}

// collector gathers the faults of one zone.
type collector struct {
	files    []string // as shown, in the order of reading
	list     []located
	errors   int
	warnings int
}

type located struct {
	place
	fault Fault
}

func (c *collector) errorf(at place, format string, args ...any) {
	if c.errors++; c.errors <= maxFaults {
		c.list = append(c.list, located{at, newFault(c.files[at.file], int(at.line), format, args...)})
	}
}

func (c *collector) warnf(at place, format string, args ...any) {
	if c.warnings++; c.warnings <= maxFaults {
		c.list = append(c.list, located{at, newFault(c.files[at.file], int(at.line), format, args...).warning()})
	}
}

// line names the place other in a message about at: its line, and its file if
// that is another one.
func (c *collector) line(at, other place) string {
	if at.file == other.file {
		return "line " + strconv.Itoa(int(other.line))
	}
	return c.files[other.file] + ":" + strconv.Itoa(int(other.line))
}

// faults returns what was gathered, in the order of the files.
func (c *collector) faults() []Fault {
	slices.SortStableFunc(c.list, func(a, b located) int {
		return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.line, b.line))
	})
	var list []Fault
	for _, l := range c.list {
		list = append(list, l.fault)
	}
	if more := c.errors - maxFaults; more > 0 {
		list = append(list, newFault(c.files[0], 0, "and %d more errors", more))
	}
	if more := c.warnings - maxFaults; more > 0 {
		list = append(list, newFault(c.files[0], 0, "and %d more warnings", more).warning())
	}
	return list
}
