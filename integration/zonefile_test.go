package integration

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// embedded is the section etcd of a server that needs none beside it.
func embedded(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("embedded: true, embedded_listen: %q", "http://"+loopback(t).String())
}

// serial returns the serial number that the server answers for bet.example.
func serial(t testing.TB, c *client) uint32 {
	t.Helper()
	answer := c.ask(t, "bet.example.", dns.TypeSOA, "")
	if len(answer.Answer) != 1 {
		t.Fatalf("no SOA:\n%v", answer)
	}
	return answer.Answer[0].(*dns.SOA).Serial
}

// TestZoneFile saves good and broken versions of a zone file while the server
// runs, and restarts it over a broken one.
func TestZoneFile(t *testing.T) {
	t.Parallel()
	s := newServer(t, setup{etcd: embedded(t)})
	c := s.client(t, "udp")
	file := s.path("zones/bet.example.zone")
	good := strings.Replace(zone(sixRegions), "hostmaster 1 ", "hostmaster 2 ", 1) + "new IN A 198.51.100.2\n"

	write(t, file, good)
	eventually(t, "the new version of a saved file", func() error {
		if got := serial(t, c); got != 2 {
			return fmt.Errorf("serial %d", got)
		}
		return nil
	})
	if got := c.ask(t, "new.bet.example.", dns.TypeA, ""); len(got.Answer) != 1 {
		t.Errorf("the new name is not there:\n%v", got)
	}
	before := panel(t, s)

	broken := strings.Replace(good, "hostmaster 2 ", "hostmaster 3 ", 1) + "typo IN A 198.51.100\n"
	line := strings.Count(broken, "\n")
	write(t, file, broken)
	// The fault appears in status as soon as the file was read.
	shown := func() error {
		for _, z := range s.status(t).Zones {
			if faults := strings.Join(z.Faults, "\n"); strings.Contains(faults, fmt.Sprintf("bet.example.zone:%d:", line)) && z.State == "last good" {
				return nil
			}
		}
		return fmt.Errorf("status: %+v", s.status(t).Zones)
	}
	eventually(t, "the fault in status", shown)
	samePanel(t, s, before, "with a broken zone file")

	s.stop(t)
	s.launch(t)
	eventually(t, "the fault in status after a restart", shown)
	samePanel(t, s, before, "after a restart over a broken zone file")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o755); err != nil {
		t.Fatal(err)
	}
	s.kill()
	s.launch(t)
	samePanel(t, s, before, "after a crash with a folder in the place of the file")

	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	write(t, file, strings.Replace(good, "hostmaster 2 ", "hostmaster 4 ", 1))
	c = s.client(t, "udp")
	eventually(t, "a mended file", func() error {
		if got := serial(t, c); got != 4 {
			return fmt.Errorf("serial %d", got)
		}
		return nil
	})
}

// TestZoneNeverGood: a zone that was never good answers SERVFAIL, the others
// answer as ever, and a shrunken zone waits for `reload --accept`.
func TestZoneNeverGood(t *testing.T) {
	t.Parallel()
	s := newServer(t, setup{etcd: embedded(t)})
	c := s.client(t, "udp")
	long := "$ORIGIN long.example.\n$TTL 60\n@ IN SOA ns hostmaster %d 1 1 1 1\n@ IN NS ns\nns IN A 198.51.100.1\n"
	write(t, s.path("zones/long.example.zone"), fmt.Sprintf(long, 1)+"$GENERATE 1-200 host$ A 198.51.100.1\n")
	write(t, s.path("zones/bad.example.zone"), "@ IN SOA ns hostmaster 1 1 1 1 1\n")
	host := func() int { return c.ask(t, "host7.long.example.", dns.TypeA, "").Rcode }
	eventually(t, "two new zones", func() error {
		if bad := c.ask(t, "www.bad.example.", dns.TypeA, "").Rcode; bad != dns.RcodeServerFailure || host() != dns.RcodeSuccess {
			return fmt.Errorf("%s and %s", dns.RcodeToString[bad], dns.RcodeToString[host()])
		}
		return nil
	})

	write(t, s.path("zones/long.example.zone"), fmt.Sprintf(long, 2))
	within(t, 8*time.Second, "a hold in status", func() error {
		for _, z := range s.status(t).Zones {
			if strings.HasPrefix(z.Name, "long.example") && z.State == "held" {
				return nil
			}
		}
		return fmt.Errorf("status: %+v", s.status(t).Zones)
	})
	if host() != dns.RcodeSuccess {
		t.Error("a zone that shrank by more than half was taken at once")
	}
	finish(t, s.nearside("reload", "--accept", "long.example"))
	eventually(t, "reload --accept", func() error {
		if host() != dns.RcodeNameError {
			return fmt.Errorf("%s", dns.RcodeToString[host()])
		}
		return nil
	})
}
