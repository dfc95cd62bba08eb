package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"nearside/console"
	"nearside/healthsync"
	"nearside/probes"
)

func probeCommand() *cobra.Command {
	var host string
	cmd := &cobra.Command{
		Use:   "probe",
		Short: "Run the configured probes and vote for their regions in etcd",
		Long: `Run the configured probes from here, and write to etcd what this host makes of
each region and service: a vote, when it changes. The votes count for as long as
this process runs as it should. It needs no zones and answers no queries; three
hosts in different networks make a majority that no fault of one of them sways.

It runs until SIGTERM or SIGINT; then its votes no longer count.`,
		Example: `  nearside probe --config nearside.yaml
  nearside probe --host dublin-1 --admin.listen 127.0.0.1:8054`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, warnings, err := loadConfig(cmd)
			if err != nil {
				return err
			}
			if host == "" {
				if host, err = os.Hostname(); err != nil {
					return fmt.Errorf("the host name cannot be read: %w; give one with --host", err)
				}
				host = strings.ToLower(host)
			}
			if err := probes.CheckHost(host); err != nil {
				return usageError{fmt.Errorf("%w, with --host", err)}
			}
			log := newLogger(cmd.ErrOrStderr())
			for _, warning := range warnings {
				log.Warn().Msg(warning)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			context.AfterFunc(ctx, stop) // the next one kills as usual
			return probe(ctx, c, host, log)
		},
	}
	cmd.Flags().StringVar(&host, "host", "", "the `name` to vote under: one for each host (default: the host name)")
	return cmd
}

// probe runs the probes, and shows them at the admin address, until ctx ends.
func probe(ctx context.Context, c *Config, host string, log zerolog.Logger) error {
	if len(c.Probes) == 0 {
		return fmt.Errorf("%s has no probes: there is nothing to do", c.File)
	}
	credentials, err := openCredentials(c, log)
	if err != nil {
		return err
	}
	prober, end, err := newProber(c, c.etcdEndpoints(), credentials, host, log)
	if err != nil {
		return err
	}
	defer end()
	admin, err := net.Listen("tcp", c.AdminListen)
	if err != nil {
		return taken(err, "admin.listen")
	}
	log.Info().Str("version", version()).Str("host", host).Str("admin", admin.Addr().String()).Int("probes", len(c.Probes)).Msg("probing")

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return console.Serve(ctx, admin, console.Probes(prober, version()), log) })
	group.Go(func() error {
		prober.Run(ctx)
		return nil
	})
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	log.Info().Msg("stopped")
	return nil
}

// newProber makes a prober with a client of its own, which the caller closes.
func newProber(c *Config, endpoints []string, credentials *healthsync.Credentials, host string, log zerolog.Logger) (p *probes.Prober, end func(), err error) {
	list, err := c.probeList()
	if err != nil {
		return nil, nil, err
	}
	client, err := healthsync.Connect(endpoints, credentials, log)
	if err != nil {
		return nil, nil, err
	}
	return probes.New(list, probes.Config{Host: host, Client: client, Prefix: c.Etcd.Prefix, Log: log}), func() { client.Close() }, nil
}
