package geo

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/oschwald/geoip2-golang/v2"
	"github.com/oschwald/maxminddb-golang/v2"

	"nearside/pace"
)

// testData returns the path of a test database, and skips the test where the
// collection is absent.
func testData(tb testing.TB, name string) string {
	tb.Helper()
	path := filepath.Join("../../shared/testdata/geoip", name)
	if _, err := os.Stat(path); err != nil {
		tb.Skipf("no test data: %v", err)
	}
	return path
}

// lookup returns the record of an address straight from the database.
func (db *Database) lookup(tb testing.TB, a netip.Addr) Record {
	tb.Helper()
	result := db.source.(*mmdb).reader.Lookup(a)
	if !result.Found() {
		return Record{}
	}
	r, err := db.record(result)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// record returns the record of a network.
func (db *Database) record(result maxminddb.Result) (Record, error) {
	return db.source.(*mmdb).decode(uint64(result.Offset()))
}

// TestAgreesWithReader compares with another reader of the same databases.
func TestAgreesWithReader(t *testing.T) {
	for _, name := range []string{
		"maxmind/GeoIP2-City-Test.mmdb", "maxmind/GeoLite2-City-Test.mmdb", "dbip/dbip-city-sample.mmdb",
		"maxmind/GeoIP2-Country-Test.mmdb", "maxmind/GeoLite2-Country-Test.mmdb",
	} {
		path := testData(t, name)
		db, err := Open(path, pace.Fast)
		if err != nil {
			t.Fatal(err)
		}
		peer, err := geoip2.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		want := peerCountry
		if strings.Contains(name, "ity") {
			want = peerCity
		}
		n := 0
		for network := range db.source.(*mmdb).reader.Networks() {
			n++
			got, err := db.record(network)
			if err != nil {
				t.Fatal(err)
			}
			a := network.Prefix().Addr()
			country, at, located, err := want(peer, a)
			if err != nil {
				t.Fatal(err)
			}
			if got.Country != country || located && (got.Location != at || !got.Located) {
				t.Errorf("%s: %s: %+v, want %s %v %v", name, a, got, country, at, located)
			}
		}
		if n < 200 {
			t.Errorf("%s: only %d networks met", name, n)
		}
	}
}

func peerCity(peer *geoip2.Reader, a netip.Addr) (country string, at Point, located bool, err error) {
	r, err := peer.City(a)
	if err != nil {
		return "", Point{}, false, err
	}
	if country = r.Country.ISOCode; country == "" {
		country = r.RegisteredCountry.ISOCode
	}
	if located = r.Location.HasCoordinates(); located {
		at = Point{*r.Location.Latitude, *r.Location.Longitude}
	}
	return country, at, located, nil
}

func peerCountry(peer *geoip2.Reader, a netip.Addr) (country string, at Point, located bool, err error) {
	r, err := peer.Country(a)
	if err != nil {
		return "", Point{}, false, err
	}
	if country = r.Country.ISOCode; country == "" {
		country = r.RegisteredCountry.ISOCode
	}
	at, located = Centre(country, "")
	return country, at, located, nil
}

// TestExpectedContents compares with a listing of the networks of two databases.
func TestExpectedContents(t *testing.T) {
	for _, name := range []string{"GeoIP2-City-Test", "GeoLite2-City-Test"} {
		db, err := Open(testData(t, "maxmind/"+name+".mmdb"), pace.Fast)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(testData(t, "maxmind/"+name+".networks.tsv"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			f := strings.Split(strings.ReplaceAll(lines.Text(), "-\t", "\t"), "\t")
			p, err := netip.ParsePrefix(f[0])
			if err != nil {
				continue // the head
			}
			country := f[2]
			if country == "" {
				country = f[3]
			}
			got := db.lookup(t, p.Addr())
			latitude, err := strconv.ParseFloat(f[6], 64)
			located := err == nil
			longitude, _ := strconv.ParseFloat(f[7], 64)
			near := !located || got.Located && got.Location.Distance(Point{latitude, longitude}) < 0.1
			if got.Country != country || got.Subdivision != f[4] || !near {
				t.Errorf("%s: %s: %+v, want %q", name, p, got, f)
			}
		}
	}
}

func TestFlatDatabase(t *testing.T) {
	path := testData(t, "country/iptoasn-country.mmdb.gz")
	packed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content, err := gunzip(packed)
	if err != nil {
		t.Fatal(err)
	}
	db, err := parse(content, pace.New(pace.Fast))
	if err != nil {
		t.Fatal(err)
	}
	for a, country := range map[string]string{"8.8.8.8": "US", "193.0.6.139": "NL", "2001:67c:2e8:22::c100:68b": "NL"} {
		centre, _ := Centre(country, "")
		if got := db.lookup(t, netip.MustParseAddr(a)); got != (Record{country, "", centre, true}) {
			t.Errorf("%s: %+v, want the centre of %s", a, got, country)
		}
	}
}

// TestNeverHarmful opens every test database, most of them corrupt on purpose.
func TestNeverHarmful(t *testing.T) {
	good := map[string]bool{
		"GeoIP2-City-Test.mmdb": true, "GeoLite2-City-Test.mmdb": true, "GeoIP2-Enterprise-Test.mmdb": true,
		"GeoIP2-Country-Test.mmdb": true, "GeoLite2-Country-Test.mmdb": true,
	}
	kind := map[string]string{ // refused for what they hold
		"GeoLite2-ASN-Test.mmdb": "City or Country", "GeoIP2-Anonymous-IP-Test.mmdb": "City or Country",
		"GeoIP2-ISP-Test.mmdb": "City or Country", "GeoIP2-Connection-Type-Test.mmdb": "City or Country",
		"MaxMind-DB-no-ipv4-search-tree.mmdb": "City or Country",
	}
	paths, _ := filepath.Glob(filepath.Join(testData(t, "maxmind"), "*.mmdb"))
	bad, _ := filepath.Glob(filepath.Join(testData(t, "maxmind"), "bad-data/*.mmdb"))
	if len(paths) < 15 || len(bad) < 20 {
		t.Fatalf("%d and %d databases found", len(paths), len(bad))
	}
	for _, path := range append(paths, bad...) {
		name := filepath.Base(path)
		db, err := Open(path, pace.Fast)
		if err == nil {
			_, err = Compile(db, func(Record) Class { return 0 })
		}
		switch {
		case good[name]:
			if err != nil {
				t.Error(err)
			}
		case err == nil:
			t.Errorf("%s was accepted", name)
		case !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), kind[name]):
			t.Errorf("%s: the error does not help: %v", name, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	folder := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	fifo, sparse := filepath.Join(folder, "fifo"), write("sparse", "")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(sparse, maxFile+1); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(folder, "absent"): "no such file",
		folder:                          "regular file",
		fifo:                            "regular file",
		sparse:                          "more than a database has",
		write("empty", ""):              "empty",
		write("text", "hello\n"):        "not a MaxMind DB file",
		write("zeros", strings.Repeat("\x00", 1<<20)): "not a MaxMind DB file",
	} {
		_, err := Open(path, pace.Fast)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

// TestSharedNodes refuses a tree in which both sides of each node lead to the
// same next one: 127 nodes that a walk would meet 2^127 times.
func TestSharedNodes(t *testing.T) {
	content, err := os.ReadFile(testData(t, "maxmind/GeoIP2-Country-Test.mmdb"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parse(content, pace.New(pace.Fast)); err != nil {
		t.Fatal(err)
	}
	for node := range byte(127) { // records of 28 bits, as this database has them
		copy(content[int(node)*7:], []byte{0, 0, node + 1, 0, 0, 0, node + 1})
	}
	if _, err := parse(content, pace.New(pace.Fast)); err == nil || !strings.Contains(err.Error(), "two ways") {
		t.Errorf("a tree with shared nodes: %v", err)
	}
}

// TestWalkAgreesWithReader compares the networks met with those that the library
// meets in the same databases.
func TestWalkAgreesWithReader(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(testData(t, "maxmind"), "*.mmdb"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(paths, testData(t, "dbip/dbip-city-sample.mmdb")) {
		db, err := Open(path, pace.Fast)
		if err != nil {
			continue // see TestNeverHarmful
		}
		source := db.source.(*mmdb)
		var got []string
		err = source.tree.walk(pace.New(pace.Fast), func(l leaf) error {
			if offset, ok := source.tree.data(l.record); ok {
				got = append(got, l.String()+fmt.Sprint(" ", offset))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for network := range source.reader.Networks() {
			want = append(want, fmt.Sprint(network.Prefix(), " ", network.Offset()))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %d networks, the library meets %d", path, len(got), len(want))
		}
	}
}

// String returns the prefix, that of IPv4 as such.
func (l leaf) String() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], l.first.hi)
	binary.BigEndian.PutUint64(b[8:], l.first.lo)
	if isIPv4(l.first) && l.bits >= ipv4Depth {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(b[12:])), l.bits-ipv4Depth).String()
	}
	return netip.PrefixFrom(netip.AddrFrom16(b), l.bits).String()
}

// TestWideNetworks follows a tree whose networks hold ::/96 and more.
func TestWideNetworks(t *testing.T) {
	content := make([]byte, 6*64) // nodes of two records of 24 bits, one below the other to the left
	put := func(node, side int, record uint32) {
		content[node*6+side*3], content[node*6+side*3+1], content[node*6+side*3+2] = byte(record>>16), byte(record>>8), byte(record)
	}
	const nodes = 64
	for node := range nodes {
		put(node, 0, uint32(node+1))
		put(node, 1, nodes) // nothing
	}
	put(nodes-1, 0, nodes+16+5) // ::/64
	put(1, 1, nodes+16+9)       // 4000::/2
	db := &mmdb{tree: &tree{content: content, size: 24, nodes: nodes, aliased: nodes}, numbers: newNumbers(10)}
	db.numbers.mark(5)
	db.numbers.mark(9)
	db.numbers.assign()
	v4, v6 := newRanges(0, nil, bounds4), newRanges(0, nil, bounds6)
	err := db.walk(pace.New(pace.Fast),
		func(a addr4, id recordID) error { v4.add(a, Class(id)); return nil },
		func(a addr6, id recordID) error { v6.add(a, Class(id)); return nil })
	if err != nil {
		t.Fatal(err)
	}
	m := Map{newTable4(v4, pace.New(pace.Fast)), newTable6(v6, pace.New(pace.Fast))}
	for a, want := range map[string]Class{"8.8.8.8": 1, "::8.8.8.8": 0, "::1:0:0": 1, "0:0:0:1::": 0, "2a00::": 0, "4000::": 2, "7fff::": 2, "8000::": 0} {
		if got, _ := m.Lookup(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: class %d, want %d", a, got, want)
		}
	}
}
