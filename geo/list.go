package geo

// list is a slice that grows without being moved, in pieces: copying megabytes
// cannot be interrupted, and while it goes on a collection of garbage waits, and
// with it every query.
type list[T any] struct {
	pieces [][]T
	n      int
}

// piece is the length of a piece.
const piece = 1 << 13

func (l *list[T]) len() int { return l.n }

func (l *list[T]) at(i int) T { return l.pieces[i/piece][i%piece] }

func (l *list[T]) set(i int, v T) { l.pieces[i/piece][i%piece] = v }

func (l *list[T]) append(v T) {
	if l.n/piece == len(l.pieces) {
		l.pieces = append(l.pieces, make([]T, piece))
	}
	l.set(l.n, v)
	l.n++
}

// cut takes the last element away.
func (l *list[T]) cut() { l.n-- }

// slice returns a copy in one stretch of memory, of just the length.
func (l *list[T]) slice() []T {
	s := make([]T, l.n)
	for i := 0; i < l.n; i += piece {
		copy(s[i:], l.pieces[i/piece])
	}
	return s
}
