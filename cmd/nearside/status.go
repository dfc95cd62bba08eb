package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nearside/console"
	"nearside/healthsync"
)

// control returns a client of the server that runs with the configuration.
func control(cmd *cobra.Command) (*console.Client, error) {
	c, _, err := loadConfig(cmd)
	if err != nil {
		return nil, err
	}
	return console.NewClient(c.ControlSocket()), nil
}

func statusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what the server on this machine serves and what is wrong",
		Long: `Show what the server on this machine serves: the state of every region with the
reasons, keys in etcd that were not understood, the name servers on that etcd, zones with their faults, and the
geography. It asks the running server over data_dir/control.sock.

The exit status is 1 where no server answers queries: also while one starts or stops.`,
		Example: `  nearside status
  nearside status --json | jq '.regions[] | select(.state != "up")'`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := control(cmd)
			if err != nil {
				return err
			}
			status, err := client.Status(cmd.Context())
			if err != nil {
				return err
			}
			return showStatus(cmd.OutOrStdout(), status, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// showStatus fails where /readyz does, so that the command is a health check.
func showStatus(w io.Writer, status console.Status, asJSON bool) (err error) {
	if asJSON {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(status)
	} else {
		err = status.WriteText(w, time.Now())
	}
	if err == nil && status.Server.Phase != console.Serving {
		err = fmt.Errorf("the server is %s: it does not answer queries", status.Server.Phase)
	}
	return err
}

func reloadCommand() *cobra.Command {
	var accept bool
	cmd := &cobra.Command{
		Use:   "reload [--accept [ZONE]]",
		Short: "Make the server on this machine read zones and the geo database again",
		Long: `Make the server on this machine read all zone files and the geo database again,
and wait until it has. What does not load keeps its last good version.

Files are watched, so this is seldom needed. With --accept, zones that are held
because they shrank by more than half, or vanished in number, are taken as they
are now: the named one, or all.

The configuration file is read at start only.`,
		Example: `  nearside reload
  nearside reload --accept bet.example`,
		Args: func(cmd *cobra.Command, given []string) error {
			if len(given) == 1 && !accept {
				return usageError{fmt.Errorf("a zone is named with --accept only; a reload reads all of them")}
			}
			return words("ZONE")(cmd, append(given, "")[:max(1, len(given))])
		},
		RunE: func(cmd *cobra.Command, given []string) error {
			client, err := control(cmd)
			if err != nil {
				return err
			}
			done, err := client.Reload(cmd.Context(), console.ReloadRequest{Accept: accept, Zone: strings.Join(given, "")})
			if err != nil {
				return err
			}
			for _, fault := range done.Faults {
				fmt.Fprintln(cmd.OutOrStdout(), fault)
			}
			fmt.Fprintln(cmd.OutOrStdout(), done.Summary)
			if len(done.Faults) > 0 {
				return errFaults
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&accept, "accept", false, "take zones that are held because they shrank")
	return cmd
}

// accepted says what was accepted, as the state was before.
func accepted(before *healthsync.Status) string {
	switch {
	case before != nil && before.Frozen != "":
		return "the state of etcd is accepted on this server; see `nearside status`, and run this on every other name server"
	case before != nil && len(before.HeldDrains) > 0:
		return "the held drains are let go: " + strings.Join(before.HeldDrains, ", ") + "; see `nearside status`"
	}
	return "nothing waited to be accepted: the state is not frozen, and no drains are held"
}

func stateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "state",
		Short:   "Act on the state that the server on this machine took from etcd",
		Long:    "Act on the state that the server on this machine took from etcd.",
		Example: "  nearside state accept",
		Args:    knownCommand,
		RunE:    needsCommand,
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "accept",
		Short: "Take the state of etcd as it is, after etcd was rebuilt or restored",
		Long: `Take the state of etcd as it is. The state freezes when the cluster that answers
is another one, or went back to an older revision: etcd was rebuilt, or restored
from a backup, and drains may be missing. Look at the keys first:

  etcdctl get --prefix /nearside/

A freeze ends on this server alone: run this on every name server. Drains that were
deleted all at once are held until then, too, and are let go on all servers.`,
		Example: "  nearside state accept",
		Args:    words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := control(cmd)
			if err != nil {
				return err
			}
			before, err := client.Status(cmd.Context())
			if err != nil {
				return err
			}
			if err := client.AcceptState(cmd.Context()); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), accepted(before.State))
			return err
		},
	})
	return cmd
}
