package main

import "fmt"

// workers compares nearside on two cores with nearside on one. The load has
// the second of the two as well, so only the CPU time counts.
func (b *bench) workers() error {
	const (
		p       = byECS
		clients = 64 // many, as the kernel spreads them over the workers by a hash
		window  = 16
	)
	etcd, stop, err := b.etcd()
	if err != nil {
		return err
	}
	defer stop()
	var f fleet
	for _, variant := range []struct{ name, cores string }{
		{"one worker", b.serverCore},
		{"two workers", b.serverCore + "," + b.loadCore},
	} {
		o := nearside
		o.name = variant.name
		s, err := b.configure(o, p, etcd)
		if err != nil {
			return err
		}
		if _, err := b.run(s, variant.cores); err != nil {
			return err
		}
		defer s.process.stop()
		f = append(f, s)
	}
	b.announce("workers")
	rounds, err := interleave(b, f, p, b.clients[:clients], func(i int, l *load) (saturation, error) {
		l.window = window
		return b.saturate(l, f[i])
	})
	if err != nil {
		return err
	}
	t := newTable(fmt.Sprintf("nearside, %s, from %d ports", p, clients), "", "of one worker", "answers per CPU-second", "core used")
	for i, s := range f {
		t.add(s.name, ratio(rounds[i], rounds[0], saturation.perSecond), int(medianOf(rounds[i], saturation.perSecond)),
			medianOf(rounds[i], func(r saturation) float64 { return r.total.Seconds() / r.span.Seconds() }))
	}
	t.print()
	b.atLeast("two workers: answers per CPU-second, to one", 0.95, ratio(rounds[1], rounds[0], saturation.perSecond))
	return nil
}
