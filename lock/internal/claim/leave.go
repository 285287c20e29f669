package claim

import (
	"path/filepath"
	"time"

	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/judge"
	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/queue"
)

// Whoever leaves while another dblock waits leaves the notice in its place for that one
// to exchange. So the path is not free between two dblocks: peers that look in that very
// moment find nothing to read, and delete what is there next. What was left says that
// nobody holds it any more, by the pid 0, and it is dated back, so that peers soon find
// it stale should nobody come.

// leftFor is for how long peers respect a notice that was left, if nobody comes.
const leftFor = 5 * time.Second

// WasLeft reports whether the notice is one that a dblock has left for its successor.
func WasLeft(i notice.Info) bool { return i.Dblock != nil && i.PID == 0 }

// RemoveLeft removes the notice at the path if it was left for somebody who does not
// come. It is for those who have the room.
func RemoveLeft(path string, room *queue.File) {
	id, err := room.ID()
	if err != nil {
		return
	}
	seen, err := notice.Read(path)
	if err == nil && WasLeft(seen.Info) && seen.Info.Dblock.Room == id.Ino { // check: left-sweep
		_ = inode.Remove(path)
	}
}

// Close forgets our notice, which stays at the path.
func (c *Claim) Close() {
	_ = c.dropReplaced()
	c.file.Close()
}

// Leave takes our notice away, if nobody stays in the room with whom we share it. It
// leaves the path free for a while, for peers that poll, if that is their due; or it
// leaves the notice in its place for a successor who waits for the room, and reports
// that. reads is how often somebody was seen to read the notice. A claim that was lost
// has nothing to leave.
func (c *Claim) Leave(reads int, lost bool) (left bool, err error) {
	defer c.file.Close()
	if !c.place.LastOut() {
		return false, nil
	}
	reads, polled := c.countPoll(reads)
	c.met = c.met || polled
	gap := c.owesGap(polled)
	if left = !gap && !lost && c.atTheDoor(); left {
		c.leaveNotice()
	} else {
		err = c.removeNotice()
	}
	if gap {
		c.place.ShowPassing()
		c.opts.Delay()
		time.Sleep(GapFor)
	}
	c.account(reads, gap)
	return left, err
}

// atTheDoor reports whether another dblock waits for the room, and can exchange what is
// left for it.
func (c *Claim) atTheDoor() bool {
	if !c.place.SuccessorWaits() {
		return false
	}
	return c.place.Dir().Private() || !inode.Sticky(filepath.Dir(c.opts.Path)) // check: left-sticky: c.place.Dir().Private() -> true
}

// leaveNotice leaves the notice in its place.
func (c *Claim) leaveNotice() {
	c.opts.Step("leaving")
	_ = c.file.SetPID(0) // check: left-pid: SetPID(0) -> SetPID(c.opts.Me.PID)
	_ = c.file.Beat(c.now() - (judge.PeersTimeout - leftFor).Milliseconds())
	if c.linked {
		_ = c.spareFile().Remove()
	}
	_ = c.dropReplaced()
}

// removeNotice unlinks the notice while the room is still locked: unlocked
// first, the next dblock would find the notice of a hold that is over.
func (c *Claim) removeNotice() error {
	c.opts.Step("releasing")
	var err error
	if id, ierr := inode.Identify(c.opts.Path); ierr == nil && c.ours(id) { // check: ownership-before-unlink: c.ours(id) -> id.Ino != 0
		err = inode.Remove(c.opts.Path)
	}
	if id, ierr := c.spareFile().Identify(); ierr == nil && id == c.file.ID() {
		_ = c.spareFile().Remove()
	}
	_ = c.dropReplaced()
	return err
}
