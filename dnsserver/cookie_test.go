package dnsserver

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"testing"
)

// The first test vector of RFC 9018, appendix A.1.
var (
	rfc9018Secret = [SecretSize]byte{0xe5, 0xe9, 0x73, 0xe5, 0xa6, 0xb2, 0xa4, 0x3f, 0x48, 0xe7, 0xdc, 0x84, 0x9e, 0x37, 0xbf, 0xcf}
	rfc9018Addr   = netip.MustParseAddr("198.51.100.100")
)

const rfc9018Time = 1559731985

func hexCookie(t testing.TB, text string) (c cookie) {
	t.Helper()
	data, err := hex.DecodeString(text)
	if err != nil || !c.parse(data) {
		t.Fatalf("cookie %s: %v", text, err)
	}
	return c
}

// TestCookieVectors has the test vectors of RFC 9018, appendix A.
func TestCookieVectors(t *testing.T) {
	old := [SecretSize]byte{0xdd, 0x3b, 0xdf, 0x93, 0x44, 0xb6, 0x78, 0xb1, 0x85, 0xa6, 0xf5, 0xcb, 0x60, 0xfc, 0xa7, 0x15}
	newer := [SecretSize]byte{0x44, 0x55, 0x36, 0xbc, 0xd2, 0x51, 0x32, 0x98, 0x07, 0x5a, 0x5d, 0x37, 0x96, 0x63, 0xc9, 0x62}
	for _, c := range []struct {
		name, cookie, from string
		now                uint32
		secrets            *Secrets
		want               string // the server's part of the response
	}{
		{"A.1", "2464c4abcf10c957", "198.51.100.100", 1559731985, NewSecrets(rfc9018Secret), "010000005cf79f111f8130c3eee29480"},
		{"A.2: renewed after 30 minutes", "2464c4abcf10c957010000005cf79f111f8130c3eee29480", "198.51.100.100", 1559734385, NewSecrets(rfc9018Secret), "010000005cf7a871d4a564a1442aca77"},
		{"A.3: reserved octets are hashed", "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", "203.0.113.203", 1559727985, NewSecrets(rfc9018Secret), "01abcdef5cf78f71a314227b6679ebf5"},
		{"A.4: IPv6, a new secret", "22681ab97d52c298010000005cf7c57926556bd0934c72f8", "2001:db8:220:1:59de:d0f4:8769:82b8", 1559741961, NewSecrets(newer, old), "010000005cf7c609a6bb79d16625507a"},
	} {
		cookie := hexCookie(t, c.cookie)
		got := cookie.append(nil, c.secrets, netip.MustParseAddr(c.from), c.now)
		if server := hex.EncodeToString(got[4+clientCookie:]); server != c.want {
			t.Errorf("%s: %s, want %s", c.name, server, c.want)
		}
	}
}

func TestCookieValidity(t *testing.T) {
	made := hexCookie(t, "2464c4abcf10c957010000005cf79f111f8130c3eee29480")
	s, other := NewSecrets(rfc9018Secret), NewSecrets([SecretSize]byte{1})
	for _, c := range []struct {
		name    string
		change  func(*cookie)
		secrets *Secrets
		from    netip.Addr
		now     uint32
		want    bool
	}{
		{"as made", nil, s, rfc9018Addr, rfc9018Time, true},
		{"an hour later", nil, s, rfc9018Addr, rfc9018Time + 3600, true},
		{"later than an hour", nil, s, rfc9018Addr, rfc9018Time + 3601, false},
		{"from a clock that is ahead", nil, s, rfc9018Addr, rfc9018Time - 300, true},
		{"from the future", nil, s, rfc9018Addr, rfc9018Time - 301, false},
		{"another address", nil, s, netip.MustParseAddr("198.51.100.101"), rfc9018Time, false},
		{"another secret", nil, other, rfc9018Addr, rfc9018Time, false},
		{"the older of two secrets", nil, &Secrets{append(other.keys, s.keys...)}, rfc9018Addr, rfc9018Time, true},
		{"another client cookie", func(c *cookie) { c.client[0]++ }, s, rfc9018Addr, rfc9018Time, false},
		{"another version", func(c *cookie) { c.server[0]++ }, s, rfc9018Addr, rfc9018Time, false},
		{"another time", func(c *cookie) { c.server[7]++ }, s, rfc9018Addr, rfc9018Time, false},
		{"longer", func(c *cookie) { c.n++ }, s, rfc9018Addr, rfc9018Time, false},
		{"none", func(c *cookie) { c.n = 0 }, s, rfc9018Addr, rfc9018Time, false},
	} {
		cookie := made
		if c.change != nil {
			c.change(&cookie)
		}
		if ok, _ := cookie.valid(c.secrets, c.from, c.now); ok != c.want {
			t.Errorf("%s: valid is %v", c.name, ok)
		}
	}
}

// A query without a question is one for a cookie (RFC 7873, 5.4).
func TestCookieWithoutQuestion(t *testing.T) {
	b := steeredBench(t)
	buf := make([]byte, udpRoom)
	query := packet(0, 0, 0, 0, 1, option(optionCookie, 1, 2, 3, 4, 5, 6, 7, 8))
	n := b.r.respond(b.snapshot, buf, copy(buf, query), rfc9018Addr, false)
	if want := headerSize + optSize + optionSize(clientCookie+serverCookie); n != want || buf[3]&0x0F != rcodeNoError || binary.BigEndian.Uint16(buf[4:]) != 0 {
		t.Errorf("%d octets, want %d: %x", n, want, buf[:n])
	}
}

func FuzzCookie(f *testing.F) {
	f.Add([]byte("12345678"), uint32(rfc9018Time))
	made := hexCookie(f, "2464c4abcf10c957010000005cf79f111f8130c3eee29480")
	f.Add(append(made.client[:], made.server[:serverCookie]...), uint32(rfc9018Time))
	s := NewSecrets(rfc9018Secret)
	f.Fuzz(func(t *testing.T, data []byte, now uint32) {
		var c cookie
		if !c.parse(data) {
			return
		}
		answer := c.append(nil, s, rfc9018Addr, now)
		var again cookie
		if !again.parse(answer[4:]) {
			t.Fatalf("our own cookie is malformed: %x", answer)
		}
		if _, fresh := again.valid(s, rfc9018Addr, now); !fresh {
			t.Fatalf("our own cookie is not valid: %x", answer)
		}
	})
}
