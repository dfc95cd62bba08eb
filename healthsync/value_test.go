package healthsync

import (
	"strings"
	"testing"
	"time"

	"nearside/regions"
)

func TestParseDrain(t *testing.T) {
	on, at := regions.Drain{Percent: 100}, time.Date(2026, 11, 23, 18, 0, 0, 0, time.UTC)
	for value, want := range map[string]regions.Drain{
		"": on, " \r\n\t": on, "true": on, " true\n": on, "100%": on, "{}": on, `{ }`: on, "false": {}, "0%": {}, " 0% ": {},
		`{"reason":"cables","by":"ann"}`: {Percent: 100, Reason: "cables", By: "ann"},
		` {"by":"\u00e9"} `:              {Percent: 100, By: "é"},
		strings.Repeat(" ", maxValue):    on,
		"50%":                            {Percent: 50}, "1%": {Percent: 1}, `{"percent":50}`: {Percent: 50}, `{"percent":0,"by":"ann"}`: {By: "ann"}, `{"force":true}`: {Percent: 100, Force: true}, `{"force":false}`: on,
		`{"at":"2026-11-23T18:00:00Z"}`: {Percent: 100, At: at}, `{"until":"2026-11-23T19:00:00+01:00"}`: {Percent: 100, Until: at},
		`{"at":"2026-11-23T18:00:00Z","until":"2026-11-23T18:00:00.001Z","percent":7}`: {Percent: 7, At: at, Until: at.Add(time.Millisecond)},
	} {
		if got, err := ParseDrain([]byte(value)); err != nil || got != want {
			t.Errorf("%q is %+v, %v", value, got, err)
		}
	}
	for value, want := range map[string]string{
		"yes": "not a drain", "True": "not a drain", "[]": "not a drain", "null": "not a drain", "50": "not a drain",
		"\xff": "not UTF-8", strings.Repeat(" ", maxValue+1): "more than 16384 octets",
		"101%": "whole number", "-1%": "whole number", "+5%": "whole number", "05%": "whole number", "5.0%": "whole number", "5 %": "whole number", "%": "whole number", "1e1%": "whole number",
		`{"percent":101}`: `"percent": a percentage is a whole number`, `{"percent":5.0}`: "whole number", `{"percent":-0}`: "whole number", `{"percent":"50"}`: `field "percent": a number is wanted`,
		`{"at":"2026-11-23T18:00:00"}`: `"at" is no time of RFC 3339 with a zone`, `{"until":"2026-11-23 18:00:00Z"}`: `"until" is no time`, `{"at":"2026-11-23T18:00:00,5Z"}`: "no time", `{"at":1}`: "a string is wanted",
		`{"at":"2026-11-23T18:00:00Z","until":"2026-11-23T19:00:00+01:00"}`: `"until" is not after "at"`, `{"at":"0001-01-01T00:00:00Z"}`: "no time",
		`{"force":"true"}`: `field "force": true or false is wanted`, `{"force":null}`: "true or false is wanted",
		`{"reason":"a","reason":"b"}`: `field "reason" is given twice`,
		`{"By":"ann"}`:                "unknown field By",
		`{"by":null}`:                 `field "by": a string is wanted`, `{"by":7}`: `field "by": a string is wanted`,
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
		`{"status":"up","probe":"p1","load":0.50}`:                    {Probe: "p1", Load: "0.50"},
	} {
		if got, err := ParseVote([]byte(value)); err != nil || got != want {
			t.Errorf("%q is %+v, %v", value, got, err)
		}
	}
	for value, want := range map[string]string{
		"": "not a vote", "DOWN": "not a vote", "true": "not a vote", "{}": "not a vote", `{"status":"sick"}`: "not a vote", "\xff": "not UTF-8",
		`{"status":"up","status":"down"}`: "given twice", `{"status":"up","probe":""}`: "no name of a probe host", `{"status":"up","probe":"a\nb"}`: "no name", `{"status":"up","load":"0.5"}`: "a number is wanted", `{"status":"up","reason":"x"}`: "unknown field reason", `{"status":true}`: "a string is wanted",
		`{"status":"up","since":""}`: "RFC 3339", `{"status":"up","since":"2026-11-23T18:00:00"}`: "RFC 3339",
	} {
		if got, err := ParseVote([]byte(value)); err == nil || !strings.Contains(err.Error(), want) || got != (regions.Vote{}) {
			t.Errorf("%q is %+v, %v", value, got, err)
		}
	}
}
