package healthsync

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
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
//	nearside-state 1 <sha256 of the rest, hexadecimal>
//
// and then a JSON object. A file that differs from what was written in any
// octet, or is cut short, does not match its sum and is refused whole.
const stateMagic = "nearside-state 1 "

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
	return append(stateHeader(payload), payload...), nil
}

func stateHeader(payload []byte) []byte {
	sum := sha256.Sum256(payload)
	return []byte(stateMagic + hex.EncodeToString(sum[:]) + "\n")
}

// decodeState reads a state file's content.
func decodeState(content []byte) (saved, error) {
	header, payload, _ := bytes.Cut(content, []byte("\n"))
	if !bytes.Equal(append(header, '\n'), stateHeader(payload)) {
		return saved{}, errors.New("its checksum does not match")
	}
	var v saved
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&v); err != nil {
		return saved{}, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return saved{}, errors.New("something follows its JSON object")
	}
	if v.Revision < 0 {
		return saved{}, fmt.Errorf("it has the impossible revision %d", v.Revision)
	}
	return v, nil
}

// errDamaged marks a state file that was read but cannot be right.
var errDamaged = errors.New("damaged")

// readState reads the state file; without one it returns the zero value.
func readState(path string) (saved, error) {
	content, err := readLimited(path, maxStateFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return saved{}, nil
	case err != nil:
		return saved{}, err
	}
	v, err := decodeState(content)
	if err != nil {
		return saved{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return v, nil
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

// writeAtomic replaces the file at path: a reader, and a start after a crash at
// any moment, finds either the old content or the new one, whole.
func writeAtomic(path string, content []byte) error {
	temporary := path + ".new" // in the same folder, so that the rename is atomic
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync() // BEFORE the rename: the name must never stand for less
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	if err := os.Rename(temporary, path); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
