package geo

import "math"

// Point is a place on Earth in degrees: latitude north, longitude east.
type Point struct {
	Latitude  float64
	Longitude float64
}

// earthRadius is the mean radius of the Earth in kilometres (IUGG).
const earthRadius = 6371.0088

// Valid reports whether p lies on Earth.
func (p Point) Valid() bool {
	return p.Latitude >= -90 && p.Latitude <= 90 && p.Longitude >= -180 && p.Longitude <= 180
}

// Distance returns the great-circle distance to q in kilometres, by the
// haversine formula, which stays exact for near points.
func (p Point) Distance(q Point) float64 {
	const radian = math.Pi / 180
	dLat := (q.Latitude - p.Latitude) * radian / 2
	dLon := (q.Longitude - p.Longitude) * radian / 2
	h := math.Sin(dLat)*math.Sin(dLat) +
		math.Cos(p.Latitude*radian)*math.Cos(q.Latitude*radian)*math.Sin(dLon)*math.Sin(dLon)
	return 2 * earthRadius * math.Asin(math.Sqrt(min(h, 1)))
}
