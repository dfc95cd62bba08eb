package main

import "math"

// mean is a weighted mean of places. It is taken on the sphere, as the sum of
// vectors: the mean of the degrees of 179 and -179 would be on the other side
// of the Earth (Chukotka, the Aleutians and Fiji have both).
type mean struct{ x, y, z float64 }

func (m *mean) add(latitude, longitude, weight float64) {
	sinLat, cosLat := math.Sincos(latitude * math.Pi / 180)
	sinLon, cosLon := math.Sincos(longitude * math.Pi / 180)
	m.x += weight * cosLat * cosLon
	m.y += weight * cosLat * sinLon
	m.z += weight * sinLat
}

// degrees returns the mean's latitude and longitude.
func (m *mean) degrees() (latitude, longitude float64) {
	return math.Atan2(m.z, math.Hypot(m.x, m.y)) * 180 / math.Pi, math.Atan2(m.y, m.x) * 180 / math.Pi
}
