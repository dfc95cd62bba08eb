package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"nearside/healthsync"
	"nearside/regions"
)

// overlay returns what environment and the given flags lay over a file.
func overlay(t testing.TB, arguments ...string) Overlay {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	flags.String("config", defaultConfigFile, "")
	addSettingFlags(flags)
	if err := flags.Parse(arguments); err != nil {
		t.Fatal(err)
	}
	over, err := newOverlay(flags)
	if err != nil {
		t.Fatal(err)
	}
	return over
}

func writeConfig(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nearside.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const wholeConfig = `
server: {id: ns1, listen: ["127.0.0.1:5300", "[::1]:5300"], udp_size: 512, tcp_connections: 100, tcp_connections_per_client: 10, tcp_idle: 1m30s}
admin: {listen: "127.0.0.1:8054"}
data_dir: data
zones: {dir: /zones, hold_shrink: false}
geo: {database: city.mmdb, depth: 3, client_subnet: [192.0.2.0/24]}
etcd: {embedded: true, embedded_listen: "http://127.0.0.1:2380", prefix: /dns/prod}
steering: {ttl: 60, negative_ttl: 0, static: [Play.bet.example]}
regions:
- name: eu-west
  location: {latitude: 53.35, longitude: -6}
  prefixes: [192.0.2.0/26, "2001:db8:1::/48"]
- {name: us-east, location: {latitude: 39, longitude: -77.49}, weight: 50, heartbeat: true, standby: true}
services:
- {name: casino, names: ["*.casino.bet.example", Play.bet.example], order: failover, regions: [us-east, eu-west], ttl: 10, on_exhausted: eu-west}
- {name: poker, names: [poker.bet.example], on_exhausted: none}
guard: {max_out: 30%}
failback: {hold: 90s, ramp: 5m}
`

func TestLoad(t *testing.T) {
	path := writeConfig(t, wholeConfig)
	c, warnings, err := Load(path, overlay(t))
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	folder := filepath.Dir(path)
	got := fmt.Sprintln(c.ServerID, c.Listen, c.Limits, c.AdminListen, c.DataDir, c.ZoneDir, c.HoldShrink, c.GeoDatabase,
		c.GeoDepth, c.Resolvers(), c.Etcd, c.TTL, c.NegativeTTL, c.Static, c.Regions, c.Services, c.MaxOut, c.Hold, c.Ramp)
	want := fmt.Sprintln("ns1", []string{"127.0.0.1:5300", "[::1]:5300"}, "{512 100 10 1m30s}", "127.0.0.1:8054", folder+"/data", "/zones", false,
		folder+"/city.mmdb", 3, "[192.0.2.0/24]", "{true http://127.0.0.1:2380 [] /dns/prod {    }}", 60, 0, "[play.bet.example.]",
		"[{eu-west {53.35 -6} [192.0.2.0/26 2001:db8:1::/48] 100 false false} {us-east {39 -77.49} [] 50 true true}]",
		"[{casino [*.casino.bet.example. play.bet.example.] failover [us-east eu-west] 10 eu-west} {poker [poker.bet.example.]  [] 0 none}]", 30, 90*time.Second, 5*time.Minute)
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	table := c.Table()
	if table.Len() != 2 || table.Services() != 3 || table.ServiceOf("a.b.casino.bet.example.") != 1 || table.ServiceOf("poker.bet.example.") != 2 {
		t.Errorf("the table has %d regions, %d services", table.Len(), table.Services())
	}
	casino, poker := table.Service(1), table.Service(2)
	if !casino.Failover || casino.TTL != 10 || casino.OnExhausted != (regions.Exhausted{Kind: regions.OneRegion}) || !slices.Equal(casino.Regions, []regions.ID{1, 0}) {
		t.Errorf("casino is %+v", casino)
	}
	if poker.Failover || table.TTL(2) != 60 || poker.OnExhausted.Kind != regions.NoRegion {
		t.Errorf("poker is %+v", poker)
	}
	if p := table.Policy(); p != (regions.Policy{MaxOut: 30, Hold: 90 * time.Second, Ramp: 5 * time.Minute, TTL: 60}) {
		t.Errorf("the rules are %+v", p)
	}
}

// Who we are to etcd: paths start at the folder of the file, and an empty flag
// unsets what the file says.
func TestIdentity(t *testing.T) {
	const text = "zones: {dir: zones}\netcd:\n  endpoints: [\"%s://192.0.2.1:2379\"]\n%s" +
		"  username: ns1\n  password_file: secrets/password\nregions:\n- {name: eu-west, location: {latitude: 1, longitude: 1}}\n"
	path := writeConfig(t, fmt.Sprintf(text, "https", "  ca: ca.pem\n  cert: /etc/cert.pem\n  key: key.pem\n"))
	folder := filepath.Dir(path)
	c, warnings, err := Load(path, overlay(t, "--etcd.username=ann"))
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	want := healthsync.Identity{CA: folder + "/ca.pem", Cert: "/etc/cert.pem", Key: folder + "/key.pem", Username: "ann", PasswordFile: folder + "/secrets/password"}
	if c.Etcd.Identity != want {
		t.Errorf("got %+v, want %+v", c.Etcd.Identity, want)
	}
	if files, folders := want.Files(), want.Folders(); len(files) != 4 || !slices.Equal(folders, []string{"/etc", folder, folder + "/secrets"}) {
		t.Errorf("files %v in %v", files, folders)
	}
	if c, _, err := Load(path, overlay(t, "--etcd.username=", "--etcd.password_file=")); err != nil || c.Etcd.Identity.Username != "" || c.Etcd.Identity.PasswordFile != "" {
		t.Errorf("unset: %v", err)
	}
	_, warnings, err = Load(writeConfig(t, fmt.Sprintf(text, "http", "")), overlay(t))
	if err != nil || len(warnings) != 1 || !strings.HasSuffix(warnings[0], ":4: the password goes over the network in the clear; write https:// in etcd.endpoints") {
		t.Errorf("without TLS: %v, %v", err, warnings)
	}
}

func TestLoadDefaults(t *testing.T) {
	c, _, err := Load(writeConfig(t, "zones: {dir: zones}\nserver: {id: ns1}\ngeo:\n"), overlay(t))
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.File, want.ServerID, want.ZoneDir, want.table, want.places = c.File, "ns1", c.ZoneDir, c.table, c.places
	if !reflect.DeepEqual(*c, want) {
		t.Errorf("got  %+v\nwant %+v", *c, want)
	}
	if fmt.Sprint(c.Resolvers()) != "[0.0.0.0/0 ::/0]" {
		t.Errorf("resolvers %v", c.Resolvers())
	}
}

// Every file of testdata/config has faults, and says in comments which:
// "# want LINE: message".
func TestLoadFaults(t *testing.T) {
	files, _ := filepath.Glob("testdata/config/*.yaml")
	if len(files) < 50 {
		t.Fatalf("only %d files", len(files))
	}
	want := regexp.MustCompile(`(?m)^# want (.*)$`)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var expected []string
			for _, m := range want.FindAllStringSubmatch(string(content), -1) {
				expected = append(expected, file+":"+m[1])
			}
			_, _, err = Load(file, overlay(t, "--server.id=test"))
			if err == nil {
				t.Fatal("no fault found")
			}
			got := strings.Split(err.Error(), "\n")
			slices.Sort(got)
			slices.Sort(expected)
			if !slices.Equal(got, expected) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(expected, "\n"))
			}
		})
	}
}

func TestLoadMissing(t *testing.T) {
	_, _, err := Load("testdata/absent.yaml", overlay(t))
	var faults Faults
	want := "testdata/absent.yaml: cannot be read: no such file or directory; name another file with --config"
	if !errors.As(err, &faults) || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

// Faults stand in the order of the file.
func TestLoadOrder(t *testing.T) {
	t.Setenv("NEARSIDE_STEERING_TTL", "0")
	path := writeConfig(t, "regions: 1\nzones: 2\nadmin: 3\n")
	_, _, err := Load(path, overlay(t))
	var lines []string
	for _, f := range err.(Faults) {
		lines = append(lines, fmt.Sprint(f.Line))
	}
	if got := strings.Join(lines, " "); got != "1 2 2 3 0" {
		t.Errorf("lines %s of\n%v", got, err)
	}
}

func TestOverlay(t *testing.T) {
	t.Setenv("NEARSIDE_SERVER_LISTEN", "127.0.0.1:1, [::1]:2")
	t.Setenv("NEARSIDE_STEERING_TTL", "5")
	t.Setenv("NEARSIDE_ZONES_HOLD_SHRINK", "true")
	t.Setenv("NEARSIDE_GEO_DATABASE", "")
	t.Setenv("NEARSIDE_PORT", "tcp://10.0.0.1:53")
	t.Setenv("NEARSIDE_STEERING_TTTL", "1")
	c, warnings, err := Load(writeConfig(t, wholeConfig), overlay(t, "--steering.ttl=6", "--zones.dir", "other"))
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintln(c.Listen, c.TTL, c.HoldShrink, filepath.Base(c.GeoDatabase), filepath.Base(c.ZoneDir))
	if want := "[127.0.0.1:1 [::1]:2] 6 true city.mmdb other\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	want := []string{
		"NEARSIDE_PORT: no such setting; it is ignored",
		"NEARSIDE_STEERING_TTTL: no such setting; it is ignored; did you mean NEARSIDE_STEERING_TTL?",
	}
	if !slices.Equal(warnings, want) {
		t.Errorf("warnings %q", warnings)
	}
}

func TestOverlayFaults(t *testing.T) {
	t.Setenv("NEARSIDE_SERVER_LISTEN", "127.0.0.1:1,127.0.0.1:1")
	t.Setenv("NEARSIDE_GEO_DEPTH", "0x3")
	t.Setenv("NEARSIDE_ETCD_ENDPOINTS", "http://192.0.2.1:2379")
	_, _, err := Load(writeConfig(t, wholeConfig), overlay(t, "--etcd.embedded=maybe", "--admin.listen=:no"))
	got := strings.Split(fmt.Sprint(err), "\n")
	want := []string{
		`--admin.listen: ":no": port "no" is no whole number; write plain decimal digits, without a unit`,
		`NEARSIDE_GEO_DEPTH: "0x3" is no whole number; write plain decimal digits, without a unit`,
		`--etcd.embedded: "maybe" is neither true nor false`,
		`NEARSIDE_SERVER_LISTEN: server.listen: 127.0.0.1:1 is covered by 127.0.0.1:1; keep one of them`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// No file crashes the loader; every fault names a line that is in the file; and
// what is accepted makes a table and can be read again to the same end.
func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob("testdata/config/*.yaml")
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Add([]byte(wholeConfig))
	over := overlay(f)
	f.Fuzz(func(t *testing.T, content []byte) {
		c := defaults()
		d := parseFile("nearside.yaml", content)
		d.decode(&c)
		d.lay(over, &c)
		d.finish(&c)
		for _, fault := range d.faults {
			if lines := 2 + strings.Count(string(content), "\n") + strings.Count(string(content), "\r"); fault.Line < 0 || fault.Line > lines {
				t.Errorf("line %d of %d: %s", fault.Line, lines, fault.What)
			}
		}
		if len(d.faults) == 0 && (c.Table() == nil || len(c.Resolvers()) == 0 && c.ClientSubnet[0] != "none") {
			t.Error("accepted, and yet not whole")
		}
	})
}
