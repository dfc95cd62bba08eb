package healthsync

import (
	"time"

	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Connect makes a client for the given endpoints. It does not wait for a
// connection: the first request does, for as long as its context allows.
func Connect(endpoints []string, log zerolog.Logger) (*clientv3.Client, error) {
	return connect(clientv3.Config{Endpoints: endpoints}, log)
}

// connect fills in what all clients share.
func connect(config clientv3.Config, log zerolog.Logger) (*clientv3.Client, error) {
	config.DialTimeout = 5 * time.Second
	// 10 s is the least that gRPC allows. What notices a silent partition sooner
	// is the unanswered progress request of a watch.
	config.DialKeepAliveTime = 10 * time.Second
	config.DialKeepAliveTimeout = 3 * time.Second
	config.Logger = forwardTo(log, zerolog.DebugLevel)
	return clientv3.New(config)
}
