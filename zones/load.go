package zones

import (
	"fmt"
	"path/filepath"
	"strings"

	"nearside/pace"
)

// job is one zone to be loaded.
type job struct {
	source   source
	dir      string // for messages
	name     string // of the zone file in the folder
	origin   []byte // wire form
	fixed    bool   // the file cannot say that the origin is another one
	lenient  bool   // see steerer
	steering Steering
	others   targets // of NS records of other zones
	pace     pace.Pace
	progress func(records int) // called now and then; may be nil
}

// LoadFile reads one master file as the zone origin. Files it includes must lie
// in its folder or below. The zone is nil if a fault is no warning.
func LoadFile(file, origin string, st Steering) (*Zone, []Fault) {
	wire, err := parseOrigin(origin)
	if err != nil {
		return nil, []Fault{newFault(file, 0, "%v", err)}
	}
	dir, name := filepath.Split(file)
	if dir == "" {
		dir = "."
	}
	return job{source: disk{dir: dir, main: name}, dir: dir, name: name, origin: wire, fixed: true, steering: st}.load()
}

// parseOrigin reads the name of a zone, with or without its final dot.
func parseOrigin(origin string) ([]byte, error) {
	wire, err := appendName(nil, []byte(origin), []byte{0})
	if err != nil {
		return nil, fmt.Errorf("the zone name %q %w", origin, err)
	}
	return wire, nil
}

// originOf returns the origin that the name of a zone file stands for.
func originOf(file string) ([]byte, error) { return parseOrigin(strings.TrimSuffix(file, suffix)) }

// suffix is how the names of zone files end.
const suffix = ".zone"

// load reads, checks and compiles the zone. Should a file make it panic, that
// costs this zone alone.
func (j job) load() (z *Zone, faults []Fault) {
	c := &collector{}
	p := pace.New(j.pace)
	b := newBuilder(c, p)
	r := &reader{source: j.source, dir: j.dir, faults: c, build: b, pace: p, progress: j.progress}
	defer func() {
		if p := recover(); p != nil {
			z, faults = nil, append(c.faults(), newFault(c.files[r.at.file], int(r.at.line), "the loader failed here: %v; please report this file", p))
		}
	}()
	r.records(j.name, j.origin)
	if b.findApex(j.origin, j.fixed) && !b.full {
		z = b.compile(j.steering, j.lenient, j.others)
	}
	if b.full {
		c.errorf(place{}, "the zone has more than %d octets of names and RDATA, or %d with the names above them; split it", maxArena, maxPile)
	}
	if c.errors > 0 {
		z = nil
	}
	return z, c.faults()
}
