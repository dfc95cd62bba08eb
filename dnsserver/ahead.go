package dnsserver

// lookAhead prepares the next n queries and touches the memory that their answers
// will be made from. The processor waits for the memory of all of them at once,
// where query by query it would wait for each in turn.
func (r *responder) lookAhead(s *Snapshot, n int) {
	// What is not prepared is when it is answered; and what broke here breaks again
	// there, where survive sees to it.
	defer func() { _ = recover() }()
	queries := r.queries[:n]
	for i := range queries {
		queries[i].prepare(s)
	}
	for i := range queries {
		q := &queries[i]
		if q.zone == nil {
			continue
		}
		r.sink += q.zone.Touch(q.hash)
		if s.places != nil && q.zone.Steers() {
			r.sink += s.places.touch(q.ask, q.from)
		}
	}
	for i := range queries {
		q := &queries[i]
		q.seek()
		if q.zone != nil {
			r.sink += q.zone.Reach(q.node)
		}
	}
}
