package healthsync

import (
	"context"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
)

const (
	recallSteps    = 16 // writes in a row that nobody has judged; further back is taken as absent
	recallParallel = 16
	recallLimit    = 3 * time.Second // for all keys of a list: the others must not wait
)

// recall finds out what was in force at the keys of a list that are yet to be judged,
// where neither our own ledger nor a verdict can tell: at a first start, or when
// there were other writes while nobody watched. It returns those other writes, which
// are to be judged as well. A watch sees every write, so this is for lists alone.
func (s *Sync) recall(ctx context.Context, client *clientv3.Client, writes []write) (earlier []write) {
	ctx, cancel := context.WithTimeout(ctx, recallLimit)
	defer cancel()
	notes := make(map[string]note)
	for _, w := range writes {
		if a := parseKey(w.key); a.kind == verdictKey {
			notes[a.judges] = readNote(w, parseKey(a.judges))
		}
	}
	var missing []func() []write
	s.mu.Lock()
	for i := range writes {
		w := &writes[i]
		old, n := s.ledger.entries[w.key], notes[w.key]
		if w.created == w.revision || old.judged && old.revision == w.revision || n.binds(w.revision) || !s.ledger.needsPast(*w) {
			continue
		}
		look := func() []write { return s.past(ctx, client, w, old, n) }
		if parseKey(w.key).kind == drainKey { // first: there are few, and they matter most
			missing = slices.Insert(missing, 0, look)
		} else {
			missing = append(missing, look)
		}
	}
	s.mu.Unlock()
	found := make([][]write, len(missing))
	var group errgroup.Group
	group.SetLimit(recallParallel)
	for i, look := range missing {
		group.Go(func() error {
			found[i] = look()
			return nil
		})
	}
	group.Wait() // no step fails: what cannot be read is not known
	return slices.Concat(found...)
}

// past returns the writes before w back to one of which it is known what became of it,
// or which needs no past itself: what nobody has judged counts for nothing until the
// guard has seen it. Where they cannot be read, for example because they are compacted,
// it takes what is before those that can be as absent; if none of these is understood
// it returns none, and w has no past.
func (s *Sync) past(ctx context.Context, client *clientv3.Client, w *write, old entry, n note) (earlier []write) {
	at := parseKey(w.key)
	first, understood := w, false
	since := func(past *entry) []write {
		first.past = past
		w.follows = len(earlier) > 0
		for i := range len(earlier) - 1 { // the last is the first
			earlier[i].follows = true
		}
		return earlier
	}
	for range recallSteps {
		if first.created == first.revision {
			return since(nil) // it is known that nothing was there before
		}
		response, err := s.get(ctx, client, s.config.Prefix+"/"+w.key, clientv3.WithRev(first.revision-1))
		if err != nil || len(response.Kvs) == 0 {
			break
		}
		kv := response.Kvs[0]
		if old.judged && old.revision == kv.ModRevision {
			return since(&old)
		}
		if n.binds(kv.ModRevision) {
			e := n.entry(w.key)
			return since(&e)
		}
		earlier = append(earlier, write{key: w.key, value: kv.Value, revision: kv.ModRevision, created: kv.CreateRevision}.cut())
		first = &earlier[len(earlier)-1]
		if at.check(first.value) == nil {
			if understood = true; at.kind != drainKey {
				return since(nil)
			}
		}
	}
	if !understood {
		return nil
	}
	return since(&entry{})
}
