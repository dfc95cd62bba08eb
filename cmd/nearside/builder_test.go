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

// A state is swapped in when serve returns, and serve does not outlast run.
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
	for i := range 1000 {
		state := &regions.State{Revision: int64(i)}
		b.serve(state)
		select {
		case got := <-swaps:
			if got == first {
				t.Fatal("a snapshot was changed in place")
			}
			if want := first.WithState(state); !reflect.DeepEqual(got, want) {
				t.Fatalf("state %d is not the one swapped in", i)
			}
		default:
			t.Fatalf("state %d is not swapped in", i)
		}
	}
	cancel()
	<-ended
	b.serve(new(regions.State))
}
