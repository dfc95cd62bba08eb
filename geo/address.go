package geo

import (
	"cmp"
	"encoding/binary"
	"net/netip"
)

// address is an address of either family, as numbers.
type address[A any] interface {
	comparable
	compare(A) int
	next() (A, bool) // false past the last address
}

// addr4 is an IPv4 address.
type addr4 uint32

func (a addr4) compare(b addr4) int { return cmp.Compare(a, b) }

func (a addr4) next() (addr4, bool) { return a + 1, a != 1<<32-1 }

// addr6 is an IPv6 address: its upper and lower 64 bits.
type addr6 struct{ hi, lo uint64 }

func (a addr6) compare(b addr6) int {
	return cmp.Or(cmp.Compare(a.hi, b.hi), cmp.Compare(a.lo, b.lo))
}

func (a addr6) next() (addr6, bool) {
	if a.lo++; a.lo == 0 {
		a.hi++
	}
	return a, a != addr6{}
}

// with returns the address with a bit set; bit 0 is the uppermost.
func (a addr6) with(bit int) addr6 {
	if bit < 64 {
		return addr6{a.hi | 1<<(63-bit), a.lo}
	}
	return addr6{a.hi, a.lo | 1<<(127-bit)}
}

// number4 returns an IPv4 address as a number.
func number4(a netip.Addr) addr4 {
	b := a.As4()
	return addr4(binary.BigEndian.Uint32(b[:]))
}

// number6 returns an IPv6 address as numbers.
func number6(a netip.Addr) addr6 {
	b := a.As16()
	return addr6{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// bounds4 returns the first and the last address of an IPv4 prefix.
func bounds4(p netip.Prefix) (first, last addr4) {
	mask := ^uint32(0) >> p.Bits() // a shift by 32 leaves 0
	first = number4(p.Addr()) &^ addr4(mask)
	return first, first | addr4(mask)
}

// bounds6 returns the first and the last address of an IPv6 prefix.
func bounds6(p netip.Prefix) (first, last addr6) {
	hi, lo := ^uint64(0)>>p.Bits(), ^uint64(0)
	if p.Bits() > 64 {
		lo >>= p.Bits() - 64
	}
	a := number6(p.Addr())
	first = addr6{a.hi &^ hi, a.lo &^ lo}
	return first, addr6{first.hi | hi, first.lo | lo}
}
