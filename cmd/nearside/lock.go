package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lockDataDir makes the data folder and locks it for this process. The lock is
// the kernel's, on the folder itself: it needs no room on a disk that is full or
// read-only, and ends with the process, however that ends. Closing the file
// gives it up.
func lockDataDir(folder string) (*os.File, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, dataDirError(folder, err)
	}
	f, err := os.Open(folder)
	if err != nil {
		return nil, dataDirError(folder, err)
	}
	note := filepath.Join(folder, "lock") // who has it, for people
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, dataDirError(folder, err)
		}
		holder, _ := os.ReadFile(note)
		return nil, fmt.Errorf("data_dir %s is in use by process %s: stop it, or give this server a data_dir of its own", folder, bytes.TrimSpace(holder))
	}
	_ = os.WriteFile(note, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o600)
	return f, nil
}

// dataDirError says what to do about a data folder that cannot be had.
func dataDirError(folder string, err error) error {
	var at *fs.PathError
	if errors.As(err, &at) && at.Path == folder {
		err = at.Err
	}
	hint := "name another folder in data_dir"
	if errors.Is(err, fs.ErrPermission) {
		hint = fmt.Sprintf("make it a folder of the user that runs nearside (user id %d), or ", os.Getuid()) + hint
	}
	return fmt.Errorf("data_dir %s: %w; %s", folder, err, hint)
}
