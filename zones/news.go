package zones

import (
	"cmp"
	"slices"

	"github.com/rs/zerolog"
)

// maxNews is how many zones a reload names in the log one by one; more are
// summed up in one line.
const maxNews = 50

// What news can be of a zone, as the log says it.
const (
	newsLoaded    = "zone loaded"
	newsReloaded  = "zone reloaded"
	newsRecovered = "zone is well again"
	newsGone      = "zone is no longer served: no file has it"
)

// news is what the log is to say of one zone.
type news struct {
	what   string
	before *Status // nil: the zone is new, or all that is known is its name
	after  *Status
}

// newsOf compares what was shown of a member, nil for nothing, with what is
// shown now. What went wrong is no news: its faults are in the log.
func newsOf(before, after *Status) (n news, ok bool) {
	switch {
	case after.State != StateOK:
		return news{}, false
	case before == nil:
		return news{newsLoaded, nil, after}, true
	case before.State != StateOK:
		return news{newsRecovered, before, after}, true
	case before.Origin != after.Origin:
		return news{newsLoaded, nil, after}, true
	}
	return news{newsReloaded, before, after}, !before.Loaded.Equal(after.Loaded)
}

// report writes news to the log. gone is the origins of zones that went.
func (s *Store) report(list []news, gone []string) {
	for _, origin := range gone {
		list = append(list, news{newsGone, nil, &Status{Origin: origin}})
	}
	if len(list) > maxNews {
		s.sumUp(list)
		return
	}
	slices.SortFunc(list, func(a, b news) int { return cmp.Compare(a.after.Origin, b.after.Origin) })
	for _, n := range list {
		n.write(s.Log.Info())
	}
}

func (n news) write(line *zerolog.Event) {
	line.Str("zone", n.after.Origin)
	if n.what == newsRecovered {
		line.Str("state_before", n.before.State)
	}
	if n.before != nil && n.before.Records > 0 {
		line.Uint32("serial_before", n.before.Serial)
	}
	if n.what != newsGone {
		line.Uint32("serial", n.after.Serial).Int("records", n.after.Records)
	}
	line.Msg(n.what)
}

// sumUp writes one line about many zones.
func (s *Store) sumUp(list []news) {
	by := make(map[string]int)
	for _, n := range list {
		by[n.what]++
	}
	s.Log.Info().Int("loaded", by[newsLoaded]).Int("reloaded", by[newsReloaded]).
		Int("well_again", by[newsRecovered]).Int("gone", by[newsGone]).Msg("many zones changed")
}
