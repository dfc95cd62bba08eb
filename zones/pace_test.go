package zones

import (
	"testing"

	"nearside/pace/pacetest"
)

// TestReloadRests: others get the core while a zone is read again and kept.
func TestReloadRests(t *testing.T) {
	f := newFolder(t)
	f.write("a.example.zone", zoneText(1, 30_000))
	fast := pacetest.Turns(func() { f.view = f.store.ReloadAll() })
	f.write("a.example.zone", zoneText(2, 30_000))
	gentle := pacetest.Turns(func() { f.view = f.store.ReloadAll() })
	if f.want("a.example. 2 ok"); gentle < 5*fast+20 {
		t.Errorf("others had the core %d times, %d at the first load", gentle, fast)
	}
}
