package test

import (
	"context"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/history/historytest"
	"github.com/dblock-dev/dblock/history/page"
)

// The page in a browser: what zooms, filters, tells, prints, and what strangers may not do. With
// PAGE_PICTURES, a directory, it takes pictures for the documentation instead.
func TestPageInBrowser(t *testing.T) {
	need(t, "node", "chromium")
	if !exists("page", "node_modules") {
		if os.Getenv("CI") == "true" {
			t.Fatal("playwright-core is not installed")
		}
		t.Skip("playwright-core is not installed: npm ci in test/page")
	}
	var strange []history.Event
	for i, s := range []string{`</script><script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `<!--<script>`, `<svg onload=alert(1)>`, `' onmouseover='alert(1)`} {
		p := history.Party{PID: 1, UID: -1, Process: s, Command: s}
		strange = append(strange, history.Event{
			Kind: history.Hold, At: int64(2000 + 900*i), Acquired: int64(1000 + 900*i), Process: s, Info: s, Host: s, Command: s, Waited: time.Second, Held: time.Second, By: &p,
			Blockers: []history.Blocker{{Party: p, For: time.Second}}, Ahead: 1, Ended: history.LostIt,
		})
	}
	strange = append(strange, history.Event{Kind: history.Hold, At: math.MaxInt64, Held: math.MaxInt64, Waited: math.MaxInt64, Token: math.MinInt64}) // at no time that there is
	holds := 2_000
	if os.Getenv("CI") == "true" {
		holds = 20_000
	}
	dir := t.TempDir()
	pages := map[string][]page.Database{
		"night": {{Name: "/srv/shop/orders.db", Events: historytest.Night()}}, "busy": {{Name: "/srv/busy.db", Events: historytest.Busy(holds)}},
		"evil": {{Name: `<b>"'&</b></script><script>alert(2)</script>`, Events: strange}},
	}
	for name, dbs := range pages {
		f, err := os.Create(filepath.Join(dir, name+".html"))
		require.NoError(t, err)
		require.NoError(t, page.Write(f, dbs))
		require.NoError(t, f.Close())
	}
	chromium, err := exec.LookPath("chromium")
	require.NoError(t, err)
	args := []string{"page/look.mjs", chromium, filepath.Join(dir, "night.html"), filepath.Join(dir, "busy.html"), filepath.Join(dir, "evil.html")}
	if pictures := os.Getenv("PAGE_PICTURES"); pictures != "" {
		args = append(args, pictures)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "node", args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Logf("%s", out)
}
