package integration

import (
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// accepted are the differences from what NSD, Knot and BIND agree on that we
// want, each with its reason. A difference belongs to the first that explains
// it. In the additional section rr is the record that some have and some have not.
var accepted = []struct {
	name, why string
	explains  func(c *comparison, aspect int, rr dns.RR) bool
}{
	{"RCODE beside TC",
		"RFC 2181, 9: a truncated response is ignored. Ours is without records, so its code tells of none.",
		func(c *comparison, aspect int, _ dns.RR) bool {
			return aspect == rcode && c.replies[ours].Truncated
		}},
	{"long chains",
		"RFC 1034, 4.3.2, names no limit. Knot stops after 5 links, BIND after 12 (with SERVFAIL), we after 16 and at the end of the zone, NSD never.",
		func(c *comparison, aspect int, _ dns.RR) bool {
			mine := c.whole[ours].Answer
			ended := links(mine) == 16 || links(mine) > 5 && c.zone.apexOf(lastTarget(mine)) != c.zone.apexOf(c.Question[0].Name)
			return aspect == answer && ended && subset(mine, c.whole[nsdPeer].Answer)
		}},
	{"TC for want of glue",
		"RFC 9471, 3.1: glue in the delegated domain is not optional. The servers of Debian are older and leave some out.",
		func(c *comparison, aspect int, _ dns.RR) bool {
			return aspect == truncation && c.replies[ours].Truncated && lacksGlue(c.whole[nsdPeer].Msg)
		}},
	{"a DNAME at a wildcard",
		"RFC 4592, 4.4, leaves open what it means, and RFC 6672, 2.3, advises against it. Ours, as BIND's, redirects below the asterisk and is plain data elsewhere.",
		func(c *comparison, aspect int, _ dns.RR) bool {
			atStar := func(rr dns.RR) bool {
				return rr.Header().Rrtype == dns.TypeDNAME && strings.HasPrefix(rr.Header().Name, "*.")
			}
			return (aspect == answer || aspect == truncation || aspect == authority) && slices.ContainsFunc(slices.Concat(c.replies[ours].Answer, c.replies[nsdPeer].Answer), atStar)
		}},
	{"the CNAME of a DNAME is compressed",
		"RFC 1035, 4.1.4: its target ends as the DNAME's does, which stands before it. None of the three points there, so that theirs is longer and TC comes earlier.",
		func(c *comparison, aspect int, _ dns.RR) bool {
			return aspect == truncation && !c.replies[ours].Truncated && has(c.whole[ours].Answer, dns.TypeDNAME)
		}},
	{"DS of the apex behind a CNAME",
		"RFC 4035, 3.1.4.1: the parent alone has the say, and it is served here. Knot and BIND deny the DS in the child's name, NSD follows into the parent; we leave the target to the resolver.",
		func(c *comparison, aspect int, _ dns.RR) bool {
			return aspect == authority && c.Question[0].Qtype == dns.TypeDS && c.zone.served[lastTarget(c.whole[ours].Answer)] && len(c.whole[ours].Ns) == 0
		}},
	{"additional records of SVCB and HTTPS",
		"RFC 9460, 4.1: addresses and SVCB records of the targets SHOULD come along. The servers of Debian do not know that yet.",
		func(c *comparison, aspect int, rr dns.RR) bool {
			return aspect == additional && (isTarget(c.whole[ours].Answer, dns.TypeSVCB, rr) || isTarget(c.whole[ours].Answer, dns.TypeHTTPS, rr))
		}},
}

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

// subset reports whether all has every record of part.
func subset(part, all []dns.RR) bool {
	return !slices.ContainsFunc(part, func(rr dns.RR) bool {
		return !slices.ContainsFunc(all, func(other dns.RR) bool { return canonical(rr) == canonical(other) })
	})
}

func has(section []dns.RR, typ uint16) bool {
	return slices.ContainsFunc(section, func(rr dns.RR) bool { return rr.Header().Rrtype == typ })
}

// lacksGlue reports whether a referral names a server in the delegated domain and
// not its address.
func lacksGlue(m *dns.Msg) bool {
	return slices.ContainsFunc(m.Ns, func(rr dns.RR) bool {
		ns, ok := rr.(*dns.NS)
		return ok && dns.IsSubDomain(ns.Hdr.Name, ns.Ns) && !slices.ContainsFunc(m.Extra, func(glue dns.RR) bool {
			return dns.CanonicalName(glue.Header().Name) == dns.CanonicalName(ns.Ns)
		})
	})
}

// lastTarget is where the last CNAME of an answer leads.
func lastTarget(section []dns.RR) string {
	if len(section) == 0 {
		return ""
	}
	alias, _ := section[len(section)-1].(*dns.CNAME)
	if alias == nil {
		return ""
	}
	return dns.CanonicalName(alias.Target)
}

// isTarget reports whether a record of that type in section points at the owner
// of rr; "." is the owner of the record itself (RFC 9460, 2.5).
func isTarget(section []dns.RR, typ uint16, rr dns.RR) bool {
	return slices.ContainsFunc(section, func(from dns.RR) bool {
		if from.Header().Rrtype != typ {
			return false
		}
		target := *namesIn(from)[0]
		if target == "." {
			target = from.Header().Name
		}
		return dns.CanonicalName(target) == dns.CanonicalName(rr.Header().Name)
	})
}
