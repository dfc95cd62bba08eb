package healthsync

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"nearside/printable"
	"nearside/regions"
)

// maxValue bounds a value in octets. A reason fits many times over; a longer
// value is an accident, and the state file keeps every value it understands.
const maxValue = 16 << 10

// ParseDrain reads the value of a drain key: nothing, true or 100% (drained),
// false or 0% (not drained), or a JSON object with reason and by (drained).
func ParseDrain(value []byte) (regions.Drain, error) {
	text, err := trim(value)
	if err != nil {
		return regions.Drain{}, err
	}
	switch text {
	case "", "true", "100%":
		return regions.Drain{Percent: 100}, nil
	case "false", "0%":
		return regions.Drain{}, nil
	}
	if text[0] != '{' {
		return regions.Drain{}, errors.New(`not a drain: write nothing, true, 100%, false, 0%, or a JSON object with "reason" and "by"`)
	}
	fields, err := parseObject(text, "reason", "by")
	if err != nil {
		return regions.Drain{}, err
	}
	return regions.Drain{Percent: 100, Reason: fields["reason"], By: fields["by"]}, nil
}

// ParseVote reads the value of a health key: up, down, or a JSON object with
// status (up or down), since (RFC 3339) and detail.
func ParseVote(value []byte) (regions.Vote, error) {
	text, err := trim(value)
	if err != nil {
		return regions.Vote{}, err
	}
	fields := map[string]string{"status": text}
	if strings.HasPrefix(text, "{") {
		if fields, err = parseObject(text, "status", "since", "detail"); err != nil {
			return regions.Vote{}, err
		}
	}
	vote := regions.Vote{Since: fields["since"], Detail: fields["detail"]}
	switch fields["status"] {
	case "up":
	case "down":
		vote.Down = true
	default:
		return regions.Vote{}, errors.New(`not a vote: write up, down, or a JSON object with "status" (up or down), "since" and "detail"`)
	}
	if since, given := fields["since"]; given {
		if _, err := time.Parse(time.RFC3339, since); err != nil {
			return regions.Vote{}, errors.New(`"since" is no time of RFC 3339, such as 2026-11-23T18:00:00Z`)
		}
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

// parseObject reads one JSON object whose fields are all strings, each one of
// known and given at most once. encoding/json alone would take "BY" for by,
// null for a string, and the last of two fields of one name.
func parseObject(text string, known ...string) (map[string]string, error) {
	decoder := json.NewDecoder(strings.NewReader(text))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return nil, errors.New("the value is not a JSON object")
	}
	fields := make(map[string]string, len(known))
	for decoder.More() {
		name, err := parseString(decoder)
		if err != nil {
			return nil, fmt.Errorf("the value is not correct JSON: %w", err)
		}
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("unknown field %s: this version knows %s", printable.Cut(name, maxShown), strings.Join(known, ", "))
		}
		if _, twice := fields[name]; twice {
			return nil, fmt.Errorf("field %q is given twice", name)
		}
		if fields[name], err = parseString(decoder); err != nil {
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

func parseString(decoder *json.Decoder) (string, error) {
	token, err := decoder.Token()
	if err != nil {
		return "", noEOF(err)
	}
	text, ok := token.(string)
	if !ok {
		return "", errors.New("a string is wanted")
	}
	return text, nil
}

// noEOF says in words what io.EOF means inside a value.
func noEOF(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errors.New("it ends too early")
	}
	return err
}
