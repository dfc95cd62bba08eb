package main

import (
	"context"
	"reflect"
	"testing"

	"nearside/dnsserver"
	"nearside/regions"
)

func TestMailbox(t *testing.T) {
	m := newMailbox[int]()
	for i := range 100 {
		m.put(i)
	}
	if got := <-m; got != 99 {
		t.Errorf("got %d", got)
	}
	select {
	case got := <-m:
		t.Errorf("%d is left", got)
	default:
	}
}

// However fast states come, the last one is swapped in.
func TestBuilder(t *testing.T) {
	swaps := make(chan *dnsserver.Snapshot, 2000)
	b := newBuilder(func(s *dnsserver.Snapshot) { swaps <- s })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	first := dnsserver.Compile(nil, nil, nil, dnsserver.Policy{})
	go func() {
		defer close(ended)
		b.run(ctx, first)
	}()
	last := &regions.State{Revision: 7}
	for range 1000 {
		b.states.put(new(regions.State))
	}
	b.states.put(last)
	want := first.WithState(last)
	for got := range swaps {
		if got == first {
			t.Fatal("a snapshot was changed in place")
		}
		if reflect.DeepEqual(got, want) {
			break
		}
	}
	cancel()
	<-ended
}
