//go:build differential

package integration

import "github.com/miekg/dns"

// accepted are the differences from what NSD, Knot and BIND agree on that we
// want, each with its reason. A difference belongs to the first that explains it.
var accepted = []struct {
	name, why string
	explains  func(c *comparison, aspect int) bool
}{
	{"TC where compression just makes it fit",
		"RFC 1035, 4.1.4: compression is a choice. Answers within some octets of the limit fit in one way and not in another.",
		func(c *comparison, aspect int) bool {
			return aspect == truncation && c.replies[ours].Truncated && largest(c.replies[ours+1:]) > c.limit()-compressionSlack
		}},
	{"RCODE beside TC",
		"RFC 2181, 9: a truncated response is ignored. Ours is without records, so its code tells of none.",
		func(c *comparison, aspect int) bool { return aspect == rcode && c.replies[ours].Truncated }},
	{"16 links of a chain",
		"RFC 1034, 4.3.2, names no limit. We stop later than Knot (5) and BIND (12, with SERVFAIL), and NSD never does.",
		func(c *comparison, aspect int) bool {
			return aspect == answer && links(c.whole[ours].Answer) == 16 && links(c.whole[1].Answer) > 16
		}},
}

// compressionSlack is how many octets of a response compression may save.
const compressionSlack = 64

// links counts the CNAME records of a chain.
func links(section []dns.RR) int {
	n := 0
	for _, rr := range section {
		if rr.Header().Rrtype == dns.TypeCNAME {
			n++
		}
	}
	return n
}

func largest(replies []reply) int {
	size := 0
	for _, r := range replies {
		size = max(size, r.size)
	}
	return size
}
