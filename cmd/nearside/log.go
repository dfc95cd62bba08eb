package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nearside/journal"
	"nearside/printable"
	"nearside/regions"
)

// followInterval is how often `log --follow` looks for new entries.
const followInterval = 200 * time.Millisecond

func logCommand() *cobra.Command {
	var since, region string
	var follow, asJSON bool
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Show what was written about regions, and what became of it",
		Long: `Show the journal of the server on this machine, data_dir/journal.jsonl, the oldest
entry first: every write to a key that decides who is out, with its verdict; every
change of a region's state; and starts and stops of the server. It works whether
the server runs or not.`,
		Example: `  nearside log --since 2h
  nearside log --region eu-west --follow
  nearside log --json | jq 'select(.verdict == "refused")'`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, err := parseSince(since, time.Now())
			if err != nil {
				return usageError{err}
			}
			if region != "" && regions.CheckName(region) != nil {
				return usageError{fmt.Errorf("--region: %q is no name of a region", region)}
			}
			c, _, err := loadConfig(cmd)
			if err != nil {
				return err
			}
			r, err := journal.OpenReader(c.Journal())
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("there is no journal %s: `nearside serve` writes it where regions are configured", c.Journal())
			}
			if err != nil {
				return err
			}
			defer r.Close()
			shown, named := 0, false
			err = readJournal(cmd.Context(), r, follow, func(line journal.Line) error {
				if line.Time.Before(from) || region != "" && !concerns(line.Entry, region) {
					return nil
				}
				shown++
				named = named || line.Region == region || strings.Contains(line.Key, "/"+region+"/")
				return showLine(cmd.OutOrStdout(), line, asJSON)
			})
			if _, known := c.Table().Named(region); err == nil && region != "" && !known && !named {
				return unknown("region", region, c, c.Table().Names(c.Table().All()))
			}
			if err == nil && shown == 0 {
				err = errors.New("no entry concerns this; `nearside log` shows all")
			}
			return err
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "how long back, as in 2h, or from when on: 18:00 (the last one, in local time) or RFC 3339")
	cmd.Flags().StringVar(&region, "region", "", "what concerns this region alone")
	cmd.Flags().BoolVar(&follow, "follow", false, "wait for new entries")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the lines as they are")
	return cmd
}

// parseSince takes a duration before now, a time, one of a day, which is the last such,
// or nothing.
func parseSince(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		return at, nil
	}
	if clock, err := time.Parse("15:04", s); err == nil {
		at := onDay(now, 0, clock)
		if at.After(now) {
			at = onDay(now, -1, clock)
		}
		return at, nil
	}
	return time.Time{}, fmt.Errorf("--since: %q is neither a duration nor a time; write one such as 2h, 90m, 18:00 or 2026-11-25T18:00:00Z", s)
}

// readJournal shows the entries that are there and, to follow, those that come.
func readJournal(ctx context.Context, r *journal.Reader, follow bool, show func(journal.Line) error) error {
	for {
		line, err := r.Next()
		if err == nil {
			err = show(line)
		}
		switch {
		case err == nil:
			continue
		case err != io.EOF:
			return err
		case !follow:
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followInterval):
		}
	}
}

// concerns reports whether an entry is about the region, or about all of them.
func concerns(e journal.Entry, region string) bool {
	if e.Kind != journal.Input && e.Kind != journal.Transition {
		return true
	}
	key := strings.Split(e.Key, "/")
	switch key[0] {
	case "regions", "transitions", "verdicts":
		key = key[1:]
	case "services":
		key = key[min(2, len(key)):]
	default:
		key = nil
	}
	return e.Region == region || len(key) > 0 && key[0] == region
}

// showLine prints an entry: its time, its kind, what it is about, what happened.
func showLine(w io.Writer, line journal.Line, asJSON bool) (err error) {
	if asJSON {
		_, err = fmt.Fprintln(w, printable.Text(line.Text))
		return err
	}
	subject, what := describe(line)
	_, err = fmt.Fprintln(w, printable.Text(fmt.Sprintf("%s  %-10s  %-28s  %s",
		line.Time.UTC().Format("2006-01-02T15:04:05.000Z"), line.Kind, subject, what)))
	return err
}

func describe(line journal.Line) (subject, what string) {
	e := line.Entry
	switch e.Kind {
	case journal.Input:
		return e.Key, describeInput(e)
	case journal.Transition:
		subject = e.Region
		if e.Service != "" {
			subject = e.Service + "/" + e.Region
		}
		return subject, fmt.Sprintf("%s -> %s%s%s%s", cmp.Or(e.From, "?"), cmp.Or(e.To, "?"), prefixed(" by ", e.By), prefixed(": ", e.Why), cause(e))
	case journal.Server:
		return e.Server, e.Event + prefixed(": ", e.Why) + prefixed(" by ", e.By)
	case journal.Gap:
		return e.Server, fmt.Sprintf("%d entries are missing%s", e.Dropped, prefixed(": ", e.Why))
	}
	return e.Server, line.Text // of a later version
}

func describeInput(e journal.Entry) string {
	what := "wrote " + cmp.Or(e.Value, `""`)
	if e.Deleted {
		what = "deleted"
	}
	what += prefixed(" by ", e.By) + prefixed(": ", e.Verdict) + prefixed(", ", e.Why)
	return what + prefixed("; in force: ", e.Effective) + cause(e)
}

// cause says what in etcd an entry follows from. The key of an input is its
// subject already.
func cause(e journal.Entry) string {
	var parts []string
	if e.Key != "" && e.Kind != journal.Input {
		parts = append(parts, e.Key)
	}
	if e.Revision != 0 {
		parts = append(parts, fmt.Sprintf("revision %d", e.Revision))
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// prefixed returns text behind a prefix, or nothing.
func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}
