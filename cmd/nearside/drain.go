package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"nearside/console"
	"nearside/healthsync"
	"nearside/regions"
)

// etcdTimeout bounds a command that writes to etcd.
const etcdTimeout = 5 * time.Second

func drainCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "drain REGION",
		Short: "Take a region out: no server answers with it from now on",
		Long: `Take a region out. The drain is written to etcd, so that every name server stops
answering with the region within milliseconds; resolvers follow within one TTL.
It stays until "nearside undrain". It is the same as

  etcdctl put /nearside/regions/REGION/drain ""

with a reason and your name beside it.`,
		Example: `  nearside drain eu-west
  nearside drain eu-west --reason "maintenance of the uplink"`,
		Args: words("REGION"),
		RunE: func(cmd *cobra.Command, given []string) error {
			return writeToEtcd(cmd, given, func(ctx context.Context, c *Config, client *clientv3.Client) error {
				d := regions.Drain{Percent: 100, Reason: reason, By: operator()}
				revision, err := healthsync.WriteDrain(ctx, client, c.Etcd.Prefix, given[0], d)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is drained: written to %s at revision %d, by %s\n", given[0], drainKey(c, given[0]), revision, d.By)
				fmt.Fprintf(cmd.OutOrStdout(), "see it with `nearside status`; resolvers follow within %d s; undo it with `nearside undrain %s`\n", c.TTL, given[0])
				listUnmoved(ctx, cmd.OutOrStdout(), c, given[0])
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who look at the status")
	return cmd
}

// maxUnmoved is how many names a drain lists that it does not move.
const maxUnmoved = 10

// listUnmoved names what lies in this region only and has nowhere to go. It asks
// the server on this machine; where there is none, `check --static` tells.
func listUnmoved(ctx context.Context, w io.Writer, c *Config, region string) {
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

func undrainCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "undrain REGION | --all",
		Short: "Bring a drained region back, or all of them",
		Long: `Bring a drained region back: its drain is deleted from etcd.

With --all, "false" is written to the drains of all regions first, and then they
are deleted. Servers hold on to drains that are deleted many at once without it,
because that is what an accident looks like.`,
		Example: `  nearside undrain eu-west
  nearside undrain --all`,
		Args: func(cmd *cobra.Command, given []string) error {
			if all {
				return words()(cmd, given)
			}
			return words("REGION")(cmd, given)
		},
		RunE: func(cmd *cobra.Command, given []string) error {
			return writeToEtcd(cmd, given, func(ctx context.Context, c *Config, client *clientv3.Client) error {
				if all {
					return undrainAll(ctx, cmd, c, client)
				}
				revision, existed, err := healthsync.RemoveDrain(ctx, client, c.Etcd.Prefix, given[0])
				if err != nil {
					return err
				}
				if !existed {
					fmt.Fprintf(cmd.OutOrStdout(), "%s was not drained: there is no %s\n", given[0], drainKey(c, given[0]))
					return nil
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is back: %s deleted at revision %d; see it with `nearside status`\n", given[0], drainKey(c, given[0]), revision)
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "bring all regions back")
	return cmd
}

// undrainAll says that no region is drained before it removes the drains: keys
// that vanish together without that are held for an accident.
func undrainAll(ctx context.Context, cmd *cobra.Command, c *Config, client *clientv3.Client) error {
	names := c.Table().Names(c.Table().All())
	for _, name := range names {
		if _, err := healthsync.WriteDrain(ctx, client, c.Etcd.Prefix, name, regions.Drain{}); err != nil {
			return err
		}
	}
	var last int64
	for _, name := range names {
		revision, _, err := healthsync.RemoveDrain(ctx, client, c.Etcd.Prefix, name)
		if err != nil {
			return err
		}
		last = revision
	}
	fmt.Fprintf(cmd.OutOrStdout(), "no region is drained as of revision %d: %s; see it with `nearside status`\n", last, strings.Join(names, ", "))
	return nil
}

// writeToEtcd runs write with a client of the configured etcd, after it made
// sure that the named regions exist.
func writeToEtcd(cmd *cobra.Command, named []string, write func(context.Context, *Config, *clientv3.Client) error) error {
	c, _, err := loadConfig(cmd)
	if err != nil {
		return err
	}
	if c.Table().Len() == 0 {
		return fmt.Errorf("%s has no regions: there is nothing to drain", c.File)
	}
	for _, name := range named {
		if _, ok := c.Table().Named(name); !ok {
			return unknownRegion(c, name)
		}
	}
	endpoints := c.etcdEndpoints()
	client, err := healthsync.Connect(endpoints, zerolog.Nop())
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), etcdTimeout)
	defer cancel()
	if err := write(ctx, c, client); errors.Is(err, healthsync.ErrUnwritable) {
		return err
	} else if err != nil {
		hint := "look at it with `etcdctl endpoint status`"
		if c.Etcd.Embedded {
			hint = "it runs inside `nearside serve`: start that first"
		}
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no answer within %v; it may still have been written: see `nearside status`", etcdTimeout)
		}
		return fmt.Errorf("write to etcd at %s: %w; %s", strings.Join(endpoints, ","), err, hint)
	}
	return nil
}

func unknownRegion(c *Config, name string) error {
	names := c.Table().Names(c.Table().All())
	if near := nearest(name, names); near != "" {
		return fmt.Errorf("no region %q in %s; did you mean %s?", name, c.File, near)
	}
	return fmt.Errorf("no region %q in %s; it has %s", name, c.File, strings.Join(names, ", "))
}

func drainKey(c *Config, region string) string {
	return c.Etcd.Prefix + "/regions/" + region + "/drain"
}

// operator says who runs the command, as user@host.
func operator() string {
	name := "uid " + fmt.Sprint(os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if sudo := os.Getenv("SUDO_USER"); sudo != "" {
		name = sudo
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return name + "@" + host
}
