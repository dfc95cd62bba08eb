// Package pace lets long work go on beside whoever answers queries.
package pace

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Pace says how long work is done.
type Pace uint8

const (
	Fast   Pace = iota // at once: nobody waits for the cores meanwhile
	Gentle             // with rests, beside whoever answers queries
)

// Pacer cuts work into stints with rests between. Without them, Go's scheduler
// would let a goroutine have its core for 10 ms while others wait. One goroutine
// uses it.
type Pacer struct {
	pace  Pace
	steps uint
	began time.Time // the stint
}

const (
	stint = 100 * time.Microsecond
	rest  = 50 * time.Microsecond
)

// New returns a pacer for work that begins now.
func New(how Pace) *Pacer { return &Pacer{pace: how, began: time.Now()} }

// Pace returns how the work is done.
func (p *Pacer) Pace() Pace { return p.pace }

// Step is called between pieces of work of at most ten microseconds or so.
func (p *Pacer) Step() {
	if p.pace == Gentle {
		if p.steps++; p.steps%8 == 0 {
			p.Look()
		}
	}
}

// Look is called between larger pieces. It rests if it is time to.
func (p *Pacer) Look() {
	if p.pace == Gentle && time.Since(p.began) > stint {
		sleep()
		p.began = time.Now()
	}
}

// timer is a timer of the kernel. Go's own are no finer than 1 ms in an idle
// process, and to yield without one would not let those go on whom the network
// has woken: Go asks for them when nobody else is ready.
type timer struct {
	*os.File
	number int
}

// timers are those that nobody rests by now.
var timers sync.Pool

// sleep rests.
func sleep() {
	t, ok := timers.Get().(*timer)
	if !ok {
		number, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
		if err != nil {
			time.Sleep(rest)
			return
		}
		t = &timer{os.NewFile(uintptr(number), "timer"), number} // closed when the collector comes for it
	}
	err := unix.TimerfdSettime(t.number, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(rest))}, nil)
	if err == nil {
		_, err = t.Read(make([]byte, 8)) // until it is over
	}
	if err != nil {
		time.Sleep(rest)
		return
	}
	timers.Put(t)
}
