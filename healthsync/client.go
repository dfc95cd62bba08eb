package healthsync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"

	"nearside/regions"
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

// ErrUnwritable is of a drain that no server would understand: etcd was not asked.
var ErrUnwritable = errors.New("this drain cannot be written")

// WriteDrain writes the drain of a region and returns the revision of the write.
func WriteDrain(ctx context.Context, client *clientv3.Client, prefix, region string, d regions.Drain) (revision int64, err error) {
	key, err := drainKeyOf(prefix, region)
	if err != nil {
		return 0, err
	}
	value, err := encodeDrain(d)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnwritable, err)
	}
	response, err := client.Put(ctx, key, value)
	if err != nil {
		return 0, fmt.Errorf("writing %s to etcd: %w", key, err)
	}
	return response.Header.Revision, nil
}

// RemoveDrain deletes the drain of a region and returns the revision, and
// whether there was one.
func RemoveDrain(ctx context.Context, client *clientv3.Client, prefix, region string) (revision int64, existed bool, err error) {
	key, err := drainKeyOf(prefix, region)
	if err != nil {
		return 0, false, err
	}
	response, err := client.Delete(ctx, key)
	if err != nil {
		return 0, false, fmt.Errorf("deleting %s from etcd: %w", key, err)
	}
	return response.Header.Revision, response.Deleted > 0, nil
}

func drainKeyOf(prefix, region string) (string, error) {
	if err := regions.CheckName(region); err != nil {
		return "", fmt.Errorf("region %q: %w", region, err)
	}
	return prefix + "/regions/" + region + "/drain", nil
}

// encodeDrain returns the value that ParseDrain reads as d.
func encodeDrain(d regions.Drain) (string, error) {
	value := "false"
	if d.Percent > 0 {
		value = "true"
	}
	if d.Percent > 0 && (d.Reason != "" || d.By != "") {
		object, err := json.Marshal(struct {
			Reason string `json:"reason,omitempty"`
			By     string `json:"by,omitempty"`
		}{d.Reason, d.By})
		if err != nil {
			return "", err
		}
		value = string(object)
	}
	if read, err := ParseDrain([]byte(value)); err != nil {
		return "", err
	} else if d.Percent > 0 && read != d {
		return "", fmt.Errorf("the reason and the name must be UTF-8")
	}
	return value, nil
}
