package healthsync

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"nearside/regions"
)

// TestRules replays testdata/rules/*.txt. A file holds regions, perhaps services,
// names and policy, and a script, with one thing on a line:
//
//	REGION [weight=N] [heartbeat] [standby]
//	SERVICE [names=NAME,...] [regions=REGION,...] [failover] [ttl=N] [exhausted=any|none|REGION]
//	NAME REGION...
//	[max_out=N%] [hold=DURATION] [ramp=DURATION] [ttl=N]
//
// The script writes to etcd, lets time pass, and says what follows. A subject is
// REGION or SERVICE/REGION; times are those of one day.
//
//	at TIME [any other line]
//	put KEY [VALUE] | del KEY | del KEY*, joined by && to one transaction
//	frozen | confirmed                 etcd answers nobody; it does again
//	restart                            all servers, from what they have on disk
//	accept                             the operator lets go of what is held
//	expect SUBJECT STATUS [since TIME] [away N] [hold TIME] [ramp TIME] [ttl N] [tied] [blind] [planned] [overdue] [unmonitored]
//	verdict KEY accepted|refused|held|unknown|none [effective VALUE] ["WORDS"]
//	transition SUBJECT FROM -> TO since TIME | transition SUBJECT none
//	answers NAME CLIENT [prefer REGION,...] -> REGION [ttl N] | answers ... -> nothing
//	next TIME | next never
//	alarm "WORDS" | alarm none
//	written N                          records by servers since the line before of this kind
//
// Writes between two other lines are a burst: one server hears of each by itself, one
// of all at once, one lists what is there in the end, and one restarts and lists. They
// write what they owe, each of them first in one of four runs, and then all of them, and
// one that starts now, must agree.
func TestRules(t *testing.T) {
	files, err := filepath.Glob("testdata/rules/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for first, h := range hearing {
				r, err := newRules(t, file, archive, slices.Concat(hearing[first:], hearing[:first]))
				if err != nil {
					t.Fatal(err)
				}
				for _, err := range r.run() {
					t.Errorf("%v (%s writes first)", err, h.name)
				}
			}
		})
	}
}

// A line that means nothing is told of with file and line, and so is a rule that is
// broken.
func TestRulesFaults(t *testing.T) {
	const head = "-- regions --\neu weight=100\nus weight=100\n-- script --\n"
	for _, c := range []struct{ text, want string }{
		{"-- script --\nsing\n", `x.txt:2: "sing": no such line`},
		{head + "put\n", `x.txt:5: "put": no such line`},
		{head + "put regions/eu/drain && wipe x\n", `x.txt:5: "wipe x": nothing to write or to delete`},
		{head + "del regions/eu/drain\n", `x.txt:5: "del regions/eu/drain": nothing to write or to delete`},
		{head + "at noon\n", `x.txt:5: "noon": no time such as 18:00:05`},
		{head + "at 19:00:00\nat 18:00:00\n", `x.txt:6: "18:00:00": that is past`},
		{head + "expect mars up\n", `x.txt:5: "mars": no such region, or service in one`},
		{head + "expect x/eu up\n", `x.txt:5: "x/eu": no such region, or service in one`},
		{head + "expect eu drained\n", `x.txt:5: eu is "up" for each, not "drained"`},
		{head + "answers play 192.0.2.1 -> eu\n", `x.txt:5: "play": no such name`},
		{head + "verdict regions/eu/drain maybe\n", `x.txt:5: "verdict regions/eu/drain maybe": no such line`},
		{head + "frozen\nfrozen\n", `x.txt:6: "frozen": it is so already`},
		{head + "put regions/eu/drain true\nverdict regions/eu/drain refused\n", `x.txt:6: the verdict on regions/eu/drain is {"revision":1,"accepted":true,"effective":"true","server":"each"}`},
		{head + "written some\n", `x.txt:5: "written some": no such line`},
		{"-- regions --\neu weight=heavy\n-- script --\n", `x.txt:2: "weight=heavy": strconv.Atoi: parsing "heavy": invalid syntax`},
		{"-- regions --\neu\n-- services --\nall failover\nfew regions=us\n-- script --\n", `x.txt:5: "regions=us": "us": no such region, or service in one`},
		{"-- regions --\neu\n-- names --\nplay eu mars\n", `x.txt:4: "mars": no such region, or service in one`},
		{"-- regions --\neu\n-- policy --\nhold=long\n", `x.txt:4: "hold=long": time: invalid duration "long"`},
		{"-- regions --\neu\n", `x.txt: it has no script`},
		{"-- regions --\neu\n-- polices --\n", `x.txt: no such file in it: polices`},
	} {
		var got []string
		if r, err := newRules(t, "x.txt", txtar.Parse([]byte(c.text)), hearing); err != nil {
			got = append(got, err.Error())
		} else {
			for _, err := range r.run() {
				got = append(got, err.Error())
			}
		}
		if len(got) != 1 || got[0] != c.want {
			t.Errorf("%q: it says %q, not %q", c.text, got, c.want)
		}
	}
}

// rules is a script at work.
type rules struct {
	*world
	file   string
	first  int // line of the script in the file
	script string
	names  map[string]regions.Steered
	told   int   // of the records written
	ears   []ear // of the servers, in the order in which they write
}

// ear is a server by how it hears of what is written.
type ear struct {
	name string
	hear func(*world, *listener)
}

// hearing is all of them.
var hearing = []ear{
	{"each", func(w *world, s *listener) {
		for s.heard < w.revision {
			w.hear(s, 1)
		}
		w.evaluate(s)
	}},
	{"batch", func(w *world, s *listener) { w.hear(s, len(w.history)) }},
	{"list", (*world).list},
	{"restart", func(w *world, s *listener) { w.restart(s); w.list(s) }},
}

// lines is what a line of a script may be, and what it does with its parts.
var lines = []struct {
	form *regexp.Regexp
	do   func(r *rules, part []string) error
}{
	{regexp.MustCompile(`^((?:put|del) \S.*)$`), (*rules).write},
	{regexp.MustCompile(`^(frozen|confirmed)$`), (*rules).freeze},
	{regexp.MustCompile(`^restart$`), (*rules).restartAll},
	{regexp.MustCompile(`^accept$`), (*rules).accept},
	{regexp.MustCompile(`^expect (\S+) (\S.*)$`), (*rules).expect},
	{regexp.MustCompile(`^verdict (\S+) (accepted|refused|held|unknown|none)(?: effective (\S+))?(?: "(.*)")?$`), (*rules).expectVerdict},
	{regexp.MustCompile(`^transition (\S+) (?:(none)|(\S+) -> (\S+) since (\S+))$`), (*rules).expectTransition},
	{regexp.MustCompile(`^answers (\S+) (\S+)(?: prefer (\S+))? -> (\S.*)$`), (*rules).expectAnswer},
	{regexp.MustCompile(`^next (\S+)$`), (*rules).expectNext},
	{regexp.MustCompile(`^alarm (?:(none)|"(.*)")$`), (*rules).expectAlarm},
	{regexp.MustCompile(`^written (\d+)$`), (*rules).expectWritten},
}

var atForm = regexp.MustCompile(`^at (\S+)(?: (.*))?$`)

// run goes through the script and returns what is wrong, with file and line.
func (r *rules) run() (faults []error) {
	number, done := r.first, false
	defer func() {
		if !done {
			r.t.Logf("at %s:%d", r.file, number)
		}
	}()
	for text := range strings.Lines(r.script) {
		text, _, _ = strings.Cut(strings.TrimSpace(text), "#")
		if err := r.line(strings.TrimSpace(text)); err != nil {
			faults = append(faults, fmt.Errorf("%s:%d: %w", r.file, number, err))
		}
		number++
	}
	done = true
	return faults
}

func (r *rules) line(text string) error {
	if at := atForm.FindStringSubmatch(text); at != nil {
		if err := r.advance(at[1]); err != nil {
			return err
		}
		text = at[2]
	}
	if text == "" {
		return nil
	}
	for _, l := range lines {
		if part := l.form.FindStringSubmatch(text); part != nil {
			return l.do(r, part)
		}
	}
	return fmt.Errorf("%q: no such line", text)
}

// advance lets time pass, and nothing that happens meanwhile is missed.
func (r *rules) advance(word string) error {
	end, err := timeOf(word)
	if err != nil {
		return err
	}
	if end.Before(r.now) {
		return fmt.Errorf("%q: that is past", word)
	}
	r.settle()
	for r.now.Before(end) {
		next := end
		for _, s := range r.servers {
			for _, at := range []time.Time{s.state.Next, s.state.Return, s.next} {
				if at.After(r.now) && at.Before(next) {
					next = at
				}
			}
		}
		r.now = next
		r.settle()
	}
	return nil
}

// settle lets the servers hear of everything, and write what they owe.
func (r *rules) settle() {
	for range 1000 {
		for i, s := range r.servers {
			if r.lost.IsZero() {
				r.ears[i].hear(r.world, s)
			} else {
				r.evaluate(s)
			}
		}
		if !r.lost.IsZero() {
			return
		}
		if !slices.ContainsFunc(r.servers, r.scribe) {
			r.agree()
			return
		}
	}
	r.t.Fatalf("%s: the servers do not come to rest", r.file)
}

// write is a transaction.
func (r *rules) write(part []string) error {
	var pairs []string
	for text := range strings.SplitSeq(part[1], " && ") {
		verb, rest, _ := strings.Cut(text, " ")
		key, value, _ := strings.Cut(rest, " ")
		prefix, many := strings.CutSuffix(key, "*")
		switch {
		case verb == "put" && key != "" && !many:
			pairs = append(pairs, key, value)
		case verb == "del" && many:
			for key := range r.keys {
				if strings.HasPrefix(key, prefix) {
					pairs = append(pairs, key, "-")
				}
			}
		case verb == "del" && r.keys[key].revision > 0:
			pairs = append(pairs, key, "-")
		default:
			return fmt.Errorf("%q: nothing to write or to delete", text)
		}
	}
	r.put(pairs...)
	return nil
}

func (r *rules) freeze(part []string) error {
	r.settle()
	if freeze := part[1] == "frozen"; freeze == r.lost.IsZero() {
		r.lost = time.Time{}
		if freeze {
			r.lost = r.now
		}
		return nil
	}
	return fmt.Errorf("%q: it is so already", part[1])
}

func (r *rules) restartAll([]string) error {
	r.settle()
	for _, s := range r.servers {
		r.restart(s)
	}
	return nil
}

func (r *rules) accept([]string) error {
	r.settle()
	if !r.servers[0].release() {
		return errors.New("nothing is held")
	}
	return nil
}

func (r *rules) expect(part []string) error {
	r.settle()
	key, err := subjectOf(r.table, part[1])
	if err != nil {
		return err
	}
	for _, s := range r.servers {
		if got := r.standing(s.state, key, part[2]); got != part[2] {
			return fmt.Errorf("%s is %q for %s, not %q", part[1], got, s.name, part[2])
		}
	}
	return nil
}

// standing says how a region, or a service in one, stands. Since when, and whether
// anybody votes, it says if it is asked.
func (r *rules) standing(state *regions.State, key regions.Key, asked string) string {
	view, own := state.View(key), state.Standings[r.table.Index(key)]
	words := []string{view.Status.String()}
	say := func(applies bool, word string) {
		if applies {
			words = append(words, word)
		}
	}
	say(strings.Contains(asked, " since "), "since "+clockOf(own.Since))
	say(view.Away > 0 && !view.Status.Out(), fmt.Sprintf("away %d", view.Away))
	say(!view.Hold.IsZero(), "hold "+clockOf(view.Hold))
	say(!view.Ramp.IsZero(), "ramp "+clockOf(view.Ramp))
	say(view.TTL != regions.NoCap, fmt.Sprintf("ttl %d", view.TTL))
	say(own.Tied, "tied")
	say(own.Blind(), "blind")
	say(own.Planned, "planned")
	say(own.Overdue, "overdue")
	say(own.Unmonitored() && strings.Contains(asked, "unmonitored"), "unmonitored")
	return strings.Join(words, " ")
}

func (r *rules) expectVerdict(part []string) error {
	r.settle()
	key, word, effective, why := part[1], part[2], part[3], part[4]
	w, there := r.keys["verdicts/"+key]
	if !there {
		if word == "none" {
			return nil
		}
		return fmt.Errorf("there is no verdict on %s", key)
	}
	var v Verdict
	if err := json.Unmarshal(w.value, &v); err != nil {
		return err
	}
	is := "refused"
	switch {
	case v.Held:
		is = "held"
	case v.Unknown:
		is = "unknown"
	case v.Accepted:
		is = "accepted"
	}
	inForce := "null"
	if v.Effective != nil {
		inForce = strconv.Quote(*v.Effective)
	}
	if is != word || effective != "" && effective != inForce && strconv.Quote(effective) != inForce || !strings.Contains(v.Why, why) {
		return fmt.Errorf("the verdict on %s is %s", key, w.value)
	}
	return nil
}

func (r *rules) expectTransition(part []string) error {
	r.settle()
	subject, none, want := part[1], part[2] != "", part[3:]
	w, there := r.keys["transitions/"+subject]
	if none && !there {
		return nil
	}
	record, err := readRecord(w.value)
	if !there || err != nil {
		return fmt.Errorf("the transition of %s is %q", subject, w.value)
	}
	if got := []string{record.From.String(), record.To.String(), clockOf(record.Since)}; !slices.Equal(got, want) {
		return fmt.Errorf("the transition of %s is %v, not %v", subject, got, want)
	}
	return nil
}

func (r *rules) expectAnswer(part []string) error {
	r.settle()
	name, known := r.names[part[1]]
	if !known {
		return fmt.Errorf("%q: no such name", part[1])
	}
	client, err := netip.ParseAddr(part[2])
	prefer := r.table.Listed()
	if err == nil && part[3] != "" {
		prefer, err = regionList(r.table, part[3])
	}
	if err != nil {
		return err
	}
	for id := range r.table.All().All() {
		if !slices.Contains(prefer, id) {
			prefer = append(prefer, id)
		}
	}
	for _, s := range r.servers {
		got := "nothing"
		if id, ok := s.state.Choose(prefer, name.Regions, name.Service, client); ok {
			got = r.table.Name(id)
			if strings.Contains(part[4], " ttl ") {
				got += fmt.Sprintf(" ttl %d", min(r.table.TTL(name.Service), s.state.TTL(id, name.Service)))
			}
		}
		if got != part[4] {
			return fmt.Errorf("%s answers %s, not %s", s.name, got, part[4])
		}
	}
	return nil
}

func (r *rules) expectNext(part []string) error {
	r.settle()
	for _, s := range r.servers {
		next := s.state.Next
		if back := s.state.Return; next.IsZero() || !back.IsZero() && back.Before(next) {
			next = back
		}
		got := "never"
		if !next.IsZero() {
			got = clockOf(next)
		}
		if got != part[1] {
			return fmt.Errorf("the state of %s changes at %s, not at %s", s.name, got, part[1])
		}
	}
	return nil
}

func (r *rules) expectAlarm(part []string) error {
	r.settle()
	for _, s := range r.servers {
		var alarms []string
		raise := func(format string, args ...any) { alarms = append(alarms, fmt.Sprintf(format, args...)) }
		now := func() time.Time { return r.now }
		sync := &Sync{config: Config{Table: r.table, Steered: r.steered}, now: now, ledger: s.ledger, state: s.state}
		sync.stateAlarms(raise)
		tells := func(alarm string) bool { return strings.Contains(alarm, part[2]) }
		if none := part[1] != ""; none && len(alarms) > 0 || !none && !slices.ContainsFunc(alarms, tells) {
			return fmt.Errorf("the alarms of %s are %q", s.name, alarms)
		}
	}
	return nil
}

func (r *rules) expectWritten(part []string) error {
	r.settle()
	written := r.written - r.told
	r.told = r.written
	if got := strconv.Itoa(written); got != part[1] {
		return fmt.Errorf("%s records were written, not %s", got, part[1])
	}
	return nil
}
