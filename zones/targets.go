package zones

import (
	"slices"
	"strings"
)

// targets is a set of names that NS records point at, each as its labels from
// the root down, sorted: what lies within a zone stands together. It is
// immutable.
type targets []string

// within returns the wire names of those at or below an apex.
func (t targets) within(apex []byte) []string {
	first := reversed(apex)
	at, _ := slices.BinarySearch(t, first)
	var names []string
	for _, key := range t[at:] {
		if !strings.HasPrefix(key, first) {
			break
		}
		names = append(names, string(restored(key)))
	}
	return names
}

// reversed returns the labels of a wire name from the root down.
func reversed(name []byte) string {
	key := make([]byte, len(name)-1)
	for at := len(key); name[0] != 0; name = name[1+int(name[0]):] {
		at -= 1 + int(name[0])
		copy(key[at:], name[:1+int(name[0])])
	}
	return string(key)
}

// restored returns the wire name whose labels are reversed in key.
func restored(key string) []byte {
	name := make([]byte, len(key)+1)
	for at := len(key); key != ""; key = key[1+int(key[0]):] {
		at -= 1 + int(key[0])
		copy(name[at:], key[:1+int(key[0])])
	}
	return name
}

// pointed counts the zones whose NS records point at each name.
type pointed struct {
	zones map[string]int
	list  targets
}

// replace counts what new zones point at instead of old ones, and returns the
// names that came or went.
func (p *pointed) replace(old, new []*Zone) (changed []string) {
	before := make(map[string]int)
	count := func(zones []*Zone, by int) {
		for _, z := range zones {
			for _, name := range z.servers {
				if _, seen := before[name]; !seen {
					before[name] = p.zones[name]
				}
				p.zones[name] += by
			}
		}
	}
	count(new, 1)
	count(old, -1)
	for name, n := range before {
		if p.zones[name] == 0 {
			delete(p.zones, name)
		}
		if (n == 0) != (p.zones[name] == 0) {
			changed = append(changed, name)
		}
	}
	if len(changed) > 0 {
		p.list = make(targets, 0, len(p.zones))
		for name := range p.zones {
			p.list = append(p.list, reversed([]byte(name)))
		}
		slices.Sort(p.list)
	}
	return changed
}
