package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"nearside/dnsserver"
	"nearside/healthsync"
)

// errNotSafe says that a server may still answer with a drained region.
var errNotSafe = errors.New("NOT safe to power off")

// errInterrupted is of somebody who does not want to wait any more.
var errInterrupted = errors.New("interrupted; the drain stays")

// The rhythm of `drain --wait`.
const (
	lookEvery = 200 * time.Millisecond
	askAfter  = 2 * time.Second // a server that reaches etcd needs no longer
	askEvery  = time.Second
	askTime   = 500 * time.Millisecond // for its answer
	longWait  = 15 * time.Second       // without news
)

// waiter waits until no server answers with what is drained.
type waiter struct {
	drainer
	revision int64
	cluster  string // of etcd; "" until it is read
	digest   string // of our configuration
	began    time.Time
	asked    time.Time

	told    string            // the last line of progress
	applied map[string]bool   // servers that have the drain, by ID
	ends    time.Time         // when the last cached answer runs out
	late    map[string]string // servers that may still answer, and what is known of them
	said    map[string]string // what servers said when they were asked over DNS
	servers int               // that are registered
	judged  bool              // there is a verdict
}

// wait returns when what is drained can be powered off.
func (w drainer) wait(ctx context.Context, revision int64) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	v := &waiter{drainer: w, revision: revision, digest: w.config.digest(), began: time.Now(), applied: make(map[string]bool), late: make(map[string]string), said: make(map[string]string)}
	for again := false; ; again = true {
		late, err := v.all(ctx)
		switch {
		case err != nil:
			return err
		case again && !late:
			v.printf("safe to power off %s%s", v.at, v.end())
			return nil
		}
		if planned, err := v.cached(ctx); planned || err != nil {
			return err
		}
		// What servers said over DNS, and what etcd said of them, may be so no more.
		clear(v.applied)
		v.asked = time.Time{}
	}
}

// all returns when all servers have applied the drain, and whether any was late.
func (v *waiter) all(ctx context.Context) (late bool, err error) {
	for news := time.Now(); ; {
		before := v.told
		done, err := v.look(ctx)
		late = late || err == nil && !done
		switch {
		case ctx.Err() != nil:
			return late, v.unsafe(errInterrupted)
		case errors.Is(err, errNotSafe):
			return late, err
		case done:
			return late, nil
		case v.told != before:
			news = time.Now()
		case time.Since(news) > longWait:
			return late, v.unsafe(err)
		} // an etcd that failed may be back in a moment
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			return late, v.unsafe(errInterrupted)
		}
	}
}

// look asks etcd, and where that does not help the servers themselves.
func (v *waiter) look(ctx context.Context) (done bool, err error) {
	within, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	list, cluster, err := healthsync.Fleet(within, v.client, v.config.Etcd.Prefix)
	if err != nil {
		return false, err
	}
	judged, err := v.inForce(within)
	if err != nil {
		return false, err
	}
	v.cluster = cluster
	var unknown []healthsync.Member
	now := time.Now()
	clear(v.late)
	for _, m := range list {
		switch {
		case v.applied[m.ID]:
		case m.Follows(cluster) && m.Revision >= v.revision && v.inStep(m) && m.Stopped.IsZero():
			v.has(m, now)
		default:
			v.late[m.ID] = v.known(m)
			unknown = append(unknown, m)
		}
	}
	if len(unknown) > 0 && now.Sub(v.began) > askAfter && now.Sub(v.asked) > askEvery {
		v.asked = now
		v.ask(unknown)
	}
	v.servers, v.judged = len(list), judged
	v.progress()
	return judged && len(list) > 0 && len(v.late) == 0, nil
}

// inForce reports whether the servers have accepted the drain. An error of errNotSafe
// says that it is in force no more.
func (v *waiter) inForce(ctx context.Context) (judged bool, err error) {
	written, verdict, err := healthsync.ReadDrain(ctx, v.client, v.config.Etcd.Prefix, v.at)
	switch {
	case err != nil:
		return false, err
	case written == 0:
		return false, fmt.Errorf("%w: somebody else has undrained %s", errNotSafe, v.at)
	case written != v.revision:
		return false, fmt.Errorf("%w: somebody else has written the drain of %s again, at revision %d", errNotSafe, v.at, written)
	case !v.drain.Until.IsZero() && !time.Now().Before(v.drain.Until):
		return false, fmt.Errorf("%w: the drain of %s has ended at %s", errNotSafe, v.at, moment(v.drain.Until))
	case verdict.Revision == v.revision && !verdict.Accepted:
		return false, fmt.Errorf("%w: the servers refuse the drain: %s", errNotSafe, verdict.Why)
	}
	return verdict.Revision == v.revision, nil
}

// inStep reports whether a server has the drain if it has read the revision. Where etcd
// was restored, revisions say nothing.
func (v *waiter) inStep(m healthsync.Member) bool {
	return !m.Frozen && !m.Ahead && v.alike(m)
}

// alike reports whether a server knows what is drained. One of another configuration
// may not know the service.
func (v *waiter) alike(m healthsync.Member) bool {
	return v.at.Service == "" || m.Digests.Configuration == v.digest
}

// has notes that a server answers with what is drained no more, since a time at the
// latest.
func (v *waiter) has(m healthsync.Member, since time.Time) {
	ttl := time.Duration(cmp.Or(m.TTL, v.config.Table().LongestTTL())) * time.Second
	delete(v.late, m.ID)
	v.applied[m.ID] = true
	v.ends = latest(v.ends, since.Add(ttl))
}

// known says what is known of a server that has not applied the drain.
func (v *waiter) known(m healthsync.Member) string {
	what := known(m, v.cluster)
	if m.Fault == "" && !v.alike(m) {
		what += ", and has another configuration than this command, which may not know the service: see to it that all have the same"
	}
	return what + v.said[m.ID]
}

// known says why a server may not do what a cluster of etcd says.
func known(m healthsync.Member, cluster string) string {
	var what string
	switch {
	case m.Fault != "":
		what = "what it says of itself is not understood: " + m.Fault
	case stopped(m):
		what = "it was stopped"
	case m.Cluster != cluster:
		what = "it follows another cluster of etcd: look at it, then run `nearside state accept` there"
	case m.Frozen:
		what = "its state is frozen: look at it, then run `nearside state accept` there"
	case m.Ahead:
		what = fmt.Sprintf("it answers from revision %d, which etcd had not reached: etcd was restored; see `nearside status` there", m.Revision)
	case !m.Alive:
		what = fmt.Sprintf("it is cut off from etcd or dead, and answers from revision %d", m.Revision)
	default:
		what = fmt.Sprintf("it answers from revision %d", m.Revision)
	}
	if m.Override {
		what += ", and its break-glass file wins over etcd"
	}
	return what
}

// stopped reports whether a server has taken its leave. It may have been started
// again, cut off from etcd.
func stopped(m healthsync.Member) bool { return !m.Stopped.IsZero() && !m.Alive }

// ask asks servers over DNS from which state they answer.
func (v *waiter) ask(list []healthsync.Member) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, m := range list {
		all.Go(func() {
			told, err := askState(m.ID, m.Addresses)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, errAbsent) && stopped(m):
				v.has(m, m.Stopped)
			case err != nil:
				v.said[m.ID] = fmt.Sprintf("; asked over DNS: %v", err)
			case v.out(told, m):
				v.has(m, time.Now())
			case v.knows(told, m):
				v.said[m.ID] = "; asked over DNS: it knows of the drain and answers all the same: see to its break-glass file"
			default:
				v.said[m.ID] = fmt.Sprintf("; asked over DNS: it answers from revision %d of cluster %x", told.Revision, told.Cluster)
			}
			if !v.applied[m.ID] {
				v.late[m.ID] = v.known(m)
			}
		})
	}
	all.Wait()
}

// knows reports whether a server has read the drain.
func (v *waiter) knows(told dnsserver.Told, m healthsync.Member) bool {
	return v.inStep(m) && strconv.FormatUint(told.Cluster, 16) == v.cluster && told.Revision >= v.revision
}

// out reports whether no answer of a server has what is drained. Where it names that, it
// does not matter whether by this drain, or by its break-glass file while it is cut off
// from etcd. Where it cannot tell, since the drain has yet to begin or there was no room,
// what it told etcd of that file counts.
func (v *waiter) out(told dnsserver.Told, m healthsync.Member) bool {
	planned := v.drain.At.After(time.Now())
	service := v.at.Service + "/" + v.at.Region
	if slices.Contains(told.Drained, v.at.Region) || slices.Contains(told.Drained, service) {
		return v.knows(told, m) || !planned
	}
	return v.knows(told, m) && !m.Override && (told.More > 0 || planned)
}

// errAbsent is of a server that is not at its addresses: nobody answers there, or
// somebody else.
var errAbsent = errors.New("nobody answers as this server")

// askState asks a server, at all its addresses at once, from which state it answers. An
// address that is private may lead to another machine: it must say that it is the server.
func askState(id string, addresses []string) (told dnsserver.Told, err error) {
	type reply struct {
		told dnsserver.Told
		err  error
	}
	replies := make(chan reply, len(addresses))
	for _, address := range addresses {
		go func() {
			told, err := askAddress(id, address)
			replies <- reply{told, err}
		}()
	}
	err = fmt.Errorf("%w: it has no address", errAbsent)
	for range addresses {
		r := <-replies
		switch {
		case r.err == nil:
			return r.told, nil
		case errors.Is(err, errAbsent):
			err = r.err // a server that does not say tells more than one that is not there
		}
	}
	return told, err
}

// askAddress asks at CH TXT state.nearside, once more where a packet may be lost.
func askAddress(id, address string) (told dnsserver.Told, err error) {
	query := new(dns.Msg)
	query.SetQuestion("state.nearside.", dns.TypeTXT)
	query.Question[0].Qclass = dns.ClassCHAOS
	client := dns.Client{Timeout: askTime}
	answer, _, err := client.Exchange(query, address)
	if err != nil {
		answer, _, err = client.Exchange(query, address)
	}
	if err != nil {
		return told, fmt.Errorf("%w: %w", errAbsent, err)
	}
	for _, rr := range answer.Answer {
		txt, ok := rr.(*dns.TXT)
		if !ok {
			continue
		}
		told, err = dnsserver.ParseTold(strings.Join(txt.Txt, " "))
		if err == nil && told.ID != id {
			return told, fmt.Errorf("%w: at %s is %s", errAbsent, address, told.ID)
		}
		return told, err
	}
	return told, fmt.Errorf("%s does not say", address)
}

// progress prints how far it is, when that has changed.
func (v *waiter) progress() {
	line := fmt.Sprintf("%d of %d servers have applied revision %d", v.servers-len(v.late), v.servers, v.revision)
	if !v.judged {
		line += ", and none has judged it"
	}
	if len(v.late) > 0 {
		line += "; not yet: " + strings.Join(slices.Sorted(maps.Keys(v.late)), ", ")
	}
	if line != v.told {
		v.told = line
		v.printf("%s", line)
	}
}

// cached waits until no resolver can have an answer from before. Where that is when a
// planned drain begins, it says so, and that is all there is to wait for.
func (v *waiter) cached(ctx context.Context) (planned bool, err error) {
	at, until := v.drain.At, v.drain.Until
	if !until.IsZero() && !v.ends.Before(until) {
		return false, fmt.Errorf("%w: the drain ends at %s, and the last cached answer runs out at %s: drain for longer",
			errNotSafe, moment(until), moment(v.ends))
	}
	what := fmt.Sprintf("no server answers with %s any more", v.at)
	if at.After(time.Now()) {
		if !v.ends.After(at) {
			v.printf("TTLs run down to %s: safe to power off %s from then on%s", moment(at), v.at, v.end())
			return true, nil
		}
		what = "all servers know of the drain"
	}
	v.printf("%s; the last cached answer runs out in %s, at %s", what, distance(time.Until(v.ends)), v.ends.Format(time.TimeOnly))
	select {
	case <-time.After(time.Until(v.ends)):
		return false, nil
	case <-ctx.Done():
		return false, fmt.Errorf("%w before %s: %w", errNotSafe, v.ends.Format(time.TimeOnly), errInterrupted)
	}
}

// end says until when it is safe, where the drain ends by itself.
func (v *waiter) end() string {
	if v.drain.Until.IsZero() {
		return ""
	}
	return fmt.Sprintf(" until %s, when the drain ends", moment(v.drain.Until))
}

// unsafe says what keeps it from being safe, as far as it is known when the waiting
// ends: in vain, or by an error.
func (v *waiter) unsafe(err error) error {
	lost := err != nil && !errors.Is(err, errInterrupted)
	switch {
	case lost:
		v.printf("etcd cannot be read: NOT safe: it is not known whether the drain is still in force")
	case v.servers == 0 && v.cluster != "":
		v.printf("no name server is registered below %s/servers: NOT safe: it is not known who answers", v.config.Etcd.Prefix)
	case !v.judged && v.cluster != "":
		v.printf("no server has recorded a verdict on the drain: NOT safe: see to the name servers, and whether they may write below verdicts/")
	}
	for _, id := range slices.Sorted(maps.Keys(v.late)) {
		v.printf("%s may still answer %s: NOT safe: %s", id, v.at, v.late[id])
	}
	if len(v.late) > 0 {
		v.printf("see to these servers; one that is gone for good is removed by `nearside forget SERVER`")
	}
	switch {
	case lost:
		return fmt.Errorf("%w: %w", errNotSafe, etcdFailure(v.config, err))
	case err != nil:
		return fmt.Errorf("%w: %w", errNotSafe, err)
	}
	return errNotSafe
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
