package zones

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// keeper holds the last good version of each zone in a folder, one file per
// zone: the bytes of the zone file and of all it includes, so that a restart
// reads exactly what was read before.
//
// The file is a line with the format and the SHA-256 of all that follows, a
// line of JSON (keptInfo), and the bytes of the files one after another.
type keeper struct{ dir string }

const keptFormat = "nearside zone 1 "

// keptInfo says what a kept version holds.
type keptInfo struct {
	Origin  string     `json:"origin"`
	File    string     `json:"file"` // name of the zone file
	Records int        `json:"records"`
	Files   []keptFile `json:"files"` // the zone file first

	digest string // of all but the first line
}

type keptFile struct {
	Name string `json:"name"`
	Size int    `json:"size"`
}

// kept is a last good version: the source for reading it again.
type kept struct {
	keptInfo
	data map[string][]byte
}

// read implements source.
func (k kept) read(name string) ([]byte, error) {
	data, ok := k.data[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return data, nil
}

// newKept makes the kept version of a zone from what was read.
func newKept(z *Zone, f *files) kept {
	k := kept{keptInfo: keptInfo{Origin: z.origin, File: f.list[0].name, Records: z.records}, data: make(map[string][]byte)}
	for _, s := range f.list {
		k.Files = append(k.Files, keptFile{s.name, len(s.data)})
		k.data[s.name] = s.data
	}
	return k
}

// pieces returns what follows the first line of the file, in pieces that are not
// copied (a zone may be most of the memory there is), and the digest of it all.
func (k kept) pieces() (pieces [][]byte, digest string, err error) {
	head, err := json.Marshal(k.keptInfo)
	if err != nil {
		return nil, "", err
	}
	pieces = append(pieces, append(head, '\n'))
	for _, f := range k.Files {
		pieces = append(pieces, k.data[f.Name])
	}
	return pieces, digestOf(pieces...), nil
}

// digestOf returns the digest of pieces as a kept version has it.
func digestOf(pieces ...[]byte) string {
	sum := sumOf(pieces...)
	return hex.EncodeToString(sum[:])
}

// sumOf returns the SHA-256 of pieces. It goes by small steps: a long one cannot be
// interrupted, and a collection of garbage would wait for it, with every query.
func sumOf(pieces ...[]byte) (sum [sha256.Size]byte) {
	hash := sha256.New()
	for _, piece := range pieces {
		for step := range slices.Chunk(piece, 1<<14) {
			hash.Write(step)
		}
	}
	hash.Sum(sum[:0])
	return sum
}

var errKept = errors.New("it is damaged; delete it")

// decodeKept reads a kept version and verifies it.
func decodeKept(contents []byte) (kept, error) {
	first, rest, ok := bytes.Cut(contents, []byte{'\n'})
	digest, isKept := bytes.CutPrefix(first, []byte(keptFormat))
	if !ok || !isKept || digestOf(rest) != string(digest) {
		return kept{}, errKept
	}
	head, data, _ := bytes.Cut(rest, []byte{'\n'})
	k := kept{data: make(map[string][]byte)}
	if err := json.Unmarshal(head, &k.keptInfo); err != nil {
		return kept{}, errKept
	}
	for _, f := range k.Files {
		if f.Size < 0 || f.Size > len(data) {
			return kept{}, errKept
		}
		k.data[f.Name], data = data[:f.Size:f.Size], data[f.Size:]
	}
	k.digest = string(digest)
	return k, nil
}

// list says what is kept. It reads only their first lines:
// load verifies the whole.
func (k keeper) list() ([]keptInfo, error) {
	if k.dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(k.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return !strings.HasSuffix(e.Name(), keptSuffix) })
	labels, faults := make([]keptInfo, len(entries)), make([]error, len(entries))
	eachOf(len(entries), func(i int) {
		labels[i], faults[i] = k.readLabel(filepath.Join(k.dir, entries[i].Name()))
	})
	labels = slices.DeleteFunc(labels, func(l keptInfo) bool { return l.Origin == "" })
	return labels, errors.Join(append(faults, err)...)
}

// readLabel reads the first two lines of a kept version. It must lie where load
// looks for it.
func (k keeper) readLabel(file string) (keptInfo, error) {
	f, err := os.Open(file)
	if err != nil {
		return keptInfo{}, err
	}
	defer f.Close()
	var l keptInfo
	r := bufio.NewReaderSize(f, 512) // most fit in; there may be 100,000 to read
	first, err1 := r.ReadString('\n')
	digest, ok := strings.CutPrefix(strings.TrimSuffix(first, "\n"), keptFormat)
	head, err2 := r.ReadBytes('\n')
	damaged := err1 != nil || err2 != nil || !ok || json.Unmarshal(head, &l) != nil
	if damaged || l.File == "" || !canonical(l.Origin) || k.path(l.Origin) != file {
		return keptInfo{}, fmt.Errorf("last good version %s: %w", file, errKept)
	}
	l.digest, l.Files = digest, nil // load reads it again
	return l, nil
}

// canonical reports whether origin is written as Zone.Origin writes it.
func canonical(origin string) bool {
	wire, err := parseOrigin(origin)
	return err == nil && nameText(wire) == origin
}

// load reads what is kept of a zone.
func (k keeper) load(origin string) (kept, error) {
	f, err := os.Open(k.path(origin))
	if err != nil {
		return kept{}, withoutPath(err)
	}
	defer f.Close()
	data, err := readRegular(f)
	if err != nil {
		return kept{}, err
	}
	return decodeKept(data)
}

// version is a version to be kept.
type version struct {
	kept
	before  string // the digest of the one kept before; "": none
	drafted bool   // it differs, and lies beside the one before
	err     error  // why it could not be kept
}

// fewVersions can each be forced to the disk on its own; for more it is cheaper
// to do that for the whole file system.
const fewVersions = 16

// write keeps versions in place of those before: each whole or not at all, also
// when the machine stops meanwhile. What has the same digest is not written.
func (k keeper) write(list []version) {
	few := len(list) <= fewVersions
	eachOf(len(list), func(i int) { list[i].err = k.draft(&list[i], few) })
	var err error
	if !few {
		err = k.onFolder(func(fd uintptr) error { return unix.Syncfs(int(fd)) })
	}
	wrote := false
	for i := range list {
		v := &list[i]
		if !v.drafted {
			continue
		}
		path := k.path(v.Origin)
		if v.err = err; v.err == nil {
			v.err = withoutPath(os.Rename(path+draftSuffix, path))
		}
		if v.err != nil {
			os.Remove(path + draftSuffix)
		}
		wrote = true
	}
	if !wrote {
		return
	}
	if err := k.sync(); err != nil {
		for i := range list {
			list[i].err = cmp.Or(list[i].err, err)
		}
	}
}

const draftSuffix = ".new"

// draft writes a version beside the one before, if it differs from that.
func (k keeper) draft(v *version, force bool) error {
	pieces, digest, err := v.pieces()
	if err != nil {
		return err
	}
	v.digest = digest
	if digest == v.before {
		return nil
	}
	path := k.path(v.Origin) + draftSuffix
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f) // hands on what is larger than its buffer as it is
	w.WriteString(keptFormat + digest + "\n")
	for _, piece := range pieces {
		w.Write(piece)
	}
	err = w.Flush() // with the first error of all
	if err == nil && force {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(path)
		return err
	}
	v.drafted = true
	return nil
}

// sync makes what was renamed and removed last.
func (k keeper) sync() error {
	return k.onFolder(func(fd uintptr) error { return unix.Fsync(int(fd)) })
}

// onFolder does something with the folder opened.
func (k keeper) onFolder(do func(fd uintptr) error) error {
	d, err := os.Open(k.dir)
	if err != nil {
		return err
	}
	return errors.Join(do(d.Fd()), d.Close())
}

// remove forgets a zone.
func (k keeper) remove(origin string) error {
	err := os.Remove(k.path(origin))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

const keptSuffix = ".kept"

// path returns where a zone is kept. Whatever may mean something to a file
// system is written as %XX; what would be too long, as a digest.
func (k keeper) path(origin string) string {
	name := strings.TrimSuffix(origin, ".")
	if name == "" {
		name = "." // the root zone
	}
	var safe strings.Builder
	for i, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', digit(c), c == '-', c == '_', c == '.' && i > 0:
			safe.WriteByte(c)
		default:
			fmt.Fprintf(&safe, "%%%02X", c)
		}
	}
	name = safe.String()
	if len(name) > 200 {
		sum := sha256.Sum256([]byte(origin))
		name = "%" + hex.EncodeToString(sum[:])
	}
	return filepath.Join(k.dir, name+keptSuffix)
}
