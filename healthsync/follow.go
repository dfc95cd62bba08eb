package healthsync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"
)

// follow goes from member to member for ever. It stays with one for as long as
// that answers: a client over all members would go on asking a partitioned one
// every now and then.
func (s *Sync) follow(ctx context.Context) {
	members, wait := s.config.Endpoints, firstPause
	for next, failed := 0, 0; ctx.Err() == nil; next = (next + 1) % len(members) {
		listed, err := s.session(ctx, members[next])
		if ctx.Err() != nil {
			break
		}
		s.lost(members[next], err)
		if listed {
			failed, wait = 0, firstPause
		}
		if failed++; failed < len(members) {
			continue // there are others to ask: at once
		}
		failed = 0
		pause(ctx, wait/2+rand.N(wait), s.again) // servers that lost the same etcd do not come back in step
		wait = min(2*wait, s.pace.retry*2/3)
	}
	s.setLink(link{})
}

// firstPause follows the first round in vain, or the loss of the only member.
const firstPause = 50 * time.Millisecond

// session follows one member until it fails. listed tells whether the member
// was of any use.
func (s *Sync) session(ctx context.Context, endpoint string) (listed bool, err error) {
	// Without a leader a member knows nothing for certain: it ends our watch.
	ctx, cancel := context.WithCancelCause(clientv3.WithRequireLeader(ctx))
	defer cancel(nil)
	client, err := connect(clientv3.Config{
		Endpoints: []string{endpoint}, Context: ctx,
		MaxUnaryRetries: 2, // a new login; for all else the next member is the better retry
	}, s.config.Credentials, s.config.Log)
	if err != nil {
		return false, err
	}
	defer client.Close()
	l, err := s.list(ctx, client)
	if err != nil {
		return false, err
	}
	if err := s.take(l); err != nil {
		return false, err
	}
	s.setLink(link{endpoint: endpoint, connected: true})
	go func() { cancel(untilLost(ctx, client)) }()
	var scribe sync.WaitGroup
	scribe.Go(func() { s.scribe(ctx, client) })
	err = s.watch(ctx, client, l)
	cancel(nil)
	scribe.Wait()
	return true, err
}

var errLost = errors.New("the connection was lost")

// untilLost waits for the end of the connection. The client would make a new
// one and go on with the watch, and so overlook that a member came back with
// another past.
func untilLost(ctx context.Context, client *clientv3.Client) error {
	connection := client.ActiveConnection()
	if connection.GetState() == connectivity.Ready {
		connection.WaitForStateChange(ctx, connectivity.Ready)
	}
	return errLost
}

// watch applies what happens after the list. It begins with the list's own
// revision, whose events are known: etcd gives no sign of progress for a watch
// that begins in the future, so a cluster without writes would look dead.
func (s *Sync) watch(ctx context.Context, client *clientv3.Client, l listing) error {
	events := client.Watch(ctx, s.config.Prefix+"/", clientv3.WithPrefix(), clientv3.WithRev(l.revision), clientv3.WithProgressNotify())
	question := time.NewTicker(s.pace.progress)
	defer question.Stop()
	silence := time.NewTimer(s.pace.silence)
	defer silence.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-silence.C:
			return fmt.Errorf("the member has been silent for %v", s.pace.silence)
		case <-question.C:
			if err := s.ask(ctx, client); err != nil {
				return err
			}
		case response, open := <-events:
			if !open {
				return cmp.Or(context.Cause(ctx), errLost)
			}
			if err := response.Err(); err != nil {
				return fmt.Errorf("watching: %w", err)
			}
			if err := s.heard(response, l.cluster); err != nil {
				return err
			}
			silence.Reset(s.pace.silence)
		}
	}
}

// ask requests a sign that the watch is current, which comes as an event.
func (s *Sync) ask(ctx context.Context, client *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(ctx, s.pace.request)
	defer cancel()
	if err := client.RequestProgress(ctx); err != nil {
		return fmt.Errorf("asking for progress: %w", err)
	}
	return nil
}

// grace is for an embedded etcd, which is not there at once.
const grace = time.Second

// lost notes why a session ended. A state that is frozen is no news each time.
func (s *Sync) lost(endpoint string, err error) {
	s.mu.Lock()
	hint, fault := Hint(err), Brief(err)
	if hint == wantsTLS && s.source == FromEtcd {
		hint = "" // it spoke without TLS before: it is dying
	}
	if hint != "" {
		fault += "; " + hint
	}
	was := s.link
	news := was.connected || !was.told && s.now().Sub(s.opened) > grace || hint != "" && hint != was.hint
	s.link = link{endpoint: endpoint, fault: fault, hint: cmp.Or(hint, was.hint), told: was.told || news}
	s.mu.Unlock()
	log := s.config.Log.Debug()
	if news {
		log = s.config.Log.Warn()
	}
	log.Str("endpoint", endpoint).Str(zerolog.ErrorFieldName, fault).Msg("etcd: not followed; the last state stays in force")
}

func (s *Sync) setLink(next link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link = next
}
