package regions

import (
	"fmt"
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
		for _, was := range []Status{0, Down} {
			table := table(t, 1)
			in := table.NewInputs()
			in.Subjects[0] = Subject{Votes: votes(c.votes), Record: Record{To: was}}
			want, tied := c.want, false
			if want == stays {
				want, tied = was.String(), was == Down
			}
			if s := stateOf(table, in).Standings[0]; s.Status.String() != want || s.Tied != tied {
				t.Errorf("votes %q on a region that was %s: %s, tied %t; it should be %s", c.votes, was, s.Status, s.Tied, want)
			}
		}
	}
}
