package healthsync

import (
	"context"
	"fmt"
	"time"
)

// keepGap is the least time between two writings of the state file, so that a
// burst of changes costs one. A large file on a slow disk makes it longer.
const keepGap = 100 * time.Millisecond

// keep writes the state file whenever it is out of date, AFTER the state was
// published: a slow or full disk delays nothing.
func (s *Sync) keep(ctx context.Context) {
	defer s.save() // the last word, with the time of the last confirmation
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.unsaved:
		}
		start := time.Now()
		if err := s.save(); err != nil {
			wake(s.unsaved)
			pause(ctx, s.pace.rewrite, nil)
			continue
		}
		pause(ctx, max(keepGap, 10*time.Since(start)), nil)
	}
}

// save writes the state file.
func (s *Sync) save() error {
	v := s.snapshot()
	content, err := v.encode()
	if err == nil {
		err = s.file.store(content)
	}
	if err != nil {
		err = fmt.Errorf("the state file cannot be written, so a restart without etcd would start from an older state: %w", err)
	}
	s.mu.Lock()
	was := s.stateFault
	s.stateFault = err
	if err == nil {
		s.kept = v.Revision
	}
	s.mu.Unlock()
	if err != nil && was == nil {
		s.config.Log.Error().Err(err).Msg("state file")
	} else if err == nil && was != nil {
		s.config.Log.Info().Msg("the state file can be written again")
	}
	return err
}

// snapshot returns what the state file is to hold now.
func (s *Sync) snapshot() saved {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.ledger.save()
	v.Cluster, v.Revision, v.Frozen, v.Override = s.cluster, s.revision, s.frozen, s.override
	if s.cluster != 0 {
		// By today's wall clock, should it have been set since.
		v.Confirmed = s.now().Add(-s.age()).Round(0).UTC()
	}
	return v
}
