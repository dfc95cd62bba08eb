package geo

import "slices"

// ranges is the address space of one family cut into ranges of one class each:
// range i runs from starts[i] to just before starts[i+1]. It is what a Map's
// tables are made from.
type ranges[A address[A]] struct {
	starts  []A
	classes []Class
}

// newRanges returns the whole space as one range.
func newRanges[A address[A]](c Class) *ranges[A] {
	return &ranges[A]{starts: make([]A, 1), classes: []Class{c}}
}

// add says that everything from start on is of class c. Starts ascend; what
// was added at the same start before is replaced. Equal neighbours merge.
func (r *ranges[A]) add(start A, c Class) {
	n := len(r.starts)
	if r.starts[n-1] == start {
		if n--; n == 0 {
			r.classes[0] = c
			return
		}
		r.starts, r.classes = r.starts[:n], r.classes[:n]
	}
	if r.classes[n-1] != c {
		r.starts, r.classes = append(r.starts, start), append(r.classes, c)
	}
}

// lay puts a block of class c over what was there. It stays a range of its own,
// even beside a neighbour of the same class.
func (r *ranges[A]) lay(first, last A, c Class) {
	from, _ := slices.BinarySearchFunc(r.starts, first, A.compare)
	after, more := last.next()
	to := len(r.starts)
	if more {
		to, _ = slices.BinarySearchFunc(r.starts, after, A.compare)
	}
	starts, classes := []A{first}, []Class{c}
	if more && (to == len(r.starts) || r.starts[to] != after) { // the range that the block ends in goes on
		starts, classes = append(starts, after), append(classes, r.classes[to-1])
	}
	r.starts = slices.Replace(r.starts, from, to, starts...)
	r.classes = slices.Replace(r.classes, from, to, classes...)
}
