package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"

	"nearside/healthsync"
)

// etcdTimeout bounds a request of a command to etcd.
const etcdTimeout = 5 * time.Second

// openCredentials reads the files that say who we are to etcd. The error is a
// Faults with those that cannot be used; the credentials are good all the same,
// and take the files when they are.
func openCredentials(c *Config, log zerolog.Logger) (*healthsync.Credentials, error) {
	credentials := healthsync.OpenCredentials(c.Etcd.Identity, log)
	var faults Faults
	for _, fault := range credentials.Faults() {
		faults = append(faults, c.fault("etcd."+fault.Key, "%v", fault))
	}
	return credentials, faults.sorted()
}

// connectEtcd makes a client of the configured etcd.
func connectEtcd(c *Config) (*clientv3.Client, error) {
	credentials, err := openCredentials(c, zerolog.Nop())
	if err != nil {
		return nil, err
	}
	return healthsync.Connect(c.etcdEndpoints(), credentials, zerolog.Nop())
}

// etcdFailure is what a command says of an etcd that did not do what was asked; nil
// is nothing.
func etcdFailure(c *Config, err error) error {
	if err == nil || errors.Is(err, healthsync.ErrUnwritable) || errors.Is(err, errUnjudged) {
		return err
	}
	hint := healthsync.Hint(err)
	switch {
	case hint != "":
	case c.Etcd.Embedded:
		hint = "it runs inside `nearside serve`: start that first"
	default:
		hint = "look at it with `etcdctl endpoint status`"
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %v; it may still have been written: see `nearside status`", etcdTimeout)
	}
	return fmt.Errorf("etcd at %s: %s; %s", strings.Join(c.etcdEndpoints(), ","), healthsync.Brief(err), hint)
}
