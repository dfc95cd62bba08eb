package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// The data of the embedded etcd is damaged: an alarm, and answers from the last
// state.
func TestServeDamagedEtcd(t *testing.T) {
	folder := prepare(t)
	r := start(t, folder)
	r.eventually("a drain", func() error {
		_, err := r.nearside("drain", "eu-west")
		return err
	})
	r.expect("play.bet.example.", "NOERROR 198.51.100.10/7")
	if code := r.end(); code != 0 {
		t.Fatalf("exit status %d: %s", code, r.errors)
	}
	logs, err := filepath.Glob(filepath.Join(folder, "data/etcd/member/wal/0*.wal"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("etcd's logs are %v: %v", logs, err)
	}
	put(t, logs[0], "rubbish")

	r = start(t, folder)
	r.expect("play.bet.example.", "NOERROR 198.51.100.10/7")
	r.eventually("an alarm", func() error {
		s, err := r.status()
		if alarms := strings.Join(s.Alarms, "\n"); err != nil || !strings.Contains(alarms, "the embedded etcd failed: ") || !strings.Contains(alarms, "data/etcd") {
			return fmt.Errorf("alarms %q, %v", alarms, err)
		}
		return nil
	})
	if _, body := r.get("/readyz"); !strings.HasPrefix(body, "degraded: ") {
		t.Errorf("readyz: %s", body)
	}
	if code := r.end(); code != 0 {
		t.Fatalf("exit status %d: %s", code, r.errors)
	}
}
