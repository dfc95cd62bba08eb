package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"nearside/console"
	"nearside/dnsserver"
	"nearside/geo"
	"nearside/pace"
	"nearside/printable"
)

// geoLoader reads the geo database, again when its file changes.
type geoLoader struct {
	config  *Config
	log     zerolog.Logger
	publish func(*dnsserver.Places)
	changed chan struct{}
	jobs    chan chan struct{}
	keeping sync.Mutex // one copy at a time

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

// openDatabase opens the database in file ("" is the built-in one) and ranks the
// regions for it.
func openDatabase(c *Config, file string, how pace.Pace) (*geo.Database, *dnsserver.Places, error) {
	open := geo.Builtin
	if file != "" {
		open = func() (*geo.Database, error) { return geo.Open(file, how) }
	}
	db, err := open()
	if err != nil {
		return nil, nil, err
	}
	places, err := dnsserver.BuildPlaces(db, c.Table(), c.GeoDepth)
	if err != nil {
		return nil, nil, err
	}
	return db, places, nil
}

// load reads the database for the first time. If the configured one is bad, its
// last good version is used, and without one the built-in database: that is
// better than no geography.
func (l *geoLoader) load() (*dnsserver.Places, error) {
	var bad error
	for _, file := range slices.Compact([]string{l.config.GeoDatabase, l.config.keptDatabase(), ""}) {
		db, places, err := openDatabase(l.config, file, pace.Fast)
		if err == nil {
			l.took(db, file, bad)
			if file != "" && bad == nil {
				l.keep()
			}
			return places, nil
		}
		if bad == nil {
			bad = err
			l.log.Error().Err(err).Msg("the geo database is bad: its last good version is used, or else the built-in one")
		}
	}
	return nil, bad
}

// keep copies the database that was just read to data_dir in the background, for
// a start at which its file is bad.
func (l *geoLoader) keep() {
	go func() {
		l.keeping.Lock()
		defer l.keeping.Unlock()
		if err := copyFile(l.config.keptDatabase(), l.config.GeoDatabase); err != nil {
			l.log.Error().Err(err).Msg("the geo database cannot be kept; a restart while its file is bad uses an older one")
		}
	}()
}

// copyFile replaces the file at to by a copy, whole or not at all, unless size
// and time say that it is one already.
func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if old, err := os.Stat(to); err == nil && old.Size() == info.Size() && old.ModTime().Equal(info.ModTime()) {
		return nil
	}
	temporary := to + ".new"
	out, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Sync() // BEFORE the rename: the name must never stand for less
	}
	err = errors.Join(err, out.Close(), os.Chtimes(temporary, time.Time{}, info.ModTime()))
	if err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return os.Rename(temporary, to)
}

// took notes the database now in force, and what is wrong with the file if it
// is another one.
func (l *geoLoader) took(db *geo.Database, file string, bad error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if db != nil {
		l.shown = console.Geography{Name: printable.Text(db.Name()), File: file, Built: db.Built(), Digest: db.Digest()}
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
	db, places, err := openDatabase(l.config, l.config.GeoDatabase, pace.Gentle)
	if err != nil {
		l.log.Error().Err(err).Msg("the geo database is bad: the one before stays in force")
		l.took(nil, "", err)
		return
	}
	l.took(db, l.config.GeoDatabase, nil)
	l.publish(places)
	l.keep()
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
