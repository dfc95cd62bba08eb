package healthsync

import (
	"context"
	"encoding/json"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Verdict is what became of a write, at verdicts/KEY. The first server to judge
// writes it, and all keep to it.
type Verdict struct {
	Revision  int64   `json:"revision"` // of the write
	Accepted  bool    `json:"accepted"`
	Effective *string `json:"effective"` // the value in force since; null: none
	Why       string  `json:"why,omitempty"`
	Server    string  `json:"server,omitempty"`  // which judged
	Held      bool    `json:"held,omitempty"`    // the key was deleted with all others, and its value stays in force
	Unknown   bool    `json:"unknown,omitempty"` // the server does not know what the key speaks of: it binds nobody who does
}

// AwaitVerdict returns the verdict on the write of a drain at a revision, or on a
// later one. It waits for as long as ctx lasts.
func AwaitVerdict(ctx context.Context, client *clientv3.Client, prefix string, at Target, revision int64) (Verdict, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	key := prefix + "/verdicts/" + at.drainKey()
	for response := range client.Watch(ctx, key, clientv3.WithRev(revision+1)) {
		for _, event := range response.Events {
			var v Verdict
			if json.Unmarshal(event.Kv.Value, &v) == nil && v.Revision >= revision {
				return v, nil
			}
		}
		if err := response.Err(); err != nil {
			return Verdict{}, fmt.Errorf("watching %s: %w", key, err)
		}
	}
	return Verdict{}, context.Cause(ctx)
}
