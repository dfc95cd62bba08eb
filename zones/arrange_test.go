package zones

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReloadFilesLikeReload: who is told of the files that changed ends where
// the one ends who looks at all of them.
func TestReloadFilesLikeReload(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, hold := range []bool{false, true} {
		f := newFolder(t)
		f.hold = hold
		f.restart()
		other := NewStore(StoreConfig{Dir: f.dir, KeepDir: filepath.Join(t.TempDir(), "kept"), HoldShrink: hold})
		files := []string{"a.example.zone", "b.example.zone", "c.example.zone", "d.example.zone", "part.inc", "deep/part.inc", "bad..name.zone"}
		if err := os.Mkdir(filepath.Join(f.dir, "deep"), 0o755); err != nil {
			t.Fatal(err)
		}
		for round := range 300 {
			var changed []string
			for range 1 + random.IntN(3) {
				name := files[random.IntN(len(files))]
				path := filepath.Join(f.dir, name)
				changed = append(changed, path)
				switch random.IntN(8) {
				case 0:
					_ = os.Remove(path)
				case 1:
					f.write(name, broken)
				case 2:
					f.write(name, fmt.Sprintf("$ORIGIN %s.example.\n", string(rune('a'+random.IntN(4))))+zoneText(round, 0))
				case 3:
					f.write(name, zoneText(round, 0)+"$INCLUDE part.inc\n")
				case 4:
					f.write(name, zoneText(round, 200*random.IntN(2)))
				case 5:
					to := filepath.Join(f.dir, files[random.IntN(4)])
					changed = append(changed, to)
					_ = os.Rename(path, to)
				default:
					f.write(name, "www TXT x\n")
				}
			}
			if hold && random.IntN(10) == 0 {
				f.view = f.store.Accept("")
				other.Accept("")
			} else {
				f.view = f.store.Reload()
				other.ReloadFiles(changed)
			}
			f.store.Keep()
			other.Keep()
			if got, want := rows(other), rows(f.store); got != want {
				t.Fatalf("hold %t, round %d: %q changed\ngot\n%swant\n%s", hold, round, changed, got, want)
			}
		}
	}
}

// rows shows everything that a store says and serves.
func rows(s *Store) string {
	var b strings.Builder
	for _, r := range s.Status() {
		fmt.Fprintln(&b, r.Origin, filepath.Base(r.File), r.State, r.Serial, r.Records, r.Steered, r.OneRegion)
		for _, f := range r.Faults {
			fmt.Fprintln(&b, " ", strings.ReplaceAll(f.String(), s.KeepDir, "kept"))
		}
	}
	for i, z := range s.view.zones {
		found, index := s.view.Find(z.apex)
		fmt.Fprintln(&b, z.origin, z.serial, z.failed, found == z && index == i, s.view.origins[i])
	}
	return b.String()
}
