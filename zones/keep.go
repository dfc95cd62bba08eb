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
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"nearside/pace"
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
	Size int64  `json:"size"`
}

// kept is a last good version: the source for reading it again.
type kept struct {
	keptInfo
	texts map[string]text
}

// read implements source.
func (k kept) read(name string) (text, error) {
	t, ok := k.texts[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return t, nil
}

// newKept makes the kept version of a zone from what was read.
func newKept(z *Zone, f *files) kept {
	k := kept{keptInfo: keptInfo{Origin: z.origin, File: f.list[0].name, Records: z.records}, texts: make(map[string]text)}
	for _, s := range f.list {
		size := int64(0)
		if s.text != nil { // it could be read
			size = s.text.Size()
			k.texts[s.name] = s.text
		}
		k.Files = append(k.Files, keptFile{s.name, size})
	}
	return k
}

// body returns what follows the first line of the file, and its size. Texts are not
// copied: a zone may be most of the memory there is.
func (k kept) body() (io.Reader, int64, error) {
	head, err := json.Marshal(k.keptInfo)
	if err != nil {
		return nil, 0, err
	}
	size := int64(len(head) + 1)
	parts := []io.Reader{bytes.NewReader(append(head, '\n'))}
	for _, f := range k.Files {
		if f.Size > 0 {
			parts = append(parts, whole(k.texts[f.Name]))
			size += f.Size
		}
	}
	return io.MultiReader(parts...), size, nil
}

// sumOf returns the SHA-256 of so many octets.
func sumOf(r io.Reader, size int64, p *pace.Pacer) (sum [sha256.Size]byte, err error) {
	hash := sha256.New()
	_, err = pour(hash, r, size, p)
	hash.Sum(sum[:0])
	return sum, err
}

// digestOf returns their digest as a kept version has it.
func digestOf(r io.Reader, size int64, p *pace.Pacer) (string, error) {
	sum, err := sumOf(r, size, p)
	return hex.EncodeToString(sum[:]), err
}

var errKept = errors.New("it is damaged; delete it")

// decodeKept reads a kept version and verifies it.
func decodeKept(contents []byte) (kept, error) {
	first, rest, ok := bytes.Cut(contents, []byte{'\n'})
	digest, isKept := bytes.CutPrefix(first, []byte(keptFormat))
	if !ok || !isKept {
		return kept{}, errKept
	}
	if sum, err := digestOf(bytes.NewReader(rest), int64(len(rest)), pace.New(pace.Fast)); err != nil || sum != string(digest) {
		return kept{}, errKept
	}
	head, data, _ := bytes.Cut(rest, []byte{'\n'})
	k := kept{texts: make(map[string]text)}
	if err := json.Unmarshal(head, &k.keptInfo); err != nil {
		return kept{}, errKept
	}
	for _, f := range k.Files {
		if f.Size < 0 || f.Size > int64(len(data)) {
			return kept{}, errKept
		}
		k.texts[f.Name], data = bytes.NewReader(data[:f.Size]), data[f.Size:]
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
	eachOf(len(entries), pace.Fast, func(i int) {
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
	size, err := sizeOf(f)
	if err != nil {
		return kept{}, err
	}
	data, err := readWhole(f, size)
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
	eachOf(len(list), pace.Gentle, func(i int) { list[i].err = k.draft(&list[i], few) })
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
	p := pace.New(pace.Gentle) // what is kept is served already
	body, size, err := v.body()
	if err != nil {
		return err
	}
	if v.digest, err = digestOf(body, size, p); err != nil || v.digest == v.before {
		return err
	}
	if body, size, err = v.body(); err != nil {
		return err
	}
	path := k.path(v.Origin) + draftSuffix
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f) // hands on what is larger than its buffer as it is
	w.WriteString(keptFormat + v.digest + "\n")
	_, err = pour(w, body, size, p)
	err = errors.Join(err, w.Flush())
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
