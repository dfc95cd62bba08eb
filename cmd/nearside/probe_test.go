package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const probesConfig = `
zones: {dir: zones}
etcd: {endpoints: ["http://192.0.2.1:2379"]}
regions:
- {name: eu-west, location: {latitude: 53, longitude: -6}}
services: [{name: casino, names: [casino.bet.example]}]
probes:
- {region: eu-west, tcp: "[2001:db8::1]:443"}
- region: eu-west
  service: casino
  http: https://192.0.2.10:8443/healthz?deep=1
  host: Play.bet.example
  status: [200, 301-302]
  body: all is well
  ca: ca.pem
  redirects: true
  interval: 10s
  timeout: 2s
  down_after: 3
  up_after: 1
  source: 192.0.2.1
- {region: eu-west, tls: "lb.example:443", verify: false}
`

func TestLoadProbes(t *testing.T) {
	path := writeConfig(t, probesConfig)
	c, _, err := Load(path, overlay(t, "--server.id=test"))
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, p := range c.Probes {
		fmt.Fprintln(&got, p.Region, p.Service, p.Name(), p.Source, p.Statuses, p.Body, p.Redirects, p.Verify, p.Interval, p.Timeout, p.DownAfter, p.UpAfter)
	}
	want := `eu-west  tcp://[2001:db8::1]:443 invalid IP [{200 399}]  false true 3s 1s 2 3
eu-west casino https://192.0.2.10:8443/healthz?deep=1 as play.bet.example 192.0.2.1 [{200 200} {301 302}] all is well true true 10s 2s 3 1
eu-west  tls://lb.example:443 invalid IP [{200 399}]  false false 3s 1s 2 3
`
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &got, want)
	}

	// Only who runs them needs the files.
	_, err = c.probeList()
	ca := filepath.Join(filepath.Dir(path), "ca.pem")
	if want := path + ":15: probes[1].ca: open " + ca + ": no such file or directory"; fmt.Sprint(err) != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if err := os.WriteFile(ca, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = c.probeList(); !strings.Contains(fmt.Sprint(err), "ca.pem has no certificate") {
		t.Errorf("got %v", err)
	}
	c.Probes[1].CA = ""
	list, err := c.probeList()
	if err != nil || len(list) != 3 || list[0].Insecure || !list[2].Insecure {
		t.Errorf("%v: %+v", err, list)
	}
}
