package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestChaosModel: who judges the servers is judged first. Clients try eu-west,
// then eu-central; revision n was written by an attempt that began at n seconds.
func TestChaosModel(t *testing.T) {
	t.Parallel()
	m := newModel(t)
	m.write("eu-west/drain", "")
	m.verdict("eu-west/drain", 1, true, "")
	m.write("eu-west/drain", "rubbish is all that is not a drain") // 3
	m.write("eu-west/drain", "false")
	m.transition("eu-west", "up", "up", 4)
	m.write("eu-west/health/p1", "down") // 6
	m.write("eu-west/health/p2", "up")   // a tie
	m.transition("eu-west", "up", "down", 6)
	m.write("eu-west/health/p1", "up") // 9: by both
	m.transition("eu-west", "down", "up", 9)
	pairs := []string{"eu-west/drain", "20%"}
	for _, name := range []string{"us-east", "ap-southeast", "us-west", "sa-east", "eu-north"} {
		pairs = append(pairs, name+"/drain", `{"force": true}`)
	}
	m.write(pairs...) // 11
	m.verdict("eu-west/drain", 11, true, "20%")
	m.write("eu-west/drain", "") // 13: too much
	m.verdict("eu-west/drain", 13, false, "20%")
	m.write("eu-west/drain", `{"at": "`+m.day(16.5)+`", "force": true}`) // 15

	const west, east, both = choices(1 << 0), choices(1 << 4), choices(1<<0 | 1<<4)
	for _, c := range []struct {
		floor    int64 // what the server has applied
		from, to float64
		want     choices
	}{
		{0, 0.5, 0.5, west},
		{0, 1.5, 1.5, both}, // it may know, or not
		{1, 1.5, 1.5, both}, // the verdict is not known yet
		{2, 2.5, 2.5, east},
		{3, 3.5, 3.5, east},
		{3, 4.5, 4.5, both}, // back, by a ramp
		{4, 5.9, 5.9, both}, // the same
		{5, 5.9, 5.9, west}, // somebody said: at once
		{6, 6.9, 6.9, east},
		{7, 7.9, 7.9, both},   // what it was before depends on who saw what
		{8, 8.9, 8.9, east},   // until that is recorded
		{9, 10.4, 10.4, east}, // on hold
		{9, 10.6, 10.6, both}, // no more, or by then
		{10, 10.4, 10.4, east},
		{10, 10.6, 10.6, both}, // the ramp
		{10, 10.9, 11.6, both},
		{10, 11.6, 11.6, both}, // the share
		{12, 12.9, 12.9, both},
		{13, 13.9, 13.9, both},
		{14, 14.9, 14.9, both}, // refused
		{15, 16.4, 16.4, both}, // some may have taken it for drained, and back
		{15, 16.4, 16.6, both},
		{15, 16.6, 16.6, east},
	} {
		got := m.allowed(c.floor, c.from, c.to)
		if got != c.want {
			t.Errorf("revision %d applied, at %v to %v s: %s, want %s", c.floor, c.from, c.to, got.names(chaosRegions), c.want.names(chaosRegions))
		}
	}
	if len(m.faults) > 0 {
		t.Errorf("faults: %v", m.faults)
	}
}

// TestChaosModelDeletion: drains that are deleted all at once stay, one that is
// deleted alone does not.
func TestChaosModelDeletion(t *testing.T) {
	t.Parallel()
	m := newModel(t)
	m.write("eu-west/drain", "", "sa-east/drain", "")
	m.verdict("eu-west/drain", 1, true, "")
	m.verdict("sa-east/drain", 1, true, "")
	m.remove("eu-west/drain", "sa-east/drain") // 4
	if got := m.allowed(4, 4.5, 4.5); got != only(4) {
		t.Errorf("all deleted at once: %s", got.names(chaosRegions))
	}
	m.write("eu-west/drain", "yes") // 5: no drain, and so what was in force stays
	if got := m.allowed(5, 5.5, 5.5); got != only(4) {
		t.Errorf("rubbish: %s", got.names(chaosRegions))
	}
	m.write("eu-west/drain", "true")
	m.verdict("eu-west/drain", 6, true, "true")
	m.remove("eu-west/drain") // 8
	if got := m.allowed(8, 8.5, 8.5); got != only(0)|only(4) {
		t.Errorf("the last one deleted, others are held: %s", got.names(chaosRegions))
	}
	m.remove("../verdicts/regions/eu-west/drain") // 9
	if got := m.allowed(9, 11.5, 11.5); got != only(0)|only(4) {
		t.Errorf("let go, and not recorded: %s", got.names(chaosRegions))
	}
	m.transition("eu-west", "drained", "up", 8)
	if got := m.allowed(10, 11.5, 11.5); got != only(0) {
		t.Errorf("let go: %s", got.names(chaosRegions))
	}
	if len(m.faults) > 0 {
		t.Errorf("faults: %v", m.faults)
	}
}

// TestChaosModelGuard: wrong verdicts are noticed.
func TestChaosModelGuard(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		write func(m *model)
		fault string
	}{
		{"a drain too many", func(m *model) { // 6 of 8
			for _, r := range chaosRegions[:5] {
				m.write(r.name+"/drain", `{"force": true}`)
			}
			m.write("eu-north/drain", "")
			m.verdict("eu-north/drain", 6, true, "")
		}, "wrong by the guard"},
		{"refused without need", func(m *model) {
			m.write("eu-north/drain", "")
			m.verdict("eu-north/drain", 1, false, "false")
		}, "wrong by the guard"},
		{"what nobody wrote", func(m *model) {
			m.write("eu-north/drain", "")
			m.verdict("eu-north/drain", 1, true, "50%")
		}, "leaves in force what was not"},
		{"of another revision", func(m *model) {
			m.write("eu-north/drain", "")
			m.verdict("eu-north/drain", 7, true, "")
		}, "is about revision 7"},
		{"a service stranded", func(m *model) {
			for _, name := range []string{"eu-west", "us-east", "us-west"} {
				m.write(name+"/drain", "")
				m.verdict(name+"/drain", m.revision, true, "")
			}
		}, "wrong by the guard"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newModel(t)
			c.write(m)
			if len(m.faults) != 1 || !strings.Contains(m.faults[0], c.fault) {
				t.Errorf("faults: %q, want one: %q", m.faults, c.fault)
			}
		})
	}
}

// model is a history that tests write themselves.
type model struct {
	*history
	revision int64
	now      time.Duration
	epoch    time.Time
	faults   []string
}

func newModel(t *testing.T) *model {
	m := &model{epoch: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)}
	m.history = newHistory(func() time.Duration { return m.now }, func(at time.Time) time.Duration { return at.Sub(m.epoch) }, t.Logf,
		func(format string, arguments ...any) { m.faults = append(m.faults, fmt.Sprintf(format, arguments...)) })
	m.learn([][]int{{0, 4}})
	return m
}

// day is a time of the model as it is written.
func (m *model) day(seconds float64) string {
	return m.epoch.Add(time.Duration(seconds * float64(time.Second))).Format(time.RFC3339Nano)
}

// write writes pairs of a key below regions and its value at once.
func (m *model) write(pairs ...string) {
	var events []*clientv3.Event
	for i := 0; i < len(pairs); i += 2 {
		events = append(events, m.event(false, pairs[i], pairs[i+1]))
	}
	m.happen(events)
}

func (m *model) remove(keys ...string) {
	var events []*clientv3.Event
	for _, key := range keys {
		events = append(events, m.event(true, key, ""))
	}
	m.happen(events)
}

func (m *model) event(deleted bool, key, value string) *clientv3.Event {
	e := &clientv3.Event{}
	fresh(&e.Kv)
	if deleted {
		e.Type = clientv3.EventTypeDelete
	}
	path, above := strings.CutPrefix(key, "../")
	if !above {
		path = "regions/" + key
	}
	e.Kv.Key, e.Kv.Value, e.Kv.ModRevision = []byte("/nearside/"+path), []byte(value), m.revision+1
	return e
}

func (m *model) happen(events []*clientv3.Event) {
	m.revision++
	m.now = time.Duration(m.revision) * time.Second
	m.end(m.begin(), m.revision)
	m.hear(events)
}

func (m *model) verdict(key string, revision int64, accepted bool, effective string) {
	m.write("../verdicts/regions/"+key, fmt.Sprintf(`{"revision": %d, "accepted": %v, "effective": %q, "server": "ns1"}`, revision, accepted, effective))
}

func (m *model) transition(path, from, to string, since float64) {
	m.write("../transitions/"+path, fmt.Sprintf(`{"from": %q, "to": %q, "since": %q}`, from, to, m.day(since)))
}

// allowed returns who may answer for play between two times, after the floor.
func (m *model) allowed(floor int64, from, to float64) choices {
	second := float64(time.Second)
	return m.history.allowed(hearing{floor: position{0, floor}, forced: unforced, window: at(time.Duration(from*second), time.Duration(to*second))})
}

// fresh makes what the pointer is to point at, whatever it is called.
func fresh[T any](p **T) { *p = new(T) }
