package zones

import (
	"iter"
	"slices"
	"testing"

	"github.com/miekg/dns"
)

// eachSet yields the offsets of the sets of a node.
func eachSet(z *Zone, n node) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		at := n.first()
		for range n.sets() {
			if !yield(at) {
				return
			}
			at = z.arena.next(at)
		}
	}
}

// verify checks what a zone in compiled form promises.
func verify(t testing.TB, z *Zone) {
	t.Helper()
	nodes, sets := make(map[uint32]bool), make(map[uint32]bool)
	for n := range z.arena.nodes() {
		nodes[n.at] = true
		for at := range eachSet(z, n) {
			sets[at] = true
		}
	}
	used := 0
	for _, slot := range z.index.slots {
		if slot != 0 {
			used++
			if at := z.index.offset(slot); !nodes[at] {
				t.Errorf("a slot leads to offset %d, where no node is", at)
			}
		}
	}
	if used != len(nodes) || len(z.index.slots) < 2*used {
		t.Errorf("%d slots, %d of them used, for %d nodes", len(z.index.slots), used, len(nodes))
	}
	var found spreads
	for n := range z.arena.nodes() {
		for _, s := range verifyNode(t, z, n, z.name(n), nodes, sets) {
			found.add(s)
		}
	}
	if !slices.Equal(found.list, z.spreads) {
		t.Errorf("steered are %+v, noted %+v", found.list, z.spreads)
	}
}

// verifyNode checks one node and returns what is steered of it.
func verifyNode(t testing.TB, z *Zone, n node, owner []byte, nodes, sets map[uint32]bool) (steered []Spread) {
	t.Helper()
	if found, ok := z.find(z.relative(owner), Hash(owner)); !ok || found != n {
		t.Errorf("%q is found at %+v, %t; it is at %+v", nameText(owner), found, ok, n)
	}
	if nameLength(owner) != len(owner) || len(owner) > z.deepest || n.at%align != 0 {
		t.Errorf("%q: no name, or beyond the deepest, or at offset %d", owner, n.at)
	}
	if n.other() != 0 && !nodes[n.other()] {
		t.Errorf("%s leads to offset %d, where no node is", nameText(owner), n.other())
	}
	redirect, last := false, -1
	for at := range eachSet(z, n) {
		var s RRset
		z.own(n, at, &s)
		if int(s.Type) <= last {
			t.Errorf("%s: type %d behind %d", nameText(owner), s.Type, last)
		}
		last = int(s.Type)
		redirect = redirect || s.Type == dns.TypeDNAME
		if !s.Steered() {
			verifyRecords(t, z, owner, s, sets)
			continue
		}
		if want, _ := testSteering().Service(nameText(owner)); s.Service != want || s.Count != 0 {
			t.Errorf("%s is of service %d, not %d, and has %d records for everybody", nameText(owner), s.Service, want, s.Count)
		}
		steered = append(steered, Spread{s.Service, s.Regions, nameText(owner), 1})
		for region := range uint8(64) {
			if part := s; s.Regions>>region&1 != 0 {
				z.Narrow(&part, region)
				verifyRecords(t, z, owner, part, sets)
			}
		}
	}
	if (n.flags()&isSteered != 0) != (steered != nil) || (n.flags()&isRedirect != 0) != redirect || n.flags()&isCut != 0 && n.other() == 0 {
		t.Errorf("%s has %d steered RRsets, redirect %t, other node %d, and flags %b", nameText(owner), len(steered), redirect, n.other(), n.flags())
	}
	return steered
}

// verifyRecords checks records and what belongs beside them.
func verifyRecords(t testing.TB, z *Zone, owner []byte, s RRset, sets map[uint32]bool) {
	t.Helper()
	if got := len(recordsIn(owner, s.Wire)); got != int(s.Count) || got == 0 || pointsOn(s.Type) != s.spanned {
		t.Errorf("%s %s: %d records, %d noted, with a span %t", nameText(owner), dns.Type(s.Type), got, s.Count, s.spanned)
	}
	required := true
	for i := range z.Beside(&s) {
		more := z.Additional(&s, i)
		x := z.extras[uint32(z.arena.word(s.span))+uint32(i)]
		if !sets[x.set] || more.Set.Steered() || more.Required && !required || more.Target >= len(s.Wire) {
			t.Errorf("%s %s: beside it %+v at offset %d", nameText(owner), dns.Type(s.Type), more, x.set)
		}
		required = more.Required
	}
}
