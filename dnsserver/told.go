package dnsserver

import (
	"fmt"
	"strconv"
	"strings"

	"nearside/regions"
)

// Told is what a server tells of its state to whoever asks it by DNS, so that one
// that is cut off from etcd can be asked what it answers: TXT of state.nearside,
// class CH.
type Told struct {
	ID       string // of the server: whoever asks an address may reach another machine
	Cluster  uint64
	Revision int64
	Digest   uint64   // of the state: see regions.State.Digest
	Drained  []string // regions that no answer has, and SERVICE/REGION where a service alone is kept from one
	More     int      // drained ones that there is no room to name
}

// ToldOf returns what there is to tell of the state of a server, as far as there is room.
func ToldOf(id string, s *regions.State) Told {
	t := Told{ID: id, Cluster: s.Cluster, Revision: s.Revision, Digest: s.Digest()}
	left := MaxVersion - len(t.String()) - len(",+65536")
	for _, name := range s.DrainedNames() {
		if left -= len(name) + len(","); left < 0 || t.More > 0 {
			t.More++
			continue
		}
		t.Drained = append(t.Drained, name)
	}
	return t
}

// String writes t, in one character-string of a TXT record.
func (t Told) String() string {
	list := t.Drained
	if t.More > 0 {
		list = append(list[:len(list):len(list)], "+"+strconv.Itoa(t.More))
	}
	return fmt.Sprintf("id=%s cluster=%x revision=%d state=%016x drained=%s", t.ID, t.Cluster, t.Revision, t.Digest, strings.Join(list, ","))
}

// ParseTold reads what String writes, and more words of later versions.
func ParseTold(text string) (t Told, err error) {
	seen := make(map[string]bool)
	for _, word := range strings.Fields(text) {
		key, value, _ := strings.Cut(word, "=")
		if seen[key] {
			return Told{}, fmt.Errorf("%s is told twice", key)
		}
		seen[key] = true
		switch key {
		case "id":
			t.ID = value
		case "cluster":
			t.Cluster, err = strconv.ParseUint(value, 16, 64)
		case "revision":
			t.Revision, err = strconv.ParseInt(value, 10, 64)
		case "state":
			t.Digest, err = strconv.ParseUint(value, 16, 64)
		case "drained":
			err = t.parseDrained(value)
		}
		if err != nil {
			return Told{}, fmt.Errorf("%s: %w", key, err)
		}
	}
	for _, key := range []string{"id", "cluster", "revision", "state", "drained"} {
		if !seen[key] {
			return Told{}, fmt.Errorf("%s is not told", key)
		}
	}
	return t, nil
}

// parseDrained reads the list of drained regions.
func (t *Told) parseDrained(list string) error {
	if list == "" {
		return nil
	}
	for name := range strings.SplitSeq(list, ",") {
		if t.More > 0 {
			return fmt.Errorf("more names behind +%d", t.More)
		}
		if more, counted := strings.CutPrefix(name, "+"); counted {
			n, err := strconv.ParseUint(more, 10, 16)
			if err != nil || n == 0 {
				return fmt.Errorf("%q is no number of names", name)
			}
			t.More = int(n)
			continue
		}
		for part := range strings.SplitSeq(name, "/") {
			if err := regions.CheckName(part); err != nil {
				return fmt.Errorf("%q: %w", name, err)
			}
		}
		t.Drained = append(t.Drained, name)
	}
	return nil
}
