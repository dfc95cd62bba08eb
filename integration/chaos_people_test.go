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

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	writeLimit = 3 * time.Second        // of one write of the operator
	voteLimit  = time.Second            // of one write of a prober
	voteRetry  = 200 * time.Millisecond // after one that failed
)

// operator writes drains, one after another, whatever becomes of each.
type operator struct {
	trial *trial
	tasks chan func(context.Context)
	open  sync.WaitGroup
}

func newOperator(tr *trial) *operator {
	return &operator{trial: tr, tasks: make(chan func(context.Context), 1000)}
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

func (o *operator) undrain(region string) { o.must(clientv3.OpDelete(drainKey(region))) }

func drainKey(region string) string { return "/nearside/regions/" + region + "/drain" }

// act does something that operators do.
func (o *operator) act(random *rand.Rand) (what string, task func(context.Context)) {
	region := busyRegions[random.IntN(len(busyRegions))]
	key := drainKey(region)
	value := []string{"", "true", "100%", fmt.Sprintf(`{"reason": "fault %d", "by": "operator"}`, random.IntN(1000))}[random.IntN(4)]
	switch random.IntN(10) {
	case 0, 1, 2:
		what = fmt.Sprintf("drain %s with %q", region, value)
		task = func(ctx context.Context) { o.try(ctx, what, clientv3.OpPut(key, value)) }
	case 3, 4, 5:
		what = "undrain " + region
		task = func(ctx context.Context) { o.try(ctx, what, clientv3.OpDelete(key)) }
	case 6:
		what = "undrain " + region + " with false"
		task = func(ctx context.Context) { o.try(ctx, what, clientv3.OpPut(key, "false")) }
	case 7:
		s := o.trial.servers[random.IntN(len(o.trial.servers))]
		verb := []string{"drain", "undrain"}[random.IntN(2)]
		what = fmt.Sprintf("nearside %s %s on %s", verb, region, s.name)
		task = func(context.Context) {
			o.trial.history.begin(key) // its revision is never known
			err := s.nearside(verb, region).Run()
			o.trial.note("operator: %s: %v", what, err)
		}
	default:
		kind := slices.Sorted(keysOf(rubbish))[random.IntN(len(rubbish))]
		if rubbish[kind] == "" || len(rubbish[kind]) > 1<<20 {
			kind = "a word"
		}
		if random.IntN(3) == 0 {
			key = fmt.Sprintf("/nearside/regions/%s/health/p%d", region, 1+random.IntN(3))
		}
		what = fmt.Sprintf("rubbish, %s, at %s", kind, key)
		task = func(ctx context.Context) { o.try(ctx, what, clientv3.OpPut(key, rubbish[kind])) }
	}
	return what, task
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
	for _, region := range busyRegions {
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
		for _, region := range busyRegions {
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
