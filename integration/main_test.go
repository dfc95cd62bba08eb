package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The programs under test and beside it, as absolute paths.
var nearside, etcd, etcdctl, nsd, knotd, named, unbound, zonemaster, dnsviz string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	// Debian keeps name servers where not everybody looks.
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	missing := false
	for _, p := range []struct {
		path *string
		name string
	}{{&etcd, "bin/etcd"}, {&etcdctl, "bin/etcdctl"}, {&nsd, "nsd"}, {&knotd, "knotd"}, {&named, "named"}, {&unbound, "unbound"},
		{&zonemaster, "zonemaster-cli"}, {&dnsviz, "dnsviz"}, {new(string), "ip"}, {new(string), "iptables"}, {new(string), "strace"}, {new(string), "dig"},
		{new(string), "named-checkzone"}, {new(string), "kzonecheck"}, {new(string), "nsd-checkzone"}} {
		found, err := exec.LookPath(p.name)
		if err != nil {
			fmt.Fprintf(os.Stderr, "integration tests need %s: %v\n", filepath.Base(p.name), err)
			missing = true
			continue
		}
		*p.path, _ = filepath.Abs(found)
	}
	if missing {
		fmt.Fprintln(os.Stderr, "run `make packages tools` once, or `make test`, which does it all")
		return 1
	}
	// A server inside the tests reads no setting of whoever runs them.
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "NEARSIDE_") && name != "NEARSIDE_BINARY" {
			os.Unsetenv(name)
		}
	}
	nearside = os.Getenv("NEARSIDE_BINARY")
	os.Unsetenv("NEARSIDE_BINARY")
	if nearside != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "nearside")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	nearside = filepath.Join(dir, "nearside")
	build := exec.Command("go", "build", "-overlay", "integration/testdata/clock/overlay.json", "-o", nearside, "./cmd/nearside")
	build.Dir = ".."
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintf(os.Stderr, "build the server: %v\n", err)
		return 1
	}
	return m.Run()
}
