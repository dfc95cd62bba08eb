package healthsync

import (
	"strings"
	"testing"

	"nearside/regions"
)

func TestParseDrain(t *testing.T) {
	on := regions.Drain{On: true}
	for value, want := range map[string]regions.Drain{
		"": on, " \r\n\t": on, "true": on, " true\n": on, "100%": on, "{}": on, `{ }`: on, "false": {}, "0%": {}, " 0% ": {},
		`{"reason":"cables","by":"ann"}`: {On: true, Reason: "cables", By: "ann"},
		` {"by":"\u00e9"} `:              {On: true, By: "é"},
		strings.Repeat(" ", maxValue):    on,
	} {
		if got, err := ParseDrain([]byte(value)); err != nil || got != want {
			t.Errorf("%q is %+v, %v", value, got, err)
		}
	}
	for value, want := range map[string]string{
		"50%": "not a drain", "yes": "not a drain", "True": "not a drain", "[]": "not a drain", "null": "not a drain",
		"\xff": "not UTF-8", strings.Repeat(" ", maxValue+1): "more than 16384 octets",
		`{"reason":"a","reason":"b"}`: `field "reason" is given twice`,
		`{"By":"ann"}`:                "unknown field By", `{"percent":50}`: "unknown field percent", `{"force":true}`: "unknown field force",
		`{"by":null}`: `field "by": a string is wanted`, `{"by":7}`: `field "by": a string is wanted`,
		`{"by":"ann"`: "it ends too early", `{"by":"ann"} x`: "something follows", `{"by":"ann"}{}`: "something follows", `{by:"ann"}`: "not correct JSON",
	} {
		if got, err := ParseDrain([]byte(value)); err == nil || !strings.Contains(err.Error(), want) || got != (regions.Drain{}) {
			t.Errorf("%.40q is %+v, %v", value, got, err)
		}
	}
}

func TestParseVote(t *testing.T) {
	const since = "2026-11-23T18:00:00+01:00"
	for value, want := range map[string]regions.Vote{
		"up": {}, " down\n": {Down: true}, `{"status":"up"}`: {},
		`{"status":"down","since":"` + since + `","detail":"3 of 3"}`: {Down: true, Since: since, Detail: "3 of 3"},
	} {
		if got, err := ParseVote([]byte(value)); err != nil || got != want {
			t.Errorf("%q is %+v, %v", value, got, err)
		}
	}
	for value, want := range map[string]string{
		"": "not a vote", "DOWN": "not a vote", "true": "not a vote", "{}": "not a vote", `{"status":"sick"}`: "not a vote", "\xff": "not UTF-8",
		`{"status":"up","status":"down"}`: "given twice", `{"status":"up","probe":"p"}`: "unknown field probe", `{"status":true}`: "a string is wanted",
		`{"status":"up","since":""}`: "RFC 3339", `{"status":"up","since":"2026-11-23T18:00:00"}`: "RFC 3339",
	} {
		if got, err := ParseVote([]byte(value)); err == nil || !strings.Contains(err.Error(), want) || got != (regions.Vote{}) {
			t.Errorf("%q is %+v, %v", value, got, err)
		}
	}
}
