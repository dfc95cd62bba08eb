package healthsync

import (
	"encoding/json"
	"errors"

	"nearside/regions"
)

// note is a verdict as it lies in etcd.
type note struct {
	Verdict
	mod      int64 // the revision of the note itself
	rubbish  bool  // it cannot be read, and counts for nothing
	released bool  // the operator has let go of what it holds
}

// readNote reads the verdict on a key.
func readNote(w write, a address) note {
	n := note{mod: w.revision}
	err := json.Unmarshal(w.value, &n.Verdict)
	if err == nil && n.Effective != nil {
		err = a.check([]byte(*n.Effective))
	}
	if err != nil || n.Revision <= 0 || n.Accepted && n.Effective == nil || n.Held && (a.kind != drainKey || n.Effective == nil) {
		return note{mod: w.revision, rubbish: true}
	}
	return n
}

// binds reports whether the verdict decides on the write of that revision.
func (n note) binds(revision int64) bool {
	return n.on(revision) && !n.Unknown && !n.Held
}

// on reports whether the verdict is about the write of that revision.
func (n note) on(revision int64) bool { return !n.rubbish && n.mod > 0 && n.Revision == revision }

// holds reports whether the verdict keeps a deleted drain in force.
func (n note) holds() bool { return n.Held && !n.rubbish && !n.released }

// record is the last change of a region or service.
type record struct {
	regions.Record
	known    bool  // there is one
	mod      int64 // the revision of its key in etcd; 0: there is none
	recorded bool  // the key says the same

	before *record // the last that was recorded, under a change that this server alone has seen
}

// record is the inverse of recordOf.
func (t recordValue) record() (regions.Record, error) {
	from, fromErr := regions.ParseStatus(t.From)
	to, toErr := regions.ParseStatus(t.To)
	err := errors.Join(fromErr, toErr)
	if err == nil && (to&regions.Expired != 0 || t.Since.IsZero()) {
		err = errors.New("not a transition")
	}
	if err != nil {
		return regions.Record{}, err
	}
	return regions.Record{From: from, To: to, Since: t.Since.UTC()}, nil
}

func readRecord(value []byte) (regions.Record, error) {
	var t recordValue
	if err := json.Unmarshal(value, &t); err != nil {
		return regions.Record{}, err
	}
	return t.record()
}
