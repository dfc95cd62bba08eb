package healthsync

import (
	"context"
	"fmt"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// listing is everything below the prefix at one revision.
type listing struct {
	cluster  uint64
	revision int64
	writes   []write
}

// The number of keys of a page adapts to their size: pages stay near a
// megabyte, whether there are 100,000 votes or a hundred values of 1.5 MB.
const (
	firstPage, smallestPage, largestPage = 64, 8, 4096
	fullPage                             = 1 << 20 // octets
)

// list reads everything below the prefix. The first page says at which
// revision, and whether the member may be believed; the others are read at that
// revision.
func (s *Sync) list(ctx context.Context, client *clientv3.Client) (listing, error) {
	var l listing
	base := s.config.Prefix + "/"
	end := clientv3.GetPrefixRangeEnd(base)
	limit := int64(firstPage)
	for from, more := base, true; more; {
		response, err := s.get(ctx, client, from, clientv3.WithRange(end), clientv3.WithLimit(limit), clientv3.WithRev(l.revision))
		if err != nil {
			return listing{}, fmt.Errorf("reading: %w", err)
		}
		if l.revision == 0 {
			l.cluster, l.revision = response.Header.ClusterId, response.Header.Revision
			if err := s.believe(l); err != nil {
				return listing{}, err
			}
		}
		size := 0
		for _, kv := range response.Kvs {
			from = string(kv.Key) + "\x00" // the next key there can be
			size += len(kv.Value)
			if key := strings.TrimPrefix(string(kv.Key), base); parseKey(key).kind != ignored {
				l.writes = append(l.writes, write{key: key, value: kv.Value, revision: kv.ModRevision, created: kv.CreateRevision}.cut())
			}
		}
		more = response.More
		if size < fullPage/4 {
			limit = min(2*limit, largestPage)
		} else if size > fullPage {
			limit = max(limit/4, smallestPage)
		}
	}
	l.writes = append(l.writes, s.recall(ctx, client, l.writes)...)
	return l, nil
}

// believe tells before the work of reading it all whether take would refuse it.
func (s *Sync) believe(l listing) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.admit(l.cluster, l.revision)
}

// cut drops what is beyond the octets that are judged or shown of a value. A verdict
// is longer than the value that it quotes.
func (w write) cut() write {
	limit := maxValue + 1
	if parseKey(w.key).kind == verdictKey {
		limit = 8 * maxValue
	}
	if len(w.value) > limit {
		w.value = slices.Clone(w.value[:limit])
	}
	return w
}

func (s *Sync) get(ctx context.Context, client *clientv3.Client, key string, options ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, s.pace.request)
	defer cancel()
	return client.Get(ctx, key, options...)
}
