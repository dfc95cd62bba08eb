package regions

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// votes returns the votes that a word stands for: one letter a reporter, u or d.
func votes(word string) map[string]Vote {
	m := make(map[string]Vote)
	for i, c := range word {
		m[fmt.Sprintf("probe%d", i)] = Vote{Down: c == 'd'}
	}
	return m
}

// A region goes down, and comes back, by more than half of its votes and at
// least two, or by one where there is only one reporter. Else it stays as it was.
func TestVotes(t *testing.T) {
	const stays = "stays"
	for _, c := range []struct{ votes, want string }{
		{"", "up"}, // no vote left: up, also for one that was down
		{"u", "up"},
		{"d", "down"},
		{"uu", "up"},
		{"dd", "down"},
		{"ud", stays},
		{"uud", "up"},
		{"udd", "down"},
		{"uudd", stays},
		{"uuud", "up"},
		{"uddd", "down"},
		{"uuudd", "up"},
		{"uuuddd", stays},
	} {
		for _, was := range []string{"up", "down"} {
			table, in := table(t, 1), Inputs{Drains: make([]Drain, 1), Votes: []map[string]Vote{votes(c.votes)}}
			var previous *State
			if was == "down" {
				previous = &State{Down: SetOf(0)}
			}
			want, tied := c.want, false
			if want == stays {
				want, tied = was, was == "down"
			}
			s := table.Evaluate(previous, in)
			if s.Down.Has(0) != (want == "down") || s.Tied.Has(0) != tied || s.Up().Has(0) != (want == "up") {
				t.Errorf("votes %q on a region that was %s: down %b, tied %b, up %b; it should be %s", c.votes, was, s.Down, s.Tied, s.Up(), want)
			}
		}
	}
}

// A tie keeps what the last state said, however often it is evaluated.
func TestTieLasts(t *testing.T) {
	table := table(t, 1)
	var s *State
	for _, c := range []struct {
		votes string
		down  bool
	}{
		{"ud", false}, {"ud", false}, {"dd", true}, {"ud", true}, {"ud", true}, {"uu", false}, {"ud", false}, {"d", true}, {"ud", true}, {"", false}, {"ud", false},
	} {
		s = table.Evaluate(s, Inputs{Drains: make([]Drain, 1), Votes: []map[string]Vote{votes(c.votes)}})
		if s.Down.Has(0) != c.down {
			t.Fatalf("after votes %q down is %v", c.votes, s.Down.Has(0))
		}
	}
}

func TestEvaluate(t *testing.T) {
	const none, all = Set(0), Set(0b111)
	for _, c := range []struct {
		name                string
		drained, down       Set
		forceDrain, forceUp Set
		up, lastResort, out Set // out is what State.Drained says
	}{
		{name: "nothing said", up: all},
		{name: "one drained", drained: 0b001, up: 0b110, out: 0b001},
		{name: "one down", down: 0b001, up: 0b110, lastResort: 0b001},
		{name: "drained and down", drained: 0b001, down: 0b001, up: 0b110, out: 0b001},
		{name: "all drained", drained: all, up: none, out: all},
		{name: "all down", down: all, up: none, lastResort: all},
		{name: "all out", drained: 0b011, down: 0b110, lastResort: 0b100, out: 0b011},
		{name: "forced drain", forceDrain: 0b010, up: 0b101, out: 0b010},
		{name: "forced up over a drain", drained: 0b011, forceUp: 0b001, up: 0b101, out: 0b010},
		{name: "forced up over votes", down: 0b011, forceUp: 0b001, up: 0b101, lastResort: 0b010},
		{name: "forced drain over votes", down: 0b001, forceDrain: 0b001, up: 0b110, out: 0b001},
	} {
		table := table(t, 3)
		in := table.NewInputs()
		for id := range c.drained.All() {
			in.Drains[id].On = true
		}
		for id := range c.down.All() {
			in.Votes[id] = votes("dd")
		}
		in.ForcedDrain, in.ForcedUp = c.forceDrain, c.forceUp
		s := table.Evaluate(nil, in)
		if s.Up() != c.up || s.LastResort() != c.lastResort || s.Drained != c.out || s.Down != c.down {
			t.Errorf("%s: up %03b, last resort %03b, drained %03b, down %03b", c.name, s.Up(), s.LastResort(), s.Drained, s.Down)
		}
	}
}

// model is the slow twin: one region, in the words of the design.
type model struct {
	drained, down, tied bool
	usable              int // 0: up; 1: down but not drained; 2: never
}

func evaluate(wasDown bool, in Inputs, id ID) (m model) {
	ups, downs := 0, 0
	for _, v := range in.Votes[id] {
		if v.Down {
			downs++
		} else {
			ups++
		}
	}
	carried := func(votes int) bool { return 2*votes > ups+downs && (votes >= 2 || ups+downs == 1) }
	m.down = carried(downs)
	if ups+downs > 0 && !carried(downs) && !carried(ups) {
		m.down, m.tied = wasDown, wasDown
	}
	m.drained = in.Drains[id].On || in.ForcedDrain.Has(id)
	forcedUp := in.ForcedUp.Has(id)
	if forcedUp {
		m.drained = false
	}
	switch {
	case m.drained:
		m.usable = 2
	case m.down && !forcedUp:
		m.usable = 1
	}
	return m
}

// TestTwin walks through random inputs, each state from the one before, and
// compares states and choices with the slow twin.
func TestTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, n := range []int{0, 1, 2, 3, 7, 12, Max} {
		table := table(t, n)
		var s *State
		twin := make([]model, n)
		for range 300 {
			in := randomInputs(r, table)
			s = table.Evaluate(s, in)
			for id := range table.All().All() {
				twin[id] = evaluate(twin[id].down, in, id)
				got := model{drained: s.Drained.Has(id), down: s.Down.Has(id), tied: s.Tied.Has(id), usable: 2}
				if s.Up().Has(id) {
					got.usable = 0
				} else if s.LastResort().Has(id) {
					got.usable = 1
				}
				if got != twin[id] {
					t.Fatalf("region %d of %d is %+v, not %+v, from %+v", id, n, got, twin[id], in)
				}
			}
			if extra := (s.Drained | s.Down | s.Tied | s.Up() | s.LastResort()) &^ table.All(); extra != 0 {
				t.Fatalf("regions %v are not in the table", slices.Collect(extra.All()))
			}
			checkChoice(t, r, table, s, twin)
		}
	}
}

// randomInputs says much of few regions or little of many, so that every rung
// of the answer ladder is reached.
func randomInputs(r *rand.Rand, table *Table) Inputs {
	in := table.NewInputs()
	drained, voted := r.Float64(), r.Float64()
	for id := range table.All().All() {
		in.Drains[id].On = r.Float64() < drained
		if r.Float64() < voted {
			word := make([]byte, r.IntN(6))
			for i := range word {
				word[i] = "ud"[r.IntN(2)]
			}
			in.Votes[id] = votes(string(word))
		}
		switch r.IntN(12) {
		case 0:
			in.ForcedDrain |= SetOf(id)
		case 1:
			in.ForcedUp |= SetOf(id)
		}
	}
	return in
}

// checkChoice asks for random candidates in a random order: the first of the
// best rung that has any must answer.
func checkChoice(t *testing.T, r *rand.Rand, table *Table, s *State, twin []model) {
	t.Helper()
	prefer := table.Listed()
	r.Shuffle(len(prefer), func(i, j int) { prefer[i], prefer[j] = prefer[j], prefer[i] })
	candidates := Set(r.Uint64()&r.Uint64()) & table.All()
	want, found := ID(0), false
	for _, rung := range []int{0, 1} {
		for _, id := range prefer {
			if !found && candidates.Has(id) && twin[id].usable == rung {
				want, found = id, true
			}
		}
	}
	if got, ok := s.Choose(prefer, candidates); ok != found || got != want {
		t.Fatalf("%v, %v was chosen, not %v, %v, of %b in the order %v", got, ok, want, found, candidates, prefer)
	}
}

// Every rung of the answer ladder.
func TestChoose(t *testing.T) {
	table := table(t, 4)
	prefer := []ID{2, 0, 3, 1}
	for _, c := range []struct {
		name                      string
		drained, down, candidates Set
		want                      ID
		none                      bool
	}{
		{name: "the nearest", candidates: 0b1111, want: 2},
		{name: "the nearest that has the type", candidates: 0b1010, want: 3},
		{name: "up before a nearer that is down", down: 0b0100, candidates: 0b1111, want: 0},
		{name: "up before a nearer that is drained", drained: 0b0101, candidates: 0b1111, want: 3},
		{name: "what is up elsewhere does not count", down: 0b0101, candidates: 0b0101, want: 2},
		{name: "down before drained", drained: 0b0100, down: 0b1011, candidates: 0b1111, want: 0},
		{name: "down and drained is drained", drained: 0b0100, down: 0b0110, candidates: 0b0110, want: 1},
		{name: "drained alone", drained: 0b0101, candidates: 0b0101, none: true},
		{name: "all drained", drained: 0b1111, down: 0b1111, candidates: 0b1111, none: true},
		{name: "no candidate", none: true},
	} {
		in := table.NewInputs()
		for id := range c.drained.All() {
			in.Drains[id].On = true
		}
		for id := range c.down.All() {
			in.Votes[id] = votes("d")
		}
		if got, ok := table.Evaluate(nil, in).Choose(prefer, c.candidates); ok == c.none || got != c.want {
			t.Errorf("%s: %d, %v", c.name, got, ok)
		}
	}
}

// farthest returns a state in which the last of 64 regions alone is left, and
// that only as a last resort: the longest way that Choose can go.
func farthest(t testing.TB) (*State, []ID, Set) {
	table := table(t, Max)
	in := table.NewInputs()
	for id := range table.All().All() {
		in.Drains[id].On = id < Max-1
	}
	in.Votes[Max-1] = votes("dd")
	return table.Evaluate(nil, in), table.Listed(), table.All()
}

func TestChooseAllocates(t *testing.T) {
	s, prefer, all := farthest(t)
	if n := testing.AllocsPerRun(100, func() { s.Choose(prefer, all) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkChoose(b *testing.B) {
	far, prefer, all := farthest(b)
	table := table(b, 12)
	near := table.Evaluate(nil, table.NewInputs())
	b.Run("nearest of 12", func(b *testing.B) {
		order, candidates := table.Listed(), table.All()
		b.ReportAllocs()
		for b.Loop() {
			near.Choose(order, candidates)
		}
	})
	b.Run("last of 64", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			far.Choose(prefer, all)
		}
	})
}
