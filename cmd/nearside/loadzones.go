package main

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"

	"nearside/console"
	"nearside/dnsserver"
	"nearside/zones"
)

// steering tells the zone loader what the configuration makes of addresses and
// labels. Without regions every name is plain.
func (c *Config) steering() zones.Steering {
	if c.Table().Len() == 0 {
		return zones.Steering{}
	}
	return dnsserver.Steering(c.Table(), c.Static)
}

// zoneLoader owns the store: it reads zones, one reload after the other.
type zoneLoader struct {
	store   *zones.Store
	publish func(*zones.View)
	changed mailbox[[]string] // files that changed, nil is any; several changes become one reload
	jobs    chan zoneJob
	tidy    *time.Timer // gives memory back

	mu      sync.Mutex
	view    *zones.View // as of the last reload, like the rest
	folders []string    // to watch
	count   console.Reload
}

// zoneJob is a reload that somebody waits for.
type zoneJob struct {
	accept bool
	zone   string // whose hold is lifted; "" is all of them
	done   chan struct{}
}

func newZoneLoader(c *Config, log zerolog.Logger, publish func(*zones.View)) *zoneLoader {
	return &zoneLoader{
		store: zones.NewStore(zones.StoreConfig{
			Dir: c.ZoneDir, KeepDir: c.keptZones(), HoldShrink: c.HoldShrink,
			Steering: c.steering(), Log: log,
		}),
		publish: publish,
		changed: newMailbox[[]string](),
		jobs:    make(chan zoneJob),
		tidy:    time.AfterFunc(time.Hour, debug.FreeOSMemory),
		count:   console.Reload{What: "zones"},
	}
}

// load reads everything and returns what to serve.
func (l *zoneLoader) load() *zones.View {
	view := l.store.ReloadAll()
	l.finished(view)
	return view
}

// run reads again what changed or was asked for, until ctx ends.
func (l *zoneLoader) run(ctx context.Context) {
	l.store.Keep() // what load found
	retry := time.NewTicker(retryKeeping)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case paths := <-l.changed:
			if paths == nil {
				l.serve(l.store.Reload)
			} else {
				l.serve(func() *zones.View { return l.store.ReloadFiles(paths) })
			}
		case <-retry.C:
			if l.store.Unkept() > 0 {
				l.store.Keep()
			}
		case job := <-l.jobs:
			if job.accept {
				l.serve(func() *zones.View { return l.store.Accept(job.zone) })
			} else {
				l.serve(l.store.ReloadAll)
			}
			close(job.done)
		}
	}
}

// written asks for a reload of the files that changed, nil is any. One goroutine
// calls it.
func (l *zoneLoader) written(paths []string) {
	select {
	case due := <-l.changed: // it was not taken yet
		if paths != nil && due != nil {
			paths = append(due, paths...)
		} else {
			paths = nil
		}
	default:
	}
	l.changed.put(paths)
}

// reload reads everything again, or accepts what is held, and waits for it.
func (l *zoneLoader) reload(ctx context.Context, accept bool, zone string) error {
	if zone != "" {
		zone = dns.CanonicalName(zone)
		if !slices.ContainsFunc(l.store.Status(), func(z *zones.Status) bool { return z.Origin == zone }) {
			return fmt.Errorf("there is no zone %s; `nearside status` lists those there are", zone)
		}
	}
	job := zoneJob{accept, zone, make(chan struct{})}
	select {
	case l.jobs <- job:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-job.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// serve reloads, hands the view on, and keeps what is new in it when that is done.
func (l *zoneLoader) serve(reload func() *zones.View) {
	view := reload()
	l.publish(view)
	l.finished(view)
	l.store.Keep()
}

// retryKeeping is how often zones that could not be kept on disk are tried again.
const retryKeeping = time.Minute

// tidyAfter is when the memory that a load took and needs no more is given back
// to the system: the old zones are let go by then, and a burst of reloads is over.
const tidyAfter = time.Second

// finished notes what the last reload came to.
func (l *zoneLoader) finished(view *zones.View) {
	folders := l.store.Folders()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.view, l.folders = view, folders
	note(&l.count, l.store.Took())
	l.tidy.Reset(tidyAfter)
}

func note(r *console.Reload, ok bool) {
	if !ok {
		r.Failed++
		return
	}
	r.OK++
	r.Success = time.Now()
}

// watched returns the folders of zone files.
func (l *zoneLoader) watched() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.folders
}

func (l *zoneLoader) counted() console.Reload {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

// current returns what is served, in a moment if not already.
func (l *zoneLoader) current() *zones.View {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.view
}

// alarms says which zones are not served as their files are.
func (l *zoneLoader) alarms() []string {
	var alarms []string
	if n := l.store.Unkept(); n > 0 {
		alarms = append(alarms, fmt.Sprintf("%s could not be kept in data_dir, so a restart may serve an older version; see to the disk", count(n, "zone")))
	}
	if fault := l.store.Folder(); fault != nil {
		return append(alarms, fault.String())
	}
	for _, z := range l.store.Status() {
		switch z.State {
		case zones.StateLastGood:
			alarms = append(alarms, fmt.Sprintf("zone %s: its file is bad, the last good version is served", z.Origin))
		case zones.StateHeld:
			alarms = append(alarms, fmt.Sprintf("zone %s: its file is gone or shrank too much, the old version is served until `nearside reload --accept %s`", z.Origin, z.Origin))
		case zones.StateFailed:
			alarms = append(alarms, fmt.Sprintf("zone %s: its file is bad and never was good, the answer is SERVFAIL", z.Origin))
		case zones.StateTwice:
			alarms = append(alarms, fmt.Sprintf("zone %s: %s claims it too and is not served; delete one of the files", z.Origin, z.File))
		}
	}
	return alarms
}

// signalChange asks for one more reload.
func signalChange(changed chan struct{}) {
	select {
	case changed <- struct{}{}:
	default: // one is due already
	}
}
