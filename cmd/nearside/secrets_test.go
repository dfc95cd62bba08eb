package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rs/zerolog"

	"nearside/dnsserver"
)

const (
	secretA = "e5e973e5a6b2a43f48e7dc849e37bfcf"
	secretB = "445536bcd2513298075a5d379663c962"
)

func TestReadSecrets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secrets")
	for _, c := range []struct{ text, fault string }{
		{secretA + "\n", ""},
		{"# the next one first\r\n" + strings.ToUpper(secretB) + "\r\n\r\n  " + secretA, ""},
		{"", "has no secret"},
		{"# nothing\n", "has no secret"},
		{secretA + "\n" + secretB[:31] + "\n", ":2: no secret; write 32 hexadecimal digits"},
		{secretA + "00\n", ":1: no secret"},
		{"x" + secretA[1:], ":1: no secret"},
		{strings.Repeat("0", 1<<20), "token too long"},
		{strings.Repeat(secretA+"\n", 17), ":17: more than 16 secrets"},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		switch _, err := readSecrets(file); {
		case c.fault == "" && err != nil:
			t.Errorf("%.40q: %v", c.text, err)
		case c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)):
			t.Errorf("%.40q: %v, want %s", c.text, err, c.fault)
		case err != nil && strings.Contains(err.Error(), secretA[:8]):
			t.Errorf("the message tells the secret: %v", err)
		}
	}
}

// What is no regular file may have no end, or keep whoever opens it waiting.
func TestReadSecretsOfNoFile(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, dir, "/dev/zero"} {
		if _, err := readSecrets(path); err == nil || !strings.Contains(err.Error(), path+" is no regular file") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// A bad file leaves the secrets in force, and is an alarm until it is mended.
func TestSecretsReload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secrets")
	published := make(chan *dnsserver.Secrets, 1)
	l := newSecretLoader(&Config{CookieSecrets: file}, zerolog.Nop(), func(s *dnsserver.Secrets) { published <- s })
	if l.load() == nil || len(l.alarms()) != 1 {
		t.Fatalf("without the file: alarms %q", l.alarms())
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.run(ctx)
	}()
	if err := os.WriteFile(file, []byte(secretA), 0o600); err != nil {
		t.Fatal(err)
	}
	signalChange(l.changed)
	<-published
	cancel()
	<-ended
	if alarms := l.alarms(); len(alarms) > 0 {
		t.Errorf("with a good file: %q", alarms)
	}
}
