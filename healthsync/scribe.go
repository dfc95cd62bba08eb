package healthsync

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// attempt is what the scribe knows of one record that it is to write, or wrote.
type attempt struct {
	owed   bool // it is to be written
	urgent bool
	next   time.Time     // not before
	gap    time.Duration // from one writing to the next
}

const (
	firstGap  = 100 * time.Millisecond
	forgetGap = 30 * time.Second // after the last writing

	// A transition that is written again and again, because a region flaps or
	// because two servers of different configurations do not agree on it, comes
	// ever more rarely. Each server acts on what it sees itself.
	longestGap = 10 * time.Second

	longestTry = time.Minute // between two attempts that fail
	silentGap  = time.Second // after etcd did not answer

	owedAtOnce = 1000 // records that are not urgent
	batch      = 16   // of those, until it is looked whether anything is urgent
)

// scribe writes what the servers must agree on, until ctx ends: verdicts and
// transitions. Each is one transaction that succeeds only if nobody was faster, and
// waits for a random moment, so that of many servers one writes and the others see
// it and are quiet.
func (s *Sync) scribe(ctx context.Context, client *clientv3.Client) {
	attempts := make(map[string]*attempt)
	for ctx.Err() == nil {
		ready, wait := s.owed(attempts)
		for _, key := range ready {
			s.mu.Lock()
			d, undone := s.ledger.duty(key) // the record may have come meanwhile
			s.mu.Unlock()
			if undone && !s.fulfil(ctx, client, d, attempts[key]) {
				wait = silentGap // etcd does not answer: the others would fare no better
				break
			}
		}
		pause(ctx, wait, s.duties)
	}
}

// owed brings the attempts up to date. It returns the records whose time has come,
// the urgent ones first, and when to look again.
func (s *Sync) owed(attempts map[string]*attempt) (ready []string, wait time.Duration) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	others := 0
	for key, a := range attempts {
		if a.owed {
			_, a.owed = s.ledger.duty(key)
		}
		if a.owed && !a.urgent {
			others++
		}
		if !a.owed && now.Sub(a.next) > forgetGap {
			delete(attempts, key)
		}
	}
	for _, d := range s.ledger.due(owedAtOnce - others) {
		a := attempts[d.key]
		if a == nil {
			a = &attempt{urgent: d.urgent, gap: firstGap}
			attempts[d.key] = a
		}
		if !a.owed {
			a.owed = true
			if at := now.Add(s.delay(d)); a.next.Before(at) {
				a.next = at
			}
		}
	}
	wait = time.Hour
	var rest []string
	for key, a := range attempts {
		switch left := a.next.Sub(now); {
		case !a.owed:
		case left > 0:
			wait = min(wait, left)
		case a.urgent:
			ready = append(ready, key)
		default:
			rest = append(rest, key)
		}
	}
	if len(ready)+len(rest) > 0 {
		wait = 0
	}
	return append(ready, rest[:min(len(rest), batch)]...), wait
}

// delay is how long a duty is left to the other servers.
func (s *Sync) delay(d duty) time.Duration {
	delay := rand.N(s.pace.modesty)
	if d.patient {
		delay += s.pace.courtesy
	}
	return delay
}

// fulfil does a duty, if nobody has been faster. It reports whether etcd answered.
func (s *Sync) fulfil(ctx context.Context, client *clientv3.Client, d duty, a *attempt) bool {
	base := s.config.Prefix + "/"
	unchanged := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(base+d.key), "=", d.mod)}
	if d.judges != "" {
		unchanged = append(unchanged, clientv3.Compare(clientv3.ModRevision(base+d.judges), "=", d.revision))
	}
	op := clientv3.OpDelete(base + d.key)
	if d.value != nil {
		op = clientv3.OpPut(base+d.key, string(d.value))
	}
	limited, cancel := context.WithTimeout(ctx, s.pace.request)
	defer cancel()
	_, err := client.Txn(limited).If(unchanged...).Then(op).Commit()
	if ctx.Err() != nil {
		return false
	}
	s.scribbled(d, err)
	a.next = time.Now().Add(a.gap)
	switch {
	case err != nil:
		a.gap = min(2*a.gap, longestTry)
	case d.judges == "":
		a.gap = min(2*a.gap, longestGap)
	default:
		a.gap = firstGap // one verdict for each write
	}
	return err == nil || errors.Is(err, rpctypes.ErrPermissionDenied)
}

// scribbled raises an alarm if records cannot be written, until they can.
func (s *Sync) scribbled(d duty, err error) {
	if errors.Is(err, rpctypes.ErrPermissionDenied) {
		err = fmt.Errorf("etcd does not let this server write %s/%s: grant its user the right to write below verdicts/ and transitions/; "+
			"until then it acts on its own judgement", s.config.Prefix, d.key)
	} else if err != nil {
		err = fmt.Errorf("%s/%s cannot be written: %s; see to etcd; until then this server acts on its own judgement", s.config.Prefix, d.key, Brief(err))
	}
	s.mu.Lock()
	was := s.scribeFault
	s.scribeFault = err
	s.mu.Unlock()
	if err != nil && was == nil {
		s.config.Log.Error().Err(err).Msg("etcd")
	} else if err == nil && was != nil {
		s.config.Log.Info().Msg("records can be written to etcd again")
	}
}
