package main

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"nearside/healthsync"
)

// withEtcd runs work with a client of the configured etcd.
func withEtcd(cmd *cobra.Command, work func(context.Context, *Config, *clientv3.Client) error) error {
	c, _, err := loadConfig(cmd)
	if err != nil {
		return err
	}
	if c.Table().Len() == 0 {
		return fmt.Errorf("%s has no regions: there is nothing to drain", c.File)
	}
	client, err := connectEtcd(c)
	if err != nil {
		return err
	}
	defer client.Close()
	return work(cmd.Context(), c, client)
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

// uses makes sure that a service has anything in the region: a drain of what is not
// there would move nobody.
func uses(c *Config, at healthsync.Target) error {
	table := c.Table()
	region, _ := table.Named(at.Region)
	service, ok := table.ServiceNamed(at.Service)
	if list := table.Service(service).Regions; at.Service != "" && ok && !slices.Contains(list, region) {
		var names []string
		for _, id := range list {
			names = append(names, table.Name(id))
		}
		return fmt.Errorf("service %s does not use %s, but %s: there is nothing to drain", at.Service, at.Region, strings.Join(names, ", "))
	}
	return nil
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
