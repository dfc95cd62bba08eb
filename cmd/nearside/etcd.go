package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"nearside/healthsync"
)

// etcdTimeout bounds a request of a command to etcd.
const etcdTimeout = 5 * time.Second

// withEtcd runs work with a client of the configured etcd.
func withEtcd(cmd *cobra.Command, work func(context.Context, *Config, *clientv3.Client) error) error {
	c, _, err := loadConfig(cmd)
	if err != nil {
		return err
	}
	if c.Table().Len() == 0 {
		return fmt.Errorf("%s has no regions: there is nothing to drain", c.File)
	}
	client, err := healthsync.Connect(c.etcdEndpoints(), zerolog.Nop())
	if err != nil {
		return err
	}
	defer client.Close()
	return work(cmd.Context(), c, client)
}

// etcdError says what to do about an error of etcd.
func etcdError(c *Config, err error) error {
	if err == nil || errors.Is(err, healthsync.ErrUnwritable) {
		return err
	}
	hint := "look at it with `etcdctl endpoint status`"
	if c.Etcd.Embedded {
		hint = "it runs inside `nearside serve`: start that first"
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %v; it may still have been written: see `nearside status`", etcdTimeout)
	}
	return fmt.Errorf("etcd at %s: %w; %s", strings.Join(c.etcdEndpoints(), ","), err, hint)
}

// target makes sure that there are such a region and service.
func target(c *Config, region, service string) (healthsync.Target, error) {
	if _, ok := c.Table().Named(region); !ok {
		return healthsync.Target{}, unknown("region", region, c, c.Table().Names(c.Table().All()))
	}
	if _, ok := c.Table().ServiceNamed(service); !ok && service != "" {
		return healthsync.Target{}, unknown("service", service, c, serviceNames(c))
	}
	return healthsync.Target{Service: service, Region: region}, nil
}

func serviceNames(c *Config) []string {
	var names []string
	for _, s := range c.Services {
		names = append(names, s.Name)
	}
	return names
}

func unknown(what, name string, c *Config, names []string) error {
	if near := nearest(name, names); near != "" {
		return fmt.Errorf("no %s %q in %s; did you mean %s?", what, name, c.File, near)
	}
	if len(names) == 0 {
		return fmt.Errorf("no %s %q in %s; it has none", what, name, c.File)
	}
	return fmt.Errorf("no %s %q in %s; it has %s", what, name, c.File, strings.Join(names, ", "))
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
