package cli

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEscape(t *testing.T) {
	for _, s := range []string{"", "plain", "näme", "\xff", "a\x80\xc3", "\U0010FF41\xff", "\U0010FF00", "\xf4\x8f\xbe", "\uFFFD"} {
		require.Equal(t, s, Unescape(Escape(s)), "%q", s)
	}
	require.Equal(t, "näme", Escape("näme"))
}
