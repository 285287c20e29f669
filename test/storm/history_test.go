//go:build linux

package storm

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestHistory has sixteen processes at once take a lock through rotations of its history, and kills a
// third of them at any moment. Whatever had the lock, by what its command has noted itself,
// is told of once, by itself or by who came next, and no line is torn.
func TestHistory(t *testing.T) {
	rotations, fill := 2, 2500
	if *full {
		rotations, fill = 10, 0
	}
	db := database(t)
	dir := filepath.Dir(db)
	history := filepath.Join(dir, ".app.lock.d", "history.jsonl")
	account := filepath.Join(dir, "account")
	long := strings.Repeat("x", 128)
	once := func() *exec.Cmd {
		return exec.Command(dblock, "-w", "forever", "-d", db, "-p", long, "--info", long, "--", "sh", "-c", `echo $DBLOCK_HOLD_TOKEN >>"$0"`, account)
	}
	if r := run(t, once()); r.code != 0 {
		t.Fatal(r)
	}

	follower := exec.Command(dblock, "log", "-f", "-n", "0", "--json", "-d", db)
	out, err := follower.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := follower.Start(); err != nil {
		t.Fatal(err)
	}
	told := map[string]int{}
	var torn []string
	read := make(chan struct{})
	var seen atomic.Int64
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var e struct {
				Event string
				Token int64
			}
			if json.Unmarshal(lines.Bytes(), &e) != nil {
				torn = append(torn, lines.Text())
			}
			if (e.Event == "hold" || e.Event == "killed") && e.Token != 0 {
				told[strconv.FormatInt(e.Token, 10)]++
			}
			seen.Store(e.Token)
		}
	}()

	// Between two rotations lines of no hold make the file longer, in the short form.
	rotated := func() (n int) {
		before := inode(history)
		// One that is killed in between leaves none, until the next one begins it.
		for now, begin := before, time.Now(); (now == before || now == 0) && time.Since(begin) < 2*time.Minute; now = inode(history) {
			var all sync.WaitGroup
			for range 16 {
				all.Go(func() {
					for range 4 {
						c := once()
						if c.Start() != nil {
							continue
						}
						if rand.N(3) == 0 {
							time.Sleep(rand.N(8 * time.Millisecond))
							_ = c.Process.Kill()
						}
						_ = c.Wait()
					}
				})
			}
			all.Wait()
			n += 64
		}
		return n
	}
	runs := 0
	for range rotations {
		if fill > 0 {
			f, err := os.OpenFile(history, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = f.WriteString(strings.Repeat(`{"v":1,"event":"filler","process":"`+strings.Repeat("y", 330)+"\"}\n", fill))
			f.Close()
		}
		runs += rotated()
	}
	last := run(t, exec.Command(dblock, "-w", "60", "-d", db, "--", "sh", "-c", "echo $DBLOCK_HOLD_TOKEN"))
	if last.code != 0 {
		t.Fatal(last)
	}
	final, _ := strconv.ParseInt(strings.TrimSpace(last.stdout), 10, 64)
	for begin := time.Now(); seen.Load() < final && time.Since(begin) < 30*time.Second; {
		time.Sleep(10 * time.Millisecond)
	}
	_ = follower.Process.Kill()
	<-read
	_ = follower.Wait()

	noted, err := os.ReadFile(account)
	if err != nil {
		t.Fatal(err)
	}
	held := strings.Fields(string(noted))
	var lost, twice []string
	for _, token := range held {
		if told[token] == 0 {
			lost = append(lost, token)
		}
	}
	for token, n := range told {
		if n > 1 {
			twice = append(twice, fmt.Sprintf("%s: %d", token, n))
		}
	}
	t.Logf("%d runs, %d rotations: %d had the lock by their own account, %d by the history", runs, rotations, len(held), len(told))
	if len(lost)+len(twice)+len(torn) > 0 || len(held) == 0 {
		t.Errorf("lost %v, told of twice %v, torn %q", lost, twice, torn)
	}
}
