package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"nearside/dnsserver"
	"nearside/healthsync"
)

// errNotSafe says that a server may still answer with a drained region.
var errNotSafe = errors.New("NOT safe to power off")

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
	cluster  string
	began    time.Time
	asked    time.Time

	told    string            // the last line of progress
	applied map[string]bool   // servers that have the drain, by ID
	ends    time.Time         // when the last cached answer runs out
	late    map[string]string // servers that may still answer, and what is known of them
}

// wait returns when what is drained can be powered off.
func (w drainer) wait(ctx context.Context, revision int64) error {
	if w.drain.Percent < 100 {
		w.printf("it is %d%% that is drained: the others stay, so there is nothing to wait for", w.drain.Percent)
		return nil
	}
	v := &waiter{drainer: w, revision: revision, began: time.Now(), applied: make(map[string]bool), late: make(map[string]string)}
	for news := v.began; ; {
		before := v.told
		done, err := v.look(ctx)
		switch {
		case err != nil:
			return etcdFailure(w.config, err)
		case done:
			return v.cached(ctx)
		case v.told != before:
			news = time.Now()
		case time.Since(news) > longWait:
			return v.unsafe()
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			return errors.Join(v.unsafe(), ctx.Err())
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
	v.cluster = cluster
	var unknown []healthsync.Member
	now := time.Now()
	clear(v.late)
	for _, m := range list {
		ttl := time.Duration(cmp.Or(m.TTL, v.config.Table().LongestTTL())) * time.Second
		switch {
		case v.applied[m.ID]:
		case !m.Stopped.IsZero() && !m.Alive:
			v.applied[m.ID] = true
			v.ends = latest(v.ends, m.Stopped.Add(ttl))
		case m.Revision >= v.revision && !m.Override:
			v.applied[m.ID] = true
			v.ends = latest(v.ends, now.Add(ttl))
		default:
			v.late[m.ID] = late(m)
			unknown = append(unknown, m)
		}
	}
	if len(unknown) > 0 && now.Sub(v.began) > askAfter && now.Sub(v.asked) > askEvery {
		v.asked = now
		v.ask(unknown)
	}
	v.progress(len(list))
	return len(v.late) == 0, nil
}

// late says what etcd knows of a server that has not applied the drain.
func late(m healthsync.Member) string {
	switch {
	case m.Fault != "":
		return "what it says of itself is not understood: " + m.Fault
	case m.Override:
		return "its break-glass file wins over etcd"
	case !m.Alive:
		return fmt.Sprintf("it is cut off from etcd or dead, and answers from revision %d", m.Revision)
	}
	return fmt.Sprintf("it answers from revision %d", m.Revision)
}

// ask asks servers over DNS from which state they answer.
func (v *waiter) ask(list []healthsync.Member) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, m := range list {
		all.Go(func() {
			told, err := askState(m.Addresses)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				v.late[m.ID] += fmt.Sprintf("; asked over DNS: %v", err)
			case strconv.FormatUint(told.Cluster, 16) == v.cluster && told.Revision >= v.revision && v.out(told, m):
				delete(v.late, m.ID)
				v.applied[m.ID] = true
				v.ends = latest(v.ends, time.Now().Add(time.Duration(cmp.Or(m.TTL, v.config.Table().LongestTTL()))*time.Second))
			default:
				v.late[m.ID] = fmt.Sprintf("it answers queries from revision %d", told.Revision)
			}
		})
	}
	all.Wait()
}

// out reports whether no answer of a server that has the drain has what is drained: its
// break-glass file may say otherwise. Where it cannot tell, since the drain has yet to
// begin or there was no room, what it told etcd
// of that file counts.
func (v *waiter) out(told dnsserver.Told, m healthsync.Member) bool {
	service := v.at.Service + "/" + v.at.Region
	if slices.Contains(told.Drained, v.at.Region) || slices.Contains(told.Drained, service) {
		return true
	}
	return !m.Override && (told.More > 0 || v.drain.At.After(time.Now()))
}

// askState asks a server at CH TXT state.nearside from which state it answers.
func askState(addresses []string) (told dnsserver.Told, err error) {
	query := new(dns.Msg)
	query.SetQuestion("state.nearside.", dns.TypeTXT)
	query.Question[0].Qclass = dns.ClassCHAOS
	client := dns.Client{Timeout: askTime}
	err = errors.New("it has no address")
	for _, address := range addresses {
		var answer *dns.Msg
		if answer, _, err = client.Exchange(query, address); err != nil {
			continue
		}
		for _, rr := range answer.Answer {
			if txt, ok := rr.(*dns.TXT); ok {
				return dnsserver.ParseTold(strings.Join(txt.Txt, " "))
			}
		}
		err = fmt.Errorf("%s does not say", address)
	}
	return told, err
}

// progress prints how far it is, when that has changed.
func (v *waiter) progress(servers int) {
	line := fmt.Sprintf("%d of %d servers have applied revision %d", servers-len(v.late), servers, v.revision)
	if len(v.late) > 0 {
		line += "; not yet: " + strings.Join(slices.Sorted(maps.Keys(v.late)), ", ")
	}
	if line != v.told {
		v.told = line
		v.printf("%s", line)
	}
}

// cached waits until no resolver can have an answer from before.
func (v *waiter) cached(ctx context.Context) error {
	if at := v.drain.At; at.After(time.Now()) && !v.ends.After(at) {
		v.printf("TTLs run down to %s: safe to power off %s from then on", at.Format(time.RFC3339), v.at)
		return nil
	}
	v.printf("no server answers with %s any more; the last cached answer runs out at %s", v.at, v.ends.Format(time.TimeOnly))
	select {
	case <-time.After(time.Until(v.ends)):
		v.printf("safe to power off %s", v.at)
		return nil
	case <-ctx.Done():
		return fmt.Errorf("not waited for: safe to power off %s at %s: %w", v.at, v.ends.Format(time.TimeOnly), ctx.Err())
	}
}

// unsafe names the servers that may still answer with what is drained.
func (v *waiter) unsafe() error {
	for _, id := range slices.Sorted(maps.Keys(v.late)) {
		v.printf("%s may still answer %s: NOT safe: %s", id, v.at, v.late[id])
	}
	v.printf("see to these servers; one that is gone for good is removed by `nearside forget SERVER`")
	return errNotSafe
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
