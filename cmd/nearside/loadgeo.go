package main

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"sync"

	"github.com/rs/zerolog"

	"nearside/console"
	"nearside/dnsserver"
	"nearside/geo"
)

// geoLoader reads the geo database, again when its file changes.
type geoLoader struct {
	config  *Config
	log     zerolog.Logger
	publish func(*dnsserver.Places)
	changed chan struct{}
	jobs    chan chan struct{}

	mu    sync.Mutex
	shown console.Geography // the database in force
	bad   error             // why the file is not in force
	count console.Reload
}

func newGeoLoader(c *Config, log zerolog.Logger, publish func(*dnsserver.Places)) *geoLoader {
	return &geoLoader{
		config: c, log: log, publish: publish,
		changed: make(chan struct{}, 1),
		jobs:    make(chan chan struct{}),
		count:   console.Reload{What: "geo"},
	}
}

// openDatabase opens the configured database and ranks the regions for it.
func openDatabase(c *Config) (*geo.Database, *dnsserver.Places, error) {
	open := geo.Builtin
	if c.GeoDatabase != "" {
		open = func() (*geo.Database, error) { return geo.Open(c.GeoDatabase) }
	}
	db, err := open()
	if err != nil {
		return nil, nil, err
	}
	places, err := dnsserver.BuildPlaces(db, c.Table(), c.GeoDepth)
	if err != nil {
		return nil, nil, fmt.Errorf("geo database %s: %w", c.GeoDatabase, err)
	}
	return db, places, nil
}

// load reads the database for the first time. If the configured one is bad, the
// built-in one is better than no geography.
func (l *geoLoader) load() (*dnsserver.Places, error) {
	db, places, bad := openDatabase(l.config)
	file := l.config.GeoDatabase
	if bad != nil && file != "" {
		l.log.Error().Err(bad).Msg("the geo database is bad: the built-in one is used")
		builtin := *l.config
		builtin.GeoDatabase, file = "", ""
		var err error
		if db, places, err = openDatabase(&builtin); err != nil {
			return nil, err
		}
	} else if bad != nil {
		return nil, bad
	}
	l.took(db, file, bad)
	return places, nil
}

// took notes the database now in force, and what is wrong with the file if it
// is another one.
func (l *geoLoader) took(db *geo.Database, file string, bad error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if db != nil {
		l.shown = console.Geography{Name: db.Name(), File: file, Built: db.Built(), Digest: db.Digest()}
	}
	l.bad = bad
	note(&l.count, bad == nil)
}

// run reads the database again when its file changed or somebody asks for it,
// until ctx ends.
func (l *geoLoader) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.changed:
			l.again()
		case done := <-l.jobs:
			l.again()
			close(done)
		}
	}
}

// again reads the file again; a bad one leaves the database in force.
func (l *geoLoader) again() {
	if l.config.GeoDatabase == "" {
		return
	}
	db, places, err := openDatabase(l.config)
	if err != nil {
		l.log.Error().Err(err).Msg("the geo database is bad: the one before stays in force")
		l.took(nil, "", err)
		return
	}
	l.publish(places)
	l.took(db, l.config.GeoDatabase, nil)
	l.log.Info().Str("name", db.Name()).Time("built", db.Built()).Msg("geo database loaded")
	go debug.FreeOSMemory()
}

// reload reads the database again and waits for it.
func (l *geoLoader) reload(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case l.jobs <- done:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// watched returns the folder of the database file.
func (l *geoLoader) watched() []string {
	if l.config.GeoDatabase == "" {
		return nil
	}
	return []string{filepath.Dir(l.config.GeoDatabase)}
}

// status returns the database in force, what is wrong with the file ("" if
// nothing), and how often it was read.
func (l *geoLoader) status() (g console.Geography, bad string, count console.Reload) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bad != nil {
		bad = l.bad.Error()
	}
	return l.shown, bad, l.count
}
