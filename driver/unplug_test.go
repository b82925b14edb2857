package driver_test

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"uringo/driver"
	"uringo/internal/ring"
	"uringo/ops"
)

// TestUnplugs has a guest issue much at once, and looks at the submissions: what may go to a device does so in pieces, of which each is as
// large as all before, and everything else in one.
func TestUnplugs(t *testing.T) {
	const n = 32
	on(t, []way{{"uring", driver.Uring, nil}}, func(e *rig) {
		file := e.file(make([]byte, n))
		var submitted []uint32
		k := &hooked{Kernel: ring.Linux()}
		k.enter = func(fd int, submit, minComplete, flags uint32, arg *ring.WaitArg) (int, syscall.Errno) {
			if submit > 0 {
				submitted = append(submitted, submit)
			}
			return k.Kernel.Enter(fd, submit, minComplete, flags, arg)
		}
		g := new(crew)
		g.d = e.opened(driver.OpenGuest(driver.OnKernel(driver.Config{Engine: driver.Uring}, k), g))
		issue := func(spec func(i int) ops.Spec) []uint32 {
			w := &tally{d: g.d, ended: make(chan struct{}), all: n}
			g.run(func() {
				submitted = nil
				for i := range n {
					r, s := new(driver.Request), spec(i)
					r.Reset(&s, w)
					g.d.Issue(r)
				}
			})
			select {
			case <-w.ended:
			case <-time.After(patience):
				e.Fatalf("%d of %d", w.completed.Load(), n)
			}
			var got []uint32
			g.wait(e, func() { got = submitted })
			return got
		}
		b := make([]byte, n)
		reads := issue(func(i int) ops.Spec { return ops.ReadAt(file, b[i:i+1], int64(i)).Spec })
		if len(reads) < 5 || !slices.Equal(reads[:4], []uint32{2, 4, 8, 16}) {
			e.Errorf("%d reads went as %d", n, reads)
		}
		if nops := issue(func(int) ops.Spec { return ops.Nop().Spec }); len(nops) == 0 || nops[0] < n {
			e.Errorf("%d nops went as %d", n, nops)
		}
	})
}

// ender is told of an end as a task of Local is.
type ender struct{}

func (ender) Complete(r *driver.Request) { r.End() }

// TestUnplugsNot has a guest issue one read after the other, each of which ends at once: none is held up, or sent early, for others to come.
func TestUnplugsNot(t *testing.T) {
	on(t, []way{{"uring", driver.Uring, nil}}, func(e *rig) {
		file := e.file(make([]byte, 1))
		g := new(crew)
		g.d = e.opened(driver.OpenGuest(driver.Config{Engine: driver.Uring}, g))
		const n = 32
		e.eventually("almost all go on at once", func() bool { // of 16 one waits all the same, at most, see Driver.Rush
			must(e, g.d, ops.Nop()) // which now and then promises it
			at := 0
			g.wait(e, func() {
				for range n {
					r, s := new(driver.Request), ops.ReadAt(file, make([]byte, 1), 0).Spec
					r.Reset(&s, ender{})
					if g.d.Rush(r) {
						at++
					}
				}
			})
			return at >= n-n/16
		})
	})
}
