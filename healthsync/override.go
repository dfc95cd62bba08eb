package healthsync

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"nearside/printable"
	"nearside/regions"
	"nearside/yamlfault"
)

// forced is what the break-glass file asks for, by names of regions.
type forced struct {
	Drain []string `json:"drain,omitempty"`
	Up    []string `json:"up,omitempty"`
}

func (f forced) String() string {
	if len(f.Drain)+len(f.Up) == 0 {
		return "the break-glass file asks for nothing any more"
	}
	return printable.Cut(fmt.Sprintf("the break-glass file asks for drain: [%s], up: [%s]", strings.Join(f.Drain, ", "), strings.Join(f.Up, ", ")), maxShown)
}

// maxOverride bounds the break-glass file, in octets: all regions twice fit.
const maxOverride = 64 << 10

// readOverride reads the break-glass file; without one nothing is forced.
func readOverride(path string, table *regions.Table) (forced, error) {
	content, err := readLimited(path, maxOverride)
	if errors.Is(err, fs.ErrNotExist) {
		return forced{}, nil
	}
	if err != nil {
		return forced{}, err
	}
	return parseOverride(path, content, table)
}

// parseOverride reads `drain: [R, ...]` and `up: [R, ...]`. An error starts with
// file:line. It works on nodes, which know their lines, and decodes nothing, so
// that aliases cannot unfold.
func parseOverride(path string, content []byte, table *regions.Table) (forced, error) {
	var document, second yaml.Node
	fault := func(line int, format string, args ...any) error {
		where := path
		if line > 0 {
			where += ":" + strconv.Itoa(line)
		}
		return fmt.Errorf("%s: %s", where, fmt.Sprintf(format, args...))
	}
	syntax := func(err error) error {
		line, what := yamlfault.Locate(err, content)
		return fault(line, "%s", what)
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(content)))
	if err := decoder.Decode(&document); err == io.EOF {
		return forced{}, nil // empty, or comments alone
	} else if err != nil {
		return forced{}, syntax(err)
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		return forced{}, fault(second.Line, "a second document follows: write one")
	case err != io.EOF:
		return forced{}, syntax(err)
	}
	root := document.Content[0]
	switch {
	case isNull(root):
		return forced{}, nil
	case root.Kind != yaml.MappingNode:
		return forced{}, fault(root.Line, "write drain: [REGION, ...] and up: [REGION, ...]")
	}
	var f forced
	seen := make(map[string]bool)
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		list := map[string]*[]string{"drain": &f.Drain, "up": &f.Up}[key.Value]
		switch {
		case list == nil || key.Kind != yaml.ScalarNode: // an alias has the name of its anchor
			return forced{}, fault(key.Line, "unknown key %s: there are drain and up", printable.Cut(key.Value, maxShown))
		case seen[key.Value]:
			return forced{}, fault(key.Line, "%s is given twice", key.Value)
		case value.Kind != yaml.SequenceNode && !isNull(value):
			return forced{}, fault(value.Line, "%s is a list: write %s: [REGION, ...]", key.Value, key.Value)
		}
		seen[key.Value] = true
		for _, item := range value.Content {
			if _, known := table.Named(item.Value); item.Kind != yaml.ScalarNode || !known {
				return forced{}, fault(item.Line, "unknown region %s: the configuration has %s",
					printable.Cut(item.Value, maxShown), strings.Join(table.Names(table.All()), ", "))
			}
			if slices.Contains(f.Drain, item.Value) || slices.Contains(f.Up, item.Value) {
				return forced{}, fault(item.Line, "region %s is named twice", item.Value)
			}
			*list = append(*list, item.Value)
		}
	}
	return f, nil
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// named returns those of the named regions that are configured.
func named(table *regions.Table, names []string) regions.Set {
	var s regions.Set
	for _, name := range names {
		if id, known := table.Named(name); known {
			s |= regions.SetOf(id)
		}
	}
	return s
}
