// Package meter measures running tasks from inside their own process. The process belongs to one measurement alone,
// so its processor time, its allocations and its threads are the contender's and nobody else's.
package meter

import (
	"sync/atomic"
	"time"

	"uringo/bench/peers/internal/job"
)

// The phases of a steady measurement, in order.
const (
	warming int32 = iota
	counting
	over
)

// A Meter tells tasks when to count and when to stop. Tasks run on through the change from warming to counting:
// what starting and ending them costs is outside the measured time.
type Meter struct {
	phase atomic.Int32
	warm  atomic.Int32 // loops that are past their first step
	ops   atomic.Int64
}

// Steady measures run, which calls Loop from that many tasks, for j.Measure. The clock starts j.Warm after the last
// of them has done its first step: before, pools still fill up and stacks still grow.
func Steady(j job.Job, loops int, run func(*Meter) error) (job.Sample, error) {
	m := new(Meter)
	samples := make(chan job.Sample, 1)
	ended := make(chan struct{})
	go func() {
		m.awaitFirstSteps(loops, ended)
		time.Sleep(j.Warm)
		before := start()
		m.phase.Store(counting)
		time.Sleep(j.Measure)
		m.phase.Store(over)
		samples <- before.stop(j.Work)
	}()
	err := run(m)
	close(ended)
	s := <-samples
	s.Ops = m.ops.Load()
	return s, err
}

func (m *Meter) awaitFirstSteps(loops int, ended <-chan struct{}) {
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for int(m.warm.Load()) < loops {
		select {
		case <-look.C:
		case <-ended: // too early: a task failed
			return
		}
	}
}

// Loop repeats step until the measured time is over. A step returns how many operations it completed. The operations
// in flight at both ends of the measured time are the error of the count: at most twice the depth.
func (m *Meter) Loop(step func() (int, error)) error {
	if _, err := step(); err != nil {
		return err
	}
	m.warm.Add(1)
	var n int64
	at := warming
	for {
		if now := m.phase.Load(); now != at {
			if now == over {
				break
			}
			at, n = now, 0
		}
		done, err := step()
		if err != nil {
			return err
		}
		n += int64(done)
	}
	if at == counting { // a task stuck in one step through the whole measured time has nothing to report
		m.ops.Add(n)
	}
	return nil
}

// Whole measures run from its first to its last instruction, for works of a fixed size.
func Whole(work string, ops int64, run func() error) (job.Sample, error) {
	before := start()
	err := run()
	s := before.stop(work)
	s.Ops = ops
	return s, err
}
