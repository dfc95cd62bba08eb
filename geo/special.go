package geo

import "net/netip"

// special4 and special6 are the blocks of the IANA special-purpose address
// registries (RFC 6890) that are not globally reachable: no client has a place
// there, whatever a database says.
var (
	special4 = []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"),       // this network, RFC 791
		netip.MustParsePrefix("10.0.0.0/8"),      // private use, RFC 1918
		netip.MustParsePrefix("100.64.0.0/10"),   // shared address space, RFC 6598
		netip.MustParsePrefix("127.0.0.0/8"),     // loopback, RFC 1122
		netip.MustParsePrefix("169.254.0.0/16"),  // link-local, RFC 3927
		netip.MustParsePrefix("172.16.0.0/12"),   // private use, RFC 1918
		netip.MustParsePrefix("192.0.0.0/24"),    // IETF protocol assignments, RFC 6890
		netip.MustParsePrefix("192.0.2.0/24"),    // documentation, RFC 5737
		netip.MustParsePrefix("192.168.0.0/16"),  // private use, RFC 1918
		netip.MustParsePrefix("198.18.0.0/15"),   // benchmarking, RFC 2544
		netip.MustParsePrefix("198.51.100.0/24"), // documentation, RFC 5737
		netip.MustParsePrefix("203.0.113.0/24"),  // documentation, RFC 5737
		netip.MustParsePrefix("240.0.0.0/4"),     // reserved, RFC 1112; the limited broadcast, RFC 919
	}

	// 64:ff9b::/96 (NAT64, RFC 6052) is not here: it is globally reachable, and
	// what a database says of it holds.
	special6 = []netip.Prefix{
		netip.MustParsePrefix("::/128"),         // unspecified, RFC 4291
		netip.MustParsePrefix("::1/128"),        // loopback, RFC 4291
		netip.MustParsePrefix("::ffff:0:0/96"),  // IPv4-mapped, RFC 4291
		netip.MustParsePrefix("64:ff9b:1::/48"), // local IPv4/IPv6 translation, RFC 8215
		netip.MustParsePrefix("100::/64"),       // discard, RFC 6666
		netip.MustParsePrefix("100:0:0:1::/64"), // dummy prefix, RFC 9780
		// IETF protocol assignments, RFC 2928. Some of it is globally reachable
		// (Teredo, AMT, AS112, ORCHIDv2, anycast of a few protocols), but none of
		// that says where a client is, so the block is kept whole.
		netip.MustParsePrefix("2001::/23"),
		netip.MustParsePrefix("2001:db8::/32"), // documentation, RFC 3849
		netip.MustParsePrefix("2002::/16"),     // 6to4, RFC 3056
		netip.MustParsePrefix("3fff::/20"),     // documentation, RFC 9637
		netip.MustParsePrefix("5f00::/16"),     // segment routing SIDs, RFC 9602
		netip.MustParsePrefix("fc00::/7"),      // unique local, RFC 4193
		netip.MustParsePrefix("fe80::/10"),     // link-local, RFC 4291
	}
)
