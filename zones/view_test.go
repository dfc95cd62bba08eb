package zones

import "testing"

// viewOf makes the view of these zones, which must be good.
func viewOf(t *testing.T, texts map[string]string) *View {
	t.Helper()
	var list []*Zone
	for origin, text := range texts {
		wire, err := parseOrigin(origin)
		if err != nil {
			t.Fatal(err)
		}
		z, faults := job{source: memory(text), name: origin, origin: wire, fixed: true, steering: testSteering()}.load()
		if z == nil {
			t.Fatalf("%s: %v", origin, faults)
		}
		list = append(list, z)
	}
	return newView(list)
}

const head = "$TTL 60\n@ SOA ns.b.example. h 1 2 3 4 5\n"

func TestExhausted(t *testing.T) {
	v := viewOf(t, map[string]string{
		"a.example": head + "@ NS ns.c.example.\nx A 192.0.2.1\nx A 198.51.100.1\ny A 192.0.2.1\n",
		"b.example": head + "@ NS ns.c.example.\nx A 198.51.100.1\nx A 203.0.113.1\n",
	})
	const eu, us, ap = 1, 2, 4
	for _, c := range []struct {
		drained uint64
		n       int
		origin  string
	}{
		{0, 0, ""}, {eu, 0, ""}, {ap, 0, ""}, {eu | us, 1, "a.example."}, {us | ap, 1, "b.example."}, {eu | ap, 0, ""},
	} {
		if n, origin := v.Exhausted(c.drained); n != c.n || origin != c.origin {
			t.Errorf("with %b drained: %d, %q, want %d, %q", c.drained, n, origin, c.n, c.origin)
		}
	}
	if n, _ := v.Exhausted(eu | us | ap); n != 2 {
		t.Errorf("with all drained: %d, want 2", n)
	}
}
