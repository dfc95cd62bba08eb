package healthsync

import (
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// take replaces what is known by a list. Merging would bring keys back that
// were deleted while nobody watched.
func (s *Sync) take(l listing) error {
	s.mu.Lock()
	if err := s.admit(l.cluster, l.revision); err != nil {
		s.mu.Unlock()
		return err
	}
	base := s.ledger
	if s.accept != nil {
		base = s.newLedger() // what was in force before counts no more
		close(s.accept)
		s.accept = nil
	}
	s.confirmed, s.refreshed = s.now(), s.now()
	s.ledger = base.replace(l.writes, l.revision, s.revision, s.confirmed)
	s.cluster, s.revision, s.input, s.source, s.frozen = l.cluster, l.revision, l.revision, FromEtcd, nil
	s.behind = time.Time{}
	_, count := s.ledger.rejections()
	s.mu.Unlock()

	wake(s.changed)
	s.config.Log.Info().Int64("revision", l.revision).Int("keys", len(l.writes)).Int("rejected", count).Msg("etcd read; following it")
	return nil
}

// heard enters what the watch says: events, or that there were none up to a
// revision.
func (s *Sync) heard(response clientv3.WatchResponse, cluster uint64) error {
	if response.Header.ClusterId != cluster {
		return fmt.Errorf("another cluster answers: %x instead of %x", response.Header.ClusterId, cluster)
	}
	s.mu.Lock()
	if response.Header.Revision < s.revision {
		s.mu.Unlock()
		return errBehind
	}
	s.confirmed = s.now()
	changed := false
	for events := after(s.revision, response.Events); len(events) > 0; {
		var writes []write
		s.revision = events[0].Kv.ModRevision
		writes, events = s.transaction(events)
		s.ledger.transact(writes, s.confirmed)
		if len(writes) > 0 {
			s.input, changed = s.revision, true
		}
	}
	if len(response.Events) == 0 {
		s.revision = response.Header.Revision
	}
	changed = changed || s.timely() // what waited for this confirmation
	refresh := s.confirmed.Sub(s.refreshed) >= s.pace.refresh
	if refresh {
		s.refreshed = s.confirmed
	}
	s.mu.Unlock()

	if changed {
		wake(s.changed)
	} else if refresh {
		wake(s.unsaved)
	}
	return nil
}

// after returns the events later than a revision.
func after(revision int64, events []*clientv3.Event) []*clientv3.Event {
	for len(events) > 0 && events[0].Kv.ModRevision <= revision {
		events = events[1:]
	}
	return events
}

// transaction returns the writes of the first revision in events, and the
// events after it. A revision never spans two responses.
func (s *Sync) transaction(events []*clientv3.Event) (writes []write, rest []*clientv3.Event) {
	revision := events[0].Kv.ModRevision
	for len(events) > 0 && events[0].Kv.ModRevision == revision {
		e := events[0]
		key := strings.TrimPrefix(string(e.Kv.Key), s.config.Prefix+"/")
		if parseKey(key).kind != ignored {
			writes = append(writes, write{key: key, value: e.Kv.Value, deleted: e.Type == clientv3.EventTypeDelete, revision: revision, created: e.Kv.CreateRevision}.cut())
		}
		events = events[1:]
	}
	return writes, events
}
