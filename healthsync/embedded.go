package healthsync

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// startLimit is how long the embedded etcd may take. It needs a fifth of a
// second; a large log on a slow disk needs more.
const startLimit = time.Minute

// ErrListen marks an address that the embedded etcd cannot have.
var ErrListen = errors.New("the embedded etcd cannot listen")

// Embedded is an etcd of one member inside this process.
type Embedded struct {
	endpoint string
	etcd     *embed.Etcd
	closing  atomic.Bool // etcd is not to be closed twice
	failed   chan error  // why etcd gave up; it may say so in any of its goroutines
}

// StartEmbedded starts an etcd that keeps its data in dir, which the caller has
// locked, and serves clients at listenURL alone (port 0: any free port). It
// returns when clients are served, or when ctx ends before.
func StartEmbedded(ctx context.Context, dir, listenURL string, log zerolog.Logger) (*Embedded, error) {
	listen, err := freeAddress(listenURL)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrListen, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the folder of the embedded etcd: %w", err)
	}
	// It may be there from before, with other rights; etcd itself asks for these.
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the folder of the embedded etcd: %w", err)
	}
	done, err := mark(dir + ".starting")
	if err != nil {
		return nil, fmt.Errorf("the embedded etcd on %s: %w", dir, err)
	}
	defer done()
	e := &Embedded{endpoint: listen.String(), failed: make(chan error, 1)}
	err = e.start(ctx, embeddedConfig(dir, listen), log)
	if op := new(net.OpError); errors.As(err, &op) && op.Op == "listen" { // taken since freeAddress
		return nil, fmt.Errorf("%w: %w", ErrListen, err)
	}
	if err != nil {
		return nil, fmt.Errorf("the embedded etcd does not start on its data in %s: %w; see to the disk, "+
			"restore the folder or move it away to start empty", dir, err)
	}
	return e, nil
}

// mark leaves a file while etcd starts. There are damages over which etcd ends
// the whole process, in goroutines that nobody can guard: the file is found at
// the next start, which leaves etcd alone, and queries are answered. The start
// after that tries again: the end may have had another cause.
func mark(path string) (done func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, errors.Join(errors.New("its last start ended the process, so it is left alone this time; "+
			"restore the folder or move it away to start empty"), os.Remove(path))
	}
	if err != nil {
		return nil, err
	}
	return func() { os.Remove(path) }, f.Close()
}

// start starts etcd and waits until it is ready.
func (e *Embedded) start(ctx context.Context, config *embed.Config, log zerolog.Logger) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("it is not ready after %v", startLimit))
	defer cancel()
	// At a clean close etcd reports errors that are none.
	log = log.Hook(muteWhen(&e.closing))
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(forwardTo(log, zerolog.WarnLevel).
		WithOptions(zap.WithFatalHook(giveUp(e.fail)), zap.WithPanicHook(giveUp(e.fail))))
	launched := make(chan struct{})
	go e.launch(ctx, config, launched)
	select {
	case <-launched:
	case err := <-e.failed:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	go e.watch()
	var err error
	select {
	case <-e.etcd.Server.ReadyNotify():
		return nil
	case err = <-e.failed:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	go e.Close() // which waits for parts that may have ended already
	return err
}

// launch runs in a goroutine of its own, which etcd may end.
func (e *Embedded) launch(ctx context.Context, config *embed.Config, launched chan<- struct{}) {
	defer func() {
		// etcd panics over data that it cannot read.
		if fault := recover(); fault != nil {
			e.fail(fmt.Errorf("%v", fault))
		}
	}()
	var err error
	if e.etcd, err = embed.StartEtcd(config); err != nil {
		e.fail(err)
		return
	}
	select {
	case launched <- struct{}{}:
	case <-ctx.Done(): // nobody waits for it any more
		e.Close()
	}
}

// watch notices that etcd ends by itself.
func (e *Embedded) watch() {
	select {
	case err := <-e.etcd.Err():
		e.fail(err)
	case <-e.etcd.Server.StopNotify():
		e.fail(errors.New("it stopped by itself"))
	}
}

// fail takes the first reason: later ones follow from it, or from Close.
func (e *Embedded) fail(err error) {
	if e.closing.Load() {
		return
	}
	select {
	case e.failed <- err:
	default:
	}
}

// Failed returns a channel that says why etcd gave up, if it does. Only Close is
// left to be called then, which may never return.
func (e *Embedded) Failed() <-chan error { return e.failed }

func embeddedConfig(dir string, listen url.URL) *embed.Config {
	config := embed.NewConfig()
	config.Name = "nearside" // etcd warns of its own default
	config.Dir = dir
	config.ListenClientUrls = []url.URL{listen}
	config.AdvertiseClientUrls = config.ListenClientUrls
	// No peer port. The advertised peer URL is never dialled: it makes the cluster
	// id, which so stays the same whatever the client address is.
	config.ListenPeerUrls = nil
	config.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "localhost:2380"}}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	// One member elects itself as soon as an election may begin.
	config.TickMs = 20
	config.ElectionMs = 200
	// By revisions, not by age: that bounds the file whatever the rate of writes.
	// A server that missed more than these lists everything again.
	config.AutoCompactionMode = embed.CompactorModeRevision
	config.AutoCompactionRetention = "10000"
	config.QuotaBackendBytes = 512 << 20
	config.EnableGRPCGateway = false // HTTP beside gRPC, which nothing here uses
	return config
}

// freeAddress makes sure that nobody listens at the URL yet: an etcd that does
// would be taken for the embedded one. It replaces port 0 by a free port.
func freeAddress(listenURL string) (url.URL, error) {
	u, err := url.Parse(listenURL)
	if err != nil || u.Scheme != "http" || u.Port() == "" || u.Path != "" {
		return url.URL{}, fmt.Errorf("%q is no address for it: write http://127.0.0.1:2379", listenURL)
	}
	listener, err := net.Listen("tcp", u.Host)
	if errors.Is(err, syscall.EADDRINUSE) {
		return url.URL{}, fmt.Errorf("something else has %s, perhaps another etcd; "+
			"stop it, choose another etcd.embedded_listen, or use it with etcd.embedded: false and etcd.endpoints: [%s]", u.Host, listenURL)
	}
	if err != nil {
		return url.URL{}, fmt.Errorf("%w; choose another etcd.embedded_listen", err)
	}
	if u.Port() == "0" {
		u.Host = listener.Addr().String()
	}
	return *u, listener.Close()
}

// Endpoint returns the URL at which clients reach it.
func (e *Embedded) Endpoint() string { return e.endpoint }

// Close stops it and waits until its files are closed.
func (e *Embedded) Close() {
	if e.closing.Swap(true) {
		return
	}
	closed := make(chan struct{})
	go func() { // which etcd may end
		defer close(closed)
		e.etcd.Close()
	}()
	<-closed
}

// muteWhen returns a hook that drops what is logged once closing is true.
func muteWhen(closing *atomic.Bool) zerolog.HookFunc {
	return func(event *zerolog.Event, _ zerolog.Level, _ string) {
		if closing.Load() {
			event.Discard()
		}
	}
}
