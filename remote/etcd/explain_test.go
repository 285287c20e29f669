package etcd

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// That there was no answer in time is the same whoever finds it out, the client, its connection or a server.
func TestNoAnswerInTime(t *testing.T) {
	p, err := parse("etcd://127.0.0.1:1/x")
	require.NoError(t, err)
	c := &client{place: p}
	of := c.explain(context.DeadlineExceeded)
	require.EqualError(t, of, "etcd://127.0.0.1:1/x: no etcd answers at 127.0.0.1:1")
	for _, code := range []codes.Code{codes.DeadlineExceeded, codes.Unknown} {
		require.Equal(t, of, c.explain(status.Error(code, context.DeadlineExceeded.Error())))
	}
}
