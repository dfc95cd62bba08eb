package healthsync

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"nearside/journal"
	"nearside/printable"
	"nearside/regions"
)

// report tells the log and the journal what happened and what follows from it.
func (s *Sync) report(old, state *regions.State, news news) {
	for _, e := range news.list {
		s.append(e)
		s.logInput(e)
	}
	if news.dropped > 0 {
		s.config.Log.Warn().Int("writes", news.dropped).Msg("more was written at once than the journal can take")
	}
	for i := range state.Standings {
		if e, changed := s.transition(old, state, s.config.Table.Key(i)); changed {
			s.append(e)
			logTransition(s.config.Log.Info(), e)
		}
	}
}

func (s *Sync) append(e journal.Entry) {
	if s.config.Journal != nil {
		s.config.Journal.Append(e)
	}
}

// logInput logs what a person should look at.
func (s *Sync) logInput(e journal.Entry) {
	event := s.rejected.Warn()
	message := "not understood: changes nothing"
	switch e.Verdict {
	case journal.Accepted:
		return
	case journal.Refused:
		message = "refused: changes nothing"
	case journal.Held:
		event, message = s.config.Log.Error(), "all drains were deleted at once: it stays in force until written again or `nearside state accept`"
	case journal.Released:
		event, message = s.config.Log.Warn(), "a deleted drain that stayed in force is let go"
	}
	event.Str("key", printable.Cut(e.Key, maxShown)).Str("value", e.Value).Str("why", e.Why).Str("effective", e.Effective).Int64("revision", e.Revision).Msg(message)
}

// transition returns what changed at a key that clients feel.
func (s *Sync) transition(old, state *regions.State, k regions.Key) (journal.Entry, bool) {
	// The break-glass file is told of with the region that it names.
	standing := func(state *regions.State) regions.Standing {
		if k.Service == regions.Anyone {
			return state.View(k)
		}
		return state.Standings[s.config.Table.Index(k)]
	}
	was, is := standing(old), standing(state)
	t := journal.Entry{
		Kind: journal.Transition, Service: s.config.Table.Service(k.Service).Name, Region: s.config.Table.Name(k.Region),
		From: condition(was), To: condition(is), Since: is.Since, Revision: state.Revision,
	}
	if t.From == t.To {
		return journal.Entry{}, false
	}
	t.Key = "regions/" + t.Region
	if t.Service != "" {
		t.Key = "services/" + t.Service + "/" + t.Region
	}
	subject := state.Inputs.Subjects[s.config.Table.Index(k)]
	switch cause := was.Status ^ is.Status; {
	case k.Service == regions.Anyone && (forcedRegions(state).Has(k.Region) || forcedRegions(old).Has(k.Region)):
		t.Key, t.By = "", "the break-glass file"
	case cause&regions.Down != 0:
		t.Key += "/health"
		t.Why = voices(subject.Votes, is.Status&regions.Down != 0)
	case cause&(regions.Silent|regions.Excused) != 0:
		t.Key += "/heartbeat"
		t.Why = fmt.Sprintf("%d heartbeats live", subject.Heartbeats)
	default:
		t.Key += "/drain"
		why, by := drainNews(was, is, old.Inputs.Subjects[s.config.Table.Index(k)].Drain, subject.Drain)
		t.Why, t.By = printable.Cut(why, maxShown), printable.Cut(by, maxShown)
	}
	return t, true
}

// drainNews says why a drain changed something, and who wants it so. A deletion does
// not say whose it is.
func drainNews(was, is regions.Standing, old, drain regions.Drain) (why, by string) {
	sends := func(s regions.Standing) bool { return s.Status&regions.Drained != 0 || s.Away > 0 && s.Ramp.IsZero() }
	switch {
	case drain.Percent > 0 && sends(is):
		return drain.Reason, drain.By
	case drain.Percent == 0 && old.Percent > 0:
		return cmp.Or(drain.Reason, "its drain is gone"), drain.By
	case sends(was) && drain != old: // by one that begins later
		return cmp.Or(drain.Reason, "its drain was written again"), drain.By
	case sends(was):
		return "its drain has ended by itself", ""
	}
	return "", "" // hold or ramp are over
}

func forcedRegions(s *regions.State) regions.Set { return s.Inputs.ForcedDrain | s.Inputs.ForcedUp }

// condition says in a word how clients meet a region.
func condition(s regions.Standing) string {
	switch {
	case s.Status.Out():
	case !s.Hold.IsZero():
		return "on hold"
	case !s.Ramp.IsZero():
		return "returning"
	case s.Away > 0:
		return fmt.Sprintf("%d%% drained", s.Away)
	}
	return s.Status.String()
}

// voices lists who says what a region became, down or up, and why.
func voices(votes map[string]regions.Vote, down bool) string {
	var list []string
	for _, reporter := range slices.Sorted(maps.Keys(votes)) {
		switch v := votes[reporter]; {
		case v.Down != down:
		case v.Detail != "":
			list = append(list, reporter+" ("+v.Detail+")")
		default:
			list = append(list, reporter)
		}
	}
	switch {
	case len(list) == 0:
		return "no vote decides"
	case down:
		return printable.Cut("down say "+strings.Join(list, ", "), maxShown)
	}
	return printable.Cut("up say "+strings.Join(list, ", "), maxShown)
}

func logTransition(event *zerolog.Event, t journal.Entry) {
	for _, field := range [][2]string{{"service", t.Service}, {"region", t.Region}, {"from", t.From}, {"to", t.To}, {"reason", t.Why}, {"by", t.By}} {
		if field[1] != "" {
			event.Str(field[0], field[1])
		}
	}
	event.Int64("revision", t.Revision).Msg("region " + t.To)
}
