package nearside

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// arrows is the table of ARCHITECTURE.md: what each package may import. A
// package that is not listed here has no place yet, and fails the test.
var arrows = map[string]struct {
	ours      []string // our packages
	libraries []string // modules of others; a prefix of the import path
	std       []string // if set: nothing else of the standard library
}{
	"geo": {
		ours:      []string{"pace"},
		libraries: []string{"github.com/oschwald/"},
	},
	"geo/...": {
		// What makes the built-in database; it is run by hand.
		ours:      []string{"geo"},
		libraries: []string{"github.com/oschwald/", "google.golang.org/protobuf/encoding/protowire"},
	},
	"regions": {
		ours: []string{"geo"},
		// Pure: no clock, no file, no socket. Its answers depend on its arguments alone.
		std: []string{"bytes", "cmp", "encoding/binary", "errors", "fmt", "hash/fnv", "iter", "maps", "math", "math/bits", "net/netip", "slices", "sort", "strconv", "strings", "time"},
	},
	"zones": {
		ours:      []string{"pace", "printable"},
		libraries: []string{"github.com/miekg/dns", "github.com/rs/zerolog", "golang.org/x/sync", "golang.org/x/sys"},
	},
	"pace": {
		libraries: []string{"golang.org/x/sys/unix"},
	},
	"pace/...": {}, // for tests
	"printable": {
		std: []string{"strconv", "strings", "unicode/utf8"},
	},
	"yamlfault": {
		std: []string{"bytes", "regexp", "strconv", "strings"},
	},
	"journal": {
		ours:      []string{"printable"},
		libraries: []string{"github.com/rs/zerolog"},
	},
	"healthsync": {
		ours:      []string{"journal", "printable", "regions", "yamlfault"},
		libraries: []string{"go.etcd.io/etcd/", "go.uber.org/zap", "google.golang.org/grpc", "github.com/rs/zerolog", "golang.org/x/sync", "gopkg.in/yaml.v3"},
	},
	"probes": {
		ours:      []string{"printable"},
		libraries: []string{"go.etcd.io/etcd/", "github.com/rs/zerolog"},
	},
	"dnsserver": {
		ours:      []string{"zones", "geo", "regions"},
		libraries: []string{"github.com/dchest/siphash", "github.com/miekg/dns", "github.com/rs/zerolog", "golang.org/x/sys"},
	},
	"console": {
		ours:      []string{"dnsserver", "geo", "healthsync", "printable", "probes", "regions", "zones"},
		libraries: []string{"github.com/prometheus/", "github.com/miekg/dns", "github.com/rs/zerolog", "golang.org/x/net/netutil"},
	},
	"cmd/nearside": {
		ours: []string{"console", "dnsserver", "geo", "healthsync", "journal", "pace", "printable", "probes", "regions", "yamlfault", "zones"},
		libraries: []string{
			"github.com/spf13/", "gopkg.in/yaml.v3", "github.com/miekg/dns", "github.com/fsnotify/fsnotify", "github.com/rs/zerolog", "golang.org/x/sync", "golang.org/x/sys", "go.etcd.io/etcd/client/",
		},
	},
	// It measures the binary from outside, as it does the peers.
	"bench": {
		libraries: []string{"golang.org/x/sys/unix", "go.etcd.io/etcd/client/"},
	},
	// Black box: it knows the binary, sockets and etcd, and none of our code.
	"integration": {},
}

// onlyIn names libraries that must not spread even into tests.
var onlyIn = map[string]string{
	"github.com/spf13/viper": "cmd/nearside",
}

type listed struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

// The state is a function of its arguments: package regions asks no clock.
func TestNoClock(t *testing.T) {
	clock := regexp.MustCompile(`time\.(Now|Since|Until|After|Sleep|Tick|New)`)
	files, err := filepath.Glob("regions/*.go")
	if err != nil || len(files) < 5 {
		t.Fatal(err, files)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if at := clock.Find(content); at != nil && !strings.HasSuffix(file, "_test.go") {
			t.Errorf("%s has %s: it must stay pure", file, at)
		}
	}
}

func TestArrows(t *testing.T) {
	for _, pkg := range listPackages(t) {
		name := strings.TrimPrefix(pkg.ImportPath, "nearside/")
		if pkg.ImportPath == "nearside" {
			continue // this test
		}
		arrow, known := arrows[name]
		if !known {
			arrow, known = arrows[path.Dir(name)+"/..."]
		}
		if !known {
			t.Errorf("package %s is not in the table of arrows: give it a place there and in ARCHITECTURE.md", name)
			continue
		}
		for _, imported := range pkg.Imports {
			first, _, _ := strings.Cut(imported, "/")
			ours, isOurs := strings.CutPrefix(imported, "nearside/")
			switch {
			case isOurs:
				if !slices.Contains(arrow.ours, ours) {
					t.Errorf("%s imports %s: ARCHITECTURE.md has no such arrow", name, ours)
				}
			case strings.Contains(first, "."):
				if !slices.ContainsFunc(arrow.libraries, func(p string) bool { return strings.HasPrefix(imported, p) }) {
					t.Errorf("%s imports the library %s, which has no business there", name, imported)
				}
			case arrow.std != nil && !slices.Contains(arrow.std, imported):
				t.Errorf("%s imports %s: it must stay pure", name, imported)
			}
		}
		for _, imported := range slices.Concat(pkg.TestImports, pkg.XTestImports) {
			if home := onlyIn[imported]; home != "" && name != home {
				t.Errorf("a test of %s imports %s, which belongs to %s", name, imported, home)
			}
			if name == "integration" && strings.HasPrefix(imported, "nearside/") {
				t.Errorf("%s imports %s: its tests are black-box tests", name, imported)
			}
		}
	}
}

func listPackages(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Logf("%s", exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	var packages []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		switch err := d.Decode(&p); {
		case errors.Is(err, io.EOF):
			return packages
		case err != nil:
			t.Fatalf("go list: %v", err)
		}
		packages = append(packages, p)
	}
}
