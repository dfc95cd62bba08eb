package healthsync

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"go.etcd.io/etcd/server/v3/embed"
)

// startLimit is how long the embedded etcd may take. It needs a fifth of a
// second; a large log on a slow disk needs more.
const startLimit = time.Minute

// Embedded is an etcd of one member inside this process.
type Embedded struct {
	endpoint string
	etcd     *embed.Etcd
	closing  *atomic.Bool // etcd is not to be closed twice
}

// StartEmbedded starts an etcd that keeps its data in dir, which the caller has
// locked, and serves clients at listenURL alone (port 0: any free port). It
// returns when clients are served.
func StartEmbedded(dir, listenURL string, log zerolog.Logger) (e *Embedded, err error) {
	defer func() {
		// etcd panics over data that it cannot read.
		if fault := recover(); fault != nil {
			e, err = nil, fmt.Errorf("the embedded etcd cannot use its data in %s (restore the folder, or move it away to start empty): %v", dir, fault)
		}
	}()
	listen, err := freeAddress(listenURL)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the folder of the embedded etcd: %w", err)
	}
	// It may be there from before, with other rights; etcd itself asks for these.
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the folder of the embedded etcd: %w", err)
	}
	closing := new(atomic.Bool)
	config := embeddedConfig(dir, listen)
	// At a clean close etcd reports errors that are none.
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(forwardTo(log.Hook(muteWhen(closing)), zerolog.WarnLevel))
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return nil, fmt.Errorf("the embedded etcd does not start: %w", err)
	}
	e = &Embedded{endpoint: listen.String(), etcd: etcd, closing: closing}
	select {
	case <-etcd.Server.ReadyNotify():
		return e, nil
	case err = <-etcd.Err():
	case <-etcd.Server.StopNotify():
		err = errors.New("it stopped at once")
	case <-time.After(startLimit):
		err = fmt.Errorf("it is not ready after %v", startLimit)
	}
	e.Close()
	return nil, fmt.Errorf("the embedded etcd does not start: %w", err)
}

func embeddedConfig(dir string, listen url.URL) *embed.Config {
	config := embed.NewConfig()
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
		return url.URL{}, fmt.Errorf("%q is no address for the embedded etcd: write http://127.0.0.1:2379", listenURL)
	}
	listener, err := net.Listen("tcp", u.Host)
	if errors.Is(err, syscall.EADDRINUSE) {
		return url.URL{}, fmt.Errorf("the embedded etcd cannot listen at %s: something else does, perhaps another etcd; "+
			"stop it, choose another etcd.embedded_listen, or use it with etcd.embedded: false and etcd.endpoints: [%s]", u.Host, listenURL)
	}
	if err != nil {
		return url.URL{}, fmt.Errorf("the embedded etcd cannot listen at %s: %w; choose another etcd.embedded_listen", u.Host, err)
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
	if !e.closing.Swap(true) {
		e.etcd.Close()
	}
}

// muteWhen returns a hook that drops what is logged once closing is true.
func muteWhen(closing *atomic.Bool) zerolog.HookFunc {
	return func(event *zerolog.Event, _ zerolog.Level, _ string) {
		if closing.Load() {
			event.Discard()
		}
	}
}
