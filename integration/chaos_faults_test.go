package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// cutServer parts a server from one member or from all.
func (tr *trial) cutServer(random *rand.Rand) fault {
	g, how := tr.oneServer(random), cut(random.IntN(int(cuts)))
	from := tr.members
	if random.IntN(2) == 0 {
		i := random.IntN(len(from))
		from = from[i : i+1]
	}
	return tr.part("a server is cut off", []*node{g.node}, from, how)
}

// cutServers parts all servers from all members.
func (tr *trial) cutServers(random *rand.Rand) fault {
	var all []*node
	for _, g := range tr.servers {
		all = append(all, g.node)
	}
	return tr.part("all servers are cut off", all, tr.members, cut(random.IntN(int(cuts))))
}

// cutMember parts a member from the other two.
func (tr *trial) cutMember(random *rand.Rand) fault {
	i := random.IntN(len(tr.members))
	var others []*node
	for j, m := range tr.members {
		if j != i {
			others = append(others, m)
		}
	}
	return tr.part("a member is cut off from the others", tr.members[i:i+1], others, cut(random.IntN(int(cuts))))
}

// cutProber parts a prober from etcd: its votes stay as they are.
func (tr *trial) cutProber(random *rand.Rand) fault {
	p := tr.probers[random.IntN(len(tr.probers))]
	return tr.part("a prober is cut off", []*node{p.node}, tr.members, cut(random.IntN(int(cuts))))
}

func (tr *trial) part(kind string, ours, theirs []*node, how cut) fault {
	var heals []func()
	f := fault{kind: kind, on: fmt.Sprintf("%s from %s, %v", names(ours), names(theirs), how)}
	for _, n := range ours {
		f.claims = append(f.claims, "link of "+n.name)
	}
	f.strike = func() {
		for _, a := range ours {
			for _, b := range theirs {
				heals = append(heals, sever(tr.t, a, b, how))
			}
		}
	}
	f.heal = func() {
		for _, heal := range heals {
			heal()
		}
	}
	return f
}

func names(list []*node) string {
	var all []string
	for _, n := range list {
		all = append(all, n.name)
	}
	return strings.Join(all, ",")
}

// stopStore stops members and starts them again. All of them are claimed.
func (tr *trial) stopStore(how string, which []int) fault {
	f := fault{kind: "members stop", on: how}
	for _, i := range allMembers {
		f.claims = append(f.claims, "process of "+tr.members[i].name)
	}
	for _, i := range which {
		f.on += " " + tr.members[i].name
	}
	f.strike = func() {
		for _, i := range which {
			m := tr.store.members[i]
			m.hidden = true
			if how == "kill" {
				m.kill()
			} else {
				m.cmd.Process.Signal(syscall.SIGTERM)
				m.await(tr.t)
			}
		}
	}
	f.heal = func() {
		for _, i := range which {
			tr.store.launch(tr.t, i)
		}
	}
	return f
}

// freeze stops etcd for so long that time must bring nothing back, just when drains
// are in force that would end by then, and one that begins.
func (tr *trial) freeze(random *rand.Rand) fault {
	f := tr.stopStore("kill", allMembers)
	stop, list := f.strike, random.Perm(len(busyRegions))[:2]
	one, other := busyRegions[list[0]], busyRegions[list[1]]
	f.on += ", with drains of " + one + " and " + other
	f.strike = func() {
		after := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339Nano) }
		tr.operator.must(
			clientv3.OpPut(drainKey(one), fmt.Sprintf(`{"until": %q, "force": true}`, after(40*time.Second))),
			clientv3.OpPut(drainKey(other), fmt.Sprintf(`{"at": %q, "until": %q, "force": true}`, after(35*time.Second), after(50*time.Second))))
		wait(tr.t.Context(), time.Second)
		stop()
	}
	return f
}

// stopMembers stops one, two or all.
func (tr *trial) stopMembers(random *rand.Rand) fault {
	how := []string{"kill", "terminate"}[random.IntN(2)]
	return tr.stopStore(how, random.Perm(len(tr.members))[:1+random.IntN(len(tr.members))])
}

// killLeader kills whoever leads then.
func (tr *trial) killLeader(*rand.Rand) fault {
	f := tr.stopStore("kill", allMembers)
	f.kind, f.on = "the leader dies", "whoever it is"
	killed := -1
	f.strike = func() {
		if killed = tr.leader(); killed >= 0 {
			tr.store.members[killed].hidden = true
			tr.store.members[killed].kill()
			tr.note("the leader was %s", tr.members[killed].name)
		}
	}
	f.heal = func() {
		if killed >= 0 {
			tr.store.launch(tr.t, killed)
		}
	}
	return f
}

// leader returns the member that leads, or -1.
func (tr *trial) leader() int {
	for i, endpoint := range tr.store.clients {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		status, err := tr.etcd.Status(ctx, endpoint)
		cancel()
		if err == nil && status.Leader == status.Header.MemberId {
			return i
		}
	}
	return -1
}

// pauseMember stops a member in its tracks, as a hypervisor does.
func (tr *trial) pauseMember(random *rand.Rand) fault {
	i := random.IntN(len(tr.members))
	return fault{
		kind: "a member pauses", on: tr.members[i].name, claims: []string{"process of " + tr.members[i].name},
		strike: func() { tr.store.members[i].cmd.Process.Signal(syscall.SIGSTOP) },
		heal:   func() { tr.store.members[i].cmd.Process.Signal(syscall.SIGCONT) },
	}
}

// slowDisk makes a member wait for its disk.
func (tr *trial) slowDisk(random *rand.Rand) fault {
	i, delay := random.IntN(len(tr.members)), time.Duration(50+random.IntN(950))*time.Millisecond
	var tracer *process
	return fault{
		kind: "a slow disk", on: fmt.Sprintf("%s, %v a write", tr.members[i].name, delay), claims: []string{"process of " + tr.members[i].name},
		strike: func() {
			tracer = start(tr.t, exec.Command("strace", "--follow-forks", "--quiet=all", "--output=/dev/null", "--trace=fdatasync",
				"--inject=fdatasync:delay_enter="+strconv.Itoa(int(delay.Microseconds())), "--attach="+strconv.Itoa(tr.store.members[i].cmd.Process.Pid)))
			tracer.hidden = true
		},
		heal: func() {
			tracer.cmd.Process.Signal(syscall.SIGTERM) // it lets go
			tracer.await(tr.t)
		},
	}
}

// badLink changes the weather between the last server and etcd.
func (tr *trial) badLink(random *rand.Rand) fault {
	g := tr.servers[len(tr.servers)-1]
	w := []weather{
		{delay: time.Duration(10+random.IntN(500)) * time.Millisecond}, {delay: 5 * time.Second},
		{rate: 1 << (8 + random.IntN(6))}, {stall: true},
	}[random.IntN(4)]
	links := g.links
	if random.IntN(2) == 0 {
		i := random.IntN(len(links))
		links = links[i : i+1]
	}
	flaps := 1 + random.IntN(4)
	each := func(do func(*relay)) func() {
		return func() {
			for _, r := range links {
				do(r)
			}
		}
	}
	f := fault{
		kind: "a bad link", on: fmt.Sprintf("%d of %s, %+v", len(links), g.name, w), claims: []string{"relays"},
		strike: each(func(r *relay) { r.set(w) }), heal: each(func(r *relay) { r.set(weather{}) }),
	}
	if random.IntN(3) == 0 {
		f.on = fmt.Sprintf("%d of %s, reset", len(links), g.name)
		f.strike = func() {
			tr.later(10*time.Second, func(ctx context.Context) {
				for range flaps {
					each((*relay).reset)()
					wait(ctx, time.Second)
				}
			})
		}
	}
	return f
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// crashServer kills a server and starts it again.
func (tr *trial) crashServer(random *rand.Rand) fault {
	g := tr.oneServer(random)
	return fault{kind: "a server is killed", on: g.name, claims: []string{"process of " + g.name}, strike: g.crash, heal: g.again}
}

// pauseServer stops a server in its tracks.
func (tr *trial) pauseServer(random *rand.Rand) fault {
	g := tr.oneServer(random)
	return fault{
		kind: "a server pauses", on: g.name, claims: []string{"process of " + g.name},
		strike: func() {
			g.goes()
			g.cmd.Process.Signal(syscall.SIGSTOP)
		},
		heal: func() {
			g.cmd.Process.Signal(syscall.SIGCONT)
			g.comes()
		},
	}
}

// compactBehind compacts what a server that is stopped has not seen yet.
func (tr *trial) compactBehind(random *rand.Rand) fault {
	f := tr.pauseServer(random)
	f.kind = "history is compacted behind a server"
	wake := f.heal
	f.heal = func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		revision := tr.history.compactable()
		_, err := tr.etcd.Compact(ctx, revision)
		tr.note("compact %d: %v", revision, err)
		wake()
	}
	return f
}

// fullDisk leaves a server no room.
func (tr *trial) fullDisk(random *rand.Rand) fault {
	g := tr.oneServer(random)
	return fault{kind: "a full disk", on: g.name, claims: []string{"disk of " + g.name}, strike: g.fillDisk, heal: g.freeDisk}
}

// stepClock sets the clock of a server.
func (tr *trial) stepClock(random *rand.Rand) fault {
	g := tr.oneServer(random)
	wrong := time.Duration(1+random.IntN(8)) * time.Second
	if random.IntN(2) == 0 {
		wrong = -wrong
	}
	set := func(wrong time.Duration) {
		if err := g.setClock(wrong); err != nil {
			tr.t.Fatal(err)
		}
	}
	return fault{
		kind: "a clock is wrong", on: fmt.Sprintf("%s, by %v", g.name, wrong), claims: []string{"clocks"},
		strike: func() {
			tr.history.err(wrong.Abs())
			set(wrong)
		},
		heal: func() { set(0) },
	}
}

// breakGlass writes a break-glass file for a server.
func (tr *trial) breakGlass(random *rand.Rand) fault {
	g, region := tr.oneServer(random), random.IntN(len(chaosRegions))
	f, what := forced{drain: only(region)}, "drain "
	if slices.Contains(spareRegions, chaosRegions[region].name) || random.IntN(2) == 0 { // those are drained by etcd, too
		f, what = forced{up: only(region)}, "up "
	}
	must := func(err error) {
		if err != nil {
			tr.t.Fatal(err)
		}
	}
	return fault{
		kind: "glass is broken", on: fmt.Sprintf("%s, %s%s", g.name, what, chaosRegions[region].name),
		claims: []string{"disk of " + g.name, "glass of " + g.name},
		strike: func() { must(g.breakGlass(f)) },
		heal:   func() { must(g.mendGlass()) },
	}
}

// replaceZone writes the zone of a server again, or spoils it for a while.
func (tr *trial) replaceZone(random *rand.Rand) fault {
	g, bad := tr.oneServer(random), random.IntN(2) == 0
	serial := random.Uint32N(1 << 30)
	text := strings.Replace(chaosZone(), " 1 3600 ", fmt.Sprintf(" %d 3600 ", serial), 1)
	f := fault{kind: "a zone is replaced", on: fmt.Sprintf("%s, bad %v", g.name, bad), claims: []string{"files of " + g.name}}
	f.strike = func() {
		if bad {
			write(tr.t, g.path("zones/bet.example.zone"), text[:len(text)-10]+"play 30 IN A 8.8.8.8\n")
		} else {
			write(tr.t, g.path("zones/bet.example.zone"), text)
		}
	}
	f.heal = func() { write(tr.t, g.path("zones/bet.example.zone"), text) }
	return f
}

// replaceDatabase writes the database of a server again, or half of it.
func (tr *trial) replaceDatabase(random *rand.Rand) fault {
	g, part := tr.oneServer(random), 1+random.IntN(2)
	f := fault{kind: "the database is replaced", on: fmt.Sprintf("%s, 1/%d of it", g.name, part), claims: []string{"files of " + g.name}}
	if tr.database == "" {
		f.kind, f.strike = "no database to replace", func() {}
		return f
	}
	replace := func(content string) {
		write(tr.t, g.path("next.mmdb"), content)
		if err := os.Rename(g.path("next.mmdb"), g.path("city.mmdb")); err != nil {
			tr.t.Fatal(err)
		}
	}
	f.strike = func() { replace(tr.database[:len(tr.database)/part]) }
	f.heal = func() { replace(tr.database) }
	return f
}

// manyWrites writes 10,000 keys a second for as long as it lasts, or as many
// as etcd takes.
func (tr *trial) manyWrites(random *rand.Rand) fault {
	const batch, rate = 100, 10_000
	var stop context.CancelFunc
	flips := busyRegions[random.IntN(len(busyRegions))]
	return fault{
		kind: "many writes", on: "votes on " + quietRegion + ", drains of " + flips, claims: []string{"writes"},
		strike: func() {
			var ctx context.Context
			ctx, stop = context.WithCancel(tr.t.Context())
			tr.later(time.Minute, func(context.Context) {
				began, written := tr.clock(), 0
				for n := 0; ctx.Err() == nil; n++ {
					var puts []clientv3.Op
					for i := range batch - 1 {
						puts = append(puts, clientv3.OpPut(fmt.Sprintf("/nearside/regions/%s/health/noise-%d", quietRegion, i), fmt.Sprintf(`{"status": "up", "detail": "%d"}`, n)))
					}
					puts = append(puts, clientv3.OpPut(drainKey(flips), []string{"", "false"}[n%2]))
					if _, err := tr.commit(ctx, tr.etcd, time.Second, puts...); err == nil {
						written += batch
					}
					wait(ctx, time.Duration(n*batch)*time.Second/rate-(tr.clock()-began))
				}
				tr.note("%d writes in %v", written, tr.clock()-began)
			})
		},
		heal: func() { stop() },
	}
}

// leaseStorm has thousands of leased keys expire at one moment.
func (tr *trial) leaseStorm(*rand.Rand) fault {
	const leases, parallel = 2000, 16
	return fault{kind: "a lease storm", on: fmt.Sprintf("%d leases", leases), claims: []string{"writes"}, strike: func() {
		tr.later(10*time.Second, func(ctx context.Context) {
			var group sync.WaitGroup
			for i := range parallel {
				group.Go(func() {
					for n := i; n < leases; n += parallel {
						grant, err := tr.etcd.Grant(ctx, 3)
						if err == nil {
							key := fmt.Sprintf("/nearside/regions/%s/health/leased-%d", quietRegion, n)
							_, err = tr.etcd.Put(ctx, key, "up", clientv3.WithLease(grant.ID))
						}
						if err != nil {
							return
						}
					}
				})
			}
			group.Wait()
			tr.note("leases are granted")
		})
	}}
}

// silentRegion has the agent of a region die: its key goes with the lease.
func (tr *trial) silentRegion(random *rand.Rand) fault {
	a := tr.agents[random.IntN(len(tr.agents))]
	return fault{
		kind: "a region falls silent", on: a.region, claims: []string{"agents"},
		strike: func() {
			a.live(false)
			tr.revoke(a)
		},
		heal: func() { a.live(true) },
	}
}

// silentRegions has the heartbeats of all regions end at one moment, as a lease
// storm does.
func (tr *trial) silentRegions(*rand.Rand) fault {
	return fault{
		kind: "all heartbeats stop at once", on: strings.Join(beatingRegions, ","), claims: []string{"agents"},
		strike: func() {
			for _, a := range tr.agents {
				a.live(false)
			}
			tr.revoke(tr.agents...)
		},
		heal: func() {
			for _, a := range tr.agents {
				a.live(true)
			}
		},
	}
}

// revoke ends the leases of agents, if etcd takes that.
func (tr *trial) revoke(agents ...*agent) {
	tr.later(writeLimit, func(ctx context.Context) {
		for _, a := range agents {
			_, err := tr.etcd.Revoke(ctx, a.current())
			tr.note("%s: heartbeat ends: %v", a.region, err)
		}
	})
}

// blindProber has one prober see nothing but sick regions.
func (tr *trial) blindProber(random *rand.Rand) fault {
	p := tr.probers[random.IntN(len(tr.probers))]
	return fault{
		kind: "a prober is blind", on: p.node.name, claims: []string{"eyes"},
		strike: func() { p.sees(func(p *prober) { p.blind = true }) },
		heal:   func() { p.sees(func(p *prober) { p.blind = false }) },
	}
}

// deletePrefix is the slip of an operator who deletes everything, and writes
// the drains again after a while.
func (tr *trial) deletePrefix() fault {
	var again []clientv3.Op
	return fault{
		kind: "everything is deleted", on: "/nearside/", claims: []string{"writes"},
		strike: func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			for _, r := range chaosRegions {
				response, err := tr.etcd.Get(ctx, drainKey(r.name))
				if err != nil {
					tr.t.Fatal(err)
				}
				for _, kv := range response.Kvs {
					again = append(again, clientv3.OpPut(string(kv.Key), string(kv.Value)))
				}
			}
			tr.note("deleted at revision %d", tr.operator.must(clientv3.OpDelete("/nearside/", clientv3.WithPrefix())))
		},
		heal: func() {
			tr.operator.do(func(ctx context.Context) {
				for err := errors.New("not yet"); err != nil && ctx.Err() == nil; {
					_, err = tr.commit(ctx, tr.etcd, writeLimit, again...)
				}
			})
		},
	}
}

// replaceStore replaces etcd by an empty cluster, in which the operator writes
// the drains again. The servers must not believe it until they are told to.
func (tr *trial) replaceStore() fault {
	f := tr.stopStore("kill", allMembers)
	stop, launch := f.strike, f.heal
	f.kind, f.on = "etcd is replaced by an empty one", "all members"
	f.strike = func() {
		tr.recording()
		stop()
		for _, dir := range tr.store.dirs {
			if err := os.RemoveAll(dir + "/member"); err != nil {
				tr.t.Fatal(err)
			}
		}
		tr.store.token = strconv.Itoa(len(tr.clusters))
		launch()
		tr.store.await(tr.t)
		tr.history.renew()
		tr.record()
		for _, name := range spareRegions {
			tr.operator.drain(name, "")
		}
		for _, p := range tr.probers {
			p.forget()
		}
	}
	f.heal = nil
	return f
}
