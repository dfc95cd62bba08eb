package healthsync

import (
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// An etcd in which nobody writes confirms the state all the same, and is not
// taken for dead: etcd says nothing of the progress of a watch that begins after
// the last revision.
func TestQuietEtcd(t *testing.T) {
	t.Parallel()
	e := etcd(t)
	put(t, client(t, e), "regions/eu-west/drain", "")
	var lost atomic.Int32
	s := &server{t: t, folder: t.TempDir()}
	config := s.config(e.Endpoint())
	config.Log = zerolog.New(io.Discard).Hook(zerolog.HookFunc(func(_ *zerolog.Event, _ zerolog.Level, message string) {
		if strings.Contains(message, "not followed") {
			lost.Add(1)
		}
	}))
	s.Sync = open(config, quickPace(), time.Now)
	s.run()
	s.drained("eu-west")
	start := time.Now()
	eventually(t, "three silences of nothing new", func() bool { return time.Since(start) > 3*s.pace.silence })
	if n := lost.Load(); n > 0 {
		t.Errorf("the member was given up %d times", n)
	}
	if age := s.Status().AgeSeconds; age > s.pace.silence.Seconds() {
		t.Errorf("the state was last confirmed %.1f s ago", age)
	}
}
