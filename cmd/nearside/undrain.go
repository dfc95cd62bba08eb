package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"nearside/healthsync"
	"nearside/printable"
	"nearside/regions"
)

func undrainCommand() *cobra.Command {
	var all, now bool
	var service string
	cmd := &cobra.Command{
		Use:   "undrain REGION | --all",
		Short: "Bring a drained region back, or all of them",
		Long: `Bring a drained region back: its drain is deleted from etcd. Where failback.ramp is
set, its clients come back by and by; with --now, at once, also those of a region
that is on hold after it was sick.

Before the drain is deleted, it says that nobody is drained, and who wants it so: the
journal of the servers has that. With --all, all of them say so first, for servers
hold on to drains that vanish all at once: that is what an accident looks like.`,
		Example: `  nearside undrain eu-west
  nearside undrain eu-west --service casino
  nearside undrain eu-west --now
  nearside undrain --all`,
		Args: func(cmd *cobra.Command, given []string) error {
			if all && (service != "" || now) {
				return usageError{errors.New("--all brings back everything, by hold and ramp: leave out --service and --now, or name a REGION")}
			}
			if all {
				return words()(cmd, given)
			}
			return words("REGION")(cmd, given)
		},
		RunE: func(cmd *cobra.Command, given []string) error {
			return withEtcd(cmd, func(ctx context.Context, c *Config, client *clientv3.Client) error {
				ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
				defer cancel()
				u := undrainer{c, client, cmd.OutOrStdout()}
				if all {
					return etcdFailure(c, u.all(ctx))
				}
				at, err := target(c, given[0], service)
				if err != nil {
					return err
				}
				return etcdFailure(c, u.one(ctx, at, now))
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "bring all regions back")
	cmd.Flags().BoolVar(&now, "now", false, "without failback.hold and failback.ramp")
	cmd.Flags().StringVar(&service, "service", "", "bring only this `service` in the region back")
	return cmd
}

// undrainer ends drains.
type undrainer struct {
	config *Config
	client *clientv3.Client
	out    io.Writer
}

// one ends one drain, also one that was deleted together with others, and is held.
func (u undrainer) one(ctx context.Context, at healthsync.Target, now bool) error {
	key := at.DrainKey(u.config.Etcd.Prefix)
	written, held, err := healthsync.Drains(ctx, u.client, u.config.Etcd.Prefix)
	if err != nil {
		return err
	}
	by := operator()
	if held[at] {
		if err := u.release(ctx, []healthsync.Target{at}); err != nil {
			return err
		}
		by = "" // it is said
	}
	revision, existed, err := healthsync.RemoveDrain(ctx, u.client, u.config.Etcd.Prefix, at, by, now)
	if err != nil {
		return err
	}
	what := key + " deleted"
	switch {
	case held[at]:
		what = key + " was deleted together with all other drains and held: it is released"
	case !existed:
		what = "there was no " + key
	}
	fmt.Fprintf(u.out, "%s is not drained as of revision %d: %s; see it with `nearside status`\n", at, revision, what)
	for _, other := range u.targets() {
		if other.Region == at.Region && other != at && (written[other] || held[other]) {
			fmt.Fprintf(u.out, "%s has a drain of its own, which stays\n", other)
		}
	}
	u.others(ctx)
	return nil
}

// targets are all that can be drained.
func (u undrainer) targets() (list []healthsync.Target) {
	for _, service := range append([]string{""}, serviceNames(u.config)...) {
		for _, region := range u.config.Table().Names(u.config.Table().All()) {
			list = append(list, healthsync.Target{Service: service, Region: region})
		}
	}
	return list
}

// others names the servers that may not do what etcd says.
func (u undrainer) others(ctx context.Context) {
	list, cluster, err := healthsync.Fleet(ctx, u.client, u.config.Etcd.Prefix)
	if err != nil {
		fmt.Fprintf(u.out, "whether all servers follow is not known: %v\n", etcdFailure(u.config, err))
	}
	for _, m := range list {
		if !stopped(m) && (!m.Alive || !m.Follows(cluster)) {
			fmt.Fprintf(u.out, "%s may go on as before: %s\n", printable.Text(m.ID), known(m, cluster))
		}
	}
}

// all says that nothing is drained before it removes the drains: keys that vanish
// together without that are held for an accident.
func (u undrainer) all(ctx context.Context) error {
	written, held, err := healthsync.Drains(ctx, u.client, u.config.Etcd.Prefix)
	if err != nil {
		return err
	}
	var targets []healthsync.Target
	var names []string
	for _, at := range u.targets() {
		if written[at] || held[at] {
			targets = append(targets, at)
			names = append(names, at.String())
		}
	}
	if len(targets) == 0 {
		fmt.Fprintln(u.out, "etcd has no drain to end")
		u.others(ctx)
		return nil
	}
	if err := u.release(ctx, targets); err != nil {
		return err
	}
	var last int64
	for _, at := range targets {
		revision, _, err := healthsync.RemoveDrain(ctx, u.client, u.config.Etcd.Prefix, at, "", false)
		if err != nil {
			return err
		}
		last = revision
	}
	fmt.Fprintf(u.out, "nothing is drained as of revision %d: ended the drains of %s; see it with `nearside status`\n", last, strings.Join(names, ", "))
	u.others(ctx)
	return nil
}

// release writes that drains are over, and waits until a server has seen that. One that
// sees the keys gone, and nothing between, goes on to hold them, so with errUnjudged they
// must stay.
func (u undrainer) release(ctx context.Context, targets []healthsync.Target) (err error) {
	revisions := make([]int64, len(targets))
	for i, at := range targets {
		if revisions[i], err = healthsync.WriteDrain(ctx, u.client, u.config.Etcd.Prefix, at, regions.Drain{By: operator()}); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, verdictTime)
	defer cancel()
	for i, at := range targets {
		_, err := healthsync.AwaitVerdict(ctx, u.client, u.config.Etcd.Prefix, at, revisions[i])
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("%s says that it is over, at revision %d, %w; it stays until then: undrain again", at.DrainKey(u.config.Etcd.Prefix), revisions[i], errUnjudged)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
