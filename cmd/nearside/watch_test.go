package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

func TestBurst(t *testing.T) {
	start := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	var b burst
	if !b.due().IsZero() {
		t.Error("due without a write")
	}
	b.write(start, "a")
	b.write(start.Add(150*time.Millisecond), "b")
	if got := b.due().Sub(start); got != 350*time.Millisecond {
		t.Errorf("due %v after the first write", got)
	}
	for d := time.Duration(0); d < 10*time.Second; d += 100 * time.Millisecond {
		b.write(start.Add(d), fmt.Sprint(d))
	}
	if got := b.due().Sub(start); got != longestWait {
		t.Errorf("under constant writes due %v after the first", got)
	}
	if got := len(b.files()); got != 102 {
		t.Errorf("%d files", got)
	}
	for n := range maxPaths {
		b.write(start, fmt.Sprint(n))
	}
	if b.files() != nil {
		t.Error("ever more files are told apart")
	}
	b = burst{}
	if b.write(start, ""); b.files() != nil {
		t.Errorf("any file became %v", b.files())
	}
}

// watch starts a watcher over the .zone files of a folder.
func watch(t *testing.T, folder string, prepare func(*watcher)) chan struct{} {
	t.Helper()
	changed := make(chan struct{}, 100)
	w := newWatcher(zerolog.Nop(), topic{
		name:    "zones",
		folders: func() []string { return []string{folder} },
		wants:   func(path string) bool { return strings.HasSuffix(path, ".zone") },
		changed: func([]string) { changed <- struct{}{} },
	})
	prepare(w)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return changed
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(time.Now().String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, changed chan struct{}) {
	t.Helper()
	select {
	case <-changed:
	case <-time.After(patience):
		t.Fatal("the change was not seen")
	}
}

func TestWatch(t *testing.T) {
	for name, prepare := range map[string]func(*watcher){
		"inotify": func(w *watcher) {
			if w.notify == nil {
				t.Error("inotify does not work here")
			}
		},
		"polling": func(w *watcher) { w.poll(errors.New("in this test")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			changed := watch(t, folder, prepare)
			write(t, filepath.Join(folder, "notes.txt"))
			const writes = 20
			for range writes {
				write(t, filepath.Join(folder, "a.zone"))
			}
			expect(t, changed)
			if seen := 1 + len(changed); seen > writes/2 { // it is 1 where nothing holds the test up
				t.Errorf("one burst was seen %d times", seen)
			}
			if err := os.Remove(filepath.Join(folder, "a.zone")); err != nil {
				t.Fatal(err)
			}
			expect(t, changed)
		})
	}
}

// A folder that is not there yet, or is replaced, is found again.
func TestWatchFolderAppears(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "zones")
	changed := watch(t, folder, func(*watcher) {})
	for range 2 {
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(folder, "a.zone"))
		expect(t, changed)
		if err := os.RemoveAll(folder); err != nil {
			t.Fatal(err)
		}
	drain:
		for {
			select {
			case <-changed:
			case <-time.After(2 * quietTime):
				break drain
			}
		}
	}
}

// A link to the folder is turned, as deployments do, and so is one to a file;
// then the file that it leads to is written.
func TestWatchLinks(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	path := func(name string) string { return filepath.Join(root, name) }
	turn := func(link, target string) {
		t.Helper()
		if err := os.Symlink(target, link+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link+".new", link); err != nil {
			t.Fatal(err)
		}
	}
	for _, folder := range []string{"v1", "v2", "elsewhere"} {
		if err := os.Mkdir(path(folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	turn(path("zones"), "v1")
	changed := watch(t, path("zones"), func(*watcher) {})
	write(t, path("v1/a.zone"))
	expect(t, changed)
	turn(path("zones"), "v2")
	expect(t, changed)
	write(t, path("v2/a.zone"))
	expect(t, changed)
	write(t, path("elsewhere/b"))
	turn(path("v2/b.zone"), "../elsewhere/b")
	expect(t, changed) // by inotify
	expect(t, changed) // by looking at links
	write(t, path("elsewhere/b"))
	expect(t, changed)
}

func TestLockDataDir(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "data")
	first, err := lockDataDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockDataDir(folder); err == nil || !strings.Contains(err.Error(), "in use by process ") {
		t.Errorf("a second lock: %v", err)
	}
	first.Close()
	again, err := lockDataDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

// TestDataDirError: whoever cannot have the data folder is told which and what to do.
func TestDataDirError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	put(t, file, "")
	_, err := lockDataDir(file)
	if want := "data_dir " + file + ": not a directory; name another folder in data_dir"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	err = dataDirError(file, &fs.PathError{Op: "open", Path: file, Err: syscall.EACCES})
	want := fmt.Sprintf("data_dir %s: permission denied; make it a folder of the user that runs nearside (user id %d), or name another folder in data_dir", file, os.Getuid())
	if err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
