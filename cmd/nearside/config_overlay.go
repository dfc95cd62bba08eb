package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"nearside/printable"
)

// environmentPrefix begins the variables that are settings: server.listen is
// NEARSIDE_SERVER_LISTEN.
const environmentPrefix = "NEARSIDE_"

// Overlay is what the environment and flags say, flags first. It never leaves
// this command: everybody else sees a finished Config.
type Overlay struct {
	values *viper.Viper
	flags  *pflag.FlagSet
}

// addSettingFlags gives every setting a flag of its own name. They are hidden,
// because a list of them would bury the flags of a command; the help of
// nearside itself says how to write them.
func addSettingFlags(flags *pflag.FlagSet) {
	for _, s := range settings {
		flags.String(s.key, "", "")
		flags.Lookup(s.key).Hidden = true
	}
}

// newOverlay reads environment and flags. The flags include those of
// addSettingFlags and --config.
func newOverlay(flags *pflag.FlagSet) (Overlay, error) {
	o := Overlay{values: viper.New(), flags: flags}
	for _, key := range append(settingKeys(), "config") {
		if err := o.values.BindEnv(key, variable(key)); err != nil {
			return o, fmt.Errorf("bind %s: %w", variable(key), err)
		}
		if err := o.values.BindPFlag(key, flags.Lookup(key)); err != nil {
			return o, fmt.Errorf("bind --%s: %w", key, err)
		}
	}
	return o, nil
}

func settingKeys() []string {
	keys := make([]string, len(settings))
	for i, s := range settings {
		keys[i] = s.key
	}
	return keys
}

func variable(key string) string {
	return environmentPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// ConfigFile returns the path of the configuration file.
func (o Overlay) ConfigFile() string { return o.values.GetString("config") }

// lookup returns the value laid over key, and the name of what says so.
func (o Overlay) lookup(key string) (value, from string, ok bool) {
	if !o.values.IsSet(key) {
		return "", "", false
	}
	if o.flags.Changed(key) {
		return o.values.GetString(key), "--" + key, true
	}
	return o.values.GetString(key), variable(key), true
}

// Warnings names the variables that look like settings and are none. They are
// no faults: Kubernetes sets NEARSIDE_PORT and more for a Service of that name.
func (o Overlay) Warnings() []string {
	known := []string{variable("config")}
	for _, key := range settingKeys() {
		known = append(known, variable(key))
	}
	var warnings []string
	for _, entry := range os.Environ() {
		name, value, _ := strings.Cut(entry, "=")
		if value == "" || !strings.HasPrefix(name, environmentPrefix) || slices.Contains(known, name) {
			continue // an empty variable counts as none, of settings too
		}
		warning := printable.Text(name) + ": no such setting; it is ignored"
		if near := nearest(name, known); near != "" {
			warning += "; did you mean " + near + "?"
		}
		warnings = append(warnings, warning)
	}
	slices.Sort(warnings)
	return warnings
}

// lay puts what the overlay says over c. Elements of a list are separated by commas.
func (d *decoder) lay(o Overlay, c *Config) {
	for _, s := range settings {
		value, from, ok := o.lookup(s.key)
		if !ok {
			continue
		}
		d.places[s.key] = place{where: from}
		elements := []string{value}
		if s.list {
			elements = strings.Split(value, ",")
		}
		s.reset(c)
		taken := 0
		for _, element := range elements {
			if err := s.set(c, strings.TrimSpace(element)); err != nil {
				d.refused[s.key] = true
				d.faultAt(s.key, "%v", err)
				continue
			}
			d.places[fmt.Sprintf("%s[%d]", s.key, taken)] = place{where: from}
			taken++
		}
	}
}
