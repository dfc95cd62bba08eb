package healthsync

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"nearside/printable"
	"nearside/regions"
)

// maxValue bounds a value in octets. A reason fits many times over; a longer
// value is an accident, and the state file keeps every value it understands.
const maxValue = 16 << 10

// ParseDrain reads the value of a drain key: nothing or true (drained), false, a
// percentage such as 50%, or a JSON object with percent, at, until, reason, by and
// force (drained, if it says nothing else).
func ParseDrain(value []byte) (regions.Drain, error) {
	text, err := trim(value)
	switch {
	case err != nil:
		return regions.Drain{}, err
	case text == "", text == "true":
		return regions.Drain{Percent: 100}, nil
	case text == "false":
		return regions.Drain{}, nil
	case strings.HasPrefix(text, "{"):
		return parseDrainObject(text)
	}
	number, isShare := strings.CutSuffix(text, "%")
	if !isShare {
		return regions.Drain{}, errors.New(`not a drain: write nothing, true, false, a percentage such as 50%, ` +
			`or a JSON object with "percent", "at", "until", "reason", "by" and "force"`)
	}
	percent, err := parsePercent(number)
	return regions.Drain{Percent: percent}, err
}

func parseDrainObject(text string) (regions.Drain, error) {
	fields, err := parseObject(text, map[string]fieldType{
		"percent": aNumber, "at": aString, "until": aString, "reason": aString, "by": aString, "force": aBool,
	})
	if err != nil {
		return regions.Drain{}, err
	}
	d := regions.Drain{Percent: 100, Reason: fields["reason"], By: fields["by"], Force: fields["force"] == "true"}
	if number, given := fields["percent"]; given {
		if d.Percent, err = parsePercent(number); err != nil {
			return regions.Drain{}, fmt.Errorf(`"percent": %w`, err)
		}
	}
	if d.At, err = parseTime(fields, "at"); err != nil {
		return regions.Drain{}, err
	}
	if d.Until, err = parseTime(fields, "until"); err != nil {
		return regions.Drain{}, err
	}
	if !d.Until.IsZero() && !d.Until.After(d.At) {
		return regions.Drain{}, errors.New(`"until" is not after "at"`)
	}
	return d, nil
}

// parsePercent reads a whole number from 0 to 100.
func parsePercent(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 7)
	if err != nil || n > 100 || strconv.FormatUint(n, 10) != text { // no leading zero
		return 0, errors.New("a percentage is a whole number from 0 to 100")
	}
	return int(n), nil
}

// rfc3339 is the form of a time: time.Parse takes more.
var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// parseTime reads a field that holds a time, if it is given.
func parseTime(fields map[string]string, name string) (time.Time, error) {
	text, given := fields[name]
	if !given {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || !rfc3339.MatchString(text) || t.IsZero() {
		return time.Time{}, fmt.Errorf("%q is no time of RFC 3339 with a zone, such as 2026-11-23T18:00:00Z", name)
	}
	return t.UTC(), nil
}

// ParseVote reads the value of a health key: up, down, or a JSON object with
// status (up or down), probe, since (RFC 3339), load (a number) and detail.
func ParseVote(value []byte) (regions.Vote, error) {
	text, err := trim(value)
	if err != nil {
		return regions.Vote{}, err
	}
	fields := map[string]string{"status": text}
	if strings.HasPrefix(text, "{") {
		if fields, err = parseObject(text, map[string]fieldType{
			"status": aString, "probe": aString, "since": aString, "load": aNumber, "detail": aString,
		}); err != nil {
			return regions.Vote{}, err
		}
	}
	vote := regions.Vote{Probe: fields["probe"], Since: fields["since"], Load: fields["load"], Detail: fields["detail"]}
	switch fields["status"] {
	case "up":
	case "down":
		vote.Down = true
	default:
		return regions.Vote{}, errors.New(`not a vote: write up, down, or a JSON object with "status" (up or down), "probe", "since", "load" and "detail"`)
	}
	if host, given := fields["probe"]; given && checkName(host) != nil {
		return regions.Vote{}, errors.New(`"probe" is no name of a probe host: leave it out for a vote that is always live`)
	}
	if _, err := parseTime(fields, "since"); err != nil {
		return regions.Vote{}, err
	}
	return vote, nil
}

// trim returns the value as text, without the white space around it.
func trim(value []byte) (string, error) {
	switch {
	case len(value) > maxValue:
		return "", fmt.Errorf("the value has more than %d octets", maxValue)
	case !utf8.Valid(value):
		return "", errors.New("the value is not UTF-8")
	}
	return string(bytes.TrimSpace(value)), nil
}

// fieldType is what a field of an object must be, in the words of the error.
type fieldType string

const (
	aString fieldType = "a string"
	aNumber fieldType = "a number"
	aBool   fieldType = "true or false"
)

// parseObject reads one JSON object, whose fields are each one of known and given at
// most once. It returns them as text: of a number, that is how it was written.
// encoding/json alone would take "BY" for by, null for a string, and the last of
// two fields of one name.
func parseObject(text string, known map[string]fieldType) (map[string]string, error) {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return nil, errors.New("the value is not a JSON object")
	}
	fields := make(map[string]string, len(known))
	for decoder.More() {
		name, is, err := parseField(decoder)
		if err == nil && is != aString {
			err = errors.New("a name is wanted")
		}
		if err != nil {
			return nil, fmt.Errorf("the value is not correct JSON: %w", err)
		}
		want, here := known[name]
		if !here {
			return nil, fmt.Errorf("unknown field %s: this version knows %s", printable.Cut(name, maxShown), strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		if _, twice := fields[name]; twice {
			return nil, fmt.Errorf("field %q is given twice", name)
		}
		if fields[name], is, err = parseField(decoder); err == nil && is != want {
			err = fmt.Errorf("%s is wanted", want)
		}
		if err != nil {
			return nil, fmt.Errorf("field %q: %w", name, err)
		}
	}
	if _, err := decoder.Token(); err != nil { // the closing brace
		return nil, fmt.Errorf("the value is not correct JSON: %w", noEOF(err))
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("something follows the JSON object")
	}
	return fields, nil
}

// parseField reads a name or a value. What is neither string, number nor bool has
// no type.
func parseField(decoder *json.Decoder) (string, fieldType, error) {
	token, err := decoder.Token()
	if err != nil {
		return "", "", noEOF(err)
	}
	switch v := token.(type) {
	case string:
		return v, aString, nil
	case json.Number:
		return v.String(), aNumber, nil
	case bool:
		return strconv.FormatBool(v), aBool, nil
	}
	return "", "", nil
}

// noEOF says in words what io.EOF means inside a value.
func noEOF(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errors.New("it ends too early")
	}
	return err
}
