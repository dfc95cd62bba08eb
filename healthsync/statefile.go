package healthsync

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// The state file is one line that identifies and guards it,
//
//	nearside-state VERSION <sha256 of the rest, hexadecimal>
//
// and then a JSON object. A file that differs from what was written in any
// octet, or is cut short, does not match its sum and is refused whole.
const stateMagic = "nearside-state "

// stateVersion is the version of what saved holds. Older ones are read as well;
// a field more is a version more.
const stateVersion = 2

// maxStateFile bounds what is read into memory, in octets.
const maxStateFile = 1 << 30

// saved is the content of the state file. Regions are kept by name: IDs are
// places in a configuration that may have changed since.
type saved struct {
	Cluster   uint64     `json:"cluster,string"`
	Revision  int64      `json:"revision"`
	Confirmed time.Time  `json:"confirmed,omitzero"` // when etcd last confirmed this
	Frozen    *freeze    `json:"frozen,omitempty"`
	Override  forced     `json:"override"` // the last good one
	Keys      []savedKey `json:"keys"`

	Verdicts    []savedVerdict    `json:"verdicts,omitempty"`
	Transitions []savedTransition `json:"transitions,omitempty"`
	Down        []string          `json:"down,omitempty"` // instead of transitions, in the files of version 0.1
}

// savedKey is one entry of the ledger.
type savedKey struct {
	Key      string  `json:"key"`
	Revision int64   `json:"revision"`
	Value    *string `json:"value,omitempty"` // the last good one; absent if there is none
	Held     bool    `json:"held,omitempty"`
	Why      string  `json:"why,omitempty"`      // why the newest write is not in force
	Refused  bool    `json:"refused,omitempty"`  // it is understood
	Rejected string  `json:"rejected,omitempty"` // that write, for people
	Unjudged bool    `json:"unjudged,omitempty"` // of a region or service that the configuration did not have
}

// encode returns the file's content.
func (v saved) encode() ([]byte, error) {
	payload, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return nil, err
	}
	return append(stateHeader(stateVersion, payload), payload...), nil
}

func stateHeader(version int, payload []byte) []byte {
	return fmt.Appendf(nil, "%s%d %x\n", stateMagic, version, sha256.Sum256(payload))
}

var (
	errDamaged = errors.New("it is damaged") // it was read but cannot be right
	errEmpty   = fmt.Errorf("%w: it is empty", errDamaged)
	errNewer   = errors.New("a newer version of nearside wrote it")
)

// decodeState reads a state file's content.
func decodeState(content []byte) (saved, error) {
	header, payload, _ := bytes.Cut(content, []byte("\n"))
	var version int
	// Sscanf is generous; what is compared is the whole line.
	_, _ = fmt.Sscanf(string(header), stateMagic+"%d", &version)
	switch {
	case len(content) == 0:
		return saved{}, errEmpty
	case version < 1 || !bytes.Equal(content[:len(content)-len(payload)], stateHeader(version, payload)):
		return saved{}, fmt.Errorf("%w: its checksum does not match", errDamaged)
	case version > stateVersion:
		return saved{}, fmt.Errorf("%w: it has format %d, and this version reads up to %d", errNewer, version, stateVersion)
	}
	var v saved
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&v); err != nil {
		return saved{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return saved{}, fmt.Errorf("%w: something follows its JSON object", errDamaged)
	}
	if v.Revision < 0 {
		return saved{}, fmt.Errorf("%w: it has the impossible revision %d", errDamaged, v.Revision)
	}
	return v, nil
}

// readState reads a state file; without one it returns the zero value and
// fs.ErrNotExist.
func readState(path string) (saved, error) {
	content, err := readLimited(path, maxStateFile)
	if err != nil {
		return saved{}, err
	}
	return decodeState(content)
}

// stateFile is the state file, and beside it the one that it took the place of,
// path + ".old". That one is read where the state file cannot be: it is older by
// one writing, and far better than no state.
type stateFile struct {
	path string
	good bool // what stands at path was read or written well
}

// load reads the last state. It may come with an error, which then says what is
// wrong with the state file and which state that is.
//
// Where there is no state file, or an empty one, there is no state, whatever
// stands beside it: that is how to make a server forget.
func (f *stateFile) load() (saved, error) {
	v, err := readState(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return saved{}, nil
	}
	if f.good = err == nil; f.good {
		return v, nil
	}
	empty := errors.Is(err, errEmpty)
	err = f.setAside(fmt.Errorf("the state file %s was not taken: %w", f.path, err))
	if !empty {
		if v, fault := readState(f.path + ".old"); fault == nil {
			return v, fmt.Errorf("%w; started from the one before it, which etcd confirmed at %s", err, v.Confirmed.Format(time.RFC3339))
		} else if !errors.Is(fault, fs.ErrNotExist) {
			err = fmt.Errorf("%w; the one before it, %s.old, was not taken either: %w", err, f.path, fault)
		}
	}
	return saved{}, fmt.Errorf("%w; started without it", err)
}

// setAside moves a state file that is of no use out of the way, so that it is
// there to look at. It adds to the error where it is now.
func (f *stateFile) setAside(err error) error {
	aside := f.path + ".damaged"
	switch {
	case errors.Is(err, errNewer):
		aside = f.path + ".newer"
	case !errors.Is(err, errDamaged):
		return err // perhaps another start can read it
	}
	if fault := os.Rename(f.path, aside); fault != nil {
		return fmt.Errorf("%w; setting it aside: %w", err, fault)
	}
	return fmt.Errorf("%w; it is set aside as %s", err, aside)
}

// store replaces the state file: a reader, and a start after a crash at any
// moment, finds either the old content or the new one, whole.
func (f *stateFile) store(content []byte) error {
	temporary := f.path + ".new" // in the same folder, so that the rename is atomic
	if err := writeSynced(temporary, content); err != nil {
		return err
	}
	if f.good {
		f.keepOld()
	}
	if err := os.Rename(temporary, f.path); err != nil {
		return err
	}
	f.good = true
	folder, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// keepOld gives the state file its second name, that of the one before. It does
// so by way of a third, since a link replaces nothing; there is a state file all
// the time. Where links cannot be made there is none before: that is no reason
// not to write the next.
func (f *stateFile) keepOld() {
	temporary := f.path + ".old.new"
	_ = os.Remove(temporary)
	if os.Link(f.path, temporary) == nil {
		_ = os.Rename(temporary, f.path+".old")
		_ = os.Remove(temporary) // a rename between two names of one file does nothing
	}
}

// writeSynced writes a file of which all is on disk when it returns: a name that
// it is given then never stands for less.
func writeSynced(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// readLimited reads a regular file of at most limit octets.
func readLimited(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // a pipe would block for ever
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(content)) > limit {
		err = fmt.Errorf("%s is larger than %d octets", path, limit)
	}
	return content, err
}
