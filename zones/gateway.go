package zones

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// Fields that depend on each other: those of IPSECKEY, AMTRELAY and HIP.
var (
	gatewayKey    = kind{read: readGatewayKey, end: gatewayKeyEnd, optional: true}
	discoveryFlag = kind{read: readDiscovery, end: octets(0)}
	relayType     = kind{read: readRelayType, end: octets(1)}
	hostIdentity  = kind{read: readIdentity, end: identityEnd}
	hostNames     = kind{read: readServers, end: serversEnd, optional: true}
)

// The types of a gateway (RFC 4025 section 2.3) and of a relay (RFC 8777
// section 4.2.3).
const (
	noGateway = iota
	gatewayIPv4
	gatewayIPv6
	gatewayName
)

// gateway is a field whose kind is told by the octet at some offset.
func gateway(by int) kind {
	kinds := map[byte]kind{noGateway: {read: readDot, end: octets(0)}, gatewayIPv4: ipv4, gatewayIPv6: ipv6, gatewayName: domainName}
	return kind{
		read: func(r *rdata, name string) error {
			k, ok := kinds[r.wire[by]&0x7f]
			if !ok {
				return fmt.Errorf("%d is no %s type; there are 0 for none, 1 for IPv4, 2 for IPv6 and 3 for a name", r.wire[by]&0x7f, name)
			}
			return k.read(r, name)
		},
		end: func(wire []byte, at int) int {
			k, ok := kinds[wire[by]&0x7f]
			if !ok {
				return -1
			}
			return k.end(wire, at)
		},
	}
}

// readGatewayKey reads a public key, unless the octet before says that there is
// none (RFC 4025 section 2.4).
func readGatewayKey(r *rdata, name string) error {
	none := r.wire[2] == 0
	switch {
	case none && len(r.words) > 0:
		return fmt.Errorf("algorithm 0 means that there is no %s; leave it out or name its algorithm", name)
	case none:
		return nil
	case len(r.words) == 0:
		return fmt.Errorf("the %s is missing; only with algorithm 0 there is none", name)
	}
	return readBase64(r, name)
}

func gatewayKeyEnd(wire []byte, at int) int {
	if none := wire[2] == 0; none != (at == len(wire)) {
		return -1
	}
	return len(wire)
}

// readDot reads the dot that stands for no gateway.
func readDot(r *rdata, name string) error {
	if word := r.word(); string(word) != "." {
		return no(word, name+" of type 0", "write a dot")
	}
	return nil
}

// readDiscovery reads the D bit of AMTRELAY; the relay type joins it in its octet.
func readDiscovery(r *rdata, name string) error {
	word := r.word()
	d, ok := decimal(word, 1)
	if !ok {
		return no(word, name, "write 0 or 1")
	}
	r.wire = append(r.wire, byte(d)<<7)
	return nil
}

func readRelayType(r *rdata, name string) error {
	word := r.word()
	n, ok := decimal(word, 127)
	if !ok {
		return no(word, name, "write a whole number up to 127")
	}
	r.wire[len(r.wire)-1] |= byte(n)
	return nil
}

// readIdentity reads the fields of HIP whose lengths come first on the wire
// (RFC 8005 section 5): algorithm, host identity tag, public key.
func readIdentity(r *rdata, _ string) error {
	if len(r.words) < 3 {
		return errors.New("a field is missing; write: algorithm, host identity tag, public key, rendezvous servers")
	}
	alg, ok := decimal(r.words[0], 255)
	if !ok {
		return no(r.words[0], "algorithm", "write a whole number up to 255")
	}
	hit, err := hex.DecodeString(string(r.words[1]))
	if err != nil || len(hit) == 0 || len(hit) > 255 {
		return no(r.words[1], "host identity tag", "write two hexadecimal digits for each of at most 255 octets")
	}
	key, err := base64.StdEncoding.Strict().DecodeString(string(r.words[2]))
	if err != nil || len(key) == 0 || len(key) > maxRDATA {
		return no(r.words[2], "public key", "write it in base64, in one word")
	}
	r.words = r.words[3:]
	r.wire = append(r.wire, byte(len(hit)), byte(alg), byte(len(key)>>8), byte(len(key)))
	r.wire = append(append(r.wire, hit...), key...)
	return nil
}

func identityEnd(wire []byte, at int) int {
	if len(wire) < at+4 || wire[at] == 0 {
		return -1
	}
	key := int(binary.BigEndian.Uint16(wire[at+2:]))
	if key == 0 {
		return -1
	}
	return octets(4+int(wire[at])+key)(wire, at)
}

func readServers(r *rdata, name string) error {
	for len(r.words) > 0 {
		if err := readName(r, name); err != nil {
			return err
		}
	}
	return nil
}

func serversEnd(wire []byte, at int) int {
	for at >= 0 && at < len(wire) {
		at = nameEnd(wire, at)
	}
	return at
}
