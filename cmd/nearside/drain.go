package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"nearside/console"
	"nearside/healthsync"
	"nearside/printable"
	"nearside/regions"
)

// drainFlags is what `drain` is told beside the region.
type drainFlags struct {
	service string
	percent share
	at      string
	lasting time.Duration
	reason  string
	force   bool
	wait    bool
}

func drainCommand() *cobra.Command {
	var f drainFlags
	cmd := &cobra.Command{
		Use:   "drain REGION",
		Short: "Take a region out: no server answers with it from now on",
		Long: `Take a region out. The drain is written to etcd, so that every name server stops
answering with the region within milliseconds; resolvers follow within one TTL.
It stays until "nearside undrain", or for as long as --for says: then the region
comes back by itself, if it is healthy (or nobody votes on it). It is the same as

  etcdctl put /nearside/regions/REGION/drain ""

with your name beside it. With --at it is planned: until then, TTLs run down, so
that no resolver keeps an answer for longer.

The servers refuse a drain that puts more out than guard.max_out allows, or leaves a
name with no region; --force drains all the same.

With --wait it returns when the region can be powered off: every name server has
applied the drain, and no resolver keeps an older answer. Where a server may still
answer with the region, it is named, and the exit status is 2; so it is where the
drain ends (--for) before the last cached answer. With --at, it returns as soon as all
servers know of the drain: it is safe from the time that it prints, if nobody undrains
the region until then.

The exit status is 0 if the servers take the drain (with --wait: if it is safe), 1 if
they refuse it, say nothing, or etcd cannot be reached, and 2 if it is not safe to
power the region off, or the command line makes no sense.`,
		Example: `  nearside drain eu-west
  nearside drain eu-west --reason "maintenance of the uplink" --wait
  nearside drain eu-west --at 03:00 --for 2h
  nearside drain eu-west --percent 20 --service casino`,
		Args: words("REGION"),
		RunE: func(cmd *cobra.Command, given []string) error {
			d, err := f.drain(time.Now())
			if err != nil {
				return err
			}
			return withEtcd(cmd, func(ctx context.Context, c *Config, client *clientv3.Client) error {
				at, err := target(c, given[0], f.service)
				if err != nil {
					return err
				}
				if err := uses(c, at); err != nil {
					return err
				}
				w := drainer{c, client, cmd.OutOrStdout(), at, d}
				return w.run(ctx, f.wait)
			})
		},
	}
	cmd.Flags().StringVar(&f.service, "service", "", "drain only this `service` in the region")
	f.percent = 100
	cmd.Flags().Var(&f.percent, "percent", "drain for this share of the clients")
	cmd.Flags().StringVar(&f.at, "at", "", "`time` from which on: 03:00 (the next one, in local time) or RFC 3339")
	cmd.Flags().DurationVar(&f.lasting, "for", 0, "`duration` after which it ends by itself, as in 2h")
	cmd.Flags().StringVar(&f.reason, "reason", "", "why, for those who look at the status")
	cmd.Flags().BoolVar(&f.force, "force", false, "drain even if little or nothing healthy remains")
	cmd.Flags().BoolVar(&f.wait, "wait", false, "wait until the region can be powered off")
	return cmd
}

// share is a number of percent. The sign may follow, as in a key of etcd.
type share int

func (s *share) Set(text string) error {
	n, err := strconv.Atoi(strings.TrimSuffix(text, "%"))
	if err != nil {
		return errors.New("write a number from 1 to 100")
	}
	*s = share(n)
	return nil
}

func (s *share) String() string { return strconv.Itoa(int(*s)) }
func (s *share) Type() string   { return "int" }

// drain makes a drain of the flags.
func (f drainFlags) drain(now time.Time) (regions.Drain, error) {
	d := regions.Drain{Percent: int(f.percent), Reason: f.reason, By: operator(), Force: f.force}
	if f.percent < 1 || f.percent > 100 {
		return d, usageError{fmt.Errorf("--percent %d: write a number from 1 to 100; `nearside undrain` ends a drain", f.percent)}
	}
	if f.percent < 100 && f.wait {
		return d, usageError{fmt.Errorf("--wait is for what is to be powered off, and with --percent %d the other clients stay: leave out one of them", f.percent)}
	}
	begins := now
	if f.at != "" {
		at, err := parseMoment(f.at, now)
		if err != nil {
			return d, usageError{err}
		}
		d.At, begins = at, at
	}
	if f.lasting != 0 {
		if f.lasting < time.Second {
			return d, usageError{fmt.Errorf("--for %v: a drain lasts longer than that; write 1s or more", f.lasting)}
		}
		d.Until = begins.Add(f.lasting + time.Second - 1).Truncate(time.Second) // no shorter than asked for
	}
	return d, nil
}

// parseMoment takes a time of RFC 3339, or one of a day, which is the next such.
func parseMoment(text string, now time.Time) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		if at.Before(now) {
			return at, fmt.Errorf("--at %s is past: leave it out to drain now", text)
		}
		return at, nil
	}
	for _, layout := range []string{"15:04", "15:04:05"} {
		clock, err := time.Parse(layout, text)
		if err != nil {
			continue
		}
		at := onDay(now, 0, clock)
		if !at.After(now) {
			at = onDay(now, 1, clock)
		}
		return at, nil
	}
	return time.Time{}, fmt.Errorf("--at %q is no time: write 03:00, or 2026-11-23T03:00:00Z", text)
}

// onDay returns a time of a day, so many days from now. Where clocks skip it, it is as
// long after the skip began as was asked for: never earlier.
func onDay(now time.Time, days int, clock time.Time) time.Time {
	day := now.Day() + days
	on := func(where *time.Location) time.Time {
		return time.Date(now.Year(), now.Month(), day, clock.Hour(), clock.Minute(), clock.Second(), 0, where)
	}
	at := on(now.Location())
	shown := time.Date(at.Year(), at.Month(), at.Day(), at.Hour(), at.Minute(), at.Second(), 0, time.UTC)
	return at.Add(max(0, on(time.UTC).Sub(shown)))
}

// drainer writes one drain and follows what becomes of it.
type drainer struct {
	config *Config
	client *clientv3.Client
	out    io.Writer
	at     healthsync.Target
	drain  regions.Drain
}

func (w drainer) printf(format string, arguments ...any) {
	fmt.Fprintln(w.out, printable.Text(fmt.Sprintf(format, arguments...)))
}

func (w drainer) run(ctx context.Context, wait bool) error {
	revision, err := w.write(ctx)
	switch {
	case err == nil:
	case errors.Is(err, errSick):
		return err
	case errors.Is(err, healthsync.ErrUnwritable), healthsync.Hint(err) != "", w.config.Etcd.Embedded:
		return etcdFailure(w.config, err)
	default:
		return fmt.Errorf("%w; without etcd, `drain: [%s]` in %s takes it out on the server where that is", etcdFailure(w.config, err), w.at.Region, w.config.OverrideFile())
	}
	switch err := w.judged(ctx, revision); {
	case wait && errors.Is(err, errUnjudged):
		w.printf("%v", err)
	case err != nil:
		return err
	}
	w.unwatched(ctx)
	if w.at.Service == "" {
		listUnmoved(ctx, w.out, w.config, w.at.Region)
	}
	if wait {
		return w.wait(ctx, revision)
	}
	w.printf("see it with `nearside status`; resolvers follow within %d s; undo it with `nearside undrain %s`", w.config.Table().LongestTTL(), w.again())
	return nil
}

// again is how the drain is named on a command line.
func (w drainer) again() string {
	if w.at.Service == "" {
		return w.at.Region
	}
	return w.at.Region + " --service " + w.at.Service
}

// write writes the drain, unless what would remain is sick.
func (w drainer) write(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	if err := healthsync.CheckDrain(w.drain); err != nil {
		return 0, err
	}
	if w.drain.Percent == 100 && !w.drain.Force {
		stand, err := healthsync.Recorded(ctx, w.client, w.config.Etcd.Prefix)
		if err != nil {
			return 0, err
		}
		if sick := w.remainder(stand); sick != "" {
			return 0, fmt.Errorf("%w: %s; --force drains all the same", errSick, sick)
		}
	}
	return healthsync.WriteDrain(ctx, w.client, w.config.Etcd.Prefix, w.at, w.drain)
}

// errSick is of a drain that would leave only what is sick.
var errSick = errors.New("not drained")

// remainder says who would be left with nothing but sick or drained regions, or "".
// The servers judge drains alone: sickness comes and goes, a verdict stays.
func (w drainer) remainder(stand map[healthsync.Target]regions.Status) string {
	table := w.config.Table()
	for id := range table.Services() {
		service := table.Service(regions.ServiceID(id))
		if w.at.Service != "" && w.at.Service != service.Name {
			continue
		}
		var left, sick []string
		for _, region := range service.Regions {
			name := table.Name(region)
			if name == w.at.Region || table.Region(region).Standby {
				continue
			}
			left = append(left, name)
			status := stand[healthsync.Target{Region: name}] | stand[healthsync.Target{Service: service.Name, Region: name}]
			if status.Out() {
				sick = append(sick, fmt.Sprintf("%s is %s", name, status))
			}
		}
		if len(left) > 0 && len(sick) == len(left) && slices.ContainsFunc(service.Regions, func(r regions.ID) bool { return table.Name(r) == w.at.Region }) {
			of := ""
			if service.Name != "" {
				of = " for service " + service.Name
			}
			return "of the regions that would remain" + of + ", " + strings.Join(sick, ", ")
		}
	}
	return ""
}

// verdictTime is how long a command waits for the first server to judge a drain.
const verdictTime = 3 * time.Second

// unwatched says so where a region comes back by itself, and nobody says whether it is
// well.
func (w drainer) unwatched(ctx context.Context) {
	region, _ := w.config.Table().Named(w.at.Region)
	if w.drain.Until.IsZero() || w.config.Table().Region(region).Heartbeat {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	watched, err := healthsync.Watched(ctx, w.client, w.config.Etcd.Prefix, w.at)
	if err == nil && !watched {
		w.printf("nobody votes on %s: it comes back at that time whether it is well or not", w.at)
	} // an etcd that fails now is somebody else's to tell
}

// errUnjudged is of a write of which no server has said what becomes of it.
var errUnjudged = fmt.Errorf("but no server has judged it within %v: see to the name servers", verdictTime)

// judged waits for the verdict of the servers and says what it is.
func (w drainer) judged(ctx context.Context, revision int64) error {
	key := w.at.DrainKey(w.config.Etcd.Prefix)
	ctx, cancel := context.WithTimeout(ctx, verdictTime)
	defer cancel()
	verdict, err := healthsync.AwaitVerdict(ctx, w.client, w.config.Etcd.Prefix, w.at, revision)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("it is not known whether %s: written to %s at revision %d, %w", w.what(), key, revision, errUnjudged)
	case err != nil:
		return etcdFailure(w.config, err)
	case verdict.Revision > revision:
		w.printf("%s: written to %s at revision %d, and replaced at revision %d by somebody else", w.what(), key, revision, verdict.Revision)
		return nil
	case !verdict.Accepted:
		return fmt.Errorf("the servers refuse it: %s; --force drains all the same, `nearside undrain %s` removes what was written", verdict.Why, w.again())
	}
	w.printf("%s: written to %s at revision %d, by %s, and accepted by %s", w.what(), key, revision, w.drain.By, verdict.Server)
	return nil
}

// what says what the drain does.
func (w drainer) what() string {
	text := fmt.Sprintf("%s is drained", w.at)
	if w.drain.Percent < 100 {
		text = fmt.Sprintf("%d%% of %s is drained", w.drain.Percent, w.at)
	}
	if !w.drain.At.IsZero() {
		text += " in " + distance(time.Until(w.drain.At)) + ", from " + moment(w.drain.At) + " on"
	}
	if !w.drain.Until.IsZero() {
		text += " until " + moment(w.drain.Until)
	}
	return text
}

// moment writes a time as whoever runs this has it, and as status and log have it.
func moment(at time.Time) string {
	text := at.Format(time.RFC3339)
	if _, offset := at.Zone(); offset != 0 {
		text += " (" + at.UTC().Format(time.RFC3339) + ")"
	}
	return text
}

// distance writes a duration for people: seconds while they count.
func distance(d time.Duration) string {
	if d >= 2*time.Minute {
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return fmt.Sprintf("%d s", (d+time.Second-1)/time.Second)
}

// maxUnmoved is how many names a drain lists that it does not move. It does not wait
// for longer than unmovedTime to learn them.
const (
	maxUnmoved  = 10
	unmovedTime = 2 * time.Second
)

// listUnmoved names what lies in this region only and has nowhere to go. It asks
// the server on this machine; where there is none, `check --static` tells.
func listUnmoved(ctx context.Context, w io.Writer, c *Config, region string) {
	ctx, cancel := context.WithTimeout(ctx, unmovedTime)
	defer cancel()
	status, err := console.NewClient(c.ControlSocket()).Status(ctx)
	if err != nil {
		fmt.Fprintln(w, "names that lie in "+region+" only are not moved; `nearside check --static` lists them")
		return
	}
	var names []string
	for _, z := range status.Zones {
		for _, name := range z.OneRegion {
			if name.Region == region {
				names = append(names, name.Name)
			}
		}
	}
	if len(names) == 0 {
		return
	}
	more := ""
	if len(names) > maxUnmoved {
		more = fmt.Sprintf(" and %d more; see `nearside check --static`", len(names)-maxUnmoved)
		names = names[:maxUnmoved]
	}
	fmt.Fprintf(w, "it does not move names that lie in %s only: %s%s\n", region, strings.Join(names, ", "), more)
}
