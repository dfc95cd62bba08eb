package main

import (
	"fmt"
	"slices"
	"sort"

	"nearside/regions"
)

// piece is what the table of regions is made of, in the order of the file: the
// name of a region, its location, and each of its prefixes.
type piece struct {
	region int
	part   int // theName, theLocation, or the index of a prefix
}

const (
	theName     = -2
	theLocation = -1
)

// maxRegionFaults ends the search for more: each costs several tables.
const maxRegionFaults = 20

// table makes the table of regions. The rules are those of regions.New, which
// knows no lines: so the file is fed to it piece by piece, and the piece at which
// it first complains is at fault. That piece is left out, and the search goes on.
func (d *decoder) table(list []regions.Region) *regions.Table {
	pieces := piecesOf(list)
	for range maxRegionFaults {
		table, err := regions.New(build(list, pieces))
		if err == nil {
			return table
		}
		// More pieces never cure a fault: the first bad one is found by halving.
		bad := sort.Search(len(pieces), func(n int) bool {
			_, err := regions.New(build(list, pieces[:n+1]))
			return err != nil
		})
		_, err = regions.New(build(list, pieces[:bad+1]))
		d.regionFault(pieces[bad], err)
		pieces = drop(pieces, bad)
	}
	return nil
}

func piecesOf(list []regions.Region) []piece {
	var pieces []piece
	for i, r := range list {
		pieces = append(pieces, piece{i, theName}, piece{i, theLocation})
		for j := range r.Prefixes {
			pieces = append(pieces, piece{i, j})
		}
	}
	return pieces
}

// build returns the regions made of the given pieces.
func build(list []regions.Region, pieces []piece) []regions.Region {
	var made []regions.Region
	for _, p := range pieces {
		whole := list[p.region]
		if p.part == theName {
			made = append(made, regions.Region{Name: whole.Name, Weight: whole.Weight, Heartbeat: whole.Heartbeat, Standby: whole.Standby})
			continue
		}
		last := &made[len(made)-1]
		if p.part == theLocation {
			last.Location = whole.Location
		} else {
			last.Prefixes = append(last.Prefixes, whole.Prefixes[p.part])
		}
	}
	return made
}

// drop leaves out a piece. With the name of a region goes all of it.
func drop(pieces []piece, bad int) []piece {
	end := bad + 1
	for pieces[bad].part == theName && end < len(pieces) && pieces[end].region == pieces[bad].region {
		end++
	}
	return slices.Delete(pieces, bad, end)
}

// regionFault reports what regions.New says of a piece.
func (d *decoder) regionFault(p piece, err error) {
	at := fmt.Sprintf("regions[%d]", p.region)
	switch p.part {
	case theName:
		if !d.given(at + ".name") {
			return // that it is missing was said before
		}
		at += ".name"
	case theLocation:
		at += ".location"
	default:
		at += fmt.Sprintf(".prefixes[%d]", p.part)
	}
	d.faultAt(at, "%v", err)
}
