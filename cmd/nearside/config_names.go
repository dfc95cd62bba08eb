package main

import (
	"maps"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

func find[T any](known []setting[T], key string) *setting[T] {
	i := slices.IndexFunc(known, func(s setting[T]) bool { return s.key == key })
	if i < 0 {
		return nil
	}
	return &known[i]
}

func isSection[T any](known []setting[T], key string) bool {
	return slices.ContainsFunc(known, func(s setting[T]) bool { return strings.HasPrefix(s.key, key+".") })
}

// siblings returns the keys and sections that may stand directly below base.
func siblings[T any](known []setting[T], base string, others map[string]func(*yaml.Node)) []string {
	names := slices.Sorted(maps.Keys(others))
	for _, s := range known {
		if below, ok := strings.CutPrefix(s.key, base); ok {
			name, _, _ := strings.Cut(below, ".")
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// nearest returns the name that word was probably meant to be, or "".
func nearest(word string, names []string) string {
	best, at := "", 3
	for _, name := range names {
		// Two edits in a short word make another word.
		if n := edits(word, name); n < at && n*3 <= len(name) {
			best, at = name, n
		}
	}
	return best
}

// edits is the Levenshtein distance of two short words; of long ones it says
// only that they are far apart.
func edits(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return len(a) + len(b)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		diagonal := row[0]
		row[0] = i + 1
		for j := range b {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
