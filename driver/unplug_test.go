package driver_test

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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
		cfg := driver.Config{Engine: driver.Uring, Entries: 2 * n, InFlight: 2 * n} // for which little memory is enough
		g.d = e.opened(driver.OpenGuest(driver.OnKernel(cfg, k), g))
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

// TestUnplugsBehindChains has what is submitted early take chains along that wait in the submission queue, of which a kernel without memory takes
// only a part. The members of each run one after the other, and none behind one that failed.
func TestUnplugsBehindChains(t *testing.T) {
	on(t, chaining, func(e *rig) {
		d := e.open(driver.Config{Entries: 32, InFlight: 128})
		for round := range size(50, 5000) {
			e.unplugBehindChains(d, round)
			if e.Failed() {
				return
			}
		}
	})
}

func (e *rig) unplugBehindChains(d *driver.Driver, round int) {
	const chains = 3
	release := make(chan struct{})
	held, nop := new(driver.Request), ops.Nop()
	held.Reset(&nop.Spec, waiting(release)) // so that the driver takes all in at once
	d.Send(held)

	var waits []func()
	var want [chains]string
	var files [chains]int
	for i := range chains {
		p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			e.Fatal(err)
		}
		defer unix.Close(p[0])
		defer unix.Close(p[1])
		files[i] = p[0]
		var c driver.Chain
		n := 2 + e.rng.IntN(6)
		broken := e.rng.IntN(n + 3) // or none
		for k := range n {
			op := ops.WriteAt(p[1], []byte{byte('a' + k)}, -1)
			var right error
			switch {
			case k == broken:
				op, right = ops.ReadAt(-1, make([]byte, 1), 0), syscall.EBADF
			case k > broken:
				right = syscall.ECANCELED
			default:
				want[i] += string(rune('a' + k))
			}
			m := driver.Link(&c, op)
			waits = append(waits, func() {
				if r := result(e, m); r.Err != right {
					e.Errorf("round %d: member %d of %d, of which %d fails: %+v", round, k, n, broken, r)
				}
			})
		}
		e.submit(d, &c)
		for range 1 + e.rng.IntN(4) {
			var c driver.Chain
			m := driver.Link(&c, plugging())
			e.submit(d, &c)
			waits = append(waits, func() {
				if r := result(e, m); r.Err != nil {
					e.Errorf("round %d: one by itself: %+v", round, r)
				}
			})
		}
	}
	close(release)
	for _, wait := range waits {
		wait()
	}
	for i, fd := range files {
		b := make([]byte, 64)
		n, _, err := unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
		if got := string(b[:max(n, 0)]); got != want[i] || err != nil && err != unix.EAGAIN {
			e.Errorf("round %d: chain %d wrote %q, want %q: %v", round, i, got, want[i], err)
		}
	}
}

// plugging returns a no-operation that is submitted early, as if it were for a device.
func plugging() ops.Op[struct{}] {
	op := ops.Nop()
	k := *op.Kind
	k.Plugs = true
	op.Kind = &k
	return op
}
