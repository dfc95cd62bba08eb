package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"nearside/probes"
	"nearside/regions"
	"nearside/yamlfault"
)

// maxFile bounds the configuration file, in octets: 64 regions with a thousand
// prefixes each fit in.
const maxFile = 2 << 20

// maxFaults ends the reading of a file that is something else altogether.
const maxFaults = 100

// decoder turns the YAML nodes of one file into a Config and remembers where
// every value came from, so that rules over several keys can name the place.
type decoder struct {
	file    string
	root    *yaml.Node // nil if the file could not be parsed
	places  places
	refused map[string]bool // keys with a value that was not understood
	faults  Faults
}

// place is where a value was written.
type place struct {
	where string // the file, an environment variable or a flag
	line  int    // in the file
}

// places is where values were written. They are found by their key and, in
// lists, their index among the values that were understood: as in
// "regions[0].prefixes[1]".
type places map[string]place

// of returns the place of the value at key, or else of the section in which it
// is missing; the top of the file if that is missing too.
func (p places) of(key, file string) place {
	for ; key != ""; key = key[:max(0, strings.LastIndexAny(key, ".["))] {
		if found, ok := p[key]; ok {
			return found
		}
	}
	return place{file, 1}
}

// fault is what is wrong with a value that was written at this place.
func (p place) fault(format string, arguments ...any) Fault {
	return newFault(p.where, p.line, format, arguments...)
}

// readFile parses the file at path. What is wrong inside is among the faults of
// the decoder; the error is for a file that cannot be read.
func readFile(path string) (*decoder, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, Faults{newFault(path, 0, "cannot be read: %v; name another file with --config", errors.Unwrap(err))}
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, Faults{newFault(path, 0, "cannot be read: %v", errors.Unwrap(err))}
	}
	return parseFile(path, content), nil
}

func parseFile(path string, content []byte) *decoder {
	d := &decoder{file: path, places: make(places), refused: make(map[string]bool)}
	if len(content) > maxFile {
		d.fault(0, "larger than %d MiB: this is no configuration", maxFile>>20)
		return d
	}
	if at := invalidUTF8(content); at >= 0 {
		d.fault(1+bytes.Count(content[:at], []byte("\n")), "the octet 0x%02x is not UTF-8; save the file as UTF-8", content[at])
		return d
	}
	reader := yaml.NewDecoder(bytes.NewReader(content))
	var document, second yaml.Node
	switch err := reader.Decode(&document); {
	case errors.Is(err, io.EOF):
		d.fault(1, "the file is empty; zones.dir at least is needed")
		return d
	case err != nil:
		d.syntax(err, content)
		return d
	}
	switch err := reader.Decode(&second); {
	case err == nil:
		d.fault(second.Line, "a second document; a configuration is one, without --- in the middle")
	case !errors.Is(err, io.EOF):
		d.syntax(err, content)
		return d
	}
	d.root = document.Content[0]
	return d
}

func invalidUTF8(content []byte) int {
	for i := 0; i < len(content); {
		r, size := utf8.DecodeRune(content[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

// syntax reports that the file is no YAML.
func (d *decoder) syntax(err error, content []byte) {
	line, what := yamlfault.Locate(err, content)
	d.fault(line, "%s", what)
}

// fault notes what is wrong at a line of the file.
func (d *decoder) fault(line int, format string, arguments ...any) {
	if len(d.faults) < maxFaults {
		d.faults = append(d.faults, newFault(d.file, line, format, arguments...))
	}
}

// faultAt notes what is wrong with the value at key, or else with the section
// in which it is missing.
func (d *decoder) faultAt(key, format string, arguments ...any) {
	d.faults = append(d.faults, d.places.of(key, d.file).fault(format, arguments...))
}

// found notes that the value at key stands at a line of the file.
func (d *decoder) found(key string, line int) { d.places[key] = place{d.file, line} }

// given reports whether the value at key was written anywhere, well or badly.
func (d *decoder) given(key string) bool {
	_, ok := d.places[key]
	return ok
}

// decode fills c from the file.
func (d *decoder) decode(c *Config) {
	if d.root == nil {
		return
	}
	decodeMapping(d, d.root, "", "", settings, c, map[string]func(*yaml.Node){
		"regions": func(n *yaml.Node) {
			c.Regions = decodeList(d, n, "regions", regionSettings, regions.Region{Weight: defaultWeight})
		},
		"services": func(n *yaml.Node) { c.Services = decodeList(d, n, "services", serviceSettings, serviceConfig{}) },
		"probes": func(n *yaml.Node) {
			c.Probes = decodeList(d, n, "probes", probeSettings, probeConfig{Probe: probes.Default(), Verify: true})
		},
	})
}

// decodeList returns the elements of a list of mappings, each of which starts as a
// copy of blank.
func decodeList[T any](d *decoder, n *yaml.Node, key string, known []setting[T], blank T) []T {
	if !d.plain(n, key) {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		d.fault(n.Line, "%s is a list; write [] for none", key)
		return nil
	}
	var made []T
	for i, element := range n.Content {
		at := fmt.Sprintf("%s[%d]", key, i)
		d.found(at, element.Line)
		one := blank
		decodeMapping(d, element, at+".", "", known, &one, nil)
		made = append(made, one)
	}
	return made
}

// decodeMapping fills into from a mapping. Settings are found by their key
// below base; at is base with the position in the file before it. Keys that are
// neither settings nor sections are handed to others.
func decodeMapping[T any](d *decoder, n *yaml.Node, at, base string, known []setting[T], into *T, others map[string]func(*yaml.Node)) {
	what := strings.TrimSuffix(at, ".")
	if what == "" {
		what = "the configuration"
	}
	if !d.plain(n, what) {
		return
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return // a section with all of its keys commented out
	}
	if n.Kind != yaml.MappingNode {
		d.fault(n.Line, "%s holds keys; write one below the other, as key: value", what)
		return
	}
	seen := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if !d.plain(key, "a key") {
			continue
		}
		if first, twice := seen[key.Value]; twice {
			d.fault(key.Line, "%s%s is already set in line %d", at, key.Value, first)
			continue
		}
		seen[key.Value] = key.Line
		if s := find(known, base+key.Value); s != nil {
			d.found(at+key.Value, key.Line)
			decodeValue(d, value, at+key.Value, *s, into)
		} else if isSection(known, base+key.Value) {
			d.found(at+key.Value, key.Line)
			decodeMapping(d, value, at+key.Value+".", base+key.Value+".", known, into, nil)
		} else if decode, ok := others[key.Value]; ok {
			d.found(at+key.Value, key.Line)
			decode(value)
		} else {
			d.unknown(key, at, siblings(known, base, others))
		}
	}
}

// decodeValue fills one setting.
func decodeValue[T any](d *decoder, n *yaml.Node, at string, s setting[T], into *T) {
	if !d.plain(n, at) {
		return
	}
	if !s.list {
		d.value(n, at, s.kind, func(text string) error { return s.set(into, text) })
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.refused[at] = true
		d.fault(n.Line, "%s is a list; write it in brackets or with a dash before each element", at)
		return
	}
	s.reset(into)
	seen := make(map[string]bool)
	taken := 0
	for _, element := range n.Content {
		if !d.plain(element, at) {
			continue
		}
		if element.Kind == yaml.ScalarNode && seen[element.Value] {
			d.fault(element.Line, "%s: %s is listed twice", at, element.Value)
			continue
		}
		seen[element.Value] = true
		d.value(element, at, s.kind, func(text string) error {
			err := s.set(into, text)
			if err == nil {
				d.found(fmt.Sprintf("%s[%d]", at, taken), element.Line)
				taken++
			}
			return err
		})
	}
}

// value takes one scalar of the given kind.
func (d *decoder) value(n *yaml.Node, at string, k kind, set func(string) error) {
	if err := understand(n, k, set); err != nil {
		d.refused[at] = true
		d.fault(n.Line, "%s: %v", at, err)
	}
}

func understand(n *yaml.Node, k kind, set func(string) error) error {
	tag := n.ShortTag()
	quoted := n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0
	switch {
	case n.Kind != yaml.ScalarNode:
		return fmt.Errorf("one value is wanted here: %s", k.name)
	case tag == "!!null" && n.Value == "":
		return fmt.Errorf("no value; write %s or leave the key out", k.name)
	case tag == k.tag, tag == k.also:
		return set(n.Value)
	case k == text:
		return fmt.Errorf("%s is no text to YAML; put it in quotes", n.Value)
	case quoted:
		return fmt.Errorf("%q is text, not %s; write it without quotes", n.Value, k.name)
	}
	return fmt.Errorf("%q is not %s", n.Value, k.name)
}

// plain refuses what makes YAML a programming language: anchors, aliases (of
// which a few lines can unfold into gigabytes), merge keys and tags.
func (d *decoder) plain(n *yaml.Node, what string) bool {
	switch {
	case n.Kind == yaml.AliasNode:
		d.fault(n.Line, "%s: the alias *%s is not understood; write the value out", what, n.Value)
	case n.Anchor != "":
		d.fault(n.Line, "%s: the anchor &%s is not understood; leave it out", what, n.Anchor)
	case n.Style&yaml.TaggedStyle != 0:
		d.fault(n.Line, "%s: the tag %s is not understood; leave it out", what, n.Tag)
	default:
		return true
	}
	return false
}

// unknown refuses a key and names the one that was probably meant.
func (d *decoder) unknown(key *yaml.Node, at string, known []string) {
	if key.Kind != yaml.ScalarNode {
		d.fault(key.Line, "a key is one word")
		return
	}
	if near := nearest(key.Value, known); near != "" {
		d.fault(key.Line, "unknown key %s%s; did you mean %s?", at, key.Value, near)
		return
	}
	d.fault(key.Line, "unknown key %s%s; known here: %s", at, key.Value, strings.Join(known, ", "))
}
