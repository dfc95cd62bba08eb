package regions

import (
	"fmt"
	"strings"
	"time"
)

// Key is what has drains, votes and a record: a region, or with a service the
// service in that region.
type Key struct {
	Service ServiceID // Anyone: the region itself
	Region  ID
}

// Inputs is everything that decides who is out, as understood at one revision
// of etcd, and the operator's break-glass file on this server.
type Inputs struct {
	Subjects []Subject       // by Table.Index
	Probes   map[string]bool // the probe hosts that live

	ForcedDrain Set // break glass: out, whatever etcd says
	ForcedUp    Set // break glass: in, whatever etcd says
}

// Subject is what is known of one Key.
type Subject struct {
	Drain      Drain           // the accepted one; the zero value drains nobody
	Votes      map[string]Vote // by reporter
	Heartbeats int             // agents that live
	Record     Record          // its last transition
}

// Drain is what an operator wrote at a drain key, and servers accepted.
type Drain struct {
	Percent int       // of the clients that are sent elsewhere, 0 to 100
	At      time.Time // since when; zero: at once
	Until   time.Time // zero: until it is deleted
	Reason  string
	By      string
	Force   bool // the guard is not asked
}

// Vote is what one reporter says of a region or service.
type Vote struct {
	Down   bool
	Probe  string // the host whose life the vote depends on; "": it is always live
	Since  string // as the reporter wrote it, RFC 3339; "" if it did not say
	Detail string
	Load   string // as the reporter wrote it
}

// Record is the last change of a status, as the servers agreed on it.
type Record struct {
	From, To Status
	Since    time.Time
}

// NewInputs returns the inputs that say nothing: every region is up.
func (t *Table) NewInputs() Inputs {
	return Inputs{Subjects: make([]Subject, t.Len()*t.Services())}
}

// Index is the place of a key in Inputs.Subjects and State.Standings.
func (t *Table) Index(k Key) int { return int(k.Service)*t.Len() + int(k.Region) }

// Key is the inverse of Index.
func (t *Table) Key(index int) Key {
	return Key{ServiceID(index / t.Len()), ID(index % t.Len())}
}

// planned reports whether d sends clients away now or will, as far as clock tells.
func (d Drain) planned(now time.Time) bool { return d.Percent > 0 && !d.ended(now) }

// ended reports whether d has returned by itself.
func (d Drain) ended(now time.Time) bool { return !d.Until.IsZero() && !now.Before(d.Until) }

// begun reports whether d has begun.
func (d Drain) begun(now time.Time) bool { return !now.Before(d.At) }

// Status is what keeps a region or service out: a set of causes. None is up.
type Status uint8

// The causes.
const (
	Drained Status = 1 << iota // all clients are sent elsewhere by a drain
	Down                       // by votes
	Silent                     // no heartbeat lives
	Excused                    // no heartbeat lives, but too many stopped at once: it counts for nothing
	Expired                    // in Record.From alone: Drained, and the drain ended by its Until
)

// causes is how a Status is written.
var causes = []string{"drained", "down", "silent", "excused", "expired"}

const (
	sickness = Down | Silent      // the causes from which a region recovers
	out      = Drained | sickness // those that keep clients away
)

// Out reports whether the status keeps clients away.
func (s Status) Out() bool { return s&(out|Expired) != 0 }

func (s Status) String() string {
	if s == 0 {
		return "up"
	}
	var list []string
	for i, cause := range causes {
		if s>>i&1 != 0 {
			list = append(list, cause)
		}
	}
	return strings.Join(list, "+")
}

// ParseStatus reads what String writes.
func ParseStatus(text string) (Status, error) {
	for s := range Status(1 << len(causes)) {
		if s.String() == text {
			return s, nil
		}
	}
	return 0, fmt.Errorf("not a status: write up, or some of %s, joined by +", strings.Join(causes, ", "))
}
