// Package pace lets long work go on beside whoever answers queries.
package pace

import "time"

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
	stint = 200 * time.Microsecond
	rest  = 50 * time.Microsecond // it lasts for 1 ms in an idle process: its timer is no finer
)

// New returns a pacer for work that begins now.
func New(how Pace) *Pacer { return &Pacer{pace: how, began: time.Now()} }

// Pace returns how the work is done.
func (p *Pacer) Pace() Pace { return p.pace }

// Step is called between pieces of work of at most ten microseconds or so.
func (p *Pacer) Step() {
	if p.pace == Gentle {
		if p.steps++; p.steps%16 == 0 {
			p.Look()
		}
	}
}

// Look is called between larger pieces. It rests if it is time to.
func (p *Pacer) Look() {
	if p.pace == Gentle && time.Since(p.began) > stint {
		time.Sleep(rest)
		p.began = time.Now()
	}
}
