package healthsync

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"nearside/printable"
)

// Server is what a name server says of itself at servers/ID: when an input or one
// of these facts has changed, and when it stops.
type Server struct {
	Cluster  string    `json:"cluster"`  // of etcd, in hexadecimal: revisions of others say nothing; "": it never read one
	Process  string    `json:"process"`  // made up at its start: two of one ID tell themselves apart by it
	Revision int64     `json:"revision"` // of the state from which it answers
	At       time.Time `json:"at"`       // when it wrote this, by its clock
	Stopped  time.Time `json:"stopped,omitzero"`
	Override bool      `json:"override,omitempty"` // its break-glass file wins over etcd
	Frozen   bool      `json:"frozen,omitempty"`   // it does not believe etcd until `state accept`, or not yet
	Facts
}

// says reports whether there is nothing to tell beyond s but the time.
func (s Server) says(news Server) bool {
	return s.Cluster == news.Cluster && s.Revision == news.Revision && s.Override == news.Override && s.Frozen == news.Frozen && s.equal(news.Facts)
}

// Facts is what does not come from etcd.
type Facts struct {
	Version   string   `json:"version"`
	Addresses []string `json:"addresses"` // host:port of DNS
	TTL       uint32   `json:"ttl"`       // of its steered answers at most, in seconds
	Digests   Digests  `json:"digests"`
}

// Digests are equal where servers have the same of what they name.
type Digests struct {
	Configuration string `json:"configuration"` // of what decides answers
	Zones         string `json:"zones"`
	Database      string `json:"database"`
}

func (f Facts) equal(g Facts) bool {
	return f.Version == g.Version && slices.Equal(f.Addresses, g.Addresses) && f.TTL == g.TTL && f.Digests == g.Digests
}

// Member is a name server as etcd knows it.
type Member struct {
	ID    string `json:"id"`
	Alive bool   `json:"alive"`           // its lease lives: it reaches etcd
	Fault string `json:"fault,omitempty"` // why what it says of itself is not understood
	Ahead bool   `json:"ahead,omitempty"` // etcd had not reached its revision when it told of it: etcd was restored
	Server
}

// Follows reports whether a server does what a cluster of etcd says, as far as its
// revision.
func (m Member) Follows(cluster string) bool {
	return m.Cluster == cluster && !m.Ahead && !m.Frozen && !m.Override
}

// Fleet returns the registered name servers, by their IDs, and the cluster, in
// hexadecimal.
func Fleet(ctx context.Context, client *clientv3.Client, prefix string) (list []Member, cluster string, err error) {
	response, err := client.Txn(ctx).Then(
		clientv3.OpGet(prefix+"/servers/", clientv3.WithPrefix()),
		clientv3.OpGet(prefix+"/alive/", clientv3.WithPrefix(), clientv3.WithKeysOnly()),
	).Commit()
	if err != nil {
		return nil, "", fmt.Errorf("reading the name servers: %w", err)
	}
	members := make(map[string]Member)
	for _, kv := range response.Responses[0].GetResponseRange().Kvs {
		m := Member{ID: strings.TrimPrefix(string(kv.Key), prefix+"/servers/")}
		if err := json.Unmarshal(kv.Value, &m.Server); err != nil {
			m.Fault = printable.Cut(err.Error(), maxShown)
		}
		m.Ahead = m.Revision >= kv.ModRevision && m.Cluster == clusterName(response.Header.ClusterId)
		members[m.ID] = m
	}
	for _, kv := range response.Responses[1].GetResponseRange().Kvs {
		id := strings.TrimPrefix(string(kv.Key), prefix+"/alive/")
		m, registered := members[id]
		m.ID, m.Alive = id, true
		if !registered {
			m.Fault = "it says nothing of itself"
		}
		members[id] = m
	}
	for _, id := range slices.Sorted(maps.Keys(members)) {
		list = append(list, members[id])
	}
	return list, clusterName(response.Header.ClusterId), nil
}

// clusterName is the id of a cluster as it is written.
func clusterName(id uint64) string {
	if id == 0 {
		return ""
	}
	return strconv.FormatUint(id, 16)
}

// ErrAlive is of a server that is to be forgotten and lives.
var ErrAlive = errors.New("this server is alive")

// Forget removes a name server that is gone for good, and reports whether it was
// there. One that is alive would only come back.
func Forget(ctx context.Context, client *clientv3.Client, prefix, id string) (existed bool, err error) {
	key, alive := prefix+"/servers/"+id, prefix+"/alive/"+id
	response, err := client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(alive), "=", 0)).Then(clientv3.OpDelete(key)).Commit()
	switch {
	case err != nil:
		return false, fmt.Errorf("deleting %s from etcd: %w", key, err)
	case !response.Succeeded:
		return true, ErrAlive
	}
	return response.Responses[0].GetResponseDeleteRange().Deleted > 0, nil
}

// The rhythm of what a server says of itself.
const (
	aliveTTL  = 15                     // seconds, of the lease of alive/ID
	gather    = 100 * time.Millisecond // from a change until it is told: other changes are told with it
	recording = time.Second            // that it waits for records that follow from it, to tell all at once
	farewell  = 2 * time.Second        // that a stopping server waits for etcd
)

// SetFacts says what is new on this server.
func (s *Sync) SetFacts(facts Facts) {
	s.mu.Lock()
	changed := !s.facts.equal(facts)
	s.facts = facts
	s.mu.Unlock()
	if changed {
		wake(s.untold)
	}
}

// announcer tells etcd of this server, and looks at the others.
type announcer struct {
	*Sync
	client  *clientv3.Client
	process string
	lease   clientv3.LeaseID
	lost    <-chan *clientv3.LeaseKeepAliveResponse // closed when the lease is gone
	told    Server
	toldAt  time.Time // when, by a clock that nobody sets
	mod     int64     // the revision of that; 0: this process has told nothing
	hidden  bool      // the key of the lease may be gone
	twin    int       // over 0: somebody else has told something in our name
	looked  time.Time // when it looked at the others last
	seen    map[string]sighting
}

// sighting is what a look found of another server.
type sighting struct {
	at    time.Time // when it wrote what it told last, by its clock
	wrong bool      // its clock, or ours
}

// announce runs until ctx ends, and then says that this server has stopped.
func (s *Sync) announce(ctx context.Context) {
	client, err := Connect(s.config.Endpoints, s.config.Credentials, s.config.Log)
	if err != nil {
		s.setAnnounceFault(err)
		return
	}
	a := &announcer{Sync: s, client: client, process: rand.Text()}
	defer client.Close()
	wake(s.untold)
	looking := time.NewTicker(s.pace.inspection)
	defer looking.Stop()
	for wait := firstPause; ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-s.untold:
			s.gather(ctx)
		case _, alive := <-a.lost:
			if alive {
				continue
			}
			a.lost = nil
		case <-looking.C:
			a.look(ctx)
			continue
		}
		err := a.tell(ctx)
		if ctx.Err() != nil {
			break
		}
		s.setAnnounceFault(err)
		if err == nil {
			wait = firstPause
			continue
		}
		pause(ctx, wait, nil)
		wait = min(2*wait, s.pace.retry)
		wake(s.untold)
	}
	a.leave()
}

// gather waits for what else there is to tell: verdicts and transitions that follow
// from a change are changes themselves. And it waits for the state file: after a crash
// this server goes on from what it has told, at least.
func (s *Sync) gather(ctx context.Context) {
	for began := s.now(); ctx.Err() == nil; {
		pause(ctx, gather, nil)
		s.mu.Lock()
		owed := len(s.ledger.due(0)) > 0 && s.now().Sub(began) < recording
		unkept := s.kept < s.state.Revision && s.stateFault == nil
		s.mu.Unlock()
		if !owed && !unkept {
			return
		}
	}
}

func (s *Sync) setAnnounceFault(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.announceFault = nil
	if err != nil {
		s.announceFault = fmt.Errorf("other servers and `drain --wait` cannot see this server: %s", Brief(err))
	}
}

// self is what there is to tell.
func (s *Sync) self() Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Server{
		Cluster: clusterName(s.served.Cluster), Revision: s.served.Revision, At: s.now().UTC().Round(time.Millisecond),
		Override: forcedRegions(s.served) != 0, Frozen: s.frozen != nil || !s.behind.IsZero(), Facts: s.facts,
	}
}

// tell renews the lease if it is gone, or the key of it, and writes servers/ID if that is news.
func (a *announcer) tell(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), a.pace.request)
	defer cancel()
	if a.lost == nil {
		if err := a.live(ctx); err != nil {
			return err
		}
		a.told, a.hidden = Server{}, true
	}
	if a.hidden {
		if err := a.show(ctx); err != nil {
			return err
		}
		a.hidden = false
	}
	self, now := a.self(), a.now()
	if a.told.says(self) {
		return nil
	}
	if err := a.put(ctx, self); err != nil {
		return err
	}
	a.told, a.toldAt = self, now
	return nil
}

// put writes servers/ID, and notices who else has written it since this process did.
func (a *announcer) put(ctx context.Context, self Server) error {
	self.Process = a.process
	value, err := json.Marshal(self)
	if err != nil {
		return err
	}
	key := a.config.Prefix + "/servers/" + a.config.ID
	write := clientv3.OpPut(key, string(value), clientv3.WithPrevKV())
	response, err := a.client.Do(ctx, write)
	if err != nil {
		return err
	}
	if last := response.Put().PrevKv; last != nil && a.mod != 0 && last.ModRevision != a.mod {
		var by Server
		if json.Unmarshal(last.Value, &by) != nil || by.Process != a.process { // else it was told, though no answer came
			a.twin = twinLooks
		}
	}
	a.mod = response.Put().Header.Revision
	return nil
}

// live takes a lease and keeps it alive for as long as the client lives.
func (a *announcer) live(ctx context.Context) error {
	lease, err := a.client.Grant(ctx, aliveTTL)
	if err != nil {
		return err
	}
	lost, err := a.client.KeepAlive(a.client.Ctx(), lease.ID)
	if err != nil {
		return err
	}
	a.lease, a.lost = lease.ID, lost
	return nil
}

// show writes the key that lives with the lease.
func (a *announcer) show(ctx context.Context) error {
	clock := a.now().UTC().Format(time.RFC3339Nano)
	_, err := a.client.Put(ctx, a.config.Prefix+"/alive/"+a.config.ID, clock, clientv3.WithLease(a.lease))
	return err
}

// leave says that this server has stopped: nobody waits for it for longer than its
// answers are kept.
func (a *announcer) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	self := a.self()
	self.Stopped = self.At
	if err := a.put(ctx, self); err != nil {
		a.config.Log.Warn().Err(err).Msg("etcd was not told that this server stops: `drain --wait` will ask for it")
	}
	if a.lost != nil {
		a.client.Revoke(ctx, a.lease)
	}
}

// look compares the other servers with this one.
func (a *announcer) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, a.pace.request)
	defer cancel()
	began := a.now()
	list, _, err := Fleet(ctx, a.client, a.config.Prefix)
	if err != nil {
		return // that etcd is away is an alarm of its own
	}
	var found []string
	self, now := a.self(), a.now()
	for _, m := range list {
		found = append(found, m.differs(self, a.config.ID)...)
	}
	found = append(found, a.clocks(list, began, now)...)
	found = append(found, a.recognise(list)...)
	differs := make(map[string]time.Time)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, what := range found {
		since, known := a.differs[what]
		if !known {
			since = now
		}
		differs[what] = since
	}
	a.differs = differs
	a.fleet, a.fleetAt = list, now
}

// twinLooks is how many looks must find nothing strange until all is well: five minutes.
const twinLooks = 20

// recognise looks whether etcd still has what this server told, and has it told again
// if not: somebody has deleted it, or calls himself the same.
func (a *announcer) recognise(list []Member) (found []string) {
	i := slices.IndexFunc(list, func(m Member) bool { return m.ID == a.config.ID })
	switch {
	case a.lost == nil || a.told.At.IsZero(): // it has not told yet
	case i >= 0 && list[i].Process == a.process && list[i].At.Equal(a.told.At) && list[i].Alive:
		a.twin = max(0, a.twin-1)
	default:
		if i >= 0 && list[i].Fault == "" && list[i].Process != a.process {
			a.twin = twinLooks
		}
		a.told, a.hidden = Server{}, true
		wake(a.untold)
	}
	if a.twin > 0 {
		found = []string{fmt.Sprintf("another server is called %s, too: give each its own server.id; `drain --wait` knows of one of them alone", a.config.ID)}
	}
	return found
}

// differs says what another server has that this one has not, and what is wrong
// with it.
func (m Member) differs(self Server, id string) (list []string) {
	if m.ID == id || !m.Alive || m.Fault != "" {
		return nil
	}
	for _, d := range []struct{ what, theirs, ours string }{
		{"configuration", m.Digests.Configuration, self.Digests.Configuration},
		{"zones", m.Digests.Zones, self.Digests.Zones},
		{"geo database", m.Digests.Database, self.Digests.Database},
	} {
		if d.theirs != d.ours {
			list = append(list, fmt.Sprintf("%s has another %s: see to it that all servers have the same", printable.Cut(m.ID, maxShown), d.what))
		}
	}
	return list
}

// clockError is how far two clocks may be apart.
const clockError = 5 * time.Second

// clocks compares the clocks of others with ours, in a list that was read between two
// times. It judges what they wrote when it is first seen, since that ages: it was
// written after the look before. When our own clock is set, all of it begins anew.
func (a *announcer) clocks(list []Member, began, ended time.Time) (found []string) {
	set := ended.Round(0).Sub(a.told.At) - ended.Sub(a.toldAt)
	if set.Abs() > clockError/2 && !a.told.At.IsZero() {
		a.seen, a.told = nil, Server{} // others are told of the right one
		wake(a.untold)
	}
	seen := make(map[string]sighting)
	for _, m := range list {
		if m.ID == a.config.ID || !m.Alive || m.Fault != "" {
			continue
		}
		s, known := a.seen[m.ID]
		if !known || !s.at.Equal(m.At) {
			ahead := m.At.Sub(ended) > clockError
			behind := known && a.looked.Sub(m.At) > clockError
			s = sighting{m.At, ahead || behind}
		}
		if seen[m.ID] = s; s.wrong {
			found = append(found, fmt.Sprintf("the clock of %s or of this server is wrong: see to NTP", printable.Cut(m.ID, maxShown)))
		}
	}
	a.seen, a.looked = seen, began
	return found
}

// differences returns what has been different for a while, sorted.
func (s *Sync) differences() []string {
	var list []string
	for what, since := range s.differs {
		if s.now().Sub(since) >= s.pace.differing {
			list = append(list, what)
		}
	}
	slices.Sort(list)
	return list
}
