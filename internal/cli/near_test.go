package cli

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNear(t *testing.T) {
	words := []string{"status", "force", "run", "help", "version", "nonblock"}
	for typed, want := range map[string]string{
		"statsu": "status", "stauts": "status", "statuss": "status", "status": "status", "statsus": "status", "froce": "force", "forc": "force",
		"rnu": "run", "versoin": "version", "hlep": "help",
		"": "", "r": "", "start": "", "make": "", "node": "", "source": "", "sh": "", "stat": "", "nonblcok": "nonblock", "nonbolk": "", "nonblockx": "nonblock", "statistics": "",
	} {
		require.Equal(t, want, Near(typed, words), typed)
	}
}
