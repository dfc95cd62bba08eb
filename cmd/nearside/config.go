package main

import (
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"nearside/dnsserver"
	"nearside/healthsync"
	"nearside/regions"
)

// defaultConfigFile is where a packaged server finds its configuration.
const defaultConfigFile = "/etc/nearside/nearside.yaml"

// Config is the configuration: the file, with environment and flags laid over
// it. It is checked, its paths no longer depend on the file's folder, and
// nobody changes it after Load.
type Config struct {
	File string // where it was read from

	ServerID        string         // NSID, metrics, status
	Version         string         // what version.bind says; "" is nothing
	RateLimit       int            // responses by UDP to one client prefix in a second; 0 is no limit
	RateLimitSlip   int            // every how many of those over it is sent empty, with TC; 0 is none
	RateLimitExempt []netip.Prefix // clients that no limit holds for
	CookieSecrets   string         // file; "" is one of this process alone
	Listen          []string       // host:port; an empty host is every address
	Limits          dnsserver.Limits
	AdminListen     string // host:port of metrics and health
	DataDir         string // state, last good zones, embedded etcd, control socket
	ZoneDir         string
	HoldShrink      bool     // keep zones that shrink by more than half until accepted
	GeoDatabase     string   // "" is the built-in one
	GeoDepth        int      // regions of a preference list that are in order of distance
	ClientSubnet    []string // resolvers whose EDNS Client Subnet is believed: prefixes, or all, or none
	Etcd            EtcdConfig
	TTL             int      // seconds, cap on the TTLs of steered answers
	NegativeTTL     int      // seconds, cap on the SOA's TTL when a steered name has no region left
	Static          []string // owners that are never steered: lower case, absolute
	Regions         []regions.Region
	Services        []serviceConfig
	MaxOut          int           // percent of the regions' weight that drains may put out
	Hold            time.Duration // from the return of a region that was sick until it is used
	Ramp            time.Duration // from then until all its clients are back
	Probe           bool          // whether serve runs the probes
	Probes          []probeConfig // see probeList

	table  *regions.Table // regions, services and rules
	places places         // for faults that show later
}

// EtcdConfig says where the drains are kept: inside this process, or in a cluster.
type EtcdConfig struct {
	Embedded       bool
	EmbeddedListen string // URL
	Endpoints      []string
	Prefix         string // "/nearside": begins with a slash, ends without
	Identity       healthsync.Identity
}

// secure reports whether etcd is reached by TLS.
func (e EtcdConfig) secure() bool {
	return len(e.Endpoints) > 0 && strings.HasPrefix(e.Endpoints[0], "https://")
}

// Resolvers returns the resolvers whose EDNS Client Subnet is believed.
func (c *Config) Resolvers() []netip.Prefix {
	switch c.ClientSubnet[0] {
	case "all":
		return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	case "none":
		return nil
	}
	prefixes := make([]netip.Prefix, len(c.ClientSubnet))
	for i, s := range c.ClientSubnet {
		prefixes[i] = netip.MustParsePrefix(s)
	}
	return prefixes
}

// Table returns the configured regions and services.
func (c *Config) Table() *regions.Table { return c.table }

// fault is what is wrong with the value at key, and where that was written.
func (c *Config) fault(key, format string, arguments ...any) Fault {
	return c.places.of(key, c.File).fault(format, arguments...)
}

// ControlSocket is the path of the unix socket of `status`, `reload` and `state accept`.
func (c *Config) ControlSocket() string { return filepath.Join(c.DataDir, "control.sock") }

// Journal is where the server keeps a record of what was written and decided.
func (c *Config) Journal() string { return filepath.Join(c.DataDir, "journal.jsonl") }

// keptZones is where the last good versions of zones are kept.
func (c *Config) keptZones() string { return filepath.Join(c.DataDir, "zones") }

// keptDatabase is where the last good geo database is kept; "" where none is
// configured.
func (c *Config) keptDatabase() string {
	if c.GeoDatabase == "" {
		return ""
	}
	return filepath.Join(c.DataDir, "geo.mmdb")
}

// EtcdFolder is where the embedded etcd keeps its data.
func (c *Config) EtcdFolder() string { return filepath.Join(c.DataDir, "etcd") }

// etcdEndpoints is where commands find etcd.
func (c *Config) etcdEndpoints() []string {
	if c.Etcd.Embedded {
		return []string{c.Etcd.EmbeddedListen}
	}
	return c.Etcd.Endpoints
}

// OverrideFile is the operator's break-glass file.
func (c *Config) OverrideFile() string { return filepath.Join(c.DataDir, "override.yaml") }

// defaults returns the configuration of an empty file, before its rules are checked.
func defaults() Config {
	return Config{
		Listen:        []string{":53"},
		Limits:        dnsserver.DefaultLimits,
		AdminListen:   "127.0.0.1:8053",
		DataDir:       "/var/lib/nearside",
		HoldShrink:    true,
		RateLimitSlip: 2,
		GeoDepth:      8,
		ClientSubnet:  []string{"all"},
		Etcd:          EtcdConfig{EmbeddedListen: "http://127.0.0.1:2379", Prefix: "/nearside"},
		TTL:           30,
		NegativeTTL:   10,
		MaxOut:        defaultMaxOut,
		Hold:          defaultHold,
	}
}

// settings are the keys that hold a scalar or a list of scalars: those that the
// environment and flags may set too.
var settings = []setting[Config]{
	scalar("server.id", text, func(c *Config) *string { return &c.ServerID }, parseName),
	list("server.listen", func(c *Config) *[]string { return &c.Listen }, parseListen),
	scalar("server.udp_size", integer, func(c *Config) *int { return &c.Limits.UDPSize }, between(512, dnsserver.MaxUDPSize)),
	scalar("server.tcp_connections", integer, func(c *Config) *int { return &c.Limits.Streams }, between(1, 1_000_000)),
	scalar("server.tcp_connections_per_client", integer, func(c *Config) *int { return &c.Limits.StreamsPerClient }, between(1, 1_000_000)),
	scalar("server.tcp_idle", period, func(c *Config) *time.Duration { return &c.Limits.Idle }, lasting(time.Second, time.Hour)),
	scalar("server.version", text, func(c *Config) *string { return &c.Version }, parseVersion),
	scalar("server.rate_limit", integer, func(c *Config) *int { return &c.RateLimit }, between(0, 1_000_000)),
	scalar("server.rate_limit_slip", integer, func(c *Config) *int { return &c.RateLimitSlip }, between(0, 100)),
	list("server.rate_limit_exempt", func(c *Config) *[]netip.Prefix { return &c.RateLimitExempt }, parseClients),
	scalar("server.probe", boolean, func(c *Config) *bool { return &c.Probe }, parseBool),
	scalar("server.cookie_secrets", text, func(c *Config) *string { return &c.CookieSecrets }, parsePath),
	scalar("admin.listen", text, func(c *Config) *string { return &c.AdminListen }, parseListen),
	scalar("data_dir", text, func(c *Config) *string { return &c.DataDir }, parsePath),
	scalar("zones.dir", text, func(c *Config) *string { return &c.ZoneDir }, parsePath),
	scalar("zones.hold_shrink", boolean, func(c *Config) *bool { return &c.HoldShrink }, parseBool),
	scalar("geo.database", text, func(c *Config) *string { return &c.GeoDatabase }, parseAny),
	scalar("geo.depth", integer, func(c *Config) *int { return &c.GeoDepth }, between(1, regions.Max)),
	list("geo.client_subnet", func(c *Config) *[]string { return &c.ClientSubnet }, parseSubnet),
	scalar("etcd.embedded", boolean, func(c *Config) *bool { return &c.Etcd.Embedded }, parseBool),
	scalar("etcd.embedded_listen", text, func(c *Config) *string { return &c.Etcd.EmbeddedListen }, parseEmbeddedListen),
	list("etcd.endpoints", func(c *Config) *[]string { return &c.Etcd.Endpoints }, parseEndpoint),
	scalar("etcd.prefix", text, func(c *Config) *string { return &c.Etcd.Prefix }, parseKeyPrefix),
	scalar("etcd.ca", text, func(c *Config) *string { return &c.Etcd.Identity.CA }, parseAny),
	scalar("etcd.cert", text, func(c *Config) *string { return &c.Etcd.Identity.Cert }, parseAny),
	scalar("etcd.key", text, func(c *Config) *string { return &c.Etcd.Identity.Key }, parseAny),
	scalar("etcd.username", text, func(c *Config) *string { return &c.Etcd.Identity.Username }, parseAny),
	scalar("etcd.password_file", text, func(c *Config) *string { return &c.Etcd.Identity.PasswordFile }, parseAny),
	scalar("steering.ttl", integer, func(c *Config) *int { return &c.TTL }, between(1, maxTTL)),
	scalar("steering.negative_ttl", integer, func(c *Config) *int { return &c.NegativeTTL }, between(0, maxTTL)),
	list("steering.static", func(c *Config) *[]string { return &c.Static }, parseOwner),
	scalar("guard.max_out", text, func(c *Config) *int { return &c.MaxOut }, parsePercent),
	scalar("failback.hold", period, func(c *Config) *time.Duration { return &c.Hold }, lasting(0, 24*time.Hour)),
	scalar("failback.ramp", period, func(c *Config) *time.Duration { return &c.Ramp }, lasting(0, 24*time.Hour)),
}

// regionSettings are the keys of one element of `regions`.
var regionSettings = []setting[regions.Region]{
	scalar("name", text, func(r *regions.Region) *string { return &r.Name }, parseAny),
	scalar("location.latitude", decimal, func(r *regions.Region) *float64 { return &r.Location.Latitude }, parseDegrees),
	scalar("location.longitude", decimal, func(r *regions.Region) *float64 { return &r.Location.Longitude }, parseDegrees),
	list("prefixes", func(r *regions.Region) *[]netip.Prefix { return &r.Prefixes }, parsePrefix),
	scalar("weight", integer, func(r *regions.Region) *int { return &r.Weight }, between(1, 1_000_000)),
	scalar("heartbeat", boolean, func(r *regions.Region) *bool { return &r.Heartbeat }, parseBool),
	scalar("standby", boolean, func(r *regions.Region) *bool { return &r.Standby }, parseBool),
}

// Load reads the configuration file at path and lays over on top of it. The
// error is a Faults with all that is wrong; warnings are what an operator
// should know of a configuration that works.
func Load(path string, over Overlay) (c *Config, warnings []string, err error) {
	d, err := readFile(path)
	if err != nil {
		return nil, nil, err
	}
	made := defaults()
	c = &made
	c.File, c.places = path, d.places
	d.decode(c)
	d.lay(over, c)
	d.finish(c)
	if err := d.faults.sorted(); err != nil {
		return nil, over.Warnings(), err
	}
	return c, append(over.Warnings(), c.warnings()...), nil
}

// warnings names what is allowed and yet seldom meant.
func (c *Config) warnings() []string {
	var list []string
	if c.Probe && len(c.Probes) == 0 {
		list = append(list, c.fault("server.probe", "server.probe does nothing: there are no probes").String())
	}
	if len(c.Regions) == 0 && (c.Etcd.Embedded || len(c.Etcd.Endpoints) > 0) {
		list = append(list, c.fault("etcd", "etcd is not used: there are no regions to drain").String())
	}
	if c.Etcd.Identity.Username != "" && !c.Etcd.secure() {
		list = append(list, c.fault("etcd.username", "the password goes over the network in the clear; write https:// in etcd.endpoints").String())
	}
	return list
}
