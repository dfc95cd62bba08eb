package dnsserver

import (
	"bytes"
	"testing"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"
)

// A batch is answered as its queries are one by one, whatever they are and
// whatever had their places before.
func TestBatchIsLikeOneByOne(t *testing.T) {
	c := newCrowd(t, 100)
	alone := newResponder(new(counts), c.r.clock, DefaultLimits, zerolog.Nop())
	q := c.queries(200*batch, kinds...)
	buffers, other := make([]byte, batch*udpRoom), make([]byte, udpRoom)
	for first := 0; first < q.len(); first += batch {
		for i := range batch {
			msg, from := q.at(first + i)
			n := copy(buffers[i*udpRoom:], msg[:c.cut(len(msg))])
			c.r.queries[i].take(buffers[i*udpRoom:][:n:udpRoom], from)
		}
		asked := bytes.Clone(buffers)
		c.r.lookAhead(c.snapshot, batch)
		for i := range batch {
			n := len(c.r.queries[i].msg)
			got := buffers[i*udpRoom:][:c.r.reply(c.snapshot, i, false)]
			copy(other, asked[i*udpRoom:][:n])
			want := other[:alone.respond(c.snapshot, other, n, c.r.queries[i].from, false)]
			if !bytes.Equal(got, want) {
				t.Fatalf("%x\nis answered in a batch\n%x\nand alone\n%x", asked[i*udpRoom:][:n], got, want)
			}
		}
		c.r.rest(batch)
	}
}

// cut returns how much of a message of n octets comes: mostly all of it.
func (c *crowd) cut(n int) int {
	if c.random.IntN(10) == 0 {
		return c.random.IntN(n)
	}
	return n
}

// A query that hits a bug while its batch is looked ahead gets SERVFAIL, and the
// others their answers.
func TestBugInABatch(t *testing.T) {
	c := newCrowd(t, 10)
	chaos := packet(0, 1, 0, 0, 0, []byte("\x05state\x08nearside\x00\x00\x10\x00\x03"))
	messages := [][]byte{chaos, packet(0, 1, 0, 0, 0, playA), chaos}
	buffers := make([]byte, len(messages)*udpRoom)
	for i, msg := range messages {
		c.r.queries[i].take(buffers[i*udpRoom:][:copy(buffers[i*udpRoom:], msg):udpRoom], crowdClient)
	}
	broken := c.snapshot.WithZones(nil)
	c.r.lookAhead(broken, len(messages))
	for i, want := range []int{dns.RcodeSuccess, dns.RcodeServerFailure, dns.RcodeSuccess} {
		m := new(dns.Msg)
		if err := m.Unpack(buffers[i*udpRoom:][:c.r.reply(broken, i, false)]); err != nil || m.Rcode != want {
			t.Errorf("query %d: %v %v", i, err, m)
		}
	}
	c.r.rest(len(messages))
	if n := c.counted(countPanics); n != 1 {
		t.Errorf("%d panics counted", n)
	}
}
