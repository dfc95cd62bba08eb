// Command bench measures nearside beside other name servers on this machine:
// one core for the server, another for the load, over loopback. It runs in a
// network namespace in which every address is local; scripts/bench-peers makes
// one, and docs/performance.md says what is measured and how.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// bench is one run of the program.
type bench struct {
	ctx        context.Context
	dir        string        // of configurations, zones and logs; removed at the end
	rounds     int           // of which the median is shown
	span       time.Duration // how long a round measures a server
	serverCore string
	loadCore   string // this program is on it already
	clients    []client
	configured int    // servers, so far
	only       string // names of peers, besides the echo and nearside
	began      time.Time
	verdicts   []verdict
}

// sections are the tables, in the order of printing. The last is measured only when
// asked for: it is worth nothing if it is short.
var sections = []struct {
	name    string
	measure func(*bench) error
}{
	{"ceiling", (*bench).ceiling},
	{"throughput", (*bench).throughput},
	{"latency", (*bench).latency},
	{"overload", (*bench).overload},
	{"start", (*bench).starts},
	{"drain", (*bench).drains},
	{"fleet", (*bench).drainFleet},
	{"workers", (*bench).workers},
	{"reload", (*bench).reloads},
	{"tcp", (*bench).tcp},
	{"soak", (*bench).soak},
}

var noSpaces = strings.NewReplacer(" ", "-", ",", "")

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	var names []string
	for _, s := range sections {
		names = append(names, s.name)
	}
	b := &bench{clients: newClients(64), began: time.Now()}
	flag.IntVar(&b.rounds, "rounds", 9, "rounds; medians of them are shown")
	flag.DurationVar(&b.span, "span", 700*time.Millisecond, "how long a round measures each server")
	flag.StringVar(&b.serverCore, "server-core", "0", "the core of the server")
	flag.StringVar(&b.loadCore, "load-core", "1", "the core of the load")
	flag.StringVar(&b.only, "peers", "", "measure only these beside nearside, separated by commas; empty: all")
	watch := flag.String("watch", "", "do nothing but watch etcd at these endpoints, as a hundred servers do")
	want := flag.String("sections", strings.Join(names[:len(names)-1], ","), "what to measure")
	quick := flag.Bool("quick", false, "one short round: whether it works, not how fast")
	flag.Parse()
	if *quick {
		b.rounds, b.span = 1, 300*time.Millisecond
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	b.ctx = ctx
	if *watch != "" {
		return watchAll(ctx, strings.Split(*watch, ","))
	}
	var err error
	if b.dir, err = os.MkdirTemp("", "nearside-bench"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if err := writeDatabase(filepath.Join(b.dir, "city.mmdb")); err != nil {
		return err
	}
	for name := range strings.SplitSeq(*want, ",") {
		i := slices.Index(names, name)
		if i < 0 {
			return fmt.Errorf("no section %q: they are %s", name, strings.Join(names, ", "))
		}
		if err := sections[i].measure(b); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	b.printVerdicts()
	return nil
}

// chosen returns the servers to measure for a profile: the echo is the first and
// nearside the second, which the tables rely on.
func (b *bench) chosen(p profile) []peer {
	return slices.DeleteFunc(slices.Clone(peers), func(o peer) bool {
		wanted := b.only == "" || o.name == echo.name || o.name == nearside.name || slices.Contains(strings.Split(b.only, ","), o.name)
		return !wanted || !slices.Contains(o.profiles, p)
	})
}

// fleet is a number of servers that run for one profile.
type fleet []*server

// with runs a server of each peer, with an etcd outside, while do measures them.
func (b *bench) with(list []peer, p profile, do func(fleet) error) error {
	etcd, stop, err := b.etcd()
	if err != nil {
		return err
	}
	defer stop()
	var f fleet
	for _, o := range list {
		s, err := b.configure(o, p, etcd)
		if err != nil {
			return err
		}
		if _, err := b.run(s, b.serverCore); err != nil {
			return err
		}
		defer s.process.stop()
		f = append(f, s)
	}
	return do(f)
}

// etcd starts a store for servers that are measured without one inside. It has
// the core of the load, where it idles.
func (b *bench) etcd() (endpoints []string, stop func(), err error) {
	return b.members(1, b.loadCore)
}
