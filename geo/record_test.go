package geo

import (
	"math"
	"testing"
)

func number(v float64) numeral { return numeral{v, true} }

func TestResolve(t *testing.T) {
	california, _ := Centre("US", "California")
	unitedStates, _ := Centre("US", "")
	england, _ := Centre("GB", "ENG")
	for _, c := range []struct {
		name   string
		fields fields
		want   Record
	}{
		{"nothing", fields{}, Record{}},
		{"nested before flat", fields{
			Country: place{code: "DE"}, CountryCode: "FR", RegisteredCountry: place{code: "US"},
			Location: position{number(1), number(2)}, Latitude: number(3), Longitude: number(4),
		}, Record{"DE", "", Point{1, 2}, true}},
		{"flat", fields{CountryCode: "fr", State: "Occitanie", Latitude: number(3), Longitude: number(4)},
			Record{"FR", "Occitanie", Point{3, 4}, true}},
		{"registered country last", fields{RegisteredCountry: place{code: "US"}}, Record{"US", "", unitedStates, true}},
		{"subdivision by name", fields{CountryCode: "US", State: "california"}, Record{"US", "california", california, true}},
		{"subdivision by code", fields{CountryCode: "US", Subdivisions: firstOf{place{"CA", "Kalifornien"}}}, Record{"US", "CA", california, true}},
		{"code unknown, name known", fields{CountryCode: "GB", Subdivisions: firstOf{place{"XYZ", "England"}}}, Record{"GB", "XYZ", england, true}},
		{"subdivision unknown", fields{CountryCode: "US", State: "Utopia"}, Record{"US", "Utopia", unitedStates, true}},
		{"one coordinate", fields{Country: place{code: "US"}, Location: position{latitude: number(1)}}, Record{"US", "", unitedStates, true}},
		{"off the Earth", fields{Country: place{code: "US"}, Location: position{number(91), number(0)}}, Record{"US", "", unitedStates, true}},
		{"no number", fields{Location: position{number(math.NaN()), number(0)}}, Record{}},
		{"infinite", fields{Location: position{number(0), number(math.Inf(1))}}, Record{}},
		{"bad nested, good flat", fields{Location: position{number(91), number(0)}, Latitude: number(3), Longitude: number(4)}, Record{"", "", Point{3, 4}, true}},
		{"no country codes", fields{Country: place{code: "ZZ"}, CountryCode: "None", RegisteredCountry: place{code: "1A"}}, Record{}},
	} {
		if got := c.fields.resolve(); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestCentre(t *testing.T) {
	for _, c := range []struct {
		country, subdivision string
		near                 Point
		within               float64 // kilometres
	}{
		{"US", "CA", Point{36, -119.4}, 300},
		{"us", "CALIFORNIA", Point{36, -119.4}, 300},
		{"AU", "New South Wales", Point{-33.7, 150.9}, 150},
		{"GB", "SCT", Point{56, -3.9}, 150},
		{"FR", "", Point{47, 2.5}, 200},
		{"FJ", "", Point{-18, 178.3}, 150}, // on both sides of the antimeridian
	} {
		at, ok := Centre(c.country, c.subdivision)
		if d := at.Distance(c.near); !ok || d > c.within {
			t.Errorf("%s %q: %v, %.0f km from where it is", c.country, c.subdivision, at, d)
		}
	}
	for _, none := range [][2]string{{"", ""}, {"XX", ""}, {"US", "Utopia"}, {"FR", "75"}} {
		if at, ok := Centre(none[0], none[1]); ok {
			t.Errorf("%v has a centre at %v", none, at)
		}
	}
	if n := len(centres()); n < 3500 {
		t.Errorf("%d centres: the tables did not parse", n)
	}
}
