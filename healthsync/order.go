package healthsync

import (
	"errors"
	"fmt"
	"time"
)

// freeze says why etcd is not believed: it is not the cluster that our state
// comes from, or not in the condition in which we saw it last.
type freeze struct {
	Why     string `json:"why"`
	Cluster uint64 `json:"cluster,string,omitempty"` // the other cluster; 0 if it is ours with a lower revision
}

var (
	errFrozen = errors.New("the state is frozen until `nearside state accept`")
	errBehind = errors.New("the revision is below the one that was seen already: the member lags behind")
)

// admit decides whether a list of that cluster and revision may replace our
// state. Order is (cluster id, revision):
//
//   - a state that comes from nowhere takes any list, and so does Accept;
//   - of our cluster, a list at our revision or above comes after our state. One
//     below comes from a lagging member, or, when it stays so, from a cluster
//     that was restored from a backup: freeze. Its revision will grow beyond
//     ours by and by, which proves nothing: only Accept lifts that;
//   - another cluster can neither be before nor after: freeze. When our own
//     cluster is met again, that freeze is over.
//
// The caller holds the mutex.
func (s *Sync) admit(cluster uint64, revision int64) error {
	switch {
	case s.accept != nil || s.cluster == 0:
		return nil
	case cluster != s.cluster:
		s.freeze(cluster, fmt.Sprintf("etcd is the cluster %x, the state is from the cluster %x", cluster, s.cluster))
		return errFrozen
	case s.frozen != nil && s.frozen.Cluster == 0:
		return errFrozen
	case revision >= s.revision:
		if s.frozen != nil {
			s.frozen = nil
			wake(s.untold)
			s.config.Log.Warn().Msg("the cluster of our state is back: no longer frozen")
		}
		s.behind = time.Time{}
		return nil
	}
	if s.behind.IsZero() {
		s.behind = s.now()
		wake(s.untold)
	}
	if s.now().Sub(s.behind) < s.pace.behind {
		return errBehind
	}
	s.freeze(0, fmt.Sprintf("etcd is at revision %d, the state at %d: the cluster was restored or rebuilt", revision, s.revision))
	return errFrozen
}

// freeze records the first reason: later ones follow from it.
func (s *Sync) freeze(cluster uint64, why string) {
	if s.frozen != nil {
		return
	}
	s.frozen = &freeze{Why: why, Cluster: cluster}
	s.config.Log.Error().Str("why", why).Msg("state frozen: what is in force stays; look at etcd, then run `nearside state accept` on every name server")
	wake(s.unsaved)
	wake(s.untold)
}
