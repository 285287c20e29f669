package session

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	r, p := parse([]byte(` { "id" : 1.50 , "op":"acquire","db":"a b","wait":-0.5,"events":true,"wanted":false,"mode":null } `))
	require.Nil(t, p)
	require.Equal(t, "1.50", r.id)
	require.Equal(t, value{text, "a b"}, r.values[fieldDB])
	require.Equal(t, value{number, "-0.5"}, r.values[fieldWait])
	require.Equal(t, value{kind: yes}, r.values[fieldEvents])
	require.Equal(t, value{kind: no}, r.values[fieldWanted])
	require.False(t, r.has(fieldMode))

	r, p = parse([]byte(`{"id":"\u0041","op":"x","target":"\u0042","db":[],"info":{"a":"}"},"id":2e3}`))
	require.Nil(t, p)
	require.Equal(t, "2e3", r.id, "the last one counts")
	require.Equal(t, `"\u0042"`, r.target)
	require.Equal(t, other, r.values[fieldDB].kind)

	for _, line := range []string{
		"", "{", "}", "[]", "1", "null", `"id"`, `{}`, `{"id":}`, `{"id":1`, `{"id":1}}`, `{"id":01}`, `{"id":1.}`, `{"id":.5}`, `{"id":-}`, `{"id":1..2}`, `{"id":--1}`,
		`{"id":1,}`, `{,"id":1}`, `{"id" 1}`, `{"id":1 "op":2}`, `{id:1}`, `{"id":truee}`, `{"id":true}`, `{"id":null}`, `{"id":[1]}`, "{\"id\":\"\t\"}", "{\"id\":\"\xff\"}",
		`{"id":"` + strings.Repeat("x", maxID) + `"}`,
	} {
		_, p := parse([]byte(line))
		require.NotNil(t, p, line)
		require.Equal(t, codeBadLine, p.code, line)
	}
}

// What the quick parser understands means the same to the whole one.
func FuzzParse(f *testing.F) {
	for _, line := range []string{
		`{"id":1,"op":"acquire","db":"x","wait":0.5,"events":true,"env":false,"mode":null}`, `{"id":"a","target":-1,"hold":00}`, `{"id":1e5,"x":{"y":[1,"}"]}}`, `{"id":"\u00e4\n"}`,
		`{"id":1,"id":2}`, `{"id":tru}`, `{"id":-0.0}`, "{\"id\":\"\u2028\"}", `{ "id" : 9007199254740993 }`,
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r, p := parse(line)
		require.NotNil(t, r)
		if p != nil {
			require.NotEmpty(t, p.code)
		}
		plain, ok := parsePlain(line)
		if !ok || p != nil && p.message == "the line is not UTF-8" {
			return
		}
		whole, p := parseAny(line)
		require.Nil(t, p, "the whole parser refuses it")
		require.Equal(t, whole, plain)
	})
}
