package regions

import "strings"

// Names is what the configuration says of names. A listed name whose first label is
// "*" stands for every name below the rest.
type Names[T any] map[string]T

// Add lists a name, in any case, absolute or not.
func (n Names[T]) Add(name string, says T) { n[canonical(name)] = says }

// Of returns what is said of a name (lower case, absolute, with the final dot): where
// it is listed itself, else at the closest "*" above it.
func (n Names[T]) Of(name string) (says T, listed bool) {
	if len(n) == 0 {
		return says, false
	}
	if says, listed = n[name]; listed {
		return says, true
	}
	for above := name; above != "" && above != "."; {
		above = parent(above) // "" is the root
		if says, listed = n["*."+above]; listed {
			return says, true
		}
	}
	return says, false
}

// parent is the name above one, which zones write with a backslash before each dot
// within a label; that of the last label is "".
func parent(name string) string {
	for at := 0; at < len(name); at++ {
		switch name[at] {
		case '\\':
			at++
		case '.':
			return name[at+1:]
		}
	}
	return ""
}

// canonical is a name as zones have it.
func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) + "." }
