package healthsync

import (
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

// recall finds out what was in force at the keys of a list that are yet to be judged,
// where neither our own ledger nor a verdict can tell: at a first start, or when
// there were other writes while nobody watched. A watch sees every write, so this
// is for lists alone.
func (s *Sync) recall(ctx context.Context, client *clientv3.Client, writes []write) {
	ctx, cancel := context.WithTimeout(ctx, recallLimit)
	defer cancel()
	notes := make(map[string]note)
	for _, w := range writes {
		if a := parseKey(w.key); a.kind == verdictKey {
			notes[a.judges] = readNote(w, parseKey(a.judges))
		}
	}
	var missing []func()
	s.mu.Lock()
	for i := range writes {
		w := &writes[i]
		old, n := s.ledger.entries[w.key], notes[w.key]
		if w.created == w.revision || old.judged && old.revision == w.revision || n.binds(w.revision) || !s.ledger.needsPast(*w) {
			continue
		}
		look := func() { w.past = s.past(ctx, client, *w, old, n) }
		if parseKey(w.key).kind == drainKey { // first: there are few, and they matter most
			missing = slices.Insert(missing, 0, look)
		} else {
			missing = append(missing, look)
		}
	}
	s.mu.Unlock()
	var group errgroup.Group
	group.SetLimit(recallParallel)
	for _, look := range missing {
		group.Go(func() error {
			look()
			return nil
		})
	}
	group.Wait() // no step fails: what cannot be read is not known
}

// past returns what was in force when w was written: what became of the write before,
// if that is known, else the newest earlier value that is understood. It returns nil
// if that is not to be known, for example because it is compacted.
func (s *Sync) past(ctx context.Context, client *clientv3.Client, w write, old entry, n note) *entry {
	at := parseKey(w.key)
	revision := w.revision
	for range recallSteps {
		if revision <= w.created {
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
		switch {
		case old.judged && old.revision == kv.ModRevision:
			return &old
		case n.binds(kv.ModRevision):
			e := n.entry(w.key)
			return &e
		case at.check(kv.Value) == nil:
			return &entry{address: at, good: true, value: at.kept(kv.Value)}
		}
		revision = kv.ModRevision
	}
	return nil
}
