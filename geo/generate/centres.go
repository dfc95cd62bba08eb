package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// makeCentres returns the tables of centres of countries and of first-level
// subdivisions: the mean of their populated places, weighted by population.
func makeCentres(packages string) (map[string][]byte, error) {
	names, err := subdivisionNames(packages)
	if err != nil {
		return nil, err
	}
	content, err := placesPackage.file(packages, "cities.pbf")
	if err != nil {
		return nil, err
	}
	countries, subdivisions := map[area]*mean{}, map[area]*mean{}
	err = readPlaces(content, func(p place) {
		if p.feature == "PPLX" { // a section of a place that is there itself
			return
		}
		// No population on record means a small one, not none.
		weight := float64(max(p.population, 500))
		addTo(countries, area{p.country, ""}, p, weight)
		addTo(subdivisions, area{p.country, p.subdivision}, p, weight)
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", placesPackage.archive, err)
	}
	var byCountry, bySubdivision bytes.Buffer
	for _, a := range inOrder(countries) {
		latitude, longitude := countries[a].degrees()
		fmt.Fprintf(&byCountry, "%s\t%.4f\t%.4f\n", a.country, latitude, longitude)
	}
	for _, a := range inOrder(subdivisions) {
		code, name := isoCode(a.subdivision), names[a.country+"."+a.subdivision]
		if code == "" && name == "" {
			continue
		}
		latitude, longitude := subdivisions[a].degrees()
		fmt.Fprintf(&bySubdivision, "%s\t%s\t%s\t%.4f\t%.4f\n", a.country, code, name, latitude, longitude)
	}
	return map[string][]byte{"countries.tsv": byCountry.Bytes(), "subdivisions.tsv": bySubdivision.Bytes()}, nil
}

func addTo(means map[area]*mean, a area, p place, weight float64) {
	if means[a] == nil {
		means[a] = &mean{}
	}
	means[a].add(p.latitude, p.longitude, weight)
}

func inOrder(means map[area]*mean) []area {
	return slices.SortedFunc(maps.Keys(means), func(a, b area) int {
		return cmp.Or(strings.Compare(a.country, b.country), strings.Compare(a.subdivision, b.subdivision))
	})
}

// isoCode returns a GeoNames code of a subdivision if it is that of ISO 3166-2
// too. Those in letters are (US.CA, GB.ENG); those with digits are its own, and
// mean another place where ISO has digits as well.
func isoCode(code string) string {
	for _, c := range code {
		if c < 'A' || c > 'Z' {
			return ""
		}
	}
	return code
}

// subdivisionNames returns the English names by country and code, as US.CA.
func subdivisionNames(packages string) (map[string]string, error) {
	content, err := namesPackage.file(packages, "admin1.json")
	if err != nil {
		return nil, err
	}
	var list []struct{ Code, Name string }
	if err := json.Unmarshal(content, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", namesPackage.archive, err)
	}
	names := make(map[string]string, len(list))
	for _, s := range list {
		names[s.Code] = s.Name
	}
	return names, nil
}

// place is a populated place of GeoNames.
type place struct {
	country, subdivision, feature string
	population                    uint64
	latitude, longitude           float64
}

// The numbers of the fields that are used of a place in cities.pbf.
const (
	fieldCountry    protowire.Number = 3
	fieldFeature    protowire.Number = 7
	fieldAdmin1     protowire.Number = 8
	fieldPopulation protowire.Number = 9
	fieldLongitude  protowire.Number = 10
	fieldLatitude   protowire.Number = 11
)

// readPlaces calls visit for each place of cities.pbf: messages of protocol
// buffers, each after its length. Coordinates are in 1e-5 degrees and relative
// to those of the place before.
func readPlaces(b []byte, visit func(place)) error {
	var latitude, longitude int64
	for len(b) > 0 {
		message, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		var p place
		for len(message) > 0 {
			field, kind, n := protowire.ConsumeTag(message)
			if n < 0 {
				return protowire.ParseError(n)
			}
			size := protowire.ConsumeFieldValue(field, kind, message[n:])
			if size < 0 {
				return protowire.ParseError(size)
			}
			value := message[n : n+size]
			message = message[n+size:]
			switch kind {
			case protowire.BytesType:
				text, _ := protowire.ConsumeBytes(value)
				p.setText(field, string(text))
			case protowire.VarintType:
				number, _ := protowire.ConsumeVarint(value)
				switch field {
				case fieldPopulation:
					p.population = number
				case fieldLongitude:
					longitude += protowire.DecodeZigZag(number)
				case fieldLatitude:
					latitude += protowire.DecodeZigZag(number)
				}
			}
		}
		p.latitude, p.longitude = float64(latitude)/1e5, float64(longitude)/1e5
		if p.latitude < -90 || p.latitude > 90 || p.longitude < -180 || p.longitude > 180 {
			return errors.New("a place is off the Earth: the file's layout has changed")
		}
		visit(p)
	}
	return nil
}

func (p *place) setText(field protowire.Number, text string) {
	switch field {
	case fieldCountry:
		p.country = text
	case fieldFeature:
		p.feature = text
	case fieldAdmin1:
		p.subdivision = text
	}
}
