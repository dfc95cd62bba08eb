package healthsync

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// syncBuffer is a log that several goroutines write.
type syncBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// A start that goes well warns of nothing that is as it should be.
func TestEmbeddedIsQuiet(t *testing.T) {
	var log syncBuffer
	folder := filepath.Join(t.TempDir(), "etcd")
	for range 2 { // empty, then with data
		e, err := StartEmbedded(t.Context(), folder, "http://127.0.0.1:0", zerolog.New(&log))
		if err != nil {
			t.Fatal(err)
		}
		e.Close()
	}
	for _, warning := range []string{"single port", "default name", "simple token"} {
		if strings.Contains(log.String(), warning) {
			t.Errorf("it logs %s", log.String())
		}
	}
}

// Of etcd's warnings, only the harmless ones are dropped.
func TestEtcdLog(t *testing.T) {
	var log syncBuffer
	z := forwardTo(zerolog.New(&log), zerolog.WarnLevel)
	for _, message := range harmless {
		z.Warn(message)
	}
	z.Info("now serving")
	if log.String() != "" {
		t.Errorf("it logs %s", log.String())
	}
	z.Named("raft").With(zap.Int("term", 3)).Warn("apply took too long", zap.Error(errors.New("slow disk")))
	if want := `{"level":"warn","error":"slow disk","term":3,"message":"etcd: apply took too long"}` + "\n"; log.String() != want {
		t.Errorf("it logs %s", log.String())
	}
}

func TestEmbeddedAddress(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for url, want := range map[string]string{
		"http://" + taken.Addr().String(): "something else has " + taken.Addr().String(),
		"http://192.0.2.1:2379":           "choose another",
		"https://127.0.0.1:2379":          "is no address",
		"127.0.0.1:2379":                  "is no address",
		"http://127.0.0.1":                "is no address",
	} {
		_, err := StartEmbedded(t.Context(), t.TempDir(), url, zerolog.Nop())
		if !errors.Is(err, ErrListen) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// used returns the folder of an etcd that was stopped, and the only file that
// matches the pattern in it.
func used(t *testing.T, pattern string) (folder, file string) {
	t.Helper()
	folder = filepath.Join(t.TempDir(), "etcd")
	e, err := StartEmbedded(t.Context(), folder, "http://127.0.0.1:0", testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	put(t, client(t, e), "regions/eu-west/drain", "")
	e.Close()
	return folder, only(t, filepath.Join(folder, pattern))
}

func only(t *testing.T, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) != 1 {
		t.Fatalf("%v match %s: %v", files, pattern, err)
	}
	return files[0]
}

// Data that etcd cannot read is an error, and no end of the process.
func TestEmbeddedDamaged(t *testing.T) {
	for name, damage := range map[string]struct {
		file, want string
		do         func(content []byte) []byte
	}{
		"log":          {"member/wal/*.wal", "crc mismatch", func(b []byte) []byte { b[100] ^= 1; return b }},
		"log's header": {"member/wal/*.wal", "", func(b []byte) []byte { clear(b[:64]); return b }},
		"database":     {"member/snap/db", "invalid database", func(b []byte) []byte { clear(b[:2*os.Getpagesize()]); return b }},
	} {
		t.Run(name, func(t *testing.T) {
			folder, file := used(t, damage.file)
			content, err := os.ReadFile(file)
			if err == nil {
				err = os.WriteFile(file, damage.do(content), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			_, err = StartEmbedded(t.Context(), folder, "http://127.0.0.1:0", testLog(t))
			if err == nil || errors.Is(err, ErrListen) || !strings.Contains(err.Error(), folder) || !strings.Contains(err.Error(), damage.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

// A start that ended the process is not tried again at once, but the next time.
func TestEmbeddedMark(t *testing.T) {
	folder, _ := used(t, "member/snap/db")
	mark := folder + ".starting"
	if _, err := os.Stat(mark); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("left behind by a start that went well: %v", err)
	}
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := StartEmbedded(t.Context(), folder, "http://127.0.0.1:0", testLog(t))
	if err == nil || !strings.Contains(err.Error(), folder+": its last start ended the process") {
		t.Errorf("with the mark: %v", err)
	}
	e, err := StartEmbedded(t.Context(), folder, "http://127.0.0.1:0", testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	e.Close()
}

// The disk fills up under a running etcd: it says so, the state stays in force,
// and this process goes on.
func TestEmbeddedDiskFull(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "etcd")
	e, err := StartEmbedded(t.Context(), folder, "http://127.0.0.1:0", testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, t.TempDir(), time.Now, e.Endpoint())
	c := client(t, e)
	put(t, c, "regions/eu-west/drain", "")
	s.drained("eu-west")

	fill(t, only(t, filepath.Join(folder, "member/wal/0*.wal")))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go c.Put(ctx, "/nearside/regions/us-east/drain", "") // nobody answers
	select {
	case err = <-e.Failed():
	case <-time.After(patience):
		t.Fatal("etcd does not say that it failed")
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("it failed with %v", err)
	}
	s.EtcdFailed(err)
	go e.Close()
	s.alarm("no space left on device; the last state stays in force")
	eventually(t, "the end of the connection", func() bool { return !s.Status().Connected })
	s.drained("eu-west")
}

// fill makes every write of this process to an open file fail: the descriptors
// now stand for a device that is always full.
func fill(t *testing.T, path string) {
	t.Helper()
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, link := range links {
		target, _ := os.Readlink(link)
		if target != path {
			continue
		}
		fd, err := strconv.Atoi(filepath.Base(link))
		if err == nil {
			err = unix.Dup3(int(full.Fd()), fd, unix.O_CLOEXEC)
		}
		if err != nil {
			t.Fatal(err)
		}
		found = true
	}
	if !found {
		t.Fatalf("%s is not open", path)
	}
}

// A start that nobody waits for any more leaves no etcd behind: its folder can
// be had again.
func TestEmbeddedCancelled(t *testing.T) {
	listen, err := freeAddress("http://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	folder := filepath.Join(t.TempDir(), "etcd")
	e := &Embedded{failed: make(chan error, 1)}
	config := embeddedConfig(folder, listen)
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(forwardTo(testLog(t), zerolog.WarnLevel))
	e.launch(ctx, config, make(chan struct{}))

	if e, err = StartEmbedded(t.Context(), folder, listen.String(), testLog(t)); err != nil {
		t.Fatal(err)
	}
	e.Close()
}
