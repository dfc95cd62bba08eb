package probes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// How long things take. A lease outlives three turns in vain, one at each member
// of a cluster; a host that is gone has no votes that count after leaseTime.
const (
	leaseTime   = 10 * time.Second
	turn        = 2 * time.Second // between two renewals
	requestTime = 2 * time.Second // of one request: the next one goes to the next member
	settling    = 10 * time.Second
	retryTime   = time.Second
	maxWrites   = 100 // of one transaction: etcd takes 128 operations
)

// tell keeps etcd told until ctx ends. It waits until every subject has a vote
// of this run, for a while: else votes of the last run would count that say what
// was true then.
func (p *Prober) tell(ctx context.Context) {
	settled := time.NewTimer(settling)
	defer settled.Stop()
	select {
	case <-ctx.Done():
		return
	case <-settled.C:
	case <-p.decided:
	}
	for {
		err := p.session(ctx)
		if ctx.Err() != nil {
			p.setLive(false, errStopped)
			return
		}
		p.setLive(false, err)
		again := time.NewTimer(retryTime)
		select {
		case <-ctx.Done():
		case <-again.C:
		}
		again.Stop()
	}
}

var errStopped = errors.New("stopped")

// setLive notes whether the votes count, and logs a change.
func (p *Prober) setLive(live bool, fault error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch was := p.live; {
	case live && !was:
		p.config.Log.Info().Str("host", p.config.Host).Int("votes", len(p.subjects)).Msg("probes: the votes of this host count")
	case fault == errStopped:
	case !live && (was || p.fault == nil || p.fault.Error() != fault.Error()):
		p.config.Log.Warn().Str("host", p.config.Host).Err(fault).Msg("probes: the votes of this host do not count")
	}
	p.live, p.fault = live, fault
}

// session is the time with one lease. The key probes/HOST is there for as long:
// it makes the votes of this host count, and whoever made it may write them.
type session struct {
	*Prober
	lease   clientv3.LeaseID
	renewed time.Time           // when the last renewal that went well was asked for
	current time.Time           // when etcd last had all votes
	written map[*subject]stored // what etcd has
	at      int64               // the revision of the newest transaction
	fault   string              // why it does not take a vote
}

// stored is a vote in etcd.
type stored struct {
	status Status
	mod    int64 // its revision
}

var (
	errTaken = errors.New("the key of this host is gone from etcd")
	errEnded = errors.New("the lease ran out")
)

// session votes until the lease is lost, or ctx ends.
func (p *Prober) session(ctx context.Context) error {
	if err := p.late(); err != nil {
		return err
	}
	s := &session{Prober: p, renewed: time.Now(), written: make(map[*subject]stored)}
	// To ask first saves a cluster the leases of a process that waits for another.
	if free, err := s.commit(ctx, s.free(), nil); err != nil {
		return fmt.Errorf("etcd: %w", err)
	} else if !free {
		return s.held()
	}
	granted, err := request(ctx, p.config.Client, func(ctx context.Context) (*clientv3.LeaseGrantResponse, error) {
		return p.config.Client.Grant(ctx, int64(leaseTime/time.Second))
	})
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	s.lease = granted.ID
	// With the lease goes the key: the votes stop counting now, and do not say
	// down. That is right after a stop as after a loss.
	defer func() {
		_, _ = request(context.WithoutCancel(ctx), p.config.Client, func(ctx context.Context) (*clientv3.LeaseRevokeResponse, error) {
			return p.config.Client.Revoke(ctx, s.lease)
		})
	}()
	if err := s.begin(ctx); err != nil {
		return err
	}
	p.setLive(true, nil)
	return s.follow(ctx)
}

// request makes one request to etcd, within requestTime.
func request[T any](ctx context.Context, client *clientv3.Client, ask func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	answer, err := ask(ctx)
	if err != nil {
		// After minutes without etcd gRPC would look for it every other minute.
		client.ActiveConnection().ResetConnectBackoff()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %v", requestTime)
	}
	return answer, err
}

// follow renews the lease and writes what changes.
func (s *session) follow(ctx context.Context) error {
	turns := time.NewTicker(turn)
	defer turns.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.changed:
		case <-turns.C:
			if err := s.late(); err != nil {
				return err
			}
			if err := s.renew(ctx); err != nil {
				return err
			}
		}
		if err := s.keep(ctx); err != nil {
			return err
		}
	}
}

// keep writes what changed. Where etcd renews the lease but takes no vote for
// long, the session must end: what etcd has would count, and is not true.
func (s *session) keep(ctx context.Context) error {
	err := s.write(ctx)
	switch {
	case err == nil:
		s.current, s.fault = time.Now(), ""
	case errors.Is(err, errTaken):
		return err
	case s.renewed.Sub(s.current) > leaseTime:
		return fmt.Errorf("etcd takes no votes: %w", err)
	case err.Error() != s.fault && ctx.Err() == nil:
		s.fault = err.Error()
		s.config.Log.Warn().Err(err).Msg("probes: etcd does not take a vote; trying again")
	}
	return nil
}

// renew renews the lease, and fails only where etcd says that it is lost: one
// that did not answer may well have kept it.
func (s *session) renew(ctx context.Context) error {
	asked := time.Now()
	_, err := request(ctx, s.config.Client, func(ctx context.Context) (*clientv3.LeaseKeepAliveResponse, error) {
		return s.config.Client.KeepAliveOnce(ctx, s.lease)
	})
	switch {
	case err == nil:
		s.renewed = asked
		// The lease without the key would be of no use. Another error tells nothing of it.
		if err := s.verify(ctx); errors.Is(err, errTaken) {
			return err
		}
		s.setLive(true, nil)
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return errEnded
	case time.Since(s.renewed) > leaseTime && ctx.Err() == nil:
		s.setLive(false, fmt.Errorf("etcd: %w", err))
	}
	return nil
}

// begin makes the key probes/HOST, after the votes in etcd were made those of now.
func (s *session) begin(ctx context.Context) error {
	stray, err := s.compare(ctx)
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	writes, due := s.due()
	for _, key := range stray {
		writes = append(writes, clientv3.OpDelete(key))
	}
	// Before it is there, nobody's votes as this host count: what is half
	// written then does no harm.
	writes = append(writes, clientv3.OpPut(s.hostKey(), time.Now().UTC().Format(time.RFC3339), clientv3.WithLease(s.lease)))
	for some := range slices.Chunk(writes, maxWrites) {
		done, err := s.commit(ctx, s.free(), some)
		if err != nil {
			return fmt.Errorf("etcd: %w", err)
		}
		votes := min(len(some), len(due))
		s.note(due[:votes])
		due = due[votes:]
		if done {
			continue
		}
		// It may have been us, in a request that seemed to fail.
		if mine, err := s.commit(ctx, s.mine(), nil); err != nil {
			return fmt.Errorf("etcd: %w", err)
		} else if !mine {
			return s.held()
		}
	}
	s.current = time.Now()
	return nil
}

// write writes the votes that etcd does not have.
func (s *session) write(ctx context.Context) error {
	writes, due := s.due()
	for len(writes) > 0 {
		n := min(len(writes), maxWrites)
		if done, err := s.commit(ctx, s.mine(), writes[:n]); err != nil {
			return err
		} else if !done {
			return errTaken
		}
		s.note(due[:n])
		writes, due = writes[n:], due[n:]
	}
	return nil
}

// verify looks whether etcd has what was written. Where somebody has deleted votes or
// written over them, or etcd was restored from a backup, all those are due again that
// are not as they should be.
func (s *session) verify(ctx context.Context) error {
	conditions := []clientv3.Cmp{s.mine()}
	for about, vote := range s.written {
		conditions = append(conditions, clientv3.Compare(clientv3.ModRevision(s.voteKey(about)), "=", vote.mod))
	}
	for some := range slices.Chunk(conditions, maxWrites) {
		if same, err := s.commitIf(ctx, some, nil); err != nil {
			return err
		} else if !same {
			return s.repair(ctx)
		}
	}
	return nil
}

// repair finds out what etcd has.
func (s *session) repair(ctx context.Context) error {
	clear(s.written) // until it is found, nothing is as it should be
	stray, err := s.compare(ctx)
	if err != nil {
		return err
	}
	var writes []clientv3.Op
	for _, key := range stray {
		writes = append(writes, clientv3.OpDelete(key))
	}
	for _, some := range append(slices.Collect(slices.Chunk(writes, maxWrites)), nil) { // nil: whether it is ours at least
		if mine, err := s.commit(ctx, s.mine(), some); err != nil {
			return err
		} else if !mine {
			return errTaken
		}
	}
	return nil
}

// mine is the condition that probes/HOST is the key of this session.
func (s *session) mine() clientv3.Cmp {
	return clientv3.Compare(clientv3.LeaseValue(s.hostKey()), "=", int64(s.lease))
}

// free is the condition that there is no probes/HOST.
func (s *session) free() clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(s.hostKey()), "=", 0)
}

// held says that probes/HOST is there and not of this session.
func (s *session) held() error {
	return fmt.Errorf("%s is there already: another process probed as %s less than %v ago; if it still does, give one of them another --host",
		s.hostKey(), s.config.Host, leaseTime)
}

// commit writes if a condition holds, and reports whether it did. It asks as many
// times as there are members, for one of them may be cut off: to write the same
// again does no harm.
func (s *session) commit(ctx context.Context, condition clientv3.Cmp, writes []clientv3.Op) (done bool, err error) {
	return s.commitIf(ctx, []clientv3.Cmp{condition}, writes)
}

func (s *session) commitIf(ctx context.Context, conditions []clientv3.Cmp, writes []clientv3.Op) (done bool, err error) {
	for range s.config.Client.Endpoints() {
		var answer *clientv3.TxnResponse
		answer, err = request(ctx, s.config.Client, func(ctx context.Context) (*clientv3.TxnResponse, error) {
			return s.config.Client.Txn(ctx).If(conditions...).Then(writes...).Commit()
		})
		if err == nil {
			s.at = answer.Header.Revision
			return answer.Succeeded, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return false, err
}

// written is a vote that was written.
type written struct {
	subject *subject
	status  Status
}

// due returns the writes of the votes that etcd does not have.
func (s *session) due() (writes []clientv3.Op, due []written) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, about := range s.subjects {
		if v := about.vote; v.status != Unknown && v.status != s.written[about].status {
			writes = append(writes, clientv3.OpPut(s.voteKey(about), s.encode(v)))
			due = append(due, written{about, v.status})
		}
	}
	return writes, due
}

func (s *session) note(due []written) {
	for _, w := range due {
		s.written[w.subject] = stored{w.status, s.at}
	}
}

func (s *session) key(below string) string { return s.config.Prefix + "/" + below }

func (s *session) hostKey() string { return s.key("probes/" + s.config.Host) }

func (s *session) voteKey(about *subject) string {
	if about.service == "" {
		return s.key("regions/" + about.region + "/health/" + s.config.Host)
	}
	return s.key("services/" + about.service + "/" + about.region + "/health/" + s.config.Host)
}

// value is a vote in etcd. It counts while the key probes/PROBE is there.
type value struct {
	Status string `json:"status"`
	Probe  string `json:"probe"`
	Since  string `json:"since"`
	Detail string `json:"detail,omitempty"`
}

func (s *session) encode(v vote) string {
	text, _ := json.Marshal(value{ // strings are always encoded
		v.status.String(), s.config.Host, v.since.UTC().Format("2006-01-02T15:04:05.000Z07:00"), v.detail,
	})
	return string(text)
}

// page is how many keys are read at a time.
const page = 1000

// compare finds out which votes etcd has as they should be, and returns the keys
// of those that this host voted once and votes no more: they would count again.
func (s *session) compare(ctx context.Context) (stray []string, err error) {
	ours := make(map[string]*subject)
	for _, about := range s.subjects {
		ours[s.voteKey(about)] = about
	}
	for _, from := range []string{s.key("regions/"), s.key("services/")} {
		end := clientv3.GetPrefixRangeEnd(from)
		for more := true; more; {
			found, err := request(ctx, s.config.Client, func(ctx context.Context) (*clientv3.GetResponse, error) {
				return s.config.Client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(page))
			})
			if err != nil {
				return nil, err
			}
			for _, kv := range found.Kvs {
				from = string(kv.Key) + "\x00" // the next key there can be
				var v value
				if !strings.HasSuffix(string(kv.Key), "/health/"+s.config.Host) || json.Unmarshal(kv.Value, &v) != nil || v.Probe != s.config.Host {
					continue
				}
				switch about := ours[string(kv.Key)]; {
				case about == nil:
					stray = append(stray, string(kv.Key))
				case v.Status == Up.String():
					s.written[about] = stored{Up, kv.ModRevision}
				case v.Status == Down.String():
					s.written[about] = stored{Down, kv.ModRevision}
				}
			}
			more = found.More
		}
	}
	return stray, nil
}
