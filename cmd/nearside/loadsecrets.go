package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/rs/zerolog"

	"nearside/dnsserver"
)

// secretLoader reads the secrets of DNS cookies, again when their file changes.
type secretLoader struct {
	file    string // "" makes one up, which no other server has
	log     zerolog.Logger
	publish func(*dnsserver.Secrets)
	changed chan struct{}

	mu  sync.Mutex
	bad error // why the file is not in force
}

func newSecretLoader(c *Config, log zerolog.Logger, publish func(*dnsserver.Secrets)) *secretLoader {
	return &secretLoader{file: c.CookieSecrets, log: log, publish: publish, changed: make(chan struct{}, 1)}
}

// load reads the secrets for the first time. Without good ones the server makes
// one up: clients that come with a cookie of another server get a new one.
func (l *secretLoader) load() *dnsserver.Secrets {
	if l.file != "" {
		secrets, err := readSecrets(l.file)
		if err == nil {
			return secrets
		}
		l.fault(err, "a secret of its own is used for DNS cookies")
	}
	var secret [dnsserver.SecretSize]byte
	_, _ = rand.Read(secret[:]) // never fails
	return dnsserver.NewSecrets(secret)
}

// run reads the file again when it changed, until ctx ends.
func (l *secretLoader) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.changed:
		}
		if l.file == "" {
			continue
		}
		secrets, err := readSecrets(l.file)
		if err != nil {
			l.fault(err, "the secrets before stay in force")
			continue
		}
		l.publish(secrets)
		l.mu.Lock()
		l.bad = nil
		l.mu.Unlock()
	}
}

func (l *secretLoader) fault(err error, instead string) {
	err = fmt.Errorf("server.cookie_secrets: %w; %s", err, instead)
	l.log.Error().Msg(err.Error())
	l.mu.Lock()
	l.bad = err
	l.mu.Unlock()
}

// alarms says what is wrong with the file.
func (l *secretLoader) alarms() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bad == nil {
		return nil
	}
	return []string{l.bad.Error()}
}

// watched returns the folder of the file.
func (l *secretLoader) watched() []string {
	if l.file == "" {
		return nil
	}
	return []string{filepath.Dir(l.file)}
}

// maxSecrets is far more than a change of secrets takes; every one is tried on
// a cookie that none has made.
const maxSecrets = 16

// readSecrets reads a file with one secret a line, in hexadecimal digits. The
// first one makes cookies, and all are accepted.
func readSecrets(file string) (*dnsserver.Secrets, error) {
	// Without O_NONBLOCK, opening a FIFO would wait for a writer.
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", file)
	}
	var list [][dnsserver.SecretSize]byte
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		secret, err := hex.DecodeString(line)
		if err != nil || len(secret) != dnsserver.SecretSize { // the line is not shown: it may be most of a secret
			return nil, fmt.Errorf("%s:%d: no secret; write %d hexadecimal digits, as `openssl rand -hex %d` does",
				file, n, 2*dnsserver.SecretSize, dnsserver.SecretSize)
		}
		if len(list) == maxSecrets {
			return nil, fmt.Errorf("%s:%d: more than %d secrets; keep the new one and those before it", file, n, maxSecrets)
		}
		list = append(list, [dnsserver.SecretSize]byte(secret))
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(list) == 0 {
		return nil, errors.New(file + " has no secret; write one, as `openssl rand -hex 16` does")
	}
	return dnsserver.NewSecrets(list...), nil
}
