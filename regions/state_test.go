package regions

import (
	"fmt"
	"testing"
	"time"
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

// A region whose silence is excused while it returns, or is no longer, is on hold
// for as long as it would be otherwise.
func TestExcusedReturn(t *testing.T) {
	var list []Region
	for _, name := range []string{"a", "b", "c"} {
		list = append(list, Region{Name: name, Heartbeat: true})
	}
	table, err := New(list)
	if err == nil {
		table, err = table.With(nil, Policy{MaxOut: 50, Hold: time.Minute})
	}
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	in := table.NewInputs()
	returned := Record{From: Down, To: 0, Since: now}
	for i := range in.Subjects {
		in.Subjects[i].Record = returned
	}
	for _, beats := range []int{0, 1, 0} { // of all: a storm, and its end
		now = now.Add(time.Second)
		for i := range in.Subjects {
			in.Subjects[i].Heartbeats = beats
		}
		s := table.Evaluate(in, Clock{now, now})
		for i, standing := range s.Standings[:3] {
			if want := returned.Since.Add(time.Minute); !standing.Hold.Equal(want) || standing.Status.Out() {
				t.Errorf("%d heartbeats: %s is %v and on hold until %v, not %v", beats, list[i].Name, standing.Status, standing.Hold, want)
			}
		}
		for _, due := range s.Due {
			in.Subjects[table.Index(due.Key)].Record = due.Record
		}
	}
}

// TTLs run down to the beginning of a drain alone, however far away it is: further
// than a time.Duration can tell.
func TestRunDown(t *testing.T) {
	const longest = 30
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	table, err := table(t, 1).With(nil, Policy{MaxOut: 100, TTL: longest})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at   time.Time
		ttl  uint32
		next time.Time
	}{
		{time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), NoCap, time.Date(9999, 12, 30, 23, 59, 30, 0, time.UTC)},
		{now.Add(time.Hour), NoCap, now.Add(time.Hour - longest*time.Second)},
		{now.Add(longest * time.Second), longest, now.Add(time.Second)},
		{now.Add(1500 * time.Millisecond), 2, now.Add(500 * time.Millisecond)},
		{now.Add(1), 1, now.Add(1)},
	} {
		in := table.NewInputs()
		in.Subjects[0].Drain = Drain{Percent: 100, At: c.at}
		s := table.Evaluate(in, Clock{Now: now, Back: now})
		if got := s.Standings[0].TTL; got != c.ttl || !s.Next.Equal(c.next) {
			t.Errorf("a drain at %v: TTL %d, again at %v; it should be %d and %v", c.at, got, s.Next, c.ttl, c.next)
		}
	}
}
