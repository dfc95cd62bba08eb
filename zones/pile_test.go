package zones

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"nearside/pace"
)

// TestPile: what is added stays what it was while a pile grows, each piece in one
// chunk, and what lies before a released offset can no longer be read.
func TestPile(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var p pile
	var offsets []uint32
	var pieces [][]byte
	for total := 0; total < 5*chunk; {
		piece := bytes.Repeat([]byte{byte(len(pieces))}, 1+random.IntN(1<<(1+random.IntN(17))))
		at, room := p.add(len(piece))
		copy(room, piece)
		offsets, pieces = append(offsets, at), append(pieces, piece)
		total += len(piece)
	}
	check := func(from int) {
		t.Helper()
		for i := from; i < len(pieces); i++ {
			if !bytes.Equal(p.from(offsets[i])[:len(pieces[i])], pieces[i]) {
				t.Fatalf("piece %d at %d is not what it was", i, offsets[i])
			}
		}
	}
	check(0)
	for i := range pieces {
		p.release(offsets[i])
	}
	check(len(pieces) - 1)
	defer func() {
		if recover() == nil {
			t.Error("what was released can be read")
		}
	}()
	_ = p.from(offsets[0])[0]
}

// TestRelease gives back the end of a piece of memory: what stands before it stays.
func TestRelease(t *testing.T) {
	b := bytes.Repeat([]byte{7}, 3*chunk)
	const from = chunk + 123
	release(b, from)
	if !bytes.Equal(b[:from], bytes.Repeat([]byte{7}, from)) {
		t.Error("what stands before the offset has changed")
	}
	if b[2*chunk] != 0 {
		t.Error("the memory behind it was not given back")
	}
}

// TestReleasedWhileCompiled loads zones whose records let go of the log in every
// order, with rests and without: the zones are the same.
func TestReleasedWhileCompiled(t *testing.T) {
	const names = 40_000 // several chunks of names and of records
	lines := make([]string, 0, 2*names)
	for i := range names {
		lines = append(lines, fmt.Sprintf("a-rather-long-name-%d.below TXT \"%060d\"\n", i, i), fmt.Sprintf("a-rather-long-name-%d.below A 192.0.2.%d\n", i, i%256))
	}
	interleaved := slices.Clone(lines)
	slices.SortStableFunc(lines, func(a, b string) int {
		return strings.Compare(a[strings.IndexByte(a, ' '):], b[strings.IndexByte(b, ' '):])
	})
	shuffled := slices.Clone(lines)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	for what, lines := range map[string][]string{"by name": interleaved, "by type": lines, "in no order": shuffled} {
		text := goodHead + "@ MX 10 a-rather-long-name-7.below\ncut NS ns.cut\nns.cut A 192.0.2.1\n*.wild A 192.0.2.2\n" + strings.Join(lines, "")
		var zones []*Zone
		for _, how := range []pace.Pace{pace.Fast, pace.Gentle} {
			z, faults := job{source: memory(text), name: "example.zone", origin: []byte("\x07example\x00"), fixed: true, steering: testSteering(), pace: how}.load()
			if z == nil {
				t.Fatalf("%s: %v", what, faults)
			}
			verify(t, z)
			zones = append(zones, z)
		}
		if !bytes.Equal(zones[0].arena, zones[1].arena) || !slices.Equal(zones[0].index.slots, zones[1].index.slots) || !slices.Equal(zones[0].extras, zones[1].extras) {
			t.Errorf("%s: a zone that lets go of its records is another one", what)
		}
	}
}

// TestTooManyNames: names whose parents do not fit are a fault.
func TestTooManyNames(t *testing.T) {
	b := newBuilder(&collector{}, pace.New(pace.Fast))
	b.add([]byte("\x03www\x07example\x00"), 1, 60, make([]byte, 4), place{}, false)
	b.names.text.chunks = append(b.names.text.chunks, make([][]byte, maxPile/chunk)...)
	b.names.text.chunks[len(b.names.text.chunks)-1] = make([]byte, 0, chunk)
	b.names.intern([]byte("\x07example\x00"))
	b.apex = 1
	if b.arrange() || !b.full {
		t.Error("there is room for more than offsets reach")
	}
}
