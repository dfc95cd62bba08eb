package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// table is printed as Markdown, aligned so that it can be read as it is.
type table struct {
	title string
	rows  [][]string
}

func newTable(title string, head ...string) *table {
	return &table{title, [][]string{head}}
}

// add adds a row: durations in microseconds, fractions to two places.
func (t *table) add(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		switch c := c.(type) {
		case float64:
			row[i] = fmt.Sprintf("%.2f", c)
		case time.Duration:
			row[i] = fmt.Sprintf("%.1f", float64(c)/1e3)
		default:
			row[i] = fmt.Sprint(c)
		}
	}
	t.rows = append(t.rows, row)
}

func (t *table) print() {
	widths := make([]int, len(t.rows[0]))
	for _, row := range t.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len(cell))
		}
	}
	fmt.Printf("\n### %s\n\n", t.title)
	for n, row := range t.rows {
		line, rule := "|", "|"
		for i, cell := range row {
			// Names to the left, figures to the right.
			width, edge := widths[i], ":"
			if i == 0 {
				width, edge = -width, "-"
			}
			line += fmt.Sprintf(" %*s |", width, cell)
			rule += strings.Repeat("-", widths[i]+1) + edge + "|"
		}
		fmt.Println(line)
		if n == 0 {
			fmt.Println(rule)
		}
	}
}

// median returns the middle of what was measured.
func median[T int | float64 | time.Duration | int64](values []T) T {
	if len(values) == 0 {
		return 0
	}
	s := slices.Clone(values)
	slices.Sort(s)
	return s[len(s)/2]
}

// medianOf returns the median of one figure of every round.
func medianOf[R any, T int | float64 | time.Duration | int64](rounds []R, figure func(R) T) T {
	values := make([]T, len(rounds))
	for i, r := range rounds {
		values[i] = figure(r)
	}
	return median(values)
}

// ratio returns the median, over the rounds, of a figure of one server to that of
// another: what the machine does meanwhile meets both.
func ratio[R any](rounds, to []R, figure func(R) float64) float64 {
	values := make([]float64, min(len(rounds), len(to)))
	for i := range values {
		values[i] = figure(rounds[i]) / figure(to[i])
	}
	return median(values)
}
