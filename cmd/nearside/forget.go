package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"nearside/healthsync"
)

func forgetCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "forget SERVER",
		Short: "Remove a name server that is gone for good",
		Long: `Remove a name server that is gone for good from etcd, so that "drain --wait" does not
wait for it. A server that stops cleanly need not be forgotten: it says so.`,
		Example: "  nearside forget ns3",
		Args:    words("SERVER"),
		RunE: func(cmd *cobra.Command, given []string) error {
			return withEtcd(cmd, func(ctx context.Context, c *Config, client *clientv3.Client) error {
				ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
				defer cancel()
				existed, err := healthsync.Forget(ctx, client, c.Etcd.Prefix, given[0])
				switch {
				case errors.Is(err, healthsync.ErrAlive):
					return fmt.Errorf("%s is alive: stop it first, or it comes back", given[0])
				case err != nil:
					return etcdFailure(c, err)
				case !existed:
					return fmt.Errorf("there is no server %q; `nearside status` lists those there are", given[0])
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is forgotten\n", given[0])
				return nil
			})
		},
	}
}
