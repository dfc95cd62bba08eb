package geo

import "time"

// Pace says how the work of reading a database is done: it takes a second or so
// of a core.
type Pace uint8

const (
	Fast   Pace = iota // at once: nobody waits for the cores meanwhile
	Gentle             // with rests, beside whoever answers queries: it takes five times as long or more
)

// pacer cuts work into stints with rests between. Without them, Go's scheduler
// would let a goroutine have its core for 10 ms while others wait.
type pacer struct {
	Pace
	steps uint
	began time.Time // the stint
}

const (
	stint = 200 * time.Microsecond
	rest  = 50 * time.Microsecond // it lasts for 1 ms in an idle process: its timer is no finer
)

// step is called between pieces of work of at most ten microseconds or so.
func (p *pacer) step() {
	if p.steps++; p.steps%16 == 0 && p.Pace == Gentle {
		p.look()
	}
}

// look rests if it is time to.
func (p *pacer) look() {
	if time.Since(p.began) > stint {
		time.Sleep(rest)
		p.began = time.Now()
	}
}
