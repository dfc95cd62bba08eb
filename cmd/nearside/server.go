package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"nearside/console"
	"nearside/dnsserver"
	"nearside/healthsync"
	"nearside/journal"
	"nearside/probes"
	"nearside/regions"
	"nearside/zones"
)

// etcdCloseTime is how long the end of the embedded etcd is waited for.
const etcdCloseTime = 3 * time.Second

// server is a running nearside. Its parts are made in the order of bind, load
// and run, and are not replaced after.
type server struct {
	config  *Config
	log     zerolog.Logger
	started time.Time
	hangup  <-chan os.Signal
	phase   atomic.Value // console.Phase; what load makes may be looked at once it is Serving

	lock     *os.File
	journal  *journal.Journal // nil without regions
	dns      *dnsserver.Server
	admin    net.Listener
	control  net.Listener // nil where controlFault says why
	embedded string       // URL of the embedded etcd; "" if there is none

	controlFault error

	builder *builder
	zones   *zoneLoader
	secrets *secretLoader
	geo     *geoLoader       // nil without regions
	sync    *healthsync.Sync // nil without regions
	probes  *probes.Prober   // nil unless they run in here

	endProbes func() // closes their client

	credentials *healthsync.Credentials // at etcd; nil without regions

	state   atomic.Pointer[regions.State]     // the newest
	parted  chan struct{}                     // closed when etcd is needed no more
	steered atomic.Pointer[[]regions.Steered] // of the zones served: see note
	facts   chan struct{}                     // what other servers are told of this one has changed
}

func newServer(c *Config, log zerolog.Logger, hangup <-chan os.Signal) *server {
	s := &server{config: c, log: log, started: time.Now(), hangup: hangup, facts: make(chan struct{}, 1), parted: make(chan struct{})}
	s.phase.Store(console.Starting)
	return s
}

// bind takes everything that only one process can have: the data folder and
// the sockets. What it took is given back by close, also after an error.
func (s *server) bind() (err error) {
	if s.lock, err = lockDataDir(s.config.DataDir); err != nil {
		return err
	}
	if s.dns, err = dnsserver.Listen(s.config.Listen, s.config.Limits, s.log); err != nil {
		return err
	}
	if s.admin, err = net.Listen("tcp", s.config.AdminListen); err != nil {
		return taken(err, "admin.listen")
	}
	s.control, err = console.ListenControl(s.config.ControlSocket())
	switch {
	case diskFails(err):
		s.controlFault = fmt.Errorf("%w: `status`, `reload` and `state accept` do not work; see to the disk, then restart nearside", err)
		s.log.Error().Msg(s.controlFault.Error())
		err = nil
	case err != nil:
		return err
	}
	if s.config.Table().Len() == 0 {
		return nil
	}
	if s.config.Etcd.Embedded {
		if s.embedded, err = freeURL(s.config.Etcd.EmbeddedListen); err != nil {
			return err
		}
	}
	s.journal = journal.Open(s.config.Journal(), journal.DefaultLimit, s.config.ServerID, s.log)
	s.journal.Append(journal.Entry{Kind: journal.Server, Event: "start", Why: "version " + version()})
	return nil
}

// diskFails reports whether an error is the disk's: that is no reason not to
// serve what is on it.
func diskFails(err error) bool {
	for _, errno := range []syscall.Errno{syscall.EROFS, syscall.ENOSPC, syscall.EDQUOT, syscall.EIO} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// taken says which key to change when an address cannot be had.
func taken(err error, key string) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w; another server has this port: stop it or change %s", err, key)
	}
	return fmt.Errorf("%w; change %s", err, key)
}

// freeURL makes sure that nobody listens at the URL, and chooses the port if
// that is 0. An etcd that is there already would be another one than ours.
func freeURL(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", u.Host)
	if err != nil {
		return "", taken(err, "etcd.embedded_listen")
	}
	u.Host = l.Addr().String()
	return u.String(), l.Close()
}

// load reads zones, geography and the last state, all at once, and makes the
// first snapshot of them.
func (s *server) load() (*dnsserver.Snapshot, error) {
	var view *zones.View
	var places *dnsserver.Places
	s.builder = newBuilder(s.dns.Swap)
	var group errgroup.Group
	s.zones = newZoneLoader(s.config, s.log, func(view *zones.View) {
		s.note(view)
		s.builder.zones.put(view)
		signalChange(s.facts)
	})
	s.secrets = newSecretLoader(s.config, s.log, s.builder.secrets.put)
	group.Go(func() error {
		view = s.zones.load()
		if _, err := os.ReadDir(s.config.ZoneDir); err != nil && view.Len() == 0 {
			return Faults{s.config.fault("zones.dir", "zones.dir: %v; name the folder of the zone files", err)}
		}
		return nil
	})
	if s.config.Table().Len() > 0 {
		s.geo = newGeoLoader(s.config, s.log, func(places *dnsserver.Places) {
			s.builder.places.put(places)
			signalChange(s.facts)
		})
		group.Go(func() (err error) {
			places, err = s.geo.load()
			return err
		})
		group.Go(s.loadState)
	}
	if s.config.Probe && len(s.config.Probes) > 0 {
		group.Go(func() (err error) {
			credentials, _ := openCredentials(s.config, s.log) // loadState says what is wrong with them
			s.probes, s.endProbes, err = newProber(s.config, s.endpoints(), credentials, s.config.ServerID, s.log)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var state *regions.State
	if s.sync != nil {
		state = s.sync.State()
		s.state.Store(state)
	}
	policy := dnsserver.Policy{
		Believed: s.config.Resolvers(), NegativeTTL: uint32(s.config.NegativeTTL),
		ID: s.config.ServerID, Version: s.config.Version,
		Limiter: dnsserver.NewRateLimiter(s.config.RateLimit, s.config.RateLimitSlip, s.config.RateLimitExempt),
	}
	s.note(view)
	return dnsserver.Compile(view, places, state, policy).WithSecrets(s.secrets.load()), nil
}

// loadState reads the last state and what is needed to follow etcd. Where there
// is a state to go on from, files that cannot be used are an alarm and no more.
func (s *server) loadState() error {
	var faults error
	s.credentials, faults = openCredentials(s.config, s.log)
	var err error
	if s.sync, err = healthsync.Open(s.syncConfig()); err != nil {
		return err
	}
	if s.sync.Status().Source == healthsync.FromNone {
		return faults
	}
	return nil
}

// endpoints is where this server finds etcd.
func (s *server) endpoints() []string {
	if s.embedded != "" {
		return []string{s.embedded}
	}
	return s.config.Etcd.Endpoints
}

func (s *server) syncConfig() healthsync.Config {
	return healthsync.Config{
		ID:           s.config.ServerID,
		Endpoints:    s.endpoints(),
		Credentials:  s.credentials,
		Prefix:       s.config.Etcd.Prefix,
		Table:        s.config.Table(),
		StateFile:    filepath.Join(s.config.DataDir, "state.json"),
		OverrideFile: s.config.OverrideFile(),
		Log:          s.log,
		Publish:      s.publish,
		Steered:      s.steeredNames,
		Journal:      s.journal,
	}
}

// note keeps what the guard asks of a view, which takes a while to be summed up.
func (s *server) note(view *zones.View) {
	names := dnsserver.Steered(view)
	s.steered.Store(&names)
}

// steeredNames returns the steered names that are served, or will be in a moment.
func (s *server) steeredNames() []regions.Steered {
	if names := s.steered.Load(); names != nil {
		return *names
	}
	return nil
}

// publish makes a new state answer queries.
func (s *server) publish(state *regions.State) {
	s.builder.serve(state)
	s.state.Store(state)
}

// run loads and serves until ctx ends. The admin address and the control socket
// are there from before the first answer until after the last, to say so.
func (s *server) run(ctx context.Context) error {
	outer, endOuter := context.WithCancel(context.WithoutCancel(ctx))
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var shown sync.WaitGroup
	show := func(l net.Listener, h http.Handler) {
		shown.Go(func() {
			if err := console.Serve(outer, l, h, s.log); err != nil {
				fail(err) // nobody could see what the server does
			}
		})
	}
	show(s.admin, console.Admin(s))
	if s.control != nil {
		show(s.control, console.Control(s))
	}
	defer shown.Wait()
	defer endOuter()

	loaded := make(chan error, 1)
	var snapshot *dnsserver.Snapshot
	go func() {
		var err error
		snapshot, err = s.load()
		loaded <- err
	}()
	select {
	case err := <-loaded:
		if err != nil {
			return err
		}
	case <-ctx.Done(): // reading a large zone is not waited for
		return failure(ctx)
	}
	group, groupCtx := errgroup.WithContext(ctx)
	s.start(groupCtx, group, snapshot)
	return cmp.Or(group.Wait(), failure(ctx))
}

// failure returns why ctx ended, or nil if it was asked to or did not end.
func failure(ctx context.Context) error {
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// start serves the first snapshot and starts everything that keeps it up to date.
func (s *server) start(ctx context.Context, group *errgroup.Group, snapshot *dnsserver.Snapshot) {
	loop := func(run func(context.Context)) {
		group.Go(func() error {
			run(ctx)
			return nil
		})
	}
	s.dns.Swap(snapshot)
	group.Go(func() error { return s.dns.Serve(ctx) })
	s.phase.Store(console.Serving)
	s.announce()
	context.AfterFunc(ctx, func() { s.phase.Store(console.Stopping) })

	loop(func(ctx context.Context) { s.builder.run(ctx, snapshot) })
	loop(s.zones.run)
	loop(s.secrets.run)
	loop(s.hangups)
	if s.sync != nil {
		loop(s.geo.run)
		loop(func(ctx context.Context) {
			defer close(s.parted)
			s.sync.Run(ctx)
		})
		loop(s.tellFacts)
	}
	if s.probes != nil {
		loop(func(ctx context.Context) {
			defer s.endProbes()
			s.probes.Run(ctx)
		})
	}
	watcher := newWatcher(s.log, s.topics()...)
	s.zones.written(nil) // between their load and now nobody watched
	loop(watcher.run)
	if s.embedded != "" {
		group.Go(func() error { return s.runEmbedded(ctx) })
	}
}

// hangups reads everything again at each SIGHUP, until ctx ends.
func (s *server) hangups(ctx context.Context) {
	for {
		select {
		case <-s.hangup:
			s.log.Info().Msg("SIGHUP: reading everything again")
			if _, err := s.Reload(ctx, console.ReloadRequest{}); err != nil && ctx.Err() == nil {
				s.log.Error().Err(err).Msg("reload")
			}
		case <-ctx.Done():
			return
		}
	}
}

// runEmbedded runs the embedded etcd until ctx ends. It starts beside the
// server: the first answer does not wait for it, and if its data is damaged or
// it fails later, answers go on from the last state.
func (s *server) runEmbedded(ctx context.Context) error {
	etcd, err := healthsync.StartEmbedded(ctx, s.config.EtcdFolder(), s.embedded, s.log)
	if errors.Is(err, healthsync.ErrListen) {
		return err
	}
	if ctx.Err() == nil && err != nil {
		s.sync.EtcdFailed(err)
	}
	if err != nil {
		return nil
	}
	select {
	case <-ctx.Done():
		<-s.parted // it is told that this server stops
	case err := <-etcd.Failed():
		s.sync.EtcdFailed(err)
		go etcd.Close() // ends the connections; waiting for the rest may be in vain
		return nil
	}
	closed := make(chan struct{})
	go func() {
		etcd.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(etcdCloseTime):
		s.log.Warn().Msg("the embedded etcd takes too long to close; its data is safe")
	}
	return nil
}

// topics says which files to watch, and what to do when they change.
func (s *server) topics() []topic {
	topics := []topic{{
		name:    "zones",
		folders: s.zones.watched,
		wants:   func(path string) bool { return slices.Contains(s.zones.watched(), filepath.Dir(path)) },
		changed: s.zones.written,
	}, {
		name:    "secrets",
		folders: s.secrets.watched,
		wants:   func(path string) bool { return path == s.config.CookieSecrets },
		changed: func([]string) { signalChange(s.secrets.changed) },
	}}
	if s.sync == nil {
		return topics
	}
	return append(topics,
		topic{
			name:    "geo",
			folders: s.geo.watched,
			wants:   func(path string) bool { return path == s.config.GeoDatabase },
			changed: func([]string) { signalChange(s.geo.changed) },
		},
		topic{
			name:    "override",
			folders: func() []string { return []string{s.config.DataDir} },
			wants:   func(path string) bool { return path == s.config.OverrideFile() },
			changed: func([]string) { s.sync.ReadOverride() },
		},
		topic{
			name:    "credentials",
			folders: s.config.Etcd.Identity.Folders,
			wants:   func(path string) bool { return slices.Contains(s.config.Etcd.Identity.Files(), path) },
			changed: func([]string) { s.credentials.Reload() },
		})
}

// announce logs what is served.
func (s *server) announce() {
	status := s.Status()
	records := 0
	for _, z := range status.Zones {
		records += z.Records
	}
	event := s.log.Info().Str("version", version()).Str("id", s.config.ServerID).
		Strs("dns", status.Server.DNS).Str("admin", status.Server.Admin).
		Int("zones", len(status.Zones)).Int("records", records).Int("regions", len(status.Regions))
	if g := status.Geography; g != nil {
		event = event.Str("geography", g.Name).Str("geography_built", g.Built.UTC().Format(time.DateOnly))
	}
	event.Dur("startup_ms", time.Since(s.started)).Msg("serving")
	for _, alarm := range status.Alarms {
		s.log.Warn().Msg(alarm)
	}
}

// close gives back what bind took.
func (s *server) close() {
	if s.journal != nil {
		s.journal.Append(journal.Entry{Kind: journal.Server, Event: "stop"})
		s.journal.Close() // BEFORE the lock is given up: it has one writer
	}
	if s.admin != nil {
		s.admin.Close()
	}
	if s.control != nil {
		s.control.Close()
	}
	if s.lock != nil {
		s.lock.Close()
	}
}
