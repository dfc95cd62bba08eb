package geo

import "net/netip"

// ranges is the address space of one family cut into ranges of one class each:
// range i runs from starts.at(i) to just before starts.at(i+1). It is what a
// Map's tables are made from.
//
// Special-purpose blocks lie over what a database says. Each is a range of its
// own, even beside another one.
type ranges[A address[A]] struct {
	starts  list[A]
	classes list[Class]

	blocks []block[A] // of special-purpose, in order: those that end beyond the last start
	inside bool       // the last start lies within the first of blocks
	under  Class      // what the database says of the last start
}

// block is a special-purpose block, from its first to its last address.
type block[A address[A]] struct{ first, last A }

// newRanges returns the whole space as one range under the blocks.
func newRanges[A address[A]](c Class, special []netip.Prefix, bounds func(netip.Prefix) (first, last A)) *ranges[A] {
	r := &ranges[A]{under: c}
	for _, p := range special {
		first, last := bounds(p)
		r.blocks = append(r.blocks, block[A]{first, last})
	}
	var start A
	r.put(start, c)
	return r
}

// add says that everything from start on is of class c. Starts ascend; what
// was added at the same start before is replaced. Equal neighbours merge.
func (r *ranges[A]) add(start A, c Class) {
	r.lay(&start)
	r.under = c
	if !r.inside {
		r.put(start, c)
	}
}

// end lays the blocks that are left.
func (r *ranges[A]) end() { r.lay(nil) }

// lay puts down the blocks that begin before a start (nil: past the end of the
// space). What lies under a block goes on after it.
func (r *ranges[A]) lay(start *A) {
	for len(r.blocks) > 0 {
		b := r.blocks[0]
		if start != nil && b.first.compare(*start) >= 0 {
			return
		}
		if !r.inside {
			r.put(b.first, Special)
			r.inside = true
		}
		after, more := b.last.next()
		if start != nil && (!more || after.compare(*start) > 0) {
			return
		}
		r.blocks, r.inside = r.blocks[1:], false
		if more {
			r.put(after, r.under)
		}
	}
}

// put begins a range, unless it goes on from the one before.
func (r *ranges[A]) put(start A, c Class) {
	n := r.starts.len()
	if n > 0 && r.starts.at(n-1) == start {
		if n--; n == 0 {
			r.classes.set(0, c)
			return
		}
		r.starts.cut()
		r.classes.cut()
	}
	if n == 0 || r.classes.at(n-1) != c || c == Special {
		r.starts.append(start)
		r.classes.append(c)
	}
}
