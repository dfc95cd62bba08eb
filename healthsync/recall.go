package healthsync

import (
	"bytes"
	"context"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
)

const (
	recallSteps    = 16 // writes in a row that are not understood; further back is taken as absent
	recallParallel = 16
	recallLimit    = 3 * time.Second // for all keys of a list: the others must not wait
)

// recall finds out what was in force at the keys of a list whose value is not
// understood, where our own ledger cannot tell: at a first start, or when there
// were other writes while nobody watched. A watch sees every write, so this is
// for lists alone.
func (s *Sync) recall(ctx context.Context, client *clientv3.Client, writes []write) {
	ctx, cancel := context.WithTimeout(ctx, recallLimit)
	defer cancel()
	s.mu.Lock()
	known := s.ledger
	var missing []*write
	var entries []entry
	for i := range writes {
		w := &writes[i]
		e := known.entries[w.key]
		at := parseKey(w.key)
		if _, configured := s.config.Table.Named(at.region); !configured || at.check(w.value) == nil || e.good && e.revision == w.revision {
			continue
		}
		if at.kind == drainKey { // first: there are few, and they matter most
			missing, entries = slices.Insert(missing, 0, w), slices.Insert(entries, 0, e)
		} else {
			missing, entries = append(missing, w), append(entries, e)
		}
	}
	s.mu.Unlock()
	var group errgroup.Group
	group.SetLimit(recallParallel)
	for i, w := range missing {
		group.Go(func() error {
			w.past = s.past(ctx, client, *w, entries[i])
			return nil
		})
	}
	group.Wait() // no step fails: what cannot be read is not known
}

// past returns what was in force when w was written: the newest earlier value
// that is understood. It returns nil if that is not to be known, for example
// because it is compacted.
func (s *Sync) past(ctx context.Context, client *clientv3.Client, w write, known entry) *entry {
	at := parseKey(w.key)
	revision, created := w.revision, w.created
	for range recallSteps {
		if revision <= created {
			return &entry{} // nothing was there before
		}
		response, err := s.get(ctx, client, s.config.Prefix+"/"+w.key, clientv3.WithRev(revision-1))
		if err != nil {
			return nil
		}
		if len(response.Kvs) == 0 {
			return &entry{}
		}
		kv := response.Kvs[0]
		if known.good && known.revision == kv.ModRevision {
			return &known
		}
		if at.check(kv.Value) == nil {
			return &entry{good: true, value: string(bytes.TrimSpace(kv.Value))}
		}
		revision = kv.ModRevision
	}
	return nil
}
