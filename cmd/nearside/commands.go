package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"nearside/printable"
)

// Exit statuses.
const (
	exitFailed = 1 // what was asked for did not work, or check found faults
	exitUsage  = 2 // the command line makes no sense

	exitNotSafe = 2 // a server may still answer with what was drained
)

// errFaults says that faults were found and are printed already.
var errFaults = errors.New("faults were found")

// usageError is a command line that makes no sense.
type usageError struct{ error }

// run runs the command line and returns the exit status.
func run(ctx context.Context, arguments []string, stdout, stderr io.Writer) int {
	root := rootCommand()
	root.SetArgs(arguments)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errFaults):
		return exitFailed
	case errors.Is(err, errNotSafe):
		printError(stderr, err)
		return exitNotSafe
	case errors.As(err, &usage):
		printError(stderr, err)
		return exitUsage
	}
	printError(stderr, err)
	return exitFailed
}

// printError prints every line of the error with the name of the program.
func printError(w io.Writer, err error) {
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(w, "nearside: %s\n", printable.Text(strings.TrimSuffix(line, "\n")))
	}
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "nearside",
		Short: "An authoritative DNS server that answers with the nearest healthy data center",
		Long: `nearside is an authoritative DNS server that answers with the nearest healthy
data center. It serves ordinary zone files, and takes a data center out within
milliseconds of a key written to etcd.

Every setting of the configuration file but the regions may also be given in the
environment or as a flag, which wins over the file: steering.ttl is
NEARSIDE_STEERING_TTL=30 or --steering.ttl=30. Elements of lists are separated
by commas: NEARSIDE_SERVER_LISTEN=192.0.2.53:53,[2001:db8::53]:53.`,
		Example: `  nearside check --config nearside.yaml
  nearside serve --config nearside.yaml
  nearside drain eu-west --reason "maintenance of the uplink"`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:              knownCommand,
		RunE:              needsCommand,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		var bad *pflag.InvalidValueError
		if errors.As(err, &bad) && bad.GetFlag().Value.Type() == "duration" {
			err = fmt.Errorf("--%s %q is no duration: write a number and a unit, as in 90m or 2h", bad.GetFlag().Name, bad.GetValue())
		}
		return usageError{fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())}
	})
	root.PersistentFlags().String("config", defaultConfigFile, "the configuration `file`")
	addSettingFlags(root.PersistentFlags())
	root.AddCommand(serveCommand(), checkCommand(), statusCommand(), drainCommand(), undrainCommand(), forgetCommand(), logCommand(),
		probeCommand(), reloadCommand(), stateCommand(), versionCommand())
	return root
}

// knownCommand refuses words that are no command and names near ones.
func knownCommand(cmd *cobra.Command, words []string) error {
	if len(words) == 0 {
		return nil
	}
	hint := fmt.Sprintf("see `%s --help`", cmd.CommandPath())
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(words[0]); len(near) > 0 {
		hint = "did you mean " + strings.Join(near, " or ") + "?"
	}
	return usageError{fmt.Errorf("unknown command %q; %s", words[0], hint)}
}

// needsCommand is what a command does that only holds others.
func needsCommand(cmd *cobra.Command, _ []string) error {
	return usageError{fmt.Errorf("which command? see `%s --help`", cmd.CommandPath())}
}

// words makes a command take as many words as it has names for.
func words(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		switch {
		case len(given) > len(names):
			return usageError{fmt.Errorf("%q is one word too many; see `%s --help`", given[len(names)], cmd.CommandPath())}
		case len(given) < len(names):
			return usageError{fmt.Errorf("%s is missing; see `%s --help`", names[len(given)], cmd.CommandPath())}
		}
		return nil
	}
}

// loadConfig reads the configuration that the command line names. Warnings are
// for those who start or check a server; to others they were said then.
func loadConfig(cmd *cobra.Command) (c *Config, warnings []string, err error) {
	over, err := newOverlay(cmd.Flags())
	if err != nil {
		return nil, nil, err
	}
	return Load(over.ConfigFile(), over)
}
