package main

import (
	"context"

	"nearside/dnsserver"
	"nearside/regions"
	"nearside/zones"
)

// mailbox holds the newest value that nobody has taken yet. One goroutine puts.
type mailbox[T any] chan T

func newMailbox[T any]() mailbox[T] { return make(mailbox[T], 1) }

// put leaves v and throws an older value away. It never waits.
func (m mailbox[T]) put(v T) {
	select {
	case <-m:
	default:
	}
	m <- v
}

// builder is the only one that makes snapshots once the server runs. What it
// gets is finished: loading takes its time elsewhere, so that a new state never
// waits behind a zone.
type builder struct {
	zones   mailbox[*zones.View]
	places  mailbox[*dnsserver.Places]
	states  chan served
	secrets mailbox[*dnsserver.Secrets]
	swap    func(*dnsserver.Snapshot)
	ended   chan struct{} // closed by run
}

// served is a state that is to answer queries, and done, which is closed once it does.
type served struct {
	state *regions.State
	done  chan struct{}
}

func newBuilder(swap func(*dnsserver.Snapshot)) *builder {
	return &builder{
		zones:   newMailbox[*zones.View](),
		places:  newMailbox[*dnsserver.Places](),
		states:  make(chan served),
		secrets: newMailbox[*dnsserver.Secrets](),
		swap:    swap,
		ended:   make(chan struct{}),
	}
}

// serve swaps a state in. It returns when that is done, or never will be.
func (b *builder) serve(state *regions.State) {
	next := served{state, make(chan struct{})}
	select {
	case b.states <- next:
		<-next.done
	case <-b.ended:
	}
}

// run swaps in a snapshot for every new part, beginning with snapshot, until
// ctx ends.
func (b *builder) run(ctx context.Context, snapshot *dnsserver.Snapshot) {
	defer close(b.ended)
	for {
		var done chan struct{}
		select {
		case next := <-b.states:
			snapshot, done = snapshot.WithState(next.state), next.done
		case view := <-b.zones:
			snapshot = snapshot.WithZones(view)
		case places := <-b.places:
			snapshot = snapshot.WithPlaces(places)
		case secrets := <-b.secrets:
			snapshot = snapshot.WithSecrets(secrets)
		case <-ctx.Done():
			return
		}
		b.swap(snapshot)
		if done != nil {
			close(done)
		}
	}
}
