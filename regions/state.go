package regions

// Drain is what an operator wrote at regions/R/drain.
type Drain struct {
	On     bool
	Reason string
	By     string
}

// Vote is what one reporter says of a region at regions/R/health/REPORTER.
type Vote struct {
	Down   bool
	Since  string // as the reporter wrote it, RFC 3339; "" if it did not say
	Detail string
}

// Inputs is everything that decides who is out, as understood at one revision
// of etcd, and the operator's break-glass file on this server.
type Inputs struct {
	Drains []Drain           // by region
	Votes  []map[string]Vote // by region, then by reporter

	ForcedDrain Set // break glass: out, whatever etcd says
	ForcedUp    Set // break glass: in, whatever etcd says
}

// NewInputs returns the inputs that say nothing: every region is up.
func (t *Table) NewInputs() Inputs {
	return Inputs{Drains: make([]Drain, t.Len()), Votes: make([]map[string]Vote, t.Len())}
}

// State says who is out. It is immutable and belongs to the Table it was made with.
type State struct {
	// Cluster and Revision say which state of etcd this is; both are 0 before
	// etcd was ever read. Revisions of different clusters cannot be compared.
	Cluster  uint64
	Revision int64

	Drained Set // out by an operator: never used, not even when nothing else is left
	Down    Set // out by votes: used when nothing better is left
	Tied    Set // down although no majority of votes says so: kept from before

	// classes are the rungs of the answer ladder, the best first.
	classes [2]Set

	Inputs Inputs // what the state was made from, to show it
}

// Evaluate makes the state from the inputs. previous (nil at first) matters for
// one rule alone: a region that is down by votes comes back only by a majority
// for up, or when no vote is left.
func (t *Table) Evaluate(previous *State, in Inputs) *State {
	s := &State{Inputs: in}
	for id := range t.All().All() {
		wasDown := previous != nil && previous.Down.Has(id)
		down, tied := t.voted(in.Votes[id], wasDown)
		if down {
			s.Down |= SetOf(id)
		}
		if tied {
			s.Tied |= SetOf(id)
		}
		if in.Drains[id].On {
			s.Drained |= SetOf(id)
		}
	}
	drained := (s.Drained | in.ForcedDrain) &^ in.ForcedUp
	down := s.Down &^ in.ForcedUp
	s.Drained = drained
	s.classes = [2]Set{t.All() &^ drained &^ down, down &^ drained}
	return s
}

// voted counts the votes on one region. It is down when more than half of its
// votes say so: that is at least two, or one where there is only one reporter.
// Once down, the same majority for up brings it back.
func (t *Table) voted(votes map[string]Vote, wasDown bool) (down, tied bool) {
	if len(votes) == 0 {
		return false, false
	}
	n := 0
	for _, v := range votes {
		if v.Down {
			n++
		}
	}
	quorum := len(votes)/2 + 1
	switch {
	case n >= quorum:
		return true, false
	case len(votes)-n >= quorum:
		return false, false
	}
	return wasDown, wasDown
}

// Up returns the regions that serve: neither drained nor down.
func (s *State) Up() Set { return s.classes[0] }

// LastResort returns the regions that are down but not drained.
func (s *State) LastResort() Set { return s.classes[1] }

// Choose returns the region that answers for a client with the given
// preference list, among the regions that have the records (the answer ladder):
// the nearest that is up, else the nearest that is down but not drained. It
// returns false when only drained regions are left: they are never used.
//
// prefer lists every region once, so a member of candidates is always met.
func (s *State) Choose(prefer []ID, candidates Set) (ID, bool) {
	for _, class := range s.classes {
		if usable := class & candidates; usable != 0 {
			for _, id := range prefer {
				if usable.Has(id) {
					return id, true
				}
			}
		}
	}
	return 0, false
}
