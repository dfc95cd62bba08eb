package probes

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// fixture returns n probes of as many regions.
func fixture(n int, change func(*Probe)) []Probe {
	list := make([]Probe, n)
	for i := range list {
		list[i] = Default()
		list[i].Region = fmt.Sprintf("region-%d", i)
		list[i].Target = &url.URL{Scheme: "tcp", Host: "192.0.2.1:443"}
		if change != nil {
			change(&list[i])
		}
	}
	return list
}

// epoch is when time begins in the tests with a clock of their own.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// scheduled runs probes with a check of the test's for a time, in which no time passes.
func scheduled(t *testing.T, list []Probe, check func(context.Context, *Probe) error, during func(*Prober)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newProber(list, Config{Host: "here", Log: zerolog.Nop()}, check)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			p.probe(ctx)
			close(ended)
		}()
		during(p)
		cancel()
		<-ended
	})
}

// Many probes are spread over the interval from the first round on, and stay so.
func TestSpread(t *testing.T) {
	t.Parallel()
	const n, interval, slot = 1000, 5 * time.Second, 100 * time.Millisecond
	var mu sync.Mutex
	var begun []time.Duration
	check := func(context.Context, *Probe) error {
		mu.Lock()
		defer mu.Unlock()
		begun = append(begun, time.Since(epoch))
		return nil
	}
	scheduled(t, fixture(n, func(p *Probe) { p.Interval = interval }), check, func(*Prober) {
		time.Sleep(10*interval + interval/2)
	})
	slots := make(map[time.Duration]int)
	for _, at := range begun {
		if at > opening+interval {
			slots[at/slot]++
		}
	}
	for at, count := range slots {
		if even := int(n * slot / interval); count > 3*even {
			t.Errorf("%d checks within %v after %v; evenly spread it would be %d", count, slot, at*slot, even)
		}
	}
	if rounds := float64(len(begun)) / n; rounds < 10 || rounds > 12.5 {
		t.Errorf("%.1f checks of each probe in 10.5 intervals", rounds)
	}
}

// With the usual settings a target that dies is down within 8 s, however it dies
// and whenever, and one that hiccups once is not.
func TestDetection(t *testing.T) {
	t.Parallel()
	for _, silent := range []bool{false, true} {
		for dies := 10 * time.Second; dies < 14*time.Second; dies += 130 * time.Millisecond {
			check := func(_ context.Context, p *Probe) error {
				if time.Since(epoch) < dies {
					return nil
				}
				if silent {
					time.Sleep(p.Timeout)
				}
				return errors.New("dead")
			}
			scheduled(t, fixture(1, nil), check, func(p *Prober) {
				time.Sleep(dies + 8*time.Second)
				r := p.State().Probes[0]
				if r.Status != Down || r.Since.Before(epoch.Add(dies)) || r.Since.After(epoch.Add(dies+4*time.Second)) || r.Detail != "dead" {
					t.Errorf("died at %v: 8 s later it is %v since %v: %q", dies, r.Status, r.Since.Sub(epoch), r.Detail)
				}
			})
		}
	}
}

// A result that contradicts the status is looked at again after a third of the interval.
func TestRecheck(t *testing.T) {
	t.Parallel()
	results := "..x..x.x..xx.x..x...x........"
	var begun []time.Time
	check := func(context.Context, *Probe) error {
		begun = append(begun, time.Now())
		if i := len(begun) - 1; i < len(results) && results[i] == 'x' {
			return errors.New("failed")
		}
		return nil
	}
	scheduled(t, fixture(1, nil), check, func(*Prober) { time.Sleep(2 * time.Minute) })
	var h health
	sure := false // for two checks
	for i := range results {
		p := Default()
		h.take(results[i] != 'x', begun[i], p.DownAfter, p.UpAfter)
		shortest, longest := time.Duration(0), 3300*time.Millisecond
		switch {
		case h.doubtful():
			shortest, longest = time.Second, 1100*time.Millisecond
		case sure:
			shortest = 2700 * time.Millisecond
		}
		if pause := begun[i+1].Sub(begun[i]); pause < shortest || pause > longest {
			t.Errorf("check %d of %s is followed by the next after %v, not %v to %v", i, results, pause, shortest, longest)
		}
		sure = !h.doubtful()
	}
}

// A probe that hangs, or that this host cannot run, is noticed; and only then.
func TestLate(t *testing.T) {
	t.Parallel()
	here := fmt.Errorf("%w: too many open files", errHere)
	for _, c := range []struct {
		what  string
		check func(context.Context, *Probe) error
		late  string
	}{
		{"well", func(context.Context, *Probe) error { return nil }, ""},
		{"dead", func(context.Context, *Probe) error { return errors.New("dead") }, ""},
		{"at the limit", func(_ context.Context, p *Probe) error { time.Sleep(p.Timeout); return errors.New("dead") }, ""},
		{"too busy", func(_ context.Context, p *Probe) error { time.Sleep(2 * p.Timeout); return errors.New("dead") }, "too busy"},
		{"hanging", func(ctx context.Context, p *Probe) error {
			if p.Region == "region-1" {
				<-ctx.Done()
			}
			return nil
		}, "the probe tcp://192.0.2.1:443 of region-1 came to no result for 15s: the check hangs, or this host is too busy"},
		{"without files", func(context.Context, *Probe) error { return here }, "too many open files"},
		{"with a bug", func(context.Context, *Probe) error { panic("oops") }, "a bug in nearside: oops"},
	} {
		scheduled(t, fixture(2, nil), c.check, func(p *Prober) {
			time.Sleep(15 * time.Second)
			switch err := p.late(); {
			case c.late == "" && err != nil, c.late != "" && (err == nil || !strings.Contains(err.Error(), c.late)):
				t.Errorf("%s: %v", c.what, err)
			}
			if r := p.State().Probes[0]; c.what == "with a bug" && (r.Void == 0 || r.Status != Unknown) {
				t.Errorf("%s: %+v", c.what, r)
			}
		})
	}
}

// One vote for each region and service: down if any probe is, up if all are,
// and none before that is known.
func TestJudge(t *testing.T) {
	t.Parallel()
	list := fixture(4, func(p *Probe) { p.DownAfter, p.UpAfter = 1, 1 })
	for i := range list {
		list[i].Region = "eu-west"
		list[i].Host = fmt.Sprintf("h%d", i)
	}
	list[3].Service = "casino"
	p := newProber(list, Config{Log: zerolog.Nop()}, nil)
	now := time.Unix(1e9, 0)
	result := func(i int, err error) {
		now = now.Add(time.Second)
		p.enter(p.runners[i], now, now, err)
	}
	expect := func(status Status, since time.Time, detail string) {
		t.Helper()
		if got := p.subjects[0].vote; got.status != status || !got.since.Equal(since) || got.detail != detail {
			t.Errorf("got %+v, want %v since %v: %q", got, status, since, detail)
		}
	}
	if len(p.subjects) != 2 {
		t.Fatalf("%d subjects", len(p.subjects))
	}
	result(0, nil)
	result(1, nil)
	expect(Unknown, time.Time{}, "")
	result(2, nil)
	up := now
	expect(Up, up, "")
	result(3, errors.New("of the service alone"))
	expect(Up, up, "")
	result(1, errors.New("status 503"))
	down := now
	result(0, errors.New("status 500"))
	expect(Down, down, "tcp://192.0.2.1:443 as h1: status 503")
	result(1, nil)
	expect(Down, down, "tcp://192.0.2.1:443 as h1: status 503")
	result(0, fmt.Errorf("%w: no files", errHere))
	expect(Down, down, "tcp://192.0.2.1:443 as h1: status 503")
	result(0, nil)
	expect(Up, now, "")
	select {
	case <-p.decided:
	default:
		t.Error("nobody was told that all is decided")
	}
	if states := p.State().Probes; !slices.ContainsFunc(states, func(r Result) bool { return r.Service == "casino" && r.Status == Down }) {
		t.Errorf("%+v", states)
	}
}

// One probe that is down is enough, whatever is not known of the others yet.
func TestJudgeEarly(t *testing.T) {
	t.Parallel()
	list := fixture(2, func(p *Probe) { p.Region, p.DownAfter = "eu-west", 1 })
	p := newProber(list, Config{Log: zerolog.Nop()}, nil)
	p.enter(p.runners[0], epoch, epoch, errors.New("dead"))
	if v := p.subjects[0].vote; v.status != Down {
		t.Errorf("got %+v", v)
	}
	select {
	case <-p.decided:
	default:
		t.Error("nobody was told that all is decided")
	}
}
