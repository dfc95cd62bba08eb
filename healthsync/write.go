package healthsync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"nearside/regions"
)

// Target is what can be drained: a region, or a service in it.
type Target struct {
	Service string // "": the region itself
	Region  string
}

func (t Target) String() string {
	if t.Service == "" {
		return t.Region
	}
	return t.Service + " in " + t.Region
}

// path is where its keys are, below the prefix or below transitions/.
func (t Target) path() string {
	if t.Service == "" {
		return t.Region
	}
	return t.Service + "/" + t.Region
}

// drainKey is the key of its drain below the prefix.
func (t Target) drainKey() string {
	if t.Service == "" {
		return "regions/" + t.Region + "/drain"
	}
	return "services/" + t.path() + "/drain"
}

// DrainKey is the key of its drain.
func (t Target) DrainKey(prefix string) string { return prefix + "/" + t.drainKey() }

// check keeps what is no name from becoming part of a key.
func (t Target) check() error {
	if err := regions.CheckName(t.Region); err != nil {
		return fmt.Errorf("region %q: %w", t.Region, err)
	}
	if t.Service == "" {
		return nil
	}
	if err := regions.CheckName(t.Service); err != nil {
		return fmt.Errorf("service %q: %w", t.Service, err)
	}
	return nil
}

// ErrUnwritable is of a drain that no server would understand: etcd was not asked.
var ErrUnwritable = errors.New("this drain cannot be written")

// CheckDrain returns ErrUnwritable, and why, if no server would understand d.
func CheckDrain(d regions.Drain) error {
	_, err := encodeDrain(d)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnwritable, err)
	}
	return nil
}

// WriteDrain writes a drain and returns the revision of the write. Servers judge
// it: see AwaitVerdict.
func WriteDrain(ctx context.Context, client *clientv3.Client, prefix string, at Target, d regions.Drain) (revision int64, err error) {
	if err := at.check(); err != nil {
		return 0, err
	}
	value, err := encodeDrain(d)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnwritable, err)
	}
	response, err := client.Put(ctx, at.DrainKey(prefix), value)
	if err != nil {
		return 0, fmt.Errorf("writing %s to etcd: %w", at.DrainKey(prefix), err)
	}
	return response.Header.Revision, nil
}

// RemoveDrain deletes a drain and returns the revision, and whether there was one. As a
// deletion cannot say whose it is, it first writes that nobody is drained, by whom;
// "": the key says so already. With now set, neither hold nor ramp follow.
func RemoveDrain(ctx context.Context, client *clientv3.Client, prefix string, at Target, by string, now bool) (revision int64, existed bool, err error) {
	if err := at.check(); err != nil {
		return 0, false, err
	}
	key := at.DrainKey(prefix)
	there := clientv3.Compare(clientv3.CreateRevision(key), ">", 0)
	end := clientv3.OpDelete(key)
	if by != "" {
		value, err := encodeDrain(regions.Drain{By: by})
		if err != nil {
			return 0, false, fmt.Errorf("%w: %w", ErrUnwritable, err)
		}
		end = clientv3.OpPut(key, value)
	}
	revision, existed, err = commitEnd(ctx, client, prefix+"/transitions/"+at.path(), clientv3.OpTxn([]clientv3.Cmp{there}, []clientv3.Op{end}, nil), now)
	if err != nil || !existed || by == "" {
		return revision, existed, err
	}
	written := revision
	switch revision, err = deleteWritten(ctx, client, key, written); {
	case err != nil:
		return 0, true, fmt.Errorf("%s is not drained as of revision %d, but %s stays, and says so: deleting it: %w", at, written, key, err)
	case revision == 0:
		return 0, true, fmt.Errorf("%s was not drained as of revision %d, but somebody else has written %s since: see `nearside status`", at, written, key)
	}
	return revision, true, nil
}

// deleteWritten deletes a key unless it was written after a revision. It returns the
// revision of the deletion; 0: it stays as somebody else wrote it.
func deleteWritten(ctx context.Context, client *clientv3.Client, key string, written int64) (revision int64, err error) {
	unchanged := clientv3.Compare(clientv3.ModRevision(key), "<", written+1) // 0 if it is gone already
	response, err := client.Txn(ctx).If(unchanged).Then(clientv3.OpDelete(key)).Commit()
	if err != nil || !response.Succeeded {
		return 0, err
	}
	return response.Header.Revision, nil
}

// commitEnd ends a drain. With now set, it also records that this is no return.
func commitEnd(ctx context.Context, client *clientv3.Client, transition string, end clientv3.Op, now bool) (revision int64, existed bool, err error) {
	for {
		operations := []clientv3.Op{end}
		var unchanged []clientv3.Cmp
		if now {
			record, mod, err := undrained(ctx, client, transition)
			if err != nil {
				return 0, false, err
			}
			operations = append(operations, clientv3.OpPut(transition, record))
			unchanged = []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(transition), "=", mod)}
		}
		response, err := client.Txn(ctx).If(unchanged...).Then(operations...).Commit()
		if err != nil {
			return 0, false, fmt.Errorf("ending the drain in etcd: %w", err)
		}
		if response.Succeeded {
			return response.Header.Revision, response.Responses[0].GetResponseTxn().Succeeded, nil
		}
	}
}

// undrained returns what to record at the key of a transition so that the end of a
// drain is no return: from and to are the same. Who is down by votes that tell
// nothing new stays so by its record alone. It returns the revision of what it read.
func undrained(ctx context.Context, client *clientv3.Client, key string) (record string, mod int64, err error) {
	response, err := client.Get(ctx, key)
	if err != nil {
		return "", 0, fmt.Errorf("reading %s from etcd: %w", key, err)
	}
	var last regions.Record
	for _, kv := range response.Kvs {
		mod = kv.ModRevision
		last, _ = readRecord(kv.Value) // rubbish counts as absent
	}
	stays := last.To &^ regions.Drained
	record, err = encodeRecord(regions.Record{From: stays, To: stays, Since: time.Now()})
	return record, mod, err
}

// drainValue is a drain as JSON.
type drainValue struct {
	Percent int       `json:"percent"`
	At      time.Time `json:"at,omitzero"`
	Until   time.Time `json:"until,omitzero"`
	Reason  string    `json:"reason,omitempty"`
	By      string    `json:"by,omitempty"`
	Force   bool      `json:"force,omitempty"`
}

// encodeDrain returns the value that ParseDrain reads as d: a word where that says
// it all.
func encodeDrain(d regions.Drain) (string, error) {
	switch d {
	case regions.Drain{}:
		return "false", nil
	case regions.Drain{Percent: 100}:
		return "true", nil
	}
	object, err := json.Marshal(drainValue{d.Percent, d.At.UTC(), d.Until.UTC(), d.Reason, d.By, d.Force})
	if err != nil {
		return "", err
	}
	if read, err := ParseDrain(object); err != nil {
		return "", err
	} else if read.Reason != d.Reason || read.By != d.By {
		return "", errors.New("the reason and the name must be UTF-8")
	}
	return string(object), nil
}

// recordValue is a transition as JSON.
type recordValue struct {
	From  string    `json:"from"`
	To    string    `json:"to"`
	Since time.Time `json:"since"`
}

func recordOf(r regions.Record) recordValue {
	return recordValue{r.From.String(), r.To.String(), r.Since.UTC()}
}

func encodeRecord(r regions.Record) (string, error) {
	object, err := json.Marshal(recordOf(r))
	return string(object), err
}

// ReadDrain returns the revision at which a drain key was last written, whatever it
// says, and the newest verdict on it. 0: there is none.
func ReadDrain(ctx context.Context, client *clientv3.Client, prefix string, at Target) (written int64, v Verdict, err error) {
	response, err := client.Txn(ctx).Then(
		clientv3.OpGet(at.DrainKey(prefix), clientv3.WithKeysOnly()), clientv3.OpGet(prefix+"/verdicts/"+at.drainKey()),
	).Commit()
	if err != nil {
		return 0, v, fmt.Errorf("reading %s from etcd: %w", at.DrainKey(prefix), err)
	}
	for _, kv := range response.Responses[0].GetResponseRange().Kvs {
		written = kv.ModRevision
	}
	for _, kv := range response.Responses[1].GetResponseRange().Kvs {
		if json.Unmarshal(kv.Value, &v) != nil {
			v = Verdict{} // rubbish counts as absent
		}
	}
	return written, v, nil
}

// Recorded returns how regions, and services in them, stand as the servers recorded
// it. What is not among them never went out.
func Recorded(ctx context.Context, client *clientv3.Client, prefix string) (map[Target]regions.Status, error) {
	base := prefix + "/transitions/"
	response, err := client.Get(ctx, base, clientv3.WithPrefix())
	if err != nil {
		return nil, fmt.Errorf("reading %s from etcd: %w", base, err)
	}
	stand := make(map[Target]regions.Status)
	for _, kv := range response.Kvs {
		at := Target{Region: strings.TrimPrefix(string(kv.Key), base)}
		if service, region, ok := strings.Cut(at.Region, "/"); ok {
			at = Target{Service: service, Region: region}
		}
		if record, err := readRecord(kv.Value); err == nil {
			stand[at] = record.To
		}
	}
	return stand, nil
}

// Watched reports whether anybody votes on a region, or on a service in it.
func Watched(ctx context.Context, client *clientv3.Client, prefix string, at Target) (bool, error) {
	votes := func(at Target) clientv3.Op {
		return clientv3.OpGet(strings.TrimSuffix(at.DrainKey(prefix), "drain")+"health/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	}
	response, err := client.Txn(ctx).Then(votes(at), votes(Target{Region: at.Region})).Commit()
	if err != nil {
		return false, fmt.Errorf("reading the votes on %s from etcd: %w", at, err)
	}
	return response.Responses[0].GetResponseRange().Count+response.Responses[1].GetResponseRange().Count > 0, nil
}

// Drains returns where drain keys are, whatever they say, and where a deleted drain is
// held in force.
func Drains(ctx context.Context, client *clientv3.Client, prefix string) (written, held map[Target]bool, err error) {
	response, err := client.Txn(ctx).Then(
		clientv3.OpGet(prefix+"/regions/", clientv3.WithPrefix(), clientv3.WithKeysOnly()),
		clientv3.OpGet(prefix+"/services/", clientv3.WithPrefix(), clientv3.WithKeysOnly()),
		clientv3.OpGet(prefix+"/verdicts/", clientv3.WithPrefix()),
	).Commit()
	if err != nil {
		return nil, nil, fmt.Errorf("reading drains from etcd: %w", err)
	}
	written, held = make(map[Target]bool), make(map[Target]bool)
	for i := range 2 {
		for _, kv := range response.Responses[i].GetResponseRange().Kvs {
			if a := parseKey(strings.TrimPrefix(string(kv.Key), prefix+"/")); a.kind == drainKey {
				written[Target{Service: a.service, Region: a.region}] = true
			}
		}
	}
	for _, kv := range response.Responses[2].GetResponseRange().Kvs {
		var v Verdict
		a := parseKey(strings.TrimPrefix(string(kv.Key), prefix+"/verdicts/"))
		if at := (Target{Service: a.service, Region: a.region}); a.kind == drainKey && json.Unmarshal(kv.Value, &v) == nil && v.Held && !written[at] {
			held[at] = true
		}
	}
	return written, held, nil
}
