package integration

import (
	"net"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// messagePeers starts the servers with the zone of messages.
func messagePeers(b *testing.B) []*peer {
	dir := b.TempDir()
	z := &generated{origin: "msg.example.", path: dir + "/msg.example.zone"}
	write(b, z.path, messageZoneText())
	return newPeers(b, dir, []*generated{z})
}

// BenchmarkCrowdedTCP shows what UDP queries and new TCP clients wait for beside
// 1,000 idle and 300 slow TCP connections, and without.
func BenchmarkCrowdedTCP(b *testing.B) {
	for _, p := range messagePeers(b) {
		b.Run(p.name, func(b *testing.B) {
			for b.Loop() {
				before := udpLatency(b, p)
				crowd(b, p.address, 1000, 300)
				beside := udpLatency(b, p)
				b.ReportMetric(newcomer(b, p).Seconds()*1000, "ms/new-TCP-client")
				for i, name := range []string{"p50", "p99"} {
					b.ReportMetric(float64(before[i].Nanoseconds())/1000, "µs/UDP-"+name+"-alone")
					b.ReportMetric(float64(beside[i].Nanoseconds())/1000, "µs/UDP-"+name)
				}
			}
			b.ReportMetric(0, "ns/op") // is of no interest
		})
	}
}

// newcomer is how long a new TCP client waits for its answer, a minute at most.
func newcomer(b *testing.B, p *peer) time.Duration {
	const most = time.Minute
	began := time.Now()
	conn, err := net.DialTimeout("tcp", p.address.String(), most)
	if err == nil {
		defer conn.Close()
		conn.SetDeadline(began.Add(most))
		_, _, err = (&client{&dns.Conn{Conn: conn}}).raw(query("www.msg.example.", dns.TypeA, ""))
	}
	if err != nil {
		b.Logf("a new TCP client: %v", err)
	}
	return time.Since(began)
}

// udpLatency is the median and the 99th percentile of an answer by UDP.
func udpLatency(b *testing.B, p *peer) [2]time.Duration {
	const queries = 2000
	q := query("www.msg.example.", dns.TypeA, "")
	took := make([]time.Duration, queries)
	for i := range took {
		began := time.Now()
		p.udp.conn.SetDeadline(began.Add(patience))
		if _, _, err := p.udp.raw(q); err != nil {
			b.Fatal(err)
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return [2]time.Duration{took[queries/2], took[queries*99/100]}
}
