package geo

import (
	_ "embed"
	"strings"
	"sync"
)

// Centres of countries and of their first-level subdivisions, weighted by
// population, from GeoNames (CC BY 4.0). Made by the command in generate.
var (
	//go:embed builtin/countries.tsv
	countryCentres string // country, latitude, longitude
	//go:embed builtin/subdivisions.tsv
	subdivisionCentres string // country, code ("" if not that of ISO 3166-2), English name, latitude, longitude
)

// Centre returns the centre of a country's population (ISO 3166-1 alpha-2), or
// if a subdivision is given, of that. Databases name subdivisions differently,
// so both the ISO 3166-2 code without the country and the English name do.
func Centre(country, subdivision string) (Point, bool) {
	p, ok := centres()[centreKey(country, subdivision)]
	return p, ok
}

func centreKey(country, subdivision string) string {
	return strings.ToUpper(country) + "/" + strings.ToLower(subdivision)
}

// centres are read when first needed: a database with coordinates never does.
// The tables are our own; what is wrong in them a test finds.
var centres = sync.OnceValue(func() map[string]Point {
	all := make(map[string]Point)
	for line := range strings.Lines(countryCentres) {
		if f := strings.Split(strings.TrimSuffix(line, "\n"), "\t"); len(f) == 3 {
			if p, err := parsePoint(f[1], f[2]); err == nil {
				all[centreKey(f[0], "")] = p
			}
		}
	}
	for line := range strings.Lines(subdivisionCentres) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 5 {
			continue
		}
		p, err := parsePoint(f[3], f[4])
		for _, name := range f[1:3] {
			if err == nil && name != "" {
				all[centreKey(f[0], name)] = p
			}
		}
	}
	return all
})
