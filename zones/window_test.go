package zones

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// entriesOf reads a text to its end: the lines and tokens of its entries, and
// what is wrong.
func entriesOf(s *scanner) (list []string) {
	var e entry
	for {
		found, err := s.next(&e)
		if !found && err == nil {
			return list
		}
		list = append(list, fmt.Sprintf("%d %t %q %v", e.line, e.blank, e.tokens, err))
	}
}

// TestWindow: a text that is seen through a window reads as if it were seen whole,
// wherever the window ends.
func TestWindow(t *testing.T) {
	for _, piece := range []string{
		"www A 192.0.2.1\n", "www A (192.0.2.1\n)\n", "www (\n; a comment\n\nA\t192.0.2.1 ) ; another\r\n",
		"txt TXT \"a string; (no comment)\" b\\\"c \\000\n", " A 192.0.2.1\r\n", "; nothing but a comment\n", "\n", "\r\n",
		"bad TXT \"open\nnext A 192.0.2.1\n", "bad )\n", "bad ((\n", "bad\x01 A\n", "bad \\\n", "bad\rreturn\n",
		"(\nwww A 192.0.2.1\n)\n", strings.Repeat("long", windowSize/3) + " A 192.0.2.1\n",
		"www TXT (" + strings.Repeat("\n some text", 2*windowSize/11) + " )\n",
	} {
		for shift, end := range []string{"", "last A 192.0.2.1", "open ( A\n", "open \"", "open \\", "end\r"} {
			text := strings.Repeat(" ", shift) + strings.Repeat(piece, 1+windowSize/len(piece)) + end
			whole := entriesOf(&scanner{line: 1, data: []byte(text)})
			if seen := entriesOf(&scanner{line: 1, rest: strings.NewReader(text)}); !slices.Equal(seen, whole) {
				t.Errorf("%.40q and %q: %d entries through a window, %d whole", piece, end, len(seen), len(whole))
			}
		}
	}
}

// brokenText is a text that cannot be read to its end.
type brokenText struct{ text }

func (b brokenText) ReadAt(p []byte, at int64) (int, error) {
	if at+int64(len(p)) > b.Size()/2 {
		return 0, errors.New("a bad block")
	}
	return b.text.ReadAt(p, at)
}

type brokenSource string

func (b brokenSource) read(string) (text, error) {
	return brokenText{strings.NewReader(string(b))}, nil
}

// TestUnreadable: a file that cannot be read on is a fault, not a shorter zone.
func TestUnreadable(t *testing.T) {
	text := goodHead + strings.Repeat("; nothing\n", windowSize)
	z, faults := job{source: brokenSource(text), name: "example.zone", origin: []byte("\x07example\x00"), fixed: true}.load()
	if z != nil || len(faults) != 1 || !strings.Contains(faults[0].Message, "cannot read the rest of the file: a bad block") {
		t.Errorf("zone %v, faults %v", z, faults)
	}
}

// TestLargeFileIsKept: a large zone file is read again through a copy, and what is
// kept is what was read, though the file has changed meanwhile; without a place for
// the copy it is loaded all the same.
func TestLargeFileIsKept(t *testing.T) {
	f := newFolder(t)
	file := filepath.Join(f.dir, "big.example.zone")
	text := func(serial int) string {
		return zoneText(serial, 0) + strings.Repeat("; "+strings.Repeat("x", 1<<10)+"\n", large>>10)
	}
	f.write("big.example.zone", text(1))
	f.reload()
	f.write("big.example.zone", text(2))
	f.view = f.store.Reload()
	spooled, ok := f.store.members["big.example.zone"].files.list[0].text.(spooled)
	if !ok {
		t.Fatal("the file is held in memory")
	}
	f.write("big.example.zone", text(3)[:large/2]+"\n no good")
	f.store.Keep()
	kept, err := os.ReadFile(filepath.Join(f.keep, "big.example.kept"))
	if err != nil || !strings.HasSuffix(string(kept), text(2)) {
		t.Errorf("kept are %d octets (%v), not those that were read", len(kept), err)
	}
	if err := spooled.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the copy is still open (%v)", err)
	}
	if left, err := filepath.Glob(filepath.Join(f.keep, ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
	f.want("big.example. 2 ok")

	f.store.KeepDir = file // no folder
	f.write("big.example.zone", text(4))
	f.view = f.store.Reload()
	f.want("big.example. 4 ok")
}
