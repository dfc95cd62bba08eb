package main

import (
	"encoding/binary"
	"math"
	"os"
)

// cities is how many points near its region a country has.
const cities = 40

// place is where a network is.
type place struct{ region, city int }

// point is a little off the region's own, so that every place is a record.
func (p place) point() (latitude, longitude float64) {
	r := regions[p.region]
	return r.Latitude + float64(p.city%8)/4 - 1, r.Longitude + float64(p.city/8)/4 - 0.5
}

// writeDatabase writes a City database in the MaxMind DB format, version 2:
// the tree of all IPv4 networks of networkBits, below ::/96 as usual.
func writeDatabase(path string) error {
	var data []byte
	offsets := make(map[place]uint32)
	for r := range regions {
		for c := range cities {
			offsets[place{r, c}] = uint32(len(data))
			data = appendPlace(data, place{r, c})
		}
	}
	// 96 nodes lead to the IPv4 space: a zero each, nothing beside it. Below, the
	// tree is complete: its nodes count from 1 level by level, so that those
	// below k are 2k and 2k+1, and the networks come after the last node.
	const above, networks = 96, 1 << networkBits
	const nodes = above + networks - 1
	tree := make([]byte, 0, 8*nodes)
	add := func(left, right uint32) {
		tree = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(tree, left), right)
	}
	below := func(k uint32) uint32 {
		if k < networks {
			return above + k - 1
		}
		return nodes + 16 + offsets[placeOf(k-networks)]
	}
	for i := range uint32(above) {
		add(i+1, nodes) // nodes itself stands for nothing
	}
	for k := range uint32(networks) {
		if k > 0 {
			add(below(2*k), below(2*k+1))
		}
	}
	file := append(tree, make([]byte, 16)...)
	file = append(file, data...)
	file = append(file, "\xab\xcd\xefMaxMind.com"...)
	return os.WriteFile(path, appendMetadata(file, nodes), 0o644)
}

// The kinds of fields that are needed: MaxMind DB 2.0, "Output Data Section".
const (
	kindText   = 2
	kindDouble = 3
	kindUint16 = 5
	kindUint32 = 6
	kindMap    = 7
	kindUint64 = 9
	kindArray  = 11
)

// appendControl begins a field; size is below 29.
func appendControl(b []byte, kind, size int) []byte {
	if kind > 7 {
		return append(b, byte(size), byte(kind-7))
	}
	return append(b, byte(kind<<5|size))
}

func appendText(b []byte, s string) []byte {
	return append(appendControl(b, kindText, len(s)), s...)
}

func appendDouble(b []byte, f float64) []byte {
	return binary.BigEndian.AppendUint64(appendControl(b, kindDouble, 8), math.Float64bits(f))
}

func appendUint(b []byte, kind int, n uint32) []byte {
	return binary.BigEndian.AppendUint32(appendControl(b, kind, 4), n)
}

func appendPlace(b []byte, p place) []byte {
	r := regions[p.region]
	latitude, longitude := p.point()
	b = appendControl(b, kindMap, 3)
	b = appendText(appendText(appendControl(appendText(b, "continent"), kindMap, 1), "code"), r.Continent)
	b = appendText(appendText(appendControl(appendText(b, "country"), kindMap, 1), "iso_code"), r.Country)
	b = appendControl(appendText(b, "location"), kindMap, 2)
	b = appendDouble(appendText(b, "latitude"), latitude)
	return appendDouble(appendText(b, "longitude"), longitude)
}

func appendMetadata(b []byte, nodes uint32) []byte {
	short := func(name string, n uint16) {
		b = appendControl(appendText(b, name), kindUint16, 2)
		b = binary.BigEndian.AppendUint16(b, n)
	}
	b = appendControl(b, kindMap, 9)
	short("binary_format_major_version", 2)
	short("binary_format_minor_version", 0)
	short("record_size", 32)
	short("ip_version", 6)
	b = appendUint(appendText(b, "node_count"), kindUint32, nodes)
	b = appendText(appendText(b, "database_type"), "GeoLite2-City")
	b = appendText(appendControl(appendText(b, "languages"), kindArray, 1), "en")
	b = appendControl(appendText(b, "build_epoch"), kindUint64, 4)
	b = binary.BigEndian.AppendUint32(b, 1700000000)
	b = appendControl(appendText(b, "description"), kindMap, 1)
	return appendText(appendText(b, "en"), "made up for a benchmark")
}
