package zones

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// sphere is the RDATA of LOC (RFC 1876): a place on earth, a size and how exact they are.
var sphere = kind{read: readLocation, end: locationEnd}

// Degrees of LOC are thousandths of a second of arc, from this value for the
// equator and the prime meridian; altitude is centimetres from 100 km below.
const (
	equator   = 1 << 31
	second    = 1000
	minute    = 60 * second
	degree    = 60 * minute
	depth     = 100_000 * metre
	metre     = 100
	precision = 90_000_000 * metre // the most
)

func readLocation(r *rdata, _ string) error {
	latitude, err := r.angle("latitude", 90, "N", "S")
	if err != nil {
		return err
	}
	longitude, err := r.angle("longitude", 180, "E", "W")
	if err != nil {
		return err
	}
	if len(r.words) == 0 {
		return errors.New("the altitude is missing; write metres, as in 24m")
	}
	word := r.word()
	plain, below := bytes.CutPrefix(word, []byte("-"))
	altitude, ok := metres(plain, math.MaxUint32)
	if below {
		altitude = -altitude
	}
	if altitude += depth; !ok || altitude < 0 || altitude > math.MaxUint32 {
		return no(word, "altitude", "write metres from -100000.00 to 42849672.95, as in 24m")
	}
	sizes := [3]byte{0x12, 0x16, 0x13} // 1 m, 10 km, 10 m: RFC 1876 section 3
	for i, name := range []string{"size", "horizontal precision", "vertical precision"} {
		if len(r.words) == 0 {
			break
		}
		word := r.word()
		size, ok := metres(word, precision)
		if !ok {
			return no(word, name, "write metres up to 90000000.00, as in 10m")
		}
		sizes[i] = power(size)
	}
	r.wire = append(append(r.wire, 0), sizes[:]...)
	for _, n := range []int64{latitude, longitude, altitude} {
		r.wire = binary.BigEndian.AppendUint32(r.wire, uint32(n))
	}
	return nil
}

// angle reads degrees, perhaps minutes and seconds, and one of two directions.
func (r *rdata) angle(name string, most int64, plus, minus string) (int64, error) {
	units := []struct {
		name   string
		size   int64
		most   int64
		places int
	}{{name, degree, most, 0}, {"minutes of the " + name, minute, 59, 0}, {"seconds of the " + name, 1, 59_999, 3}}
	var angle int64
	for i := 0; len(r.words) > 0; i++ {
		word := r.word()
		direction := string(word)
		switch {
		case i > 0 && (direction == plus || direction == minus):
			if angle > most*degree {
				return 0, fmt.Errorf("a %s of more than %d degrees", name, most)
			}
			if direction == minus {
				angle = -angle
			}
			return equator + angle, nil
		case i == len(units):
			return 0, no(word, "direction of the "+name, fmt.Sprintf("write %s or %s", plus, minus))
		}
		u := units[i]
		n, ok := fraction(word, u.places)
		if !ok || n > u.most {
			return 0, no(word, u.name, fmt.Sprintf("write degrees, minutes, seconds and %s or %s, as in 52 22 23.000 %s", plus, minus, plus))
		}
		angle += n * u.size
	}
	return 0, fmt.Errorf("the %s does not end; write %s or %s after its degrees", name, plus, minus)
}

// metres reads a number of metres, with or without an m, as centimetres.
func metres(word []byte, most int64) (int64, bool) {
	if n := len(word); n > 0 && word[n-1] == 'm' {
		word = word[:n-1]
	}
	n, ok := fraction(word, 2)
	return n, ok && n <= most
}

// fraction reads a number with at most so many decimal places, in units of the
// last of these.
func fraction(word []byte, places int) (int64, bool) {
	whole, part, dotted := bytes.Cut(word, []byte("."))
	n, ok := decimal(whole, math.MaxUint32)
	if dotted && len(part) == 0 || len(part) > places {
		return 0, false
	}
	for i := range places {
		n *= 10
		if i < len(part) {
			ok = ok && digit(part[i])
			n += uint64(part[i] - '0')
		}
	}
	return int64(n), ok
}

// power writes centimetres as a digit and a power of ten, rounded down.
func power(n int64) byte {
	exponent := 0
	for ; n > 9; n /= 10 {
		exponent++
	}
	return byte(n)<<4 | byte(exponent)
}

func locationEnd(wire []byte, at int) int {
	if len(wire) > at && wire[at] != 0 {
		return len(wire) // another version: RFC 1876 says nothing about the rest
	}
	if len(wire) != at+16 {
		return -1
	}
	for _, size := range wire[at+1 : at+4] {
		if size>>4 > 9 || size&15 > 9 {
			return -1
		}
	}
	for i, most := range []int64{90, 180} {
		angle := int64(binary.BigEndian.Uint32(wire[at+4+4*i:])) - equator
		if angle > most*degree || angle < -most*degree {
			return -1
		}
	}
	return len(wire)
}
