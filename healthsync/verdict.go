package healthsync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"nearside/regions"
)

// verdict is what became of a write to a key, as the servers recorded it at
// verdicts/KEY. The first one to judge writes it, and all keep to it.
type verdict struct {
	Revision  int64   `json:"revision"`          // of the write
	Accepted  bool    `json:"accepted"`          // the write is in force
	Effective *string `json:"effective"`         // the value in force; nil: none
	Why       string  `json:"why,omitempty"`     // why it was not accepted
	Server    string  `json:"server"`            // that judged
	Held      bool    `json:"held,omitempty"`    // the key was deleted, and stays in force all the same
	Unknown   bool    `json:"unknown,omitempty"` // the server does not know what the key speaks of: it binds nobody who does
}

// note is a verdict as it lies in etcd.
type note struct {
	verdict
	mod      int64 // the revision of the note itself
	rubbish  bool  // it cannot be read, and counts for nothing
	released bool  // the operator has let go of what it holds
}

// readNote reads the verdict on a key.
func readNote(w write, a address) note {
	n := note{mod: w.revision}
	err := json.Unmarshal(w.value, &n.verdict)
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
}

// transition is a record as it is written.
type transition struct {
	From  string    `json:"from"`
	To    string    `json:"to"`
	Since time.Time `json:"since"`
}

func transitionOf(r regions.Record) transition {
	return transition{r.From.String(), r.To.String(), r.Since.UTC()}
}

// record is the inverse of transitionOf.
func (t transition) record() (regions.Record, error) {
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
	var t transition
	if err := json.Unmarshal(value, &t); err != nil {
		return regions.Record{}, err
	}
	return t.record()
}

// Verdict is what became of a write.
type Verdict = verdict

// AwaitVerdict returns the verdict on the write of a drain at a revision, or on a
// later one. It waits for as long as ctx lasts.
func AwaitVerdict(ctx context.Context, client *clientv3.Client, prefix string, at Target, revision int64) (Verdict, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	key := prefix + "/verdicts/" + at.drainKey()
	for response := range client.Watch(ctx, key, clientv3.WithRev(revision+1)) {
		for _, event := range response.Events {
			var v Verdict
			if json.Unmarshal(event.Kv.Value, &v) == nil && v.Revision >= revision {
				return v, nil
			}
		}
		if err := response.Err(); err != nil {
			return Verdict{}, fmt.Errorf("watching %s: %w", key, err)
		}
	}
	return Verdict{}, context.Cause(ctx)
}
