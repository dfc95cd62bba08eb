package main

import (
	"fmt"
	"os"
	"time"
)

// verdict is a figure of nearside beside what is wanted of it.
type verdict struct {
	what, bound  string
	wanted, seen float64
	kept         bool
}

// atLeast and atMost keep a verdict for the table of them all, which is the last.
func (b *bench) atLeast(what string, wanted, seen float64) {
	b.verdicts = append(b.verdicts, verdict{what, "at least", wanted, seen, seen >= wanted})
}

func (b *bench) atMost(what string, wanted, seen float64) {
	b.verdicts = append(b.verdicts, verdict{what, "at most", wanted, seen, seen <= wanted})
}

func (b *bench) printVerdicts() {
	t := newTable("what is wanted of nearside, and what was seen", "", "wanted", "seen", "kept")
	missed := 0
	for _, v := range b.verdicts {
		answer := "yes"
		if !v.kept {
			answer = "NO"
			missed++
		}
		t.add(v.what, fmt.Sprintf("%s %.4g", v.bound, v.wanted), fmt.Sprintf("%.4g", v.seen), answer)
	}
	t.print()
	fmt.Printf("\n%d of %d kept, %d rounds of %v, after %v.\n", len(b.verdicts)-missed, len(b.verdicts), b.rounds, b.span, time.Since(b.began).Round(time.Second))
}

// announce says on standard error what is measured next; a dot follows for each round.
func (b *bench) announce(format string, arguments ...any) {
	spent := time.Since(b.began)
	fmt.Fprintf(os.Stderr, "\n[%2d:%02d] %s ", int(spent.Minutes()), int(spent.Seconds())%60, fmt.Sprintf(format, arguments...))
}

func (b *bench) dot() { fmt.Fprint(os.Stderr, ".") }
