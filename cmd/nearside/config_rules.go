package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// finish checks the rules that look at several keys, fills in what depends on
// this machine, and makes the table of regions. It finds faults of its own even
// when others were found before.
func (d *decoder) finish(c *Config) {
	if d.root == nil {
		return
	}
	d.serverID(c)
	d.listeners(c)
	d.paths(c)
	d.subnets(c)
	d.etcd(c)
	d.identity(c)
	d.regionFields(c)
	d.probeFields(c)
	if c.table = d.table(c.Regions); c.table != nil {
		d.services(c)
	}
}

// serverID defaults to the first label of the host name.
func (d *decoder) serverID(c *Config) {
	if d.given("server.id") {
		return
	}
	host, err := os.Hostname()
	if err != nil {
		d.faultAt("server.id", "server.id is needed: the host name cannot be read: %v", err)
		return
	}
	label, _, _ := strings.Cut(strings.ToLower(host), ".")
	if c.ServerID, err = parseName(label); err != nil {
		d.faultAt("server.id", "server.id is needed: the host name %q cannot stand in for it", host)
	}
}

// listeners refuses addresses that cannot be bound beside each other.
func (d *decoder) listeners(c *Config) {
	if len(c.Listen) == 0 && !d.refused["server.listen"] {
		d.faultAt("server.listen", "server.listen is empty; write at least one address, such as :53")
	}
	for i, b := range c.Listen {
		for _, a := range c.Listen[:i] {
			if collide(a, b) {
				d.faultAt(fmt.Sprintf("server.listen[%d]", i), "server.listen: %s is covered by %s; keep one of them", b, a)
			}
		}
		if !d.refused["admin.listen"] && collide(b, c.AdminListen) {
			d.faultAt("admin.listen", "admin.listen: %s is taken by server.listen %s; choose another port", c.AdminListen, b)
		}
	}
}

// collide reports whether two addresses of parseListen want the same TCP port.
func collide(a, b string) bool {
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	if portA != portB || portA == "0" {
		return false
	}
	if hostA == "" || hostB == "" {
		return true
	}
	x, y := netip.MustParseAddr(hostA), netip.MustParseAddr(hostB)
	return x == y || x.Is4() == y.Is4() && (x.IsUnspecified() || y.IsUnspecified())
}

// paths makes relative paths start at the file's folder.
func (d *decoder) paths(c *Config) {
	if c.ZoneDir == "" && !d.given("zones.dir") {
		d.faultAt("zones", "zones.dir is needed: the folder of the zone files")
	}
	identity := &c.Etcd.Identity
	for _, path := range []*string{&c.DataDir, &c.ZoneDir, &c.GeoDatabase, &c.CookieSecrets,
		&identity.CA, &identity.Cert, &identity.Key, &identity.PasswordFile} {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(filepath.Dir(c.File), *path)
		}
	}
}

// subnets refuses all and none beside other elements: they would mean nothing.
func (d *decoder) subnets(c *Config) {
	switch n := len(c.ClientSubnet); {
	case n == 0 && !d.refused["geo.client_subnet"]:
		d.faultAt("geo.client_subnet", "geo.client_subnet is empty; write [none] to believe no resolver")
	case n > 1 && (slices.Contains(c.ClientSubnet, "all") || slices.Contains(c.ClientSubnet, "none")):
		d.faultAt("geo.client_subnet", "geo.client_subnet: all and none stand alone")
	}
}

// etcd checks that drains come from exactly one place.
func (d *decoder) etcd(c *Config) {
	switch {
	case d.refused["etcd.embedded"]: // what was meant is unknown
	case c.Etcd.Embedded && len(c.Etcd.Endpoints) > 0:
		d.faultAt("etcd.endpoints", "etcd.embedded and etcd.endpoints exclude each other; keep one of them")
	case len(c.Regions) > 0 && !c.Etcd.Embedded && len(c.Etcd.Endpoints) == 0 && !d.refused["etcd.endpoints"]:
		d.faultAt("etcd", "regions need an etcd: set etcd.endpoints, or etcd.embedded: true on a single machine")
	}
}

// identity checks that we can be who we are to be at etcd.
func (d *decoder) identity(c *Config) {
	id := c.Etcd.Identity
	needs := func(key, value, other, needed string) {
		if value != "" && needed == "" {
			d.faultAt(key, "%s needs %s", key, other)
		}
	}
	needs("etcd.cert", id.Cert, "etcd.key", id.Key)
	needs("etcd.key", id.Key, "etcd.cert", id.Cert)
	needs("etcd.username", id.Username, "etcd.password_file", id.PasswordFile)
	needs("etcd.password_file", id.PasswordFile, "etcd.username", id.Username)
	for i, endpoint := range c.Etcd.Endpoints {
		if strings.HasPrefix(endpoint, "https://") != c.Etcd.secure() {
			d.faultAt(fmt.Sprintf("etcd.endpoints[%d]", i), "etcd.endpoints: %s beside %s; write https:// in all of them, or in none", endpoint, c.Etcd.Endpoints[0])
		}
	}
	if c.Etcd.secure() || d.refused["etcd.endpoints"] {
		return
	}
	if id.CA != "" {
		d.faultAt("etcd.ca", "etcd.ca is for https:// in etcd.endpoints; without TLS it means nothing")
	}
	if id.Cert != "" {
		d.faultAt("etcd.cert", "etcd.cert is for https:// in etcd.endpoints; without TLS it means nothing")
	}
	if id.Username != "" && c.Etcd.Embedded {
		d.faultAt("etcd.username", "etcd.username is for etcd.endpoints; the embedded etcd knows no users")
	}
}

// regionFields names the keys that every region needs.
func (d *decoder) regionFields(c *Config) {
	for i, r := range c.Regions {
		at := fmt.Sprintf("regions[%d]", i)
		for _, key := range []string{".name", ".location.latitude", ".location.longitude"} {
			if !d.given(at + key) {
				d.faultAt(at+key, "region %q: %s is needed", r.Name, key[1:])
			}
		}
		if r.Name == "any" || r.Name == "none" {
			d.faultAt(at+".name", "region %s: on_exhausted has another meaning for this word; choose another name", r.Name)
		}
	}
}
