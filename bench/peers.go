package main

import (
	"embed"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"text/template"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

//go:embed conf
var conf embed.FS

var templates = template.Must(template.ParseFS(conf, "conf/*"))

// peer is a server program that can be measured.
type peer struct {
	name     string
	profiles []profile
	files    []string                        // templates of conf it needs
	prepare  func(s *server) error           // what else it needs, its zone first of all
	command  func(s *server) []string        // how it is run
	drain    func(s *server, out bool) error // takes regions[0] out or back in; nil: not tried
}

// server is a peer configured for a profile. Its fields are for the templates.
type server struct {
	peer
	Profile  profile
	Dir      string
	Address  netip.Addr
	Database string
	Etcd     []string // endpoints; none: the embedded one
	Drained  string   // the region that is out, for peers that are told by their files
	process  *process
	store    *clientv3.Client // of the embedded etcd, from the first drain on
}

func (s *server) Zone() string       { return s.Profile.zone() }
func (s *server) Steered() bool      { return s.Profile == bySource || s.Profile == byECS }
func (s *server) Regions() []region  { return regions }
func (s *server) at() netip.AddrPort { return netip.AddrPortFrom(s.Address, 53) }

// Instead is where the clients of the first region go when it is drained: from
// Ashburn, Dublin is nearer than Sao Paulo.
func (s *server) Instead() netip.Addr { return regions[2].Address }

func (s *server) Owners() []string {
	list := make([]string, steeredNames)
	for i := range list {
		list[i] = fmt.Sprintf("n%05d", i)
	}
	return list
}

var (
	everything = []profile{static, bySource, byECS, millions}
	echo       = peer{name: "echo in C", profiles: everything, command: func(s *server) []string {
		return []string{"bench-echo", s.Address.String(), "53"}
	}}
	nearside = peer{
		name: "nearside", profiles: everything, files: []string{"nearside.yaml"},
		prepare: func(s *server) error {
			return writeZone(s.zoneFile(s.Zone()+".zone"), s.Profile, everyRegion)
		},
		command: func(s *server) []string {
			return []string{"nearside", "serve", "--config", s.path("nearside.yaml")}
		},
		drain: drainNearside,
	}
	gdnsd = peer{
		name: "gdnsd", profiles: everything, files: []string{"gdnsd.conf"},
		prepare: func(s *server) error {
			return errors.Join(
				os.Rename(s.path("gdnsd.conf"), s.path("config")),
				os.MkdirAll(s.path("state"), 0o755),
				writeZone(s.zoneFile(s.Zone()), s.Profile, func(owner string) string { return owner + " 30 DYNA geoip!play\n" }))
		},
		command: func(s *server) []string { return []string{"gdnsd", "-c", s.Dir, "start"} },
		drain:   drainGdnsd,
	}
	knot = peer{
		name: "Knot", profiles: everything, files: []string{"knot.conf", "knot-geo.conf"},
		// The record in the zone is for clients of no country; the module has the others.
		prepare: func(s *server) error { return writeZone(s.zoneFile(s.Zone()), s.Profile, firstRegion) },
		command: func(s *server) []string { return []string{"knotd", "-c", s.path("knot.conf")} },
		drain:   drainKnot,
	}
	nsd = peer{
		name: "NSD", profiles: []profile{static, millions}, files: []string{"nsd.conf"},
		prepare: func(s *server) error { return writeZone(s.zoneFile(s.Zone()), s.Profile, nil) },
		command: func(s *server) []string { return []string{"nsd", "-d", "-c", s.path("nsd.conf")} },
	}
	bind = peer{
		name: "BIND", profiles: []profile{static, bySource, millions}, files: []string{"named.conf"},
		prepare: prepareBind,
		command: func(s *server) []string { return []string{"named", "-g", "-n", "1", "-c", s.path("named.conf")} },
	}
	powerDNS = peer{
		name: "PowerDNS", profiles: everything, files: []string{"pdns.conf", "pdns-bind.conf", "pdns-geo.yaml"},
		prepare: func(s *server) error {
			if s.Steered() {
				return nil
			}
			return writeZone(s.zoneFile(s.Zone()), s.Profile, nil)
		},
		command: func(s *server) []string { return []string{"pdns_server", "--config-dir=" + s.Dir} },
		drain:   drainPowerDNS,
	}
	peers = []peer{echo, nearside, gdnsd, knot, nsd, bind, powerDNS}
)

func (s *server) path(name string) string     { return filepath.Join(s.Dir, name) }
func (s *server) zoneFile(name string) string { return filepath.Join(s.Dir, "zones", name) }

func everyRegion(owner string) string {
	text := ""
	for _, r := range regions {
		text += fmt.Sprintf("%s 30 IN A %s\n", owner, r.Address)
	}
	return text
}

func firstRegion(owner string) string {
	return fmt.Sprintf("%s 30 IN A %s\n", owner, regions[0].Address)
}

// prepareBind writes a zone for each view, and links the database under the name
// that BIND looks for.
func prepareBind(s *server) error {
	if !s.Steered() {
		return writeZone(s.zoneFile(s.Zone()), s.Profile, nil)
	}
	for _, r := range regions {
		err := writeZone(s.zoneFile(r.Name), s.Profile, func(owner string) string {
			return fmt.Sprintf("%s 30 IN A %s\n", owner, r.Address)
		})
		if err != nil {
			return err
		}
	}
	return os.Symlink(s.Database, s.path("GeoLite2-City.mmdb"))
}

// addresses is how many scripts/bench-peers gives to servers: 127.0.1.1 and those
// that follow. More never run at a time.
const addresses = 15

// configure writes all that a server needs.
func (b *bench) configure(p peer, profile profile, etcd []string) (*server, error) {
	s := &server{
		peer: p, Profile: profile, Etcd: etcd,
		Dir:      filepath.Join(b.dir, p.name+" "+string(profile)),
		Address:  netip.AddrFrom4([4]byte{127, 0, 1, byte(1 + b.configured%addresses)}),
		Database: filepath.Join(b.dir, "city.mmdb"),
	}
	b.configured++
	s.Dir = noSpaces.Replace(s.Dir)
	if err := os.RemoveAll(s.Dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.path("db"), 0o755); err != nil {
		return nil, err
	}
	for _, f := range p.files {
		if err := s.render(f); err != nil {
			return nil, err
		}
	}
	if p.prepare != nil {
		return s, p.prepare(s)
	}
	return s, nil
}

// render writes a file from its template.
func (s *server) render(name string) error {
	f, err := os.Create(s.path(name))
	if err != nil {
		return err
	}
	return errors.Join(templates.ExecuteTemplate(f, name, s), f.Close())
}

// run starts the server and returns when it answers what stands last in its zone.
func (b *bench) run(s *server, cores string, environment ...string) (took time.Duration, err error) {
	began := time.Now()
	if s.process, err = start(cores, s.Dir, environment, s.command(s)...); err != nil {
		return 0, fmt.Errorf("%s: %w", s.name, err)
	}
	if err := b.await(s, s.Profile.last()); err != nil {
		s.process.stop()
		return 0, fmt.Errorf("%s: %w", s.name, err)
	}
	return time.Since(began), nil
}

// await asks q until the answer is right.
func (b *bench) await(s *server, q question) error {
	probe, err := newLoad(b.clients[:1], s.at(), []question{q})
	if err != nil {
		return err
	}
	defer probe.close()
	socket := probe.sockets[0]
	socket.echo = s.isEcho()
	for began := time.Now(); time.Since(began) < startLimit; {
		if err := s.process.failed(); err != nil {
			return err
		}
		// While nobody listens yet, the kernel says so at the next call or the one after.
		socket.enqueue(probe.next(), 0)
		if socket.flush() == nil {
			time.Sleep(2 * time.Millisecond)
			if socket.receive(probe.now) == nil && socket.tally.answered > 0 {
				return nil
			}
		}
		socket.pending = 0 // what is under way may come later: on a busy machine it does
	}
	text, _ := os.ReadFile(s.process.log)
	return fmt.Errorf("it does not answer (%+v):\n%s", socket.tally, text)
}

func (s *server) isEcho() bool { return s.name == echo.name }

// startLimit is how long a server may take until it answers: the slowest needs
// some seconds for 1,000,000 records.
const startLimit = 30 * time.Second
