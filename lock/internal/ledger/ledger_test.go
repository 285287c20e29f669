package ledger

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCourtesyIsNotLeftTwiceInARow(t *testing.T) {
	t.Parallel()
	var led Ledger
	const gapEvery = 500 * time.Millisecond
	now := time.Now().UnixMilli()
	require.False(t, led.OwesGap(now, gapEvery), "no peer was ever met")
	led.Peer = now - 1000
	require.True(t, led.OwesGap(now, gapEvery))
	led.Gap = now - 100
	require.False(t, led.OwesGap(now, gapEvery))
	require.True(t, led.OwesGap(now+500, gapEvery))
	require.True(t, led.OwesGap(now-200, gapEvery), "the clock was set back")
	require.False(t, led.OwesGap(now+lately.Milliseconds(), gapEvery), "no peer met for an hour")
}

func TestPeersThatAreMet(t *testing.T) {
	t.Parallel()
	now := time.Now().UnixMilli()
	var led Ledger
	require.False(t, led.PeersLately(now))
	require.False(t, led.Single(now))
	led.Meet(1, now)
	led.Meet(1, now+1000)
	require.True(t, led.Single(now+1000))
	require.False(t, led.Crowded(now+1000))
	led.Meet(2, now+1000+crowd.Milliseconds())
	require.False(t, led.Crowded(now+20_000), "one after the other")
	led.Meet(3, now+12_000)
	require.True(t, led.Crowded(now+12_000))
	require.False(t, led.Single(now+12_000))
	require.False(t, led.Crowded(now+12_000+crowd.Milliseconds()))
	require.True(t, parse(led.append(nil)) == led, "it can be read again")
}

func TestParse(t *testing.T) {
	t.Parallel()
	whole := Ledger{Token: 1, Peer: 2, Gap: 3, Release: 4, Booted: -5, Boot: 6, Who: 7, Several: 8, Read: 9}
	old := whole
	old.Who, old.Several, old.Read = 0, 0, 0
	for text, want := range map[string]Ledger{
		"1 2 3 4 -5 6 7 8 9\n":                  whole,
		"\n  1 2\n3 4  -5 6 7 8 9":              whole,
		"1 2 3 4 -5 6 7 8 9 10 of later":        whole,
		"1 2 3 4 -5 6\n":                        old,
		"1 2 3 4 -5\n":                          {},
		"":                                      {},
		"1 2 3 4 -5 6 7 8 x\n":                  {},
		"1\t2 3 4 -5 6 7 8 9\n":                 {},
		"1 2 3 4 -5 6 7 8 9\x00\n":              {},
		"9223372036854775808 2 3 4 -5 6":        {},
		"1 2 3 4 -5 6 7 8 99999999999999999999": {},
	} {
		require.Equal(t, want, parse([]byte(text)), "%q", text)
	}
}
