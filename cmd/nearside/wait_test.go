package main

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"

	"nearside/dnsserver"
	"nearside/healthsync"
	"nearside/regions"
)

// A server that has the drain by its revision may have a break-glass file all the same.
func TestOut(t *testing.T) {
	eu, casino := healthsync.Target{Region: "eu-west"}, healthsync.Target{Service: "casino", Region: "eu-west"}
	planned := regions.Drain{Percent: 100, At: time.Now().Add(time.Hour)}
	for _, c := range []struct {
		name     string
		at       healthsync.Target
		drain    regions.Drain
		told     dnsserver.Told
		override bool
		frozen   bool
		other    bool // its configuration
		old      bool // it has not the drain by its revision
		want     bool
	}{
		{name: "it names the region", at: eu, told: dnsserver.Told{Drained: []string{"us-east", "eu-west"}}, want: true},
		{name: "it names another", at: eu, told: dnsserver.Told{Drained: []string{"us-east", "casino/eu-west"}}},
		{name: "it names none", at: eu},
		{name: "its file drains the region, too", at: eu, told: dnsserver.Told{Drained: []string{"eu-west"}}, override: true, want: true},
		{name: "its file does, and it is cut off", at: eu, told: dnsserver.Told{Drained: []string{"eu-west"}}, old: true, want: true},
		{name: "the drain has yet to begin, and it is cut off", at: eu, drain: planned, told: dnsserver.Told{Drained: []string{"eu-west"}}, old: true},
		{name: "no room to name it, and it is cut off", at: eu, told: dnsserver.Told{More: 3}, old: true},
		{name: "no room to name it", at: eu, told: dnsserver.Told{More: 3}, want: true},
		{name: "no room to name it, and a file", at: eu, told: dnsserver.Told{More: 3}, override: true},
		{name: "the drain has yet to begin", at: eu, drain: planned, want: true},
		{name: "the drain has yet to begin, and a file", at: eu, drain: planned, override: true},
		{name: "no room to name it, and it is frozen", at: eu, told: dnsserver.Told{More: 3}, frozen: true},
		{name: "the drain has yet to begin, and it is frozen", at: eu, drain: planned, frozen: true},
		{name: "it names the region, and is frozen", at: eu, told: dnsserver.Told{Drained: []string{"eu-west"}}, frozen: true, want: true},
		{name: "a service of the region", at: casino, told: dnsserver.Told{Drained: []string{"casino/eu-west"}}, want: true},
		{name: "all of the region", at: casino, told: dnsserver.Told{Drained: []string{"eu-west"}}, want: true},
		{name: "a service, by another configuration", at: casino, told: dnsserver.Told{Drained: []string{"casino/eu-west"}}, other: true, want: true},
		{name: "no room to name a service, by another configuration", at: casino, told: dnsserver.Told{More: 3}, other: true},
		{name: "the drain of a service has yet to begin, by another configuration", at: casino, drain: planned, other: true},
		{name: "no room to name the region, by another configuration", at: eu, told: dnsserver.Told{More: 3}, other: true, want: true},
		{name: "another service", at: casino, told: dnsserver.Told{Drained: []string{"sports/eu-west"}}},
	} {
		v := &waiter{drainer: drainer{at: c.at, drain: c.drain}, cluster: "a", revision: 7}
		c.told.Cluster, c.told.Revision = 10, 7
		if c.old {
			c.told.Revision--
		}
		m := healthsync.Member{}
		m.Override, m.Frozen = c.override, c.frozen
		if c.other {
			m.Digests.Configuration = "b"
		}
		if got := v.out(c.told, m); got != c.want {
			t.Errorf("%s: out is %t", c.name, got)
		}
	}
}

// An address may lead to another machine, or to nobody: neither speaks for a server.
func TestAskState(t *testing.T) {
	serve := func(text string) string {
		socket, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		started := make(chan struct{})
		server := &dns.Server{PacketConn: socket, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
			answer := new(dns.Msg).SetReply(query)
			if text != "" {
				answer.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: "state.nearside.", Rrtype: dns.TypeTXT, Class: dns.ClassCHAOS}, Txt: []string{text}}}
			}
			w.WriteMsg(answer)
		})}
		go server.ActivateAndServe()
		<-started
		t.Cleanup(func() { server.Shutdown() })
		return socket.LocalAddr().String()
	}
	ns1, ns2 := serve("id=ns1 cluster=a revision=7 state=b drained="), serve("id=ns2 cluster=a revision=9 state=b drained=")
	mute, rubbish := serve(""), serve("hello")
	nobody, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer nobody.Close()
	for _, c := range []struct {
		addresses []string
		revision  int64 // 0: an error
		absent    bool
	}{
		{[]string{ns1}, 7, false},
		{[]string{ns2, nobody.LocalAddr().String(), rubbish, ns1}, 7, false},
		{[]string{ns2}, 0, true},
		{[]string{nobody.LocalAddr().String()}, 0, true},
		{nil, 0, true},
		{[]string{mute}, 0, false},
		{[]string{ns2, rubbish}, 0, false},
	} {
		told, err := askState("ns1", c.addresses)
		if (err == nil) != (c.revision > 0) || err == nil && told.Revision != c.revision || errors.Is(err, errAbsent) != c.absent {
			t.Errorf("%v: revision %d, %v", c.addresses, told.Revision, err)
		}
	}
}
