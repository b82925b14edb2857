package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	goruntime "runtime"
	"syscall"
	"unsafe"

	"github.com/pawelgaczynski/giouring"

	"uringo/bench/peers/internal/job"
	"uringo/bench/peers/internal/meter"
	"uringo/bench/peers/internal/testdir"
)

// giouringLoop is the least that Go can do around a ring: giouring on one locked thread, no tasks, no waiting, one
// batch after the other. Its depth stands for the number of tasks.
func giouringLoop() Contender {
	return Contender{Name: "giouring", Works: map[string]Measure{
		job.Nop:    giouringNop,
		job.Cached: giouringIO,
		job.Direct: giouringIO,
		job.Write:  giouringIO,
	}}
}

// withGiouring runs loop on a locked thread with a ring of its own, in the cheapest mode that the kernel grants.
func withGiouring(loop func(*giouring.Ring) error) error {
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	ring := giouring.NewRing()
	err := ring.QueueInit(ringEntries, giouring.SetupSingleIssuer|giouring.SetupDeferTaskrun)
	if errors.Is(err, syscall.EINVAL) { // before 6.1
		err = ring.QueueInit(ringEntries, 0)
	}
	if err != nil {
		return fmt.Errorf("set up ring: %w", err)
	}
	defer ring.QueueExit()
	return loop(ring)
}

func giouringNop(_ context.Context, j job.Job) ([]job.Sample, error) {
	s, err := meter.Steady(j, 1, func(m *meter.Meter) error {
		return withGiouring(func(ring *giouring.Ring) error {
			return m.Loop(func() (int, error) {
				for range j.Tasks {
					ring.GetSQE().PrepareNop()
				}
				for done := 0; done < j.Tasks; {
					n, err := giouringReap(ring, uint32(j.Tasks-done), func(*giouring.CompletionQueueEvent) error { return nil })
					if err != nil {
						return 0, err
					}
					done += n
				}
				return j.Tasks, nil
			})
		})
	})
	return []job.Sample{s}, err
}

func giouringIO(_ context.Context, j job.Job) ([]job.Sample, error) {
	t := target(j)
	f, err := os.OpenFile(t.name, t.flag, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	buffers, err := alignedBuffers(j.Tasks)
	if err != nil {
		return nil, err
	}
	next := offsets(0, t.size)
	fd := int(f.Fd())
	s, err := meter.Steady(j, 1, func(m *meter.Meter) error {
		return withGiouring(func(ring *giouring.Ring) error {
			issue := func(slot uint64) {
				sqe := ring.GetSQE()
				at := uintptr(unsafe.Pointer(&buffers[slot][0])) // not on the heap, so it stays where it is
				if t.write {
					sqe.PrepareWrite(fd, at, testdir.Block, uint64(next()))
				} else {
					sqe.PrepareRead(fd, at, testdir.Block, uint64(next()))
				}
				sqe.UserData = slot
			}
			again := func(c *giouring.CompletionQueueEvent) error {
				if c.Res != testdir.Block {
					return fmt.Errorf("%s: result %d", t.name, c.Res)
				}
				issue(c.UserData)
				return nil
			}
			for slot := range buffers {
				issue(uint64(slot))
			}
			return m.Loop(func() (int, error) { return giouringReap(ring, 1, again) })
		})
	})
	return []job.Sample{s}, err
}

// giouringReap submits what is queued, waits for at least want completions and hands all that are there to each.
func giouringReap(ring *giouring.Ring, want uint32, each func(*giouring.CompletionQueueEvent) error) (int, error) {
	if _, err := ring.SubmitAndWait(want); err != nil && !errors.Is(err, syscall.EINTR) {
		return 0, err
	}
	var n int
	var failed error
	ring.ForEachCQE(func(c *giouring.CompletionQueueEvent) {
		n++
		failed = firstError(failed, each(c))
	})
	ring.CQAdvance(uint32(n))
	return n, failed
}
