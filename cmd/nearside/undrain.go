package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"nearside/healthsync"
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

With --all, "false" is written to all drains first, and then they are deleted.
Servers hold on to drains that are deleted many at once without it, because that is
what an accident looks like.`,
		Example: `  nearside undrain eu-west
  nearside undrain eu-west --service casino
  nearside undrain eu-west --now
  nearside undrain --all`,
		Args: func(cmd *cobra.Command, given []string) error {
			if all {
				return words()(cmd, given)
			}
			return words("REGION")(cmd, given)
		},
		RunE: func(cmd *cobra.Command, given []string) error {
			return withEtcd(cmd, func(ctx context.Context, c *Config, client *clientv3.Client) error {
				ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
				defer cancel()
				if all {
					return etcdFailure(c, undrainAll(ctx, cmd, c, client))
				}
				at, err := target(c, given[0], service)
				if err != nil {
					return err
				}
				revision, existed, err := healthsync.RemoveDrain(ctx, client, c.Etcd.Prefix, at, now)
				if err != nil {
					return etcdFailure(c, err)
				}
				what := at.DrainKey(c.Etcd.Prefix) + " deleted"
				if !existed {
					what = "there was no " + at.DrainKey(c.Etcd.Prefix)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is not drained as of revision %d: %s; see it with `nearside status`\n", at, revision, what)
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "bring all regions back")
	cmd.Flags().BoolVar(&now, "now", false, "without failback.hold and failback.ramp")
	cmd.Flags().StringVar(&service, "service", "", "bring only this `service` in the region back")
	cmd.MarkFlagsMutuallyExclusive("all", "service")
	cmd.MarkFlagsMutuallyExclusive("all", "now")
	return cmd
}

// undrainAll says that nothing is drained before it removes the drains: keys that
// vanish together without that are held for an accident.
func undrainAll(ctx context.Context, cmd *cobra.Command, c *Config, client *clientv3.Client) error {
	var targets []healthsync.Target
	var names []string
	for _, service := range append([]string{""}, serviceNames(c)...) {
		for _, region := range c.Table().Names(c.Table().All()) {
			at := healthsync.Target{Service: service, Region: region}
			written, _, err := healthsync.ReadDrain(ctx, client, c.Etcd.Prefix, at)
			if err != nil {
				return err
			}
			if written > 0 {
				targets = append(targets, at)
				names = append(names, at.String())
			}
		}
	}
	if len(targets) == 0 {
		fmt.Fprintln(cmd.OutOrStdout(), "nothing was drained")
		return nil
	}
	for _, at := range targets {
		if _, err := healthsync.WriteDrain(ctx, client, c.Etcd.Prefix, at, regions.Drain{}); err != nil {
			return err
		}
	}
	var last int64
	for _, at := range targets {
		revision, _, err := healthsync.RemoveDrain(ctx, client, c.Etcd.Prefix, at, false)
		if err != nil {
			return err
		}
		last = revision
	}
	fmt.Fprintf(cmd.OutOrStdout(), "nothing is drained as of revision %d: %s; see it with `nearside status`\n", last, strings.Join(names, ", "))
	return nil
}
