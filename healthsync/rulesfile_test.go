package healthsync

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"nearside/regions"
)

// newRules reads a file, and starts servers that hear in the given ways.
func newRules(t testing.TB, file string, archive *txtar.Archive, ears []ear) (*rules, error) {
	r := &rules{file: file, ears: ears, names: make(map[string]regions.Steered)}
	r.world = &world{t: t, now: day.Add(18 * time.Hour), keys: make(map[string]write)}
	c := configuration{policy: regions.Policy{MaxOut: 100, TTL: 30}}
	line := 1 + strings.Count(string(archive.Comment), "\n")
	for _, f := range archive.Files {
		line++ // its name
		read := map[string]func([]string) error{"regions": c.region, "services": c.service, "policy": c.rule, "names": r.steer}[f.Name]
		switch {
		case f.Name == "script":
			r.first, r.script = line, string(f.Data)
		case read == nil:
			return nil, fmt.Errorf("%s: no such file in it: %s", file, f.Name)
		}
		if f.Name == "names" || f.Name == "script" {
			if err := c.build(r.world); err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
		}
		for text := range strings.Lines(string(f.Data)) {
			if words := strings.Fields(text); read != nil && len(words) > 0 {
				if err := read(words); err != nil {
					return nil, fmt.Errorf("%s:%d: %w", file, line, err)
				}
			}
			line++
		}
	}
	if r.script == "" {
		return nil, fmt.Errorf("%s: it has no script", file)
	}
	r.steered = func() (list []regions.Steered) {
		for _, n := range r.names {
			list = append(list, n)
		}
		return list
	}
	for _, e := range ears {
		r.servers = append(r.servers, r.start(e.name))
	}
	return r, nil
}

// configuration is what the files before the script say.
type configuration struct {
	regions  []regions.Region
	services []regions.Service
	policy   regions.Policy
}

func (c *configuration) region(words []string) error {
	r := regions.Region{Name: words[0], Weight: 100}
	err := options(words[1:], func(option, value string) (err error) {
		switch option {
		case "weight":
			r.Weight, err = strconv.Atoi(value)
		case "heartbeat":
			r.Heartbeat = true
		case "standby":
			r.Standby = true
		default:
			err = errNoOption
		}
		return err
	})
	c.regions = append(c.regions, r)
	return err
}

func (c *configuration) service(words []string) error {
	table, err := regions.New(c.regions)
	if err != nil {
		return err
	}
	s := regions.Service{Name: words[0]}
	err = options(words[1:], func(option, value string) (err error) {
		switch option {
		case "names":
			s.Names = strings.Split(value, ",")
		case "regions":
			s.Regions, err = regionList(table, value)
		case "failover":
			s.Failover = true
		case "ttl":
			s.TTL, err = seconds(value)
		case "exhausted":
			s.OnExhausted, err = exhausted(table, value)
		default:
			err = errNoOption
		}
		return err
	})
	c.services = append(c.services, s)
	return err
}

func exhausted(table *regions.Table, word string) (regions.Exhausted, error) {
	switch word {
	case "any":
		return regions.Exhausted{}, nil
	case "none":
		return regions.Exhausted{Kind: regions.NoRegion}, nil
	}
	key, err := subjectOf(table, word)
	return regions.Exhausted{Kind: regions.OneRegion, Region: key.Region}, err
}

func (c *configuration) rule(words []string) error {
	return options(words, func(option, value string) (err error) {
		switch option {
		case "max_out":
			c.policy.MaxOut, err = strconv.Atoi(strings.TrimSuffix(value, "%"))
		case "hold":
			c.policy.Hold, err = time.ParseDuration(value)
		case "ramp":
			c.policy.Ramp, err = time.ParseDuration(value)
		case "ttl":
			c.policy.TTL, err = seconds(value)
		default:
			err = errNoOption
		}
		return err
	})
}

// build gives a world its table, once all is read that it is made of.
func (c *configuration) build(w *world) error {
	table, err := regions.New(c.regions)
	if err == nil {
		w.table, err = table.With(c.services, c.policy)
	}
	return err
}

// steer reads a steered name.
func (r *rules) steer(words []string) error {
	name := words[0] + "."
	n := regions.Steered{Name: name, Service: r.table.ServiceOf(name)}
	for _, word := range words[1:] {
		key, err := subjectOf(r.table, word)
		if err != nil {
			return err
		}
		n.Regions |= regions.SetOf(key.Region)
	}
	r.names[words[0]] = n
	return nil
}

var errNoOption = errors.New("no such option")

// options reads words such as ttl=30.
func options(words []string, read func(option, value string) error) error {
	for _, word := range words {
		option, value, _ := strings.Cut(word, "=")
		if err := read(option, value); err != nil {
			return fmt.Errorf("%q: %w", word, err)
		}
	}
	return nil
}

func seconds(word string) (uint32, error) {
	n, err := strconv.ParseUint(word, 10, 32)
	return uint32(n), err
}

// subjectOf reads REGION or SERVICE/REGION.
func subjectOf(table *regions.Table, word string) (k regions.Key, err error) {
	service, region, pair := strings.Cut(word, "/")
	known := true
	if !pair {
		region = word
	} else {
		k.Service, known = table.ServiceNamed(service)
	}
	id, is := table.Named(region)
	if k.Region = id; !known || !is {
		return k, fmt.Errorf("%q: no such region, or service in one", word)
	}
	return k, nil
}

func regionList(table *regions.Table, words string) (list []regions.ID, err error) {
	for word := range strings.SplitSeq(words, ",") {
		key, err := subjectOf(table, word)
		if err != nil {
			return nil, err
		}
		list = append(list, key.Region)
	}
	return list, nil
}

// day is that of all scripts.
var day = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

func timeOf(word string) (time.Time, error) {
	t, err := time.Parse("15:04:05.999", word)
	if err != nil {
		return t, fmt.Errorf("%q: no time such as 18:00:05", word)
	}
	return day.Add(t.Sub(t.Truncate(24 * time.Hour))), nil
}

func clockOf(t time.Time) string { return t.Format("15:04:05.999") }
