package geo

import (
	"math"
	"strconv"
	"strings"

	"github.com/oschwald/maxminddb-golang/v2/mmdbdata"
)

// fields is what the databases in use call the things a Record is made of. They
// are read by these names, whatever the database's type says it is:
// GeoIP2, GeoLite2 and DB-IP nest them, those of ip-location-db are flat.
type fields struct {
	Country           place    `maxminddb:"country"`
	CountryCode       text     `maxminddb:"country_code"`
	RegisteredCountry place    `maxminddb:"registered_country"`
	Subdivisions      firstOf  `maxminddb:"subdivisions"`
	State             text     `maxminddb:"state1"`
	Location          position `maxminddb:"location"`
	Latitude          numeral  `maxminddb:"latitude"`
	Longitude         numeral  `maxminddb:"longitude"`
}

// resolve makes the Record: for each thing, the first of its names that has it.
func (f *fields) resolve() Record {
	var r Record
	for _, code := range []string{f.Country.code, string(f.CountryCode), f.RegisteredCountry.code} {
		if r.Country = countryCode(code); r.Country != "" {
			break
		}
	}
	subdivisions := []string{f.Subdivisions.code, f.Subdivisions.name, string(f.State)}
	for _, s := range subdivisions {
		if r.Subdivision = s; s != "" {
			break
		}
	}
	if r.Location, r.Located = f.Location.point(); r.Located {
		return r
	}
	if r.Location, r.Located = (position{f.Latitude, f.Longitude}).point(); r.Located {
		return r
	}
	// Code and name: the tables may know either.
	for _, s := range subdivisions {
		if r.Location, r.Located = Centre(r.Country, s); s != "" && r.Located {
			return r
		}
	}
	r.Location, r.Located = Centre(r.Country, "")
	return r
}

// countryCode returns s as an ISO 3166-1 alpha-2 code, "" if it is none. ZZ is
// how some databases write "unknown".
func countryCode(s string) string {
	s = strings.ToUpper(s)
	if len(s) != 2 || s[0] < 'A' || s[0] > 'Z' || s[1] < 'A' || s[1] > 'Z' || s == "ZZ" {
		return ""
	}
	return s
}

// What follows reads values leniently: one of an unexpected type counts as
// absent, because a database may use a name for something else. What is not
// well-formed stays an error.

// text is a string.
type text string

// UnmarshalMaxMindDBCursor implements mmdbdata.CursorUnmarshaler.
func (t *text) UnmarshalMaxMindDBCursor(c mmdbdata.Cursor) (mmdbdata.Cursor, error) {
	if kind, err := c.Kind(); err != nil || kind != mmdbdata.KindString {
		return skip(c, err)
	}
	s, next, err := c.ReadStringMaxSize(maxText)
	*t = text(s)
	return next, err
}

// maxText bounds a code or a name, in bytes. It is far beyond what any has.
const maxText = 1 << 12

// numeral is a number, or a string that reads as one.
type numeral struct {
	value   float64
	present bool
}

// UnmarshalMaxMindDBCursor implements mmdbdata.CursorUnmarshaler.
func (n *numeral) UnmarshalMaxMindDBCursor(c mmdbdata.Cursor) (mmdbdata.Cursor, error) {
	kind, err := c.Kind()
	switch {
	case err != nil:
		return c, err
	case kind == mmdbdata.KindFloat64 || kind == mmdbdata.KindFloat32:
		value, next, err := c.ReadFloat()
		*n = numeral{value, true}
		return next, err
	case kind == mmdbdata.KindInt32:
		value, next, err := c.ReadInt32()
		*n = numeral{float64(value), true}
		return next, err
	case kind == mmdbdata.KindUint16 || kind == mmdbdata.KindUint32 || kind == mmdbdata.KindUint64:
		value, next, err := c.ReadUint()
		*n = numeral{float64(value), true}
		return next, err
	}
	var t text
	next, err := t.UnmarshalMaxMindDBCursor(c)
	if value, bad := strconv.ParseFloat(string(t), 64); bad == nil {
		*n = numeral{value, true}
	}
	return next, err
}

// position is a pair of coordinates.
type position struct{ latitude, longitude numeral }

// UnmarshalMaxMindDBCursor implements mmdbdata.CursorUnmarshaler.
func (p *position) UnmarshalMaxMindDBCursor(c mmdbdata.Cursor) (mmdbdata.Cursor, error) {
	return readMap(c, func(key string, value mmdbdata.Cursor) (mmdbdata.Cursor, error) {
		switch key {
		case "latitude":
			return p.latitude.UnmarshalMaxMindDBCursor(value)
		case "longitude":
			return p.longitude.UnmarshalMaxMindDBCursor(value)
		}
		return value.Skip()
	})
}

// point returns the place, if both coordinates are there and it is on Earth.
func (p position) point() (Point, bool) {
	at := Point{p.latitude.value, p.longitude.value}
	if !p.latitude.present || !p.longitude.present || !at.Valid() || math.IsNaN(at.Latitude) {
		return Point{}, false
	}
	return at, true
}

// place is a country or a subdivision: a map with a code and names, or in flat
// databases the bare code.
type place struct{ code, name string }

// UnmarshalMaxMindDBCursor implements mmdbdata.CursorUnmarshaler.
func (p *place) UnmarshalMaxMindDBCursor(c mmdbdata.Cursor) (mmdbdata.Cursor, error) {
	if kind, err := c.Kind(); err == nil && kind == mmdbdata.KindString {
		return (*text)(&p.code).UnmarshalMaxMindDBCursor(c)
	}
	return readMap(c, func(key string, value mmdbdata.Cursor) (mmdbdata.Cursor, error) {
		switch key {
		case "iso_code":
			return (*text)(&p.code).UnmarshalMaxMindDBCursor(value)
		case "names":
			return readMap(value, func(language string, name mmdbdata.Cursor) (mmdbdata.Cursor, error) {
				if language == "en" {
					return (*text)(&p.name).UnmarshalMaxMindDBCursor(name)
				}
				return name.Skip()
			})
		}
		return value.Skip()
	})
}

// firstOf is the first of a list of places: the widest subdivision.
type firstOf struct{ place }

// UnmarshalMaxMindDBCursor implements mmdbdata.CursorUnmarshaler.
func (f *firstOf) UnmarshalMaxMindDBCursor(c mmdbdata.Cursor) (mmdbdata.Cursor, error) {
	if kind, err := c.Kind(); err != nil || kind != mmdbdata.KindSlice {
		return skip(c, err)
	}
	list, err := c.Slice()
	if err != nil {
		return c, err
	}
	var next mmdbdata.Cursor
	for {
		i, value, ok := list.Next(next)
		if !ok {
			return list.End()
		}
		if i == 0 {
			next, err = f.place.UnmarshalMaxMindDBCursor(value)
		} else {
			next, err = value.Skip()
		}
		if err != nil {
			return next, err
		}
	}
}

// readMap calls each with every key and value of a map, and skips what is no
// map. each returns the cursor behind the value.
func readMap(c mmdbdata.Cursor, each func(string, mmdbdata.Cursor) (mmdbdata.Cursor, error)) (mmdbdata.Cursor, error) {
	if kind, err := c.Kind(); err != nil || kind != mmdbdata.KindMap {
		return skip(c, err)
	}
	m, err := c.Map()
	if err != nil {
		return c, err
	}
	var next mmdbdata.Cursor
	for {
		key, value, ok := m.Next(next)
		if !ok {
			return m.End()
		}
		if next, err = each(string(key), value); err != nil {
			return next, err
		}
	}
}

// skip passes over a value, unless there was an error already.
func skip(c mmdbdata.Cursor, err error) (mmdbdata.Cursor, error) {
	if err != nil {
		return c, err
	}
	return c.Skip()
}
