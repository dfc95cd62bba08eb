package main

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"nearside/pace"
	"nearside/printable"
	"nearside/zones"
)

func checkCommand() *cobra.Command {
	var static bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration, all zones and the geo database",
		Long: `Check the configuration, all zones and the geo database with the very loaders of
the server, without etcd and without touching data_dir. Every fault is printed as
file:line: what is wrong; the exit status is 1 if there are any. Warnings alone
exit with 0.`,
		Example: `  nearside check --config nearside.yaml
  nearside check --static`,
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r := &findings{out: cmd.OutOrStdout()}
			checkAll(cmd, r, static)
			return r.end()
		},
	}
	cmd.Flags().BoolVar(&static, "static", false, "list the names that lie in one region only, which no drain moves")
	cmd.AddCommand(checkZoneCommand())
	return cmd
}

func checkZoneCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "zone ORIGIN FILE",
		Short: "Check one zone file, without a configuration",
		Long: `Check one zone file, without a configuration: nothing is steered, so rules about
regions are not looked at.`,
		Example: "  nearside check zone bet.example zones/bet.example.zone",
		Args:    words("ORIGIN", "FILE"),
		RunE: func(cmd *cobra.Command, given []string) error {
			if _, ok := dns.IsDomainName(given[0]); !ok {
				return usageError{fmt.Errorf("%q is no domain name", given[0])}
			}
			r := &findings{out: cmd.OutOrStdout()}
			zone, faults := zones.LoadFile(given[1], dns.CanonicalName(given[0]), zones.Steering{})
			for _, f := range faults {
				r.zone(f)
			}
			if zone == nil {
				return r.end()
			}
			r.summary = fmt.Sprintf("%s: %s, serial %d", originOf(zone), count(zone.Records(), "record"), zone.Serial())
			return r.end()
		},
	}
}

// originOf is the name of a zone without its final dot, which is all that the
// root has.
func originOf(zone *zones.Zone) string {
	if zone.Origin() == "." {
		return "."
	}
	return strings.TrimSuffix(zone.Origin(), ".")
}

// findings prints faults and warnings as they are found, and counts them.
type findings struct {
	out      io.Writer
	faults   int
	warnings int
	summary  string // what was looked at
}

func (r *findings) fault(what string) {
	r.faults++
	fmt.Fprintln(r.out, what)
}

func (r *findings) warning(what string) {
	r.warnings++
	fmt.Fprintln(r.out, what)
}

func (r *findings) zone(f zones.Fault) {
	if f.Warning {
		r.warning(f.String())
	} else {
		r.fault(f.String())
	}
}

// end prints the last line and returns errFaults if there were any.
func (r *findings) end() error {
	result := "ok"
	if r.faults > 0 {
		result = count(r.faults, "fault")
	}
	if r.warnings > 0 {
		result += ", " + count(r.warnings, "warning")
	}
	if r.summary != "" {
		result = r.summary + ", " + result
	}
	fmt.Fprintln(r.out, result)
	if r.faults > 0 {
		return errFaults
	}
	return nil
}

// checkAll loads what the server would.
func checkAll(cmd *cobra.Command, r *findings, static bool) {
	c, warnings, err := loadConfig(cmd)
	for _, warning := range warnings {
		r.warning("warning: " + warning)
	}
	var faults Faults
	if errors.As(err, &faults) {
		for _, f := range faults {
			r.fault(f.String())
		}
		return
	}
	if err != nil {
		r.fault(err.Error())
		return
	}
	list := checkZones(c, r)
	if c.CookieSecrets != "" {
		if _, err := readSecrets(c.CookieSecrets); err != nil {
			r.fault(c.fault("server.cookie_secrets", "server.cookie_secrets: %v", err).String())
		}
	}
	checkCredentials(c, r)
	if _, err := c.probeList(); errors.As(err, &faults) {
		for _, f := range faults {
			r.fault(f.String())
		}
	}
	geography := checkGeography(c, r)
	records := 0
	for _, z := range list {
		records += z.Records
		for _, name := range z.OneRegion {
			if static {
				fmt.Fprintf(r.out, "static: %s lies in %s only: no drain moves it\n", name.Name, name.Region)
			}
		}
	}
	r.summary = fmt.Sprintf("%s, %s, %s, %s", count(len(list), "zone"), count(records, "record"),
		count(c.Table().Len(), "region"), geography)
}

// checkCredentials reads the files that say who we are to etcd.
func checkCredentials(c *Config, r *findings) {
	credentials, err := openCredentials(c, zerolog.Nop())
	var faults Faults
	if errors.As(err, &faults) {
		for _, f := range faults {
			r.fault(f.String())
		}
	}
	if fault := credentials.Expiry(time.Now()); fault != nil {
		r.warning("warning: " + c.fault("etcd."+fault.Key, "%v", fault).String())
	}
}

func checkZones(c *Config, r *findings) []*zones.Status {
	if _, err := os.ReadDir(c.ZoneDir); err != nil {
		r.fault(c.fault("zones.dir", "zones.dir: %v; name the folder of the zone files", err).String())
		return nil
	}
	store := zones.NewStore(zones.StoreConfig{Dir: c.ZoneDir, Steering: c.steering(), Log: zerolog.Nop()})
	view := store.ReloadAll()
	list := store.Status()
	for _, z := range list {
		for _, f := range z.Faults {
			r.zone(f)
		}
	}
	if len(list) == 0 {
		r.warning(fmt.Sprintf("%s: warning: no file ends in .zone: every query would be refused", c.ZoneDir))
	}
	if c.Etcd.Embedded && c.Table().Len() > 0 {
		warnOfTwoServers(view, list, r)
	}
	if c.Table().Len() > 0 {
		warnOfUnmatched(c, view, list, r)
	}
	return list
}

// warnOfTwoServers tells of zones with several name servers: an embedded etcd
// serves one of them, so a drain would not reach the others.
func warnOfTwoServers(view *zones.View, list []*zones.Status, r *findings) {
	files := make(map[string]string)
	for _, z := range list {
		if z.State == zones.StateOK {
			files[z.Origin] = z.File
		}
	}
	var first *zones.Zone
	more := 0
	for zone := range view.All() {
		switch {
		case zone.Failed() || nameServers(zone) < 2:
		case first == nil:
			first = zone
		default:
			more++
		}
	}
	if first == nil {
		return
	}
	others := ""
	if more > 0 {
		others = fmt.Sprintf(" (like %s with more than one)", count(more, "other zone"))
	}
	r.warning(fmt.Sprintf("%s: warning: %s has %d name servers%s, but etcd.embedded serves this machine alone: the others need etcd.endpoints",
		files[first.Origin()], originOf(first), nameServers(first), others))
}

func nameServers(z *zones.Zone) int { return int(z.Lookup(z.Apex(), dns.TypeNS).Set.Count) }

// warnOfUnmatched tells of entries of steering.static and of services that match no
// name: a typo in one leaves the name as it was.
func warnOfUnmatched(c *Config, view *zones.View, list []*zones.Status, r *findings) {
	for zone := range view.All() {
		if zone.Failed() {
			return // nobody knows its names
		}
	}
	for _, i := range unmatched(c.Static, view.Names()) {
		r.warning(c.fault(fmt.Sprintf("steering.static[%d]", i), "warning: steering.static: there is no name %s in any zone; correct it, or take it out", c.Static[i]).String())
	}
	for i, s := range c.Services {
		for _, j := range unmatched(s.Names, steeredNames(list)) {
			r.warning(c.fault(fmt.Sprintf("services[%d].names[%d]", i, j), "warning: service %s: %s is no steered name of any zone; correct it, or take it out (where a wildcard answers, list the wildcard)",
				s.Name, s.Names[j]).String())
		}
	}
}

// steeredNames yields the steered names of zones.
func steeredNames(list []*zones.Status) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, z := range list {
			for _, name := range z.Steered {
				if !yield(name) {
					return
				}
			}
		}
	}
}

// unmatched returns the indices of the entries that none of the names matches.
func unmatched(entries []string, names iter.Seq[string]) (list []int) {
	left := make(map[string]bool, len(entries))
	var below []string // what the entries with a star end in, as far as they are left
	for _, entry := range entries {
		left[entry] = true
		if rest, ok := strings.CutPrefix(entry, "*"); ok {
			below = append(below, rest)
		}
	}
	for name := range names {
		delete(left, name)
		below = slices.DeleteFunc(below, func(rest string) bool {
			matches := strings.HasSuffix(name, rest)
			if matches {
				delete(left, "*"+rest)
			}
			return matches
		})
		if len(left) == 0 {
			return nil
		}
	}
	for i, entry := range entries {
		if left[entry] {
			list = append(list, i)
		}
	}
	return list
}

func checkGeography(c *Config, r *findings) string {
	if c.Table().Len() == 0 {
		if c.GeoDatabase != "" {
			r.warning(c.fault("geo.database", "warning: geo.database is not used: there are no regions").String())
		}
		return "no geography"
	}
	db, _, err := openDatabase(c, c.GeoDatabase, pace.Fast)
	if err != nil {
		r.fault(c.fault("geo.database", "geo.database: %v", err).String())
		return "no geography"
	}
	return "geography " + printable.Text(db.Name())
}
