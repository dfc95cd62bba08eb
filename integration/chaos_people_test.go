package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	writeLimit = 3 * time.Second        // of one write of the operator
	voteLimit  = time.Second            // of one write of a prober
	voteRetry  = 200 * time.Millisecond // after one that failed
)

// operator writes drains, one after another, whatever becomes of each.
type operator struct {
	trial  *trial
	tasks  chan func(context.Context)
	open   sync.WaitGroup
	config string // the file of those who are at no server
}

func newOperator(tr *trial) *operator {
	o := &operator{trial: tr, tasks: make(chan func(context.Context), 1000), config: tr.papers + "/nearside.yaml"}
	write(tr.t, o.config, configuration(setup{address: tr.outside.port(53), admin: tr.outside.port(8053), regions: chaosRegions,
		etcd: tr.store.settings(), ttl: int(chaosTTL.Seconds()), rules: chaosRules()}))
	return o
}

func (o *operator) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case task := <-o.tasks:
			task(ctx)
			o.open.Done()
		}
	}
}

// do queues a task; finish waits until all are done.
func (o *operator) do(task func(context.Context)) {
	o.open.Add(1)
	o.tasks <- task
}

func (o *operator) finish() { o.open.Wait() }

// commit writes to etcd and enters that in the history.
func (tr *trial) commit(ctx context.Context, client *clientv3.Client, limit time.Duration, operations ...clientv3.Op) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var keys []string
	for _, o := range operations {
		keys = append(keys, string(o.KeyBytes()))
	}
	write := tr.history.begin(keys...)
	response, err := client.Txn(ctx).Then(operations...).Commit()
	if err != nil {
		return 0, err
	}
	if deleted := response.Responses[0].GetResponseDeleteRange(); deleted != nil && deleted.Deleted == 0 {
		tr.history.end(write, 0)
	} else {
		tr.history.end(write, response.Header.Revision)
	}
	return response.Header.Revision, nil
}

// try writes and takes note of it.
func (o *operator) try(ctx context.Context, what string, operations ...clientv3.Op) {
	revision, err := o.trial.commit(ctx, o.trial.etcd, writeLimit, operations...)
	if err != nil {
		o.trial.note("operator: %s: %v", what, err)
		return
	}
	o.trial.note("operator: %s: revision %d", what, revision)
}

// must writes at once, while nothing is broken.
func (o *operator) must(operations ...clientv3.Op) int64 {
	revision, err := o.trial.commit(context.Background(), o.trial.etcd, patience, operations...)
	if err != nil {
		o.trial.t.Fatal(err)
	}
	return revision
}

func (o *operator) put(key, value string) int64 { return o.must(clientv3.OpPut(key, value)) }

func (o *operator) drain(region, value string) { o.put(drainKey(region), value) }

// undrain brings a region back without hold and ramp.
func (o *operator) undrain(region string) {
	o.must(clientv3.OpDelete(drainKey(region)), clientv3.OpPut("/nearside/transitions/"+region,
		fmt.Sprintf(`{"from": "up", "to": "up", "since": %q}`, time.Now().UTC().Format(time.RFC3339Nano))))
}

func drainKey(region string) string { return "/nearside/regions/" + region + "/drain" }

// act does something that operators do. Times are counted from when it is done.
func (o *operator) act(random *rand.Rand) (what string, task func(context.Context)) {
	path, key := o.target(random)
	switch random.IntN(12) {
	case 0, 1, 2:
		value := []string{"", "true", "100%", fmt.Sprintf(`{"reason": "fault %d", "by": "operator"}`, random.IntN(1000))}[random.IntN(4)]
		what = fmt.Sprintf("drain %s with %q", path, value)
		task = func(ctx context.Context) { o.try(ctx, what, clientv3.OpPut(key, value)) }
	case 3:
		share, force := 1+random.IntN(99), random.IntN(3) == 0
		what = fmt.Sprintf("drain %d%% of %s, by force %v", share, path, force)
		task = func(ctx context.Context) {
			o.try(ctx, what, clientv3.OpPut(key, fmt.Sprintf(`{"percent": %d, "force": %v}`, share, force)))
		}
	case 4:
		in, lasting := time.Duration(random.IntN(3000))*time.Millisecond, time.Duration(500+random.IntN(3000))*time.Millisecond
		what = fmt.Sprintf("drain %s in %v for %v", path, in, lasting)
		task = func(ctx context.Context) {
			at := time.Now().Add(in).UTC()
			o.try(ctx, what, clientv3.OpPut(key, fmt.Sprintf(`{"at": %q, "until": %q}`, at.Format(time.RFC3339Nano), at.Add(lasting).Format(time.RFC3339Nano))))
		}
	case 5, 6, 7:
		what = "undrain " + path
		task = func(ctx context.Context) { o.try(ctx, what, clientv3.OpDelete(key)) }
	case 8:
		what = "undrain " + path + " with false"
		task = func(ctx context.Context) { o.try(ctx, what, clientv3.OpPut(key, "false")) }
	case 9, 10:
		return o.command(random)
	default:
		kind := slices.Sorted(keysOf(rubbish))[random.IntN(len(rubbish))]
		if rubbish[kind] == "" || len(rubbish[kind]) > 1<<20 {
			kind = "a word"
		}
		switch random.IntN(4) {
		case 0:
			key = strings.TrimSuffix(key, "drain") + fmt.Sprintf("health/p%d", 1+random.IntN(3))
		case 1: // what the servers have written, and will again
			key = []string{"/nearside/transitions/" + path, "/nearside/verdicts" + strings.TrimPrefix(key, "/nearside")}[random.IntN(2)]
		}
		what = fmt.Sprintf("rubbish, %s, at %s", kind, key)
		task = func(ctx context.Context) { o.try(ctx, what, clientv3.OpPut(key, rubbish[kind])) }
	}
	return what, task
}

// target draws a region, or a service in a region, and its drain key.
func (o *operator) target(random *rand.Rand) (path, key string) {
	name := busyRegions[random.IntN(len(busyRegions))]
	if s := chaosServices[random.IntN(len(chaosServices))]; s.has(name) && s.name != "" {
		return s.name + "/" + name, "/nearside/services/" + s.name + "/" + name + "/drain"
	}
	return name, drainKey(name)
}

// command draws a command of nearside that writes a drain.
func (o *operator) command(random *rand.Rand) (what string, task func(context.Context)) {
	path, key := o.target(random)
	service, name, of := strings.Cut(path, "/")
	arguments := []string{[]string{"drain", "undrain"}[random.IntN(2)], path}
	if of {
		arguments = []string{arguments[0], name, "--service", service}
	}
	switch drains := arguments[0] == "drain"; {
	case drains && random.IntN(3) == 0:
		arguments = append(arguments, "--percent", fmt.Sprint(1+random.IntN(99)))
	case drains && random.IntN(2) == 0:
		arguments = append(arguments, "--for", fmt.Sprint(time.Duration(1+random.IntN(4))*time.Second), "--reason", "chaos")
	case !drains && random.IntN(2) == 0:
		arguments = append(arguments, "--now")
	}
	s := o.trial.servers[random.IntN(len(o.trial.servers))]
	what = fmt.Sprintf("nearside %s on %s", strings.Join(arguments, " "), s.name)
	return what, func(context.Context) {
		o.trial.history.begin(key, "/nearside/transitions/"+path) // its revision is never known
		err := s.nearside(arguments...).Run()
		o.trial.note("operator: %s: %v", what, err)
	}
}

func keysOf[V any](m map[string]V) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// prober is a host that votes on all regions.
type prober struct {
	trial  *trial
	node   *node
	client *clientv3.Client
	wake   chan struct{}

	mu    sync.Mutex
	sick  map[string]bool // what it sees
	blind bool            // it takes everything for sick
	wrote map[string]bool
	votes int
}

func newProber(tr *trial, i int) *prober {
	name := fmt.Sprintf("p%d", i+1)
	p := &prober{trial: tr, node: tr.network.plug(tr.t, name, fmt.Sprintf("10.66.0.3%d", i+1)),
		wake: make(chan struct{}, 1), sick: make(map[string]bool), wrote: make(map[string]bool)}
	p.client = p.node.etcdClient(tr.t, tr.store.clients)
	return p
}

func (p *prober) run(ctx context.Context) {
	for {
		if err := p.vote(ctx); err == nil {
			select {
			case <-ctx.Done():
			case <-p.wake:
			}
		} else {
			select {
			case <-ctx.Done():
			case <-time.After(voteRetry):
			}
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// vote writes the votes that differ from what was written last.
func (p *prober) vote(ctx context.Context) error {
	for _, region := range probedRegions {
		p.mu.Lock()
		down := p.sick[region] || p.blind
		was, there := p.wrote[region]
		p.votes++
		n := p.votes
		p.mu.Unlock()
		if there && was == down {
			continue
		}
		value := fmt.Sprintf(`{"status": "up", "detail": "probe %d"}`, n)
		if down {
			value = fmt.Sprintf(`{"status": "down", "detail": "probe %d"}`, n)
		}
		key := "/nearside/regions/" + region + "/health/" + p.node.name
		revision, err := p.trial.commit(ctx, p.client, voteLimit, clientv3.OpPut(key, value))
		if err != nil {
			return err
		}
		p.trial.note("%s: %s, down %v: revision %d", p.node.name, region, down, revision)
		p.mu.Lock()
		p.wrote[region] = down
		p.mu.Unlock()
	}
	return nil
}

// sees changes what the prober sees.
func (p *prober) sees(change func(p *prober)) {
	p.mu.Lock()
	change(p)
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// forget makes it write all votes again.
func (p *prober) forget() { p.sees(func(p *prober) { clear(p.wrote) }) }

// finish waits until its votes are in etcd. Rubbish may stand there: all are
// written once more.
func (p *prober) finish() {
	p.forget()
	eventually(p.trial.t, "the votes of "+p.node.name, func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		var missing []string
		for _, region := range probedRegions {
			if was, there := p.wrote[region]; !there || was != (p.sick[region] || p.blind) {
				missing = append(missing, region)
			}
		}
		if len(missing) > 0 {
			return errors.New("not written: " + strings.Join(missing, ", "))
		}
		return nil
	})
}

// tick writes a key of nobody again and again: what etcd did after that, nobody
// can have seen before.
func (tr *trial) tick(ctx context.Context) {
	for ctx.Err() == nil {
		if _, err := tr.commit(ctx, tr.etcd, writeLimit, clientv3.OpPut("/tick", "")); err == nil {
			wait(ctx, 100*time.Millisecond)
		}
	}
}

// agent shows that its region lives.
type agent struct {
	trial  *trial
	region string

	mu    sync.Mutex
	dead  bool
	lease clientv3.LeaseID
}

const beatTTL = 5 // seconds

func (a *agent) run(ctx context.Context) {
	for ; ctx.Err() == nil; wait(ctx, voteRetry) {
		a.mu.Lock()
		dead, lease := a.dead, a.lease
		a.mu.Unlock()
		if dead {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, voteLimit)
		if lease == 0 || a.lost(limited, lease) {
			a.begin(limited)
		}
		cancel()
	}
}

// lost renews the lease. It reports whether that, or the key, is gone.
func (a *agent) lost(ctx context.Context, lease clientv3.LeaseID) bool {
	if _, err := a.trial.etcd.KeepAliveOnce(ctx, lease); err != nil {
		return errors.Is(err, rpctypes.ErrLeaseNotFound)
	}
	found, err := a.trial.etcd.Get(ctx, a.key())
	return err == nil && found.Count == 0
}

func (a *agent) key() string { return "/nearside/regions/" + a.region + "/heartbeat/agent" }

// begin takes a lease and writes the key with it.
func (a *agent) begin(ctx context.Context) {
	grant, err := a.trial.etcd.Grant(ctx, beatTTL)
	if err == nil {
		_, err = a.trial.commit(ctx, a.trial.etcd, voteLimit, clientv3.OpPut(a.key(), "alive", clientv3.WithLease(grant.ID)))
	}
	if err == nil {
		a.mu.Lock()
		a.lease = grant.ID
		a.mu.Unlock()
	}
}

// live makes it live, or die.
func (a *agent) live(yes bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dead = !yes
}

// finish waits until its key is in etcd.
func (a *agent) finish() {
	a.live(true)
	eventually(a.trial.t, "the heartbeat of "+a.region, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), voteLimit)
		defer cancel()
		found, err := a.trial.etcd.Get(ctx, a.key())
		if err == nil && found.Count == 0 {
			err = errors.New("it is not there")
		}
		if err == nil && found.Kvs[0].Lease != int64(a.current()) {
			err = errors.New("it is an old one")
		}
		return err
	})
}

func (a *agent) current() clientv3.LeaseID {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lease
}

// powerOff drains a region as operators do who want to switch it off: it must
// be safe if they are told that it is.
func (o *operator) powerOff(ctx context.Context) {
	tr := o.trial
	key := drainKey(powerRegion)
	tr.history.begin(key) // its revision is never known
	cmd := tr.outside.command(nearside, "drain", powerRegion, "--wait", "--force", "--config", o.config)
	r := finish(tr.t, cmd)
	safe := tr.clock()
	tr.note("operator: %s: exit status %d\n%s%s", cmd, r.status, r.stdout, r.stderr)
	said := strings.Contains(r.stdout, "\nsafe to power off")
	if said != (r.status == 0) || strings.Contains(r.stdout, "NOT safe") != (r.status == 2) {
		tr.breach("drain --wait ended with %d and said\n%s", r.status, r.stdout)
	}
	if r.status == 0 {
		wait(ctx, 2*time.Second)
		tr.mu.Lock()
		tr.off = append(tr.off, span{safe, tr.clock()})
		tr.mu.Unlock()
	}
	for err := errors.New("not yet"); err != nil && ctx.Err() == nil; {
		_, err = tr.commit(ctx, tr.etcd, writeLimit, clientv3.OpDelete(key))
	}
}
