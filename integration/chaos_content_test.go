package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// The rules of the trial, so short that regions go and come back while it lasts.
const (
	chaosTTL    = 2 * time.Second
	chaosMaxOut = 65 // percent
	chaosHold   = 1500 * time.Millisecond
	chaosRamp   = time.Second
)

// chaosService is a group of names. The first is that of the names in none.
type chaosService struct {
	name, owner string // the owner is asked for
	members     []string
	failover    bool
	last        string // on_exhausted
}

var chaosServices = []chaosService{
	{"", "play", nil, false, "any"},
	{"casino", "casino", []string{"eu-west", "us-east", "us-west"}, false, "none"},
	{"poker", "poker", []string{"us-west", "eu-central", "us-east"}, true, quietRegion},
}

// beatingRegions are those whose life agents must show.
var beatingRegions = []string{"us-east", "us-west", "ap-southeast"}

// has reports whether the service may use a region.
func (s *chaosService) has(region string) bool {
	return s.members == nil || slices.Contains(s.members, region)
}

// chaosRules is what the servers of the trial are configured with, beside regions.
func chaosRules() string {
	var b strings.Builder
	fmt.Fprintf(&b, "guard: {max_out: %d%%}\nfailback: {hold: %v, ramp: %v}\nservices:\n", chaosMaxOut, chaosHold, chaosRamp)
	for _, s := range chaosServices[1:] {
		order := "nearest"
		if s.failover {
			order = "failover"
		}
		fmt.Fprintf(&b, "  - {name: %s, names: [%s.bet.example], regions: [%s], order: %s, ttl: %d, on_exhausted: %s}\n",
			s.name, s.owner, strings.Join(s.members, ", "), order, int(chaosTTL.Seconds()), s.last)
	}
	return b.String()
}

// chaosZone is the zone of the trial: a name for each service, in every region.
func chaosZone() string {
	text := zone(chaosRegions)
	for _, s := range chaosServices[1:] {
		for i := range chaosRegions {
			text += fmt.Sprintf("%[1]s 30 IN A 192.0.2.%[2]d\n%[1]s 30 IN AAAA 2001:db8:%[3]x::1\n", s.owner, 16*i+1, i+1)
		}
	}
	return text
}

// rungs is where a region may stand in the answer ladder: the model does not
// always know which it is.
type rungs uint8

const (
	open   rungs = 1 << iota // up
	apart                    // up, but this client belongs to the share that is kept away
	onHold                   // returning
	sick                     // down by votes or silence
	gone                     // fully drained
	anyhow = open | apart | onHold | sick | gone
)

// under returns where a region stands that two things keep away: the worse counts.
func (a rungs) under(b rungs) (both rungs) {
	for x := open; x <= gone; x <<= 1 {
		for y := open; y <= gone; y <<= 1 {
			if a&x != 0 && b&y != 0 {
				both |= max(x, y)
			}
		}
	}
	return both
}

// certainty is what can be said of a question: no, yes, or that nobody knows.
type certainty uint8

const (
	no certainty = iota
	yes
	unsure
)

func (a certainty) or(b certainty) certainty {
	switch {
	case a == yes || b == yes:
		return yes
	case a == no && b == no:
		return no
	}
	return unsure
}

// window is when a server looked: between from and to by its clock, and between back
// and ahead by that which brings regions back.
type window struct{ from, to, back, ahead time.Duration }

// at is the window of somebody whose clocks are right.
func at(from, to time.Duration) window { return window{from, to, from, to} }

// forced is what a break-glass file asks for.
type forced struct{ drain, up choices }

// drained is a drain as it may be in force. Times are those of the trial; 0: none.
type drained struct {
	percent   int
	at, until time.Duration
	force     bool
}

// takes returns the share that it takes, at the least and at the most, whenever it
// begins, by clocks that may be wrong by so much.
func (d drained) takes(now, wrong time.Duration) (least, most int) {
	doubt := wrong + 2*time.Second
	least, most = d.percent, d.percent
	if d.until > 0 && now > d.until-doubt {
		least = 0
	}
	if d.until > 0 && now >= d.until+doubt {
		most = 0
	}
	return least, most
}

// prospect is all that decides where a region stands, or a service in it.
type prospect struct {
	drains    [4]drained // one of them is in force
	n         int
	sick      certainty
	from, to  string // as last recorded
	since     time.Duration
	disturbed bool          // it may have been out since, unrecorded
	ceased    time.Duration // since when it may be in, though recorded as out; 0: it is not
	well      time.Duration // since when no votes keep it out, at the earliest
}

func newProspect() prospect { return prospect{n: 1} }

// add makes a drain possible, set makes it certain.
func (p *prospect) add(d drained) {
	if slices.Contains(p.drains[:p.n], d) {
		return
	}
	if p.n == len(p.drains) {
		p.n = 0 // too many to tell: it may be anywhere
	}
	if p.n > 0 {
		p.drains[p.n] = d
		p.n++
	}
}

func (p *prospect) set(d drained) { p.drains, p.n = [4]drained{d}, 1 }

// takes returns the share that may be drained, at the least and at the most.
func (p *prospect) takes(now, wrong time.Duration) (least, most int) {
	if p.n == 0 {
		return 0, 100
	}
	least = 100
	for _, d := range p.drains[:p.n] {
		low, high := d.takes(now, wrong)
		least, most = min(least, low), max(most, high)
	}
	return least, most
}

// isDrained reports whether it is fully drained, where no time is to be asked.
func (p *prospect) isDrained() (answer certainty) {
	full := 0
	for _, d := range p.drains[:p.n] {
		switch {
		case d.percent < 100:
		case d.at > 0 || d.until > 0:
			return unsure
		default:
			full++
		}
	}
	switch {
	case p.n == 0 || full > 0 && full < p.n:
		return unsure
	case full > 0:
		return yes
	}
	return no
}

func isOut(status string) bool {
	return strings.Contains(status, "drained") || isSick(status) || strings.Contains(status, "expired")
}

func isSick(status string) bool {
	return strings.Contains(status, "down") || strings.Contains(status, "silent")
}

// rungs returns where it may stand for somebody who looked in a window.
func (p *prospect) rungs(w window) (r rungs) {
	if p.n == 0 {
		return anyhow
	}
	for _, d := range p.drains[:p.n] {
		if d.percent == 0 || w.from < d.at {
			r |= p.undrained(w, p.ceased, false)
		}
		if d.percent > 0 && w.to >= d.at && (d.until == 0 || w.back < d.until) {
			if d.percent == 100 {
				r |= gone
			} else {
				r |= p.undrained(w, p.ceased, false).under(open | apart)
			}
		}
		if d.percent > 0 && d.until > 0 && w.ahead >= d.until {
			r |= p.undrained(w, d.until, d.percent == 100)
		}
	}
	return r
}

// undrained returns where it may stand if no drain keeps it out, at the earliest
// since a time, and by its end if that is so.
func (p *prospect) undrained(w window, earliest time.Duration, expired bool) (r rungs) {
	if p.sick != no {
		r |= sick
	}
	if p.sick == yes {
		return r
	}
	switch {
	case isOut(p.to):
		answer := p.ails(w)
		if expired || answer != no {
			r |= comeBack(w, earliest, false, true)
		}
		if !expired && answer != yes {
			r |= comeBack(w, earliest, false, false)
		}
	case isOut(p.from):
		r |= comeBack(w, p.since, true, isSick(p.from) || strings.Contains(p.from, "expired"))
	default:
		r |= open
	}
	if p.disturbed || expired {
		r |= onHold | apart
		if !isOut(p.to) {
			r |= open
		}
	}
	return r
}

// ails reports whether it comes back as after sickness, though it has been recorded
// as out since: it has recovered less than the hold before.
func (p *prospect) ails(w window) certainty {
	recovered := p.since
	switch {
	case isSick(p.to):
		recovered = p.well
	case !isSick(p.from):
		return no
	}
	if w.ahead-recovered < chaosHold {
		return yes
	}
	return unsure
}

// comeBack returns where a region may stand that has come back, exactly at a time
// or not before.
func comeBack(w window, since time.Duration, exactly, holds bool) (r rungs) {
	const rounding = 10 * time.Millisecond // of clocks
	if holds {
		since += chaosHold
		if w.back < since+rounding || !exactly {
			r |= onHold
		}
	}
	if w.ahead < since-rounding {
		return r | onHold
	}
	if w.back < since+chaosRamp+rounding || !exactly {
		r |= apart
	}
	return r | open
}

// subject is what etcd holds about a region, or a service in it.
type subject struct {
	prospect
	votes    map[string]ballot // by reporter
	beats    map[string]bool   // of agents
	revision int64             // of the newest write of the drain key, or its deletion
	there    bool              // the drain key exists
	pending  bool              // the newest write is not judged
	ruled    bool              // there is a verdict on some write
	asked    drained           // what it says
	moved    bool              // votes were otherwise than recorded since

	accepts, refuses bool // the guard may do that to the newest write
}

type ballot struct {
	down  bool
	probe string
}

// content is what etcd holds, as docs/state.md has it read: the slow and
// obvious way. Where servers may differ for a while, it has all that may be.
type content struct {
	subjects []subject // by service, then region
	probes   map[string]bool
	wrong    time.Duration // how far the clocks of servers may be wrong now
	wall     func(time.Time) time.Duration
	fault    func(format string, arguments ...any)
}

func newContent(wall func(time.Time) time.Duration, fault func(string, ...any)) *content {
	c := &content{subjects: make([]subject, len(chaosServices)*len(chaosRegions)), probes: make(map[string]bool), wall: wall, fault: fault}
	for i := range c.subjects {
		c.subjects[i] = subject{prospect: newProspect(), votes: make(map[string]ballot), beats: make(map[string]bool)}
		c.subjects[i].to, c.subjects[i].from = "up", "up"
	}
	return c
}

// prospects returns what follows now.
func (c *content) prospects() []prospect {
	list := make([]prospect, len(c.subjects))
	for i := range c.subjects {
		list[i] = c.subjects[i].prospect
	}
	return list
}

// find returns the subject of a path R or S/R, or nil.
func (c *content) find(path string) *subject {
	service, name, two := strings.Cut(path, "/")
	if !two {
		service, name = "", path
	}
	region := slices.IndexFunc(chaosRegions, func(r region) bool { return r.name == name })
	group := slices.IndexFunc(chaosServices, func(s chaosService) bool { return s.name == service })
	if region < 0 || group < 0 {
		return nil
	}
	return &c.subjects[group*len(chaosRegions)+region]
}

// split takes a key apart: what it speaks of, and what it says of that.
func (c *content) split(key string) (s *subject, leaf, name string) {
	kind, rest, _ := strings.Cut(key, "/")
	parts, n := strings.Split(rest, "/"), 1
	if kind == "services" {
		n = 2
	}
	if kind != "services" && kind != "regions" || len(parts) <= n {
		return nil, "", ""
	}
	return c.find(strings.Join(parts[:n], "/")), parts[n], strings.Join(parts[n+1:], "/")
}

// apply enters what happened at one revision, which nobody can have seen before
// a time.
func (c *content) apply(events []*clientv3.Event, began, heard time.Duration) {
	lost := make(map[*subject]drained)
	for _, e := range events {
		key, ours := strings.CutPrefix(string(e.Kv.Key), "/nearside/")
		if !ours {
			continue
		}
		deleted, value := e.Type == clientv3.EventTypeDelete, string(e.Kv.Value)
		if host, is := strings.CutPrefix(key, "probes/"); is {
			c.probes[host] = !deleted
		} else if path, is := strings.CutPrefix(key, "transitions/"); is {
			c.record(c.find(path), value, deleted, began)
		} else if on, is := strings.CutPrefix(key, "verdicts/"); is {
			if s, leaf, _ := c.split(on); s != nil && leaf == "drain" {
				c.judged(s, on, value, deleted, e.Kv.ModRevision)
			}
		} else if s, leaf, name := c.split(key); s != nil {
			switch {
			case leaf == "drain" && deleted:
				if d, was := c.deleted(s, e.Kv.ModRevision, heard); was {
					lost[s] = d
				}
			case leaf == "drain":
				c.written(s, value, e.Kv.ModRevision)
			case leaf == "health" && deleted:
				delete(s.votes, name)
			case leaf == "health":
				if b, understood := meansVote(value); understood {
					s.votes[name] = b
				}
			case leaf == "heartbeat" && deleted:
				delete(s.beats, name)
			case leaf == "heartbeat":
				s.beats[name] = true
			}
		}
	}
	c.hold(lost)
	for i := range c.subjects {
		c.weigh(&c.subjects[i], i, began)
	}
	c.guard(heard)
}

// written enters a write of a drain.
func (c *content) written(s *subject, value string, revision int64) {
	d, understood := c.meansDrain(value)
	s.revision, s.there, s.pending = revision, true, understood
	if !understood {
		return
	}
	s.asked = d
	switch {
	case d.percent == 0:
		s.set(drained{})
	case d.force:
		s.set(d)
	default:
		s.accepts, s.refuses = s.within(d), false
		s.add(d)
	}
}

// within reports whether d takes out no more than something that may be in force.
func (s *subject) within(d drained) bool {
	return s.n == 0 || slices.ContainsFunc(s.drains[:s.n], func(old drained) bool { return d.percent <= old.percent })
}

// deleted enters the deletion of a drain, and returns what was in force if that
// is certain.
func (c *content) deleted(s *subject, revision int64, now time.Duration) (was drained, certain bool) {
	s.revision, s.there, s.pending = revision, false, false
	least, most := s.takes(now, c.wrong)
	if s.n == 1 && least > 0 {
		was, certain = s.drains[0], true
	}
	if most == 0 || !s.ruled || c.others(s, now) {
		s.set(drained{})
	} else {
		s.add(drained{}) // the servers may take it for an accident
	}
	return was, certain
}

// others reports whether something else is drained for certain.
func (c *content) others(s *subject, now time.Duration) bool {
	return slices.ContainsFunc(c.subjects, func(o subject) bool {
		least, _ := o.takes(now, c.wrong)
		return o.revision != s.revision && o.there && least > 0
	})
}

// hold keeps drains in force that were all deleted at once.
func (c *content) hold(lost map[*subject]drained) {
	if len(lost) < 2 {
		return
	}
	for i := range c.subjects {
		s := &c.subjects[i]
		if _, is := lost[s]; !is && s.there && (s.n != 1 || s.drains[0].percent > 0) {
			return // there may be another
		}
	}
	for s, d := range lost {
		s.set(d)
	}
}

// judged enters a verdict, or that it was removed.
func (c *content) judged(s *subject, key, value string, deleted bool, revision int64) {
	if s.ruled = !deleted; deleted {
		if !s.there && s.revision < revision {
			s.set(drained{}) // let go, or never held
		}
		return
	}
	var v struct {
		Revision      int64
		Accepted      bool
		Effective     *string
		Held, Unknown bool
		Why           string
	}
	if json.Unmarshal([]byte(value), &v) != nil || v.Revision == 0 || v.Unknown {
		return // rubbish
	}
	effective := drained{}
	if v.Effective != nil {
		effective, _ = c.meansDrain(*v.Effective)
	}
	if v.Held != !s.there || !v.Held && v.Revision != s.revision {
		c.fault("the verdict on %s at revision %d is about revision %d, and the key there %v: %s", key, revision, v.Revision, s.there, value)
		return
	}
	if s.n > 0 && !slices.Contains(s.drains[:s.n], effective) {
		c.fault("the verdict on %s at revision %d leaves in force what was not: %s; possible was %+v", key, revision, value, s.drains[:s.n])
	} else if s.pending {
		if v.Accepted && effective != s.asked {
			c.fault("the verdict on %s at revision %d contradicts itself: %s", key, revision, value)
		}
		if simple := s.asked.percent > 0 && !s.asked.force; simple && (v.Accepted && !s.accepts || !v.Accepted && !s.refuses) {
			c.fault("the verdict on %s at revision %d is wrong by the guard: %s", key, revision, value)
		}
	}
	s.pending = false
	s.set(effective)
}

// record enters a transition.
func (c *content) record(s *subject, value string, deleted bool, began time.Duration) {
	var r struct {
		From, To string
		Since    time.Time
	}
	if s == nil || deleted || json.Unmarshal([]byte(value), &r) != nil || r.To == "" || r.Since.IsZero() {
		return // what is known stays
	}
	s.from, s.to, s.since = r.From, r.To, c.wall(r.Since)
	s.disturbed, s.moved, s.ceased = false, false, 0
	if !s.there && !strings.Contains(s.to, "drained") && s.n > 1 {
		s.set(drained{}) // somebody has seen it go, and did not hold it
	}
}

// weigh counts votes and heartbeats, and notes whether the record may be behind.
func (c *content) weigh(s *subject, i int, began time.Duration) {
	live, down := 0, 0
	for _, b := range s.votes {
		if b.probe == "" || c.probes[b.probe] {
			live++
			if b.down {
				down++
			}
		}
	}
	recorded, was := strings.Contains(s.to, "down"), s.sick
	quorum := max(live/2+1, min(2, len(s.votes)))
	switch {
	case len(s.votes) == 0 || live-down >= quorum:
		s.sick, s.moved = no, s.moved || recorded
	case down >= quorum:
		s.sick, s.moved = yes, s.moved || !recorded
	case s.moved:
		s.sick = unsure
	case recorded:
		s.sick = yes
	default:
		s.sick = no
	}
	if i < len(chaosRegions) && slices.Contains(beatingRegions, chaosRegions[i].name) && len(s.beats) == 0 {
		switch {
		case strings.Contains(s.to, "silent"):
			s.sick = yes
		case !strings.Contains(s.to, "excused"):
			s.sick = s.sick.or(unsure)
		}
	}
	if s.sick == no && was != no {
		s.well = began
	}
	out := s.isDrained().or(s.sick)
	switch {
	case isOut(s.to) && out != yes && s.ceased == 0:
		s.ceased = max(began, 1)
	case !isOut(s.to) && out != no:
		s.disturbed = true
	}
}

// guard notes what may become of writes that are not judged yet.
func (c *content) guard(now time.Duration) {
	for i := range c.subjects {
		s := &c.subjects[i]
		if !s.pending || s.asked.percent == 0 || s.asked.force {
			continue
		}
		least, most, all := c.weight(i, now)
		surely, maybe := c.stranded(i, now)
		s.accepts = s.accepts || least <= chaosMaxOut*all && !surely
		s.refuses = s.refuses || most > chaosMaxOut*all || maybe
	}
}

// away returns the share of a service that a region may not serve, if the newest
// write at subject asked counts.
func (c *content) away(service, region, asked int, now time.Duration) (least, most int) {
	for _, i := range []int{region, service*len(chaosRegions) + region} {
		low, high := c.subjects[i].takes(now, c.wrong)
		if i == asked {
			low, high = c.subjects[i].asked.takes(now, c.wrong)
		}
		least, most = max(least, low), max(most, high)
	}
	return least, most
}

// weight returns the weight that would be out with the write at a subject, in
// percent, and all of it.
func (c *content) weight(asked int, now time.Duration) (least, most, all int) {
	service := asked / len(chaosRegions)
	for i, r := range chaosRegions {
		if chaosServices[service].has(r.name) {
			low, high := c.away(service, i, asked, now)
			least, most, all = least+low, most+high, all+1
		}
	}
	return least, most, all
}

// stranded reports whether the write at a subject would surely, or maybe, leave a
// service with no region.
func (c *content) stranded(asked int, now time.Duration) (surely, maybe bool) {
	for service := range chaosServices {
		s := &chaosServices[service]
		sure, may := true, true
		for i, r := range chaosRegions {
			if s.has(r.name) || s.last == r.name {
				low, high := c.away(service, i, asked, now)
				sure, may = sure && low == 100, may && high == 100
			}
		}
		surely, maybe = surely || sure, maybe || may
	}
	return surely, maybe
}

func (c *content) meansDrain(value string) (d drained, understood bool) {
	if isRubbish(value) {
		return d, false
	}
	switch value = strings.TrimSpace(value); value {
	case "", "true":
		return drained{percent: 100}, true
	case "false":
		return d, true
	}
	if share, is := strings.CutSuffix(value, "%"); is {
		n, err := strconv.Atoi(share)
		return drained{percent: n}, err == nil && n >= 0 && n <= 100
	}
	var v struct {
		Percent    *int
		At, Until  time.Time
		Reason, By string
		Force      bool
	}
	decoder := json.NewDecoder(bytes.NewBufferString(value))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&v); err != nil {
		return d, false
	}
	d = drained{percent: 100, force: v.Force}
	if v.Percent != nil {
		d.percent = *v.Percent
	}
	if !v.At.IsZero() {
		d.at = c.wall(v.At)
	}
	if !v.Until.IsZero() {
		d.until = c.wall(v.Until)
	}
	return d, true
}

func meansVote(value string) (b ballot, understood bool) {
	if isRubbish(value) || value == "" {
		return b, false
	}
	fields := struct{ Status, Probe string }{Status: value}
	if value[0] == '{' && json.Unmarshal([]byte(value), &fields) != nil {
		return b, false
	}
	return ballot{fields.Status == "down", fields.Probe}, fields.Status == "down" || fields.Status == "up"
}

func isRubbish(value string) bool {
	for _, r := range rubbish {
		if value == r && r != "" {
			return true
		}
	}
	return false
}

// choicesOf returns who may answer a client who tries the regions in that order.
func choicesOf(prospects []prospect, service int, order []int, w window, f forced) (may choices) {
	s := &chaosServices[service]
	stands := make([]rungs, len(chaosRegions))
	for i := range chaosRegions {
		stands[i] = prospects[i].rungs(w)
		if service > 0 {
			stands[i] = stands[i].under(prospects[service*len(chaosRegions)+i].rungs(w))
		}
		switch {
		case f.drain.has(i):
			stands[i] = gone
		case f.up.has(i):
			stands[i] = open
		}
	}
	for rung := open; rung <= sick; rung <<= 1 {
		if rung == sick && s.last != "any" {
			break
		}
		for _, i := range order {
			if !s.has(chaosRegions[i].name) {
				continue
			}
			if stands[i]&rung != 0 {
				may |= only(i)
			}
			if stands[i] < rung<<1 { // it is on this rung, or on a better one
				return may
			}
		}
	}
	for i, r := range chaosRegions {
		if r.name == s.last {
			if stands[i] != gone {
				may |= only(i)
			}
			if stands[i]&gone == 0 {
				return may
			}
		}
	}
	return may | only(none)
}
