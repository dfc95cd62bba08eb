package zones

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"

	"nearside/pace"
	"nearside/printable"
)

// folder is a zones folder with the store that reads it.
type folder struct {
	t         *testing.T
	dir, keep string
	store     *Store
	hold      bool
	steering  Steering
	view      *View
	log       bytes.Buffer
}

func newFolder(t *testing.T) *folder {
	f := &folder{t: t, dir: t.TempDir(), keep: filepath.Join(t.TempDir(), "kept"), hold: true}
	f.restart()
	return f
}

// restart forgets everything that is not on disk.
func (f *folder) restart() {
	f.store = NewStore(StoreConfig{Dir: f.dir, KeepDir: f.keep, HoldShrink: f.hold, Steering: f.steering, Log: zerolog.New(zerolog.SyncWriter(&f.log))})
}

func (f *folder) reload() {
	f.view = f.store.Reload()
	f.store.Keep()
}

// logged returns the lines logged since last time, as "level message".
func (f *folder) logged() []string {
	f.t.Helper()
	var list []string
	for line := range bytes.Lines(f.log.Bytes()) {
		var entry struct{ Level, Message string }
		if err := json.Unmarshal(line, &entry); err != nil {
			f.t.Fatal(err)
		}
		list = append(list, entry.Level+" "+strings.ReplaceAll(entry.Message, f.dir+"/", ""))
	}
	f.log.Reset()
	return list
}

func (f *folder) write(name, text string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

func (f *folder) remove(names ...string) {
	f.t.Helper()
	for _, name := range names {
		if err := os.Remove(filepath.Join(f.dir, name)); err != nil {
			f.t.Fatal(err)
		}
	}
}

// want compares the zones served with "origin serial state" each; a zone that
// was never good has the serial 0.
func (f *folder) want(rows ...string) {
	f.t.Helper()
	var got []string
	if f.store.Folder() != nil {
		got = append(got, "folder failed")
	}
	for _, s := range f.store.Status() {
		serial := uint32(0)
		if z, _ := f.view.Find(wireName(f.t, s.Origin)); z != nil && z.Origin() == s.Origin {
			serial = z.Serial()
			if z.Failed() && s.State != StateFailed {
				f.t.Errorf("%s is %s, but Failed", s.Origin, s.State)
			}
		}
		got = append(got, fmt.Sprintf("%s %d %s", s.Origin, serial, s.State))
	}
	if !slices.Equal(got, rows) {
		f.t.Errorf("got zones %q, want %q", got, rows)
	}
}

// faults returns the faults of all zones, one a line, without the folder.
func (f *folder) faults() string {
	var b strings.Builder
	for _, s := range f.store.Status() {
		for _, fault := range s.Faults {
			b.WriteString(strings.ReplaceAll(fault.String(), f.dir+"/", "") + "\n")
		}
	}
	return b.String()
}

func (f *folder) zone(name string) *Zone {
	f.t.Helper()
	z, _ := f.view.Find(wireName(f.t, name))
	if z == nil {
		f.t.Fatalf("no zone %s", name)
	}
	return z
}

func (f *folder) wantFault(part string) {
	f.t.Helper()
	if got := f.faults(); !strings.Contains(got, part) {
		f.t.Errorf("no fault says %q, but: %s", part, got)
	}
}

func wireName(t testing.TB, name string) []byte {
	t.Helper()
	wire, err := appendName(nil, []byte(name), []byte{0})
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

// zoneText is a small good zone with some records more than it needs.
func zoneText(serial, more int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "$TTL 60\n@ SOA ns hostmaster %d 1h 15m 2w 1m\n@ NS ns\nns A 198.51.100.53\n", serial)
	for i := range more {
		fmt.Fprintf(&b, "h%d TXT x\n", i)
	}
	return b.String()
}

const broken = "$TTL 60\n@ SOA ns\n"

func TestReloadServesWhatIsGood(t *testing.T) {
	f := newFolder(t)
	f.write("a.example.zone", zoneText(1, 0))
	f.write("b.example.zone", broken)
	f.write(".hidden.zone", broken)
	f.write("part.inc", broken)
	f.reload()
	f.want("a.example. 1 ok", "b.example. 0 failed")
	f.wantFault("b.example.zone:2: SOA record: the mailbox is missing")

	f.write("b.example.zone", zoneText(7, 0))
	f.write("a.example.zone", broken)
	f.reload()
	f.want("a.example. 1 last good", "b.example. 7 ok")

	f.write("a.example.zone", zoneText(2, 0))
	f.reload()
	f.want("a.example. 2 ok", "b.example. 7 ok")
}

func TestReloadKeepsUnchangedZones(t *testing.T) {
	f := newFolder(t)
	f.write("a.example.zone", zoneText(1, 0))
	f.reload()
	before := f.zone("a.example.")
	f.reload()
	f.view = f.store.ReloadAll()
	if f.zone("a.example.") != before {
		t.Error("an unchanged zone was compiled again")
	}
}

func TestIncludedFileReloadsItsZone(t *testing.T) {
	f := newFolder(t)
	if err := os.Mkdir(filepath.Join(f.dir, "parts"), 0o755); err != nil {
		t.Fatal(err)
	}
	f.write("a.example.zone", zoneText(1, 0)+"$INCLUDE parts/www.inc\n")
	f.reload()
	f.want("a.example. 0 failed")
	f.wantFault("a.example.zone:5: cannot include parts/www.inc")
	if got, want := f.store.Folders(), []string{f.dir, filepath.Join(f.dir, "parts")}; !slices.Equal(got, want) {
		t.Errorf("watches %q, want %q", got, want)
	}
	for _, text := range []string{"one", "two"} {
		f.write("parts/www.inc", "www TXT "+text+"\n")
		f.reload()
		r := f.zone("a.example.").Lookup(wireName(t, "www.a.example."), dns.TypeTXT)
		if !strings.HasSuffix(string(r.Set.Wire), text) {
			t.Errorf("got TXT %q, want %s", r.Set.Wire, text)
		}
	}
}

// A $ORIGIN or the origin of an $INCLUDE names the zone, where the SOA record
// stands at it; else the file does.
func TestOriginOfFile(t *testing.T) {
	f := newFolder(t)
	f.write("a.example.zone", zoneText(1, 0))
	f.write("b.zone", "$ORIGIN b.example.\n"+zoneText(2, 0))
	f.write("c.zone", "$INCLUDE body.inc c.example.\n")
	f.write("body.inc", zoneText(3, 0))
	f.write("d.example.zone", "$ORIGIN example.\n$TTL 60\nd SOA ns h 4 1 1 1 1\nd NS ns.elsewhere.\n$INCLUDE below.inc www.d\n")
	f.write("below.inc", "@ A 192.0.2.1\n")
	f.reload()
	f.want("a.example. 1 ok", "b.example. 2 ok", "c.example. 3 ok", "d.example. 4 ok")
}

func TestRestartServesLastGood(t *testing.T) {
	f := newFolder(t)
	f.write("www.inc", "www TXT one\n")
	f.write("a.example.zone", zoneText(1, 0)+"$INCLUDE www.inc\n")
	f.write("other.zone", "$ORIGIN b.example.\n"+zoneText(5, 0))
	f.write("root.zone", "$ORIGIN .\n"+zoneText(9, 0))
	f.reload()
	f.want(". 9 ok", "a.example. 1 ok", "b.example. 5 ok")
	f.write("www.inc", "www TXT\n")
	f.write("other.zone", "(")
	f.write("root.zone", broken)
	f.restart()
	f.reload()
	f.want(". 9 last good", "a.example. 1 last good", "b.example. 5 last good")
	f.wantFault("www.inc:1: TXT record: the string is missing")
	f.wantFault("other.zone:1: the parenthesis opened at line 1 is never closed")
	r := f.zone("a.example.").Lookup(wireName(t, "www.a.example."), dns.TypeTXT)
	if r.Outcome != Answer {
		t.Errorf("the included record is not in the last good version: outcome %d", r.Outcome)
	}
}

func TestDamagedLastGoodIsRefused(t *testing.T) {
	f := newFolder(t)
	f.write("a.example.zone", zoneText(1, 0))
	f.reload()
	path := filepath.Join(f.keep, "a.example.kept")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	f.write("a.example.zone", broken)
	f.restart()
	f.reload()
	f.want("a.example. 0 failed")
	f.wantFault("cannot read the last good version: it is damaged")
}

// TestLastGoodUnderNewRegions: a zone that breaks a steering rule because a
// region went from the configuration is served without what was in it.
func TestLastGoodUnderNewRegions(t *testing.T) {
	f := newFolder(t)
	f.steering = testSteering()
	f.restart()
	f.write("a.example.zone", strings.Replace(zoneText(1, 0), "198.51.100.53", "198.18.0.53", 1)+
		"play A 192.0.2.1\nplay A 198.51.100.1\nplay A 203.0.113.1\n"+
		"two A 192.0.2.2\ntwo A 203.0.113.2\n"+
		"eu._region.mail MX 1 eu\nus._region.mail MX 1 us\nap._region.mail MX 1 ap\n")
	f.reload()
	f.want("a.example. 1 ok")

	regionOf, named := f.steering.RegionOf, f.steering.Named
	f.steering.RegionOf = func(a netip.Addr) (uint8, bool) { r, ok := regionOf(a); return r, ok && r != 2 }
	f.steering.Named = func(label string) (uint8, bool) { r, ok := named(label); return r, ok && r != 2 }
	f.restart()
	f.reload()
	f.want("a.example. 1 last good")
	f.wantFault("203.0.113.1 of play.a.example. is in no region's prefixes")
	f.wantFault("ap._region.mail.a.example. names no region")
	for name, want := range map[string]string{
		"play": "eu 30 A 192.0.2.1\nus 30 A 198.51.100.1\n",
		"two":  "60 A 192.0.2.2\n",
	} {
		if got := answer(t, f.zone("a.example."), name+".a.example.", dns.TypeA); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if got, want := answer(t, f.zone("a.example."), "mail.a.example.", dns.TypeMX), "eu 30 MX 1 eu.a.example.\nus 30 MX 1 us.a.example.\n"; got != want {
		t.Errorf("mail: got %q, want %q", got, want)
	}

	f.steering.RegionOf = func(netip.Addr) (uint8, bool) { return 0, false }
	f.restart()
	f.reload()
	if got, want := answer(t, f.zone("a.example."), "two.a.example.", dns.TypeA), "60 A 192.0.2.2\n60 A 203.0.113.2\n"; got != want {
		t.Errorf("without any region left: got %q, want %q", got, want)
	}
}

func TestThousandZones(t *testing.T) {
	f := newFolder(t)
	f.keep = ""
	f.restart()
	for i := range 1000 {
		f.write(fmt.Sprintf("z%d.example.zone", i), zoneText(i+1, 0))
	}
	f.write("z7.example.zone", broken)
	f.reload()
	if f.view.Len() != 1000 {
		t.Errorf("%d zones", f.view.Len())
	}
	for i := range 1000 {
		if z := f.zone(fmt.Sprintf("www.z%d.example.", i)); z.Failed() != (i == 7) || i != 7 && z.Serial() != uint32(i+1) {
			t.Errorf("zone %d: failed %t, serial %d", i, z.Failed(), z.Serial())
		}
	}
}

// TestFaultsAreLoggedOnce: one line for each fault, when it comes.
func TestFaultsAreLoggedOnce(t *testing.T) {
	f := newFolder(t)
	f.write("a.example.zone", zoneText(1, 0))
	f.reload()
	if got := f.logged(); got != nil {
		t.Errorf("a good zone logs %q", got)
	}
	f.write("a.example.zone", zoneText(2, 0)+"www A 192.0.2\nns A 198.51.100.53\nwww MX 10\n")
	want := []string{
		"error a.example.zone:5: A record: 192.0.2 is no IPv4 address; write four numbers up to 255 with dots between them, as in 192.0.2.1",
		"warn a.example.zone:6: warning: the same A record of ns.a.example. is at line 4 already; it counts once",
		"error a.example.zone:7: MX record: the mail server is missing; write: preference, mail server",
	}
	for _, want := range [][]string{want, nil} {
		f.reload()
		f.want("a.example. 1 last good")
		if got := f.logged(); !slices.Equal(got, want) {
			t.Errorf("logged %q, want %q", got, want)
		}
	}
	f.write("a.example.zone", zoneText(2, 0)+"www A 192.0.2\n")
	f.reload()
	if got := f.logged(); got != nil {
		t.Errorf("an old fault is logged again: %q", got)
	}
	f.write("a.example.zone", zoneText(2, 0))
	f.reload()
	f.logged()
	f.write("a.example.zone", broken)
	f.reload()
	if got := f.logged(); len(got) != 1 {
		t.Errorf("a new fault is logged as %q", got)
	}
}

// TestNewsIsLogged: what a reload changed for the better has a line for each
// zone, or one for very many.
func TestNewsIsLogged(t *testing.T) {
	f := newFolder(t)
	f.write("a.example.zone", zoneText(1, 0))
	f.write("b.example.zone", broken)
	f.reload()
	f.log.Reset() // what there is at the start is told by others
	step := func(want ...string) {
		t.Helper()
		f.reload()
		var got []string
		for line := range strings.Lines(f.log.String()) {
			if strings.HasPrefix(line, `{"level":"info",`) {
				got = append(got, strings.TrimSuffix(strings.TrimPrefix(line, `{"level":"info",`), "}\n"))
			}
		}
		f.log.Reset()
		if !slices.Equal(got, want) {
			t.Errorf("logged %q, want %q", got, want)
		}
	}
	step()
	f.write("a.example.zone", zoneText(2, 5))
	f.write("b.example.zone", zoneText(3, 0))
	f.write("c.example.zone", zoneText(4, 0))
	step(`"zone":"a.example.","serial_before":1,"serial":2,"records":8,"message":"zone reloaded"`,
		`"zone":"b.example.","state_before":"failed","serial":3,"records":3,"message":"zone is well again"`,
		`"zone":"c.example.","serial":4,"records":3,"message":"zone loaded"`)
	f.write("a.example.zone", broken)
	step()
	f.write("a.example.zone", zoneText(2, 5))
	step(`"zone":"a.example.","state_before":"last good","serial_before":2,"serial":2,"records":8,"message":"zone is well again"`)
	f.write("c.example.zone", "$ORIGIN d.example.\n"+zoneText(1, 0))
	step(`"zone":"c.example.","message":"zone is no longer served: no file has it"`,
		`"zone":"d.example.","serial":1,"records":3,"message":"zone loaded"`)
	for i := range 2 * maxNews {
		f.write(fmt.Sprintf("z%d.example.zone", i), zoneText(1, 0))
	}
	f.write("a.example.zone", zoneText(3, 5))
	step(fmt.Sprintf(`"loaded":%d,"reloaded":1,"well_again":0,"gone":0,"message":"many zones changed"`, 2*maxNews))
}

// TestProgress: a load that takes long shows in the log, be it of many zones or
// of a large one.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFolder(t)
		f.steering = testSteering()
		f.steering.RegionOf = func(netip.Addr) (uint8, bool) {
			time.Sleep(progressPeriod)
			return 0, false
		}
		f.restart()
		for i := range 2 * runtime.GOMAXPROCS(0) {
			f.write(fmt.Sprintf("z%d.zone", i), zoneText(1, 0)+"www A 192.0.2.1\n")
		}
		f.reload()
		if got := f.logged(); len(got) == 0 || got[0] != "info still loading zones" {
			t.Errorf("many zones: logged %q", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		f := newFolder(t)
		if z, faults := f.store.load("a.example.zone", &files{source: slow{memory(zoneText(1, 0) + "$GENERATE 0-65535 h$ TXT x\n")}, pace: pace.New(pace.Fast)}); z == nil {
			t.Fatal(faults)
		}
		if got := f.logged(); !slices.Equal(got, []string{"info still loading a zone"}) {
			t.Errorf("a large zone: logged %q", got)
		}
	})
}

// slow is a source that takes its time.
type slow struct{ source }

func (s slow) read(name string) (text, error) {
	time.Sleep(progressPeriod)
	return s.source.read(name)
}

func TestDeletedZoneGoes(t *testing.T) {
	f := newFolder(t)
	for _, name := range []string{"a", "b", "c"} {
		f.write(name+".example.zone", zoneText(1, 0))
	}
	f.reload()
	f.remove("b.example.zone")
	f.reload()
	f.want("a.example. 1 ok", "c.example. 1 ok")
	if _, err := os.Stat(filepath.Join(f.keep, "b.example.kept")); !os.IsNotExist(err) {
		t.Errorf("the last good version of a deleted zone is still there (%v)", err)
	}
}

func TestVanishedZonesAreHeld(t *testing.T) {
	names := []string{"a.example.zone", "b.example.zone", "c.example.zone"}
	for _, restart := range []bool{false, true} {
		f := newFolder(t)
		for _, name := range names {
			f.write(name, zoneText(1, 0))
		}
		f.reload()
		f.remove(names[:2]...)
		if restart {
			f.restart()
		}
		f.reload()
		f.want("a.example. 1 held", "b.example. 1 held", "c.example. 1 ok")
		f.write(names[0], zoneText(1, 0))
		f.reload()
		f.want("a.example. 1 ok", "b.example. 1 held", "c.example. 1 ok")
		f.view = f.store.Accept("b.example")
		f.store.Keep()
		f.want("a.example. 1 ok", "c.example. 1 ok")
	}
}

// TestVanishedZoneWithoutLastGood: a hold hides no fault.
func TestVanishedZoneWithoutLastGood(t *testing.T) {
	f := newFolder(t)
	f.write("a.example.zone", zoneText(1, 0))
	f.reload()
	f.remove("a.example.zone")
	path := filepath.Join(f.keep, "a.example.kept")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data[:len(data)-1], 0o644); err != nil {
		t.Fatal(err)
	}
	f.restart()
	f.reload()
	f.wantFault("the file is gone")
	f.wantFault("cannot read the last good version: it is damaged")
	if !f.zone("a.example.").Failed() {
		t.Error("a damaged last good version is served")
	}
}

// TestMisplacedLastGood: what is kept counts only where it was put.
func TestMisplacedLastGood(t *testing.T) {
	f := newFolder(t)
	f.write("a.example.zone", zoneText(1, 0))
	f.reload()
	if err := os.Rename(filepath.Join(f.keep, "a.example.kept"), filepath.Join(f.keep, "b.example.kept")); err != nil {
		t.Fatal(err)
	}
	f.remove("a.example.zone")
	f.restart()
	f.reload()
	f.want()
	if got := f.logged(); len(got) != 1 || got[0] != "error some last good zones cannot be read" {
		t.Errorf("logged %q", got)
	}
}

// TestTook: a reload fails by what it found changed, not by what has been bad
// for days.
func TestTook(t *testing.T) {
	f := newFolder(t)
	step := func(what string, want bool) {
		t.Helper()
		if f.reload(); f.store.Took() != want {
			t.Errorf("%s: took %t", what, !want)
		}
	}
	f.write("a.example.zone", zoneText(1, 0))
	f.write("b.example.zone", broken)
	step("a bad zone at the start", false)
	step("nothing changed", true)
	f.write("a.example.zone", zoneText(2, 0))
	step("another zone changed", true)
	f.write("b.example.zone", broken+"\n")
	step("the bad zone changed and is as bad", false)
	f.write("c.zone", "$ORIGIN a.example.\n"+zoneText(3, 0))
	step("a second file for a zone", false)
	f.write("a.example.zone", zoneText(3, 0))
	step("another zone changed beside two files for one", true)
	f.write("a.example.zone", zoneText(4, 200))
	step("a zone grew", true)
	f.write("a.example.zone", zoneText(5, 0))
	step("a zone shrank", false)
	step("nothing changed", true)
	f.store.Accept("")
	if !f.store.Took() {
		t.Error("a hold was lifted: not taken")
	}
	f.write("b.example.zone", zoneText(1, 0))
	step("the bad zone is well again", true)
	if err := os.Rename(f.dir, f.dir+".away"); err != nil {
		t.Fatal(err)
	}
	step("no folder", false)
	step("still no folder", false)
}

func TestUnreadableFolderKeepsEverything(t *testing.T) {
	f := newFolder(t)
	f.write("a.example.zone", zoneText(1, 0))
	f.reload()
	away := f.dir + ".away"
	if err := os.Rename(f.dir, away); err != nil {
		t.Fatal(err)
	}
	f.log.Reset()
	f.reload()
	f.want("folder failed", "a.example. 1 ok")
	if got := f.log.String(); !strings.HasPrefix(got, `{"level":"error","message":`) {
		t.Errorf("logged %s", got)
	}
	f.restart()
	f.reload()
	f.want("folder failed", "a.example. 1 last good")
	if err := os.Rename(away, f.dir); err != nil {
		t.Fatal(err)
	}
	f.reload()
	f.want("a.example. 1 ok")
}

func TestShrunkenZoneIsHeld(t *testing.T) {
	for _, restart := range []bool{false, true} {
		f := newFolder(t)
		f.write("a.example.zone", zoneText(1, 200))
		f.reload()
		f.write("a.example.zone", zoneText(2, 10))
		if restart {
			f.restart()
		}
		f.reload()
		f.want("a.example. 1 held")
		f.wantFault("shrinks from 203 to 13 records")
		f.reload()
		f.want("a.example. 1 held")
		f.view = f.store.Accept("")
		f.want("a.example. 2 ok")
		f.reload()
		f.want("a.example. 2 ok")
	}
}

func TestHoldShrinkOff(t *testing.T) {
	f := newFolder(t)
	f.hold = false
	f.restart()
	f.write("a.example.zone", zoneText(1, 200))
	f.reload()
	f.write("a.example.zone", zoneText(2, 10))
	f.reload()
	f.want("a.example. 2 ok")
	f.remove("a.example.zone")
	f.reload()
	f.want()
}

func TestOneOriginTwice(t *testing.T) {
	f := newFolder(t)
	f.write("a.example.zone", zoneText(1, 0))
	f.write("z.zone", "$ORIGIN a.example.\n"+zoneText(2, 0))
	f.reload()
	f.want("a.example. 1 ok", "a.example. 1 twice")
	f.wantFault("z.zone:3: the zone a.example. is in " + filepath.Join("a.example.zone"))
	f.remove("a.example.zone")
	f.reload()
	f.want("a.example. 2 ok")
	f.write("z.zone", broken)
	f.restart()
	f.reload()
	f.want("a.example. 2 last good")
}

// TestNewcomerTakesNoZone: a file that claims a zone which another file has
// changes nothing, whatever its name, also over a restart.
func TestNewcomerTakesNoZone(t *testing.T) {
	f := newFolder(t)
	f.write("b.zone", "$ORIGIN a.example.\n"+zoneText(1, 0))
	f.reload()
	f.write("a.example.zone", zoneText(2, 0))
	for range 2 {
		f.reload()
		f.want("a.example. 1 twice", "a.example. 1 ok")
		f.wantFault("a.example.zone:2: the zone a.example. is in b.zone too")
		f.restart()
	}
	f.write("b.zone", broken)
	f.reload()
	f.want("a.example. 1 twice", "a.example. 1 last good")
	f.remove("b.zone")
	f.reload()
	f.want("a.example. 2 ok")
}

func TestFileBecomesAnotherZone(t *testing.T) {
	f := newFolder(t)
	f.write("a.zone", "$ORIGIN a.example.\n"+zoneText(1, 0))
	f.write("b.zone", "$ORIGIN b.example.\n"+zoneText(1, 0))
	f.reload()
	f.write("a.zone", "$ORIGIN c.example.\n"+zoneText(1, 0))
	f.reload()
	f.want("b.example. 1 ok", "c.example. 1 ok")
	f.restart()
	f.reload()
	f.want("b.example. 1 ok", "c.example. 1 ok")
}

func TestOnlyRegularFilesAreRead(t *testing.T) {
	f := newFolder(t)
	if err := syscall.Mkfifo(filepath.Join(f.dir, "fifo.zone"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(f.dir, "dir.zone"), 0o755); err != nil {
		t.Fatal(err)
	}
	f.reload()
	f.want("dir. 0 failed", "fifo. 0 failed")
	f.wantFault("fifo.zone: cannot read the zone file: it is no regular file")
	f.wantFault("dir.zone: cannot read the zone file: it is no regular file")
}

// TestFaultsArePrintable: what stands in a file or its name cannot tell a
// terminal what to do, nor forge a line, nor fill the screen.
func TestFaultsArePrintable(t *testing.T) {
	f := newFolder(t)
	f.write("a.zone", zoneText(1, 0)+"www A 192.0.2.1\x1b[31m\n$INCLUDE \u202e\u009b.inc\nwww A 192.0.2.\u202e1\n$\x9b x\n"+
		strings.Repeat("x", 1<<20)+" "+strings.Repeat("y", 1<<20)+"\n")
	f.write("a\x1b[2J.zone", "")
	f.write("b..\x1b\nzone c: all is well.zone", "")
	f.reload()
	for _, s := range f.store.Status() {
		texts := []string{s.Origin, s.File}
		for _, fault := range s.Faults {
			texts = append(texts, fault.String())
		}
		for _, text := range texts {
			if printable.Text(text) != text || len(text) > maxMessage+len(f.dir)+100 {
				t.Errorf("%d octets: %.200q", len(text), text)
			}
		}
	}
	f.wantFault(`a.zone:6: cannot include \u202e\u009b.inc: no such file`)
	f.wantFault(`a\x1b[2J.zone: the file's name is no zone's`)
	f.wantFault(`b..\x1b\nzone c: all is well.zone: the file's name is no zone's`)
}

func TestIncludeStaysInTheFolder(t *testing.T) {
	f := newFolder(t)
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("www TXT secret\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(f.dir, "link.inc")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link.inc", outside, "../" + filepath.Base(filepath.Dir(outside)) + "/secret"} {
		f.write("a.example.zone", zoneText(1, 0)+"$INCLUDE "+name+"\n")
		f.reload()
		f.want("a.example. 0 failed")
		f.wantFault("a.example.zone:5: cannot include " + name)
	}
}

func TestFullDiskStopsNothing(t *testing.T) {
	f := newFolder(t)
	if err := os.WriteFile(f.keep, nil, 0o644); err != nil { // a file where the folder should be
		t.Fatal(err)
	}
	f.write("a.example.zone", zoneText(1, 0))
	f.reload()
	f.want("a.example. 1 ok")
	if f.store.Unkept() != 1 {
		t.Error("the failure was not counted")
	}
	if err := os.Remove(f.keep); err != nil {
		t.Fatal(err)
	}
	f.write("a.example.zone", broken) // what could not be kept is what is served, not this
	f.reload()
	if n := f.store.Unkept(); n != 0 {
		t.Errorf("%d zones count as not kept", n)
	}
	f.restart()
	f.reload()
	f.want("a.example. 1 last good")
}

// The digest tells what is served: it changes with the content, whatever serial and
// size say, and a last good version has that of the file it was.
func TestDigest(t *testing.T) {
	f := newFolder(t)
	text := zoneText(1, 0) + "$INCLUDE www.inc\n"
	digest := func() [32]byte { t.Helper(); return f.store.Status()[0].Digest }
	write := func(include string) [32]byte {
		t.Helper()
		f.write("www.inc", include)
		f.write("a.example.zone", text)
		f.reload()
		return digest()
	}
	one, two := write("www TXT one\n"), write("www TXT two\n")
	if one == two || one == [32]byte{} {
		t.Errorf("%x, and with other content %x", one, two)
	}
	if got := write("www TXT one\n"); got != one {
		t.Errorf("the same content again is %x, not %x", got, one)
	}
	if got := write("www TXT\n"); got != one {
		t.Errorf("a bad file made it %x, though %x is served", got, one)
	}
	f.restart()
	f.reload()
	f.want("a.example. 1 last good")
	if got := digest(); got != one {
		t.Errorf("after a restart the last good version is %x, not %x", got, one)
	}
	f.remove("www.inc", "a.example.zone")
	f.write("b.example.zone", zoneText(1, 0))
	f.write("c.example.zone", broken)
	f.restart()
	f.keep = ""
	f.reload()
	if got := f.store.Status()[len(f.store.Status())-1]; got.State != StateFailed || got.Digest != [32]byte{} {
		t.Errorf("%s is %s and has the digest %x", got.Origin, got.State, got.Digest)
	}
}
