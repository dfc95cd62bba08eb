package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"nearside/printable"
)

func serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the name server",
		Long: `Run the name server until it gets SIGTERM or SIGINT. A second signal ends it at
once; SIGHUP makes it read zones and the geo database again.

It answers from memory. Zones, the geo database and the drains in etcd may break
or vanish while it runs: what was good last stays in force.`,
		Example: `  nearside serve --config examples/betting/nearside.yaml
  NEARSIDE_SERVER_LISTEN=127.0.0.1:5300 nearside serve`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, warnings, err := loadConfig(cmd)
			if err != nil {
				return err
			}
			log := newLogger(cmd.ErrOrStderr())
			for _, warning := range warnings {
				log.Warn().Msg(warning)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			// Once the first signal is taken, the next one kills as usual.
			context.AfterFunc(ctx, stop)
			return serve(ctx, c, log)
		},
	}
}

// newLogger writes JSON, or lines for people if w is a terminal.
func newLogger(w io.Writer) zerolog.Logger {
	if f, ok := w.(*os.File); ok {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			w = consoleWriter(w)
		}
	}
	return zerolog.New(w).Level(zerolog.InfoLevel).With().Timestamp().Logger()
}

// consoleWriter writes lines for people, in which nothing but the writer itself
// tells the terminal what to do: it quotes every field, and messages are made
// printable here.
func consoleWriter(w io.Writer) io.Writer {
	return zerolog.ConsoleWriter{Out: w, TimeFormat: time.DateTime, FormatPrepare: func(entry map[string]any) error {
		if message, ok := entry[zerolog.MessageFieldName].(string); ok {
			entry[zerolog.MessageFieldName] = printable.Text(message)
		}
		return nil
	}}
}

// serve runs a server until ctx ends.
func serve(ctx context.Context, c *Config, log zerolog.Logger) error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP) // from the start: else it would kill
	defer signal.Stop(hangups)

	s := newServer(c, log, hangups)
	defer s.close()
	if err := s.bind(); err != nil {
		return err
	}
	if err := s.run(ctx); err != nil {
		return err
	}
	log.Info().Msg("stopped")
	return nil
}
