// Package pacetest tells work with rests from work without.
package pacetest

import (
	"runtime"
	"sync/atomic"
	"time"
)

// Turns does work on one core, and returns how often somebody else got it
// meanwhile: for work without rests, every 10 ms.
func Turns(work func()) int {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var turns, over atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for over.Load() == 0 {
			time.Sleep(time.Microsecond)
			turns.Add(1)
		}
	}()
	work()
	over.Store(1)
	<-ended
	return int(turns.Load())
}
