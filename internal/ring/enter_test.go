package ring_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
	"uringo/internal/testenv"
)

// openRing opens a ring for a test and closes it afterwards.
func openRing(t *testing.T, cfg ring.Config) *ring.Ring {
	t.Helper()
	r, err := ring.Open(cfg)
	if ring.Unavailable(err) {
		t.Skipf("needs io_uring: %v, running %s", err, release())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// lockThread keeps the test and its clean-up on one thread.
func lockThread(t *testing.T) {
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
}

// rigOn returns a rig on a ring of its own.
func rigOn(t *testing.T, cfg ring.Config) *rig {
	t.Helper()
	w := world{name: fmt.Sprintf("%T", cfg.Kernel), kernel: cfg.Kernel, file: realFile, pipe: realPipe}
	return &rig{T: t, world: w, r: openRing(t, cfg), got: map[uint64]ring.CQE{}}
}

// answering is a kernel whose Enter has one answer.
type answering struct {
	ring.Kernel
	errno syscall.Errno
}

func (k *answering) Enter(fd int, submit, minComplete, flags uint32, arg *ring.WaitArg) (int, syscall.Errno) {
	if k.errno != 0 {
		return -1, k.errno
	}
	return k.Kernel.Enter(fd, submit, minComplete, flags, arg)
}

// TestEnterErrors checks what each errno of enter means: nothing, to come back later, or the end of the ring.
func TestEnterErrors(t *testing.T) {
	for _, c := range []struct {
		errno syscall.Errno
		want  error
	}{
		{0, nil},
		{syscall.EINTR, nil},
		{syscall.ETIME, nil},
		{syscall.EAGAIN, ring.ErrBusy},
		{syscall.EBUSY, ring.ErrBusy},
		{syscall.ENOMEM, ring.ErrBusy},
		{syscall.EBADR, ring.ErrBroken},
		{syscall.EEXIST, ring.ErrBroken},
		{syscall.EBADF, ring.ErrBroken},
		{syscall.EBADFD, ring.ErrBroken},
		{syscall.ENXIO, ring.ErrBroken},
		{syscall.EFAULT, ring.ErrBroken},
		{syscall.EINVAL, ring.ErrBroken},
		{syscall.EOPNOTSUPP, ring.ErrBroken},
	} {
		k := &answering{Kernel: ring.NewSim(ring.SimConfig{}), errno: c.errno}
		r := openRing(t, ring.Config{Kernel: k, Entries: 4})
		for _, enter := range []func() error{r.Submit, func() error { return r.SubmitAndWait(time.Millisecond) }} {
			if r.Next() == nil {
				t.Fatal("no room")
			}
			err := enter()
			if !errors.Is(err, c.want) || c.want == ring.ErrBroken && !errors.Is(err, c.errno) {
				t.Errorf("%v: %v, want %v", c.errno, err, c.want)
			}
		}
		// A broken ring stays broken; any other takes what has waited.
		k.errno = 0
		err := r.SubmitAndWait(time.Millisecond)
		if c.want == ring.ErrBroken {
			if !errors.Is(err, c.errno) {
				t.Errorf("%v is forgotten: %v", c.errno, err)
			}
			continue
		}
		var out [4]ring.CQE
		if n := r.Reap(out[:]); err != nil || n != 2 {
			t.Errorf("after %v: %v, %d completions", c.errno, err, n)
		}
	}
}

// TestLostCompletion lets the kernel drop completions. The ring must not go on as if nothing had happened, even if it hears
// of it while it empties the queue.
func TestLostCompletion(t *testing.T) {
	for name, lose := range map[string]float64{"all that overflow": 1, "some": 0.3} {
		t.Run(name, func(t *testing.T) {
			sim := ring.NewSim(ring.SimConfig{Lose: lose})
			r := openRing(t, ring.Config{Kernel: sim, Entries: 8, CQEntries: 8})
			var err error
			for range 6 {
				for range 7 {
					if r.Next() == nil {
						t.Fatal("no room")
					}
				}
				err = errors.Join(err, r.Submit())
			}
			if err != nil {
				t.Fatal(err)
			}
			var out [100]ring.CQE
			r.Reap(out[:])
			if err = r.Submit(); err == nil {
				err = r.SubmitAndWait(time.Millisecond)
			}
			if sim.Stats().Lost == 0 || !errors.Is(err, ring.ErrBroken) || !errors.Is(err, syscall.EBADR) {
				t.Errorf("%d completions lost: %v", sim.Stats().Lost, err)
			}
		})
	}
}

// TestOtherThread enters a ring that is bound to its thread from another one.
func TestOtherThread(t *testing.T) {
	for _, k := range []ring.Kernel{ring.Linux(), ring.NewSim(ring.SimConfig{})} {
		t.Run(fmt.Sprintf("%T", k), func(t *testing.T) {
			lockThread(t)
			features := &ladder{Kernel: k}
			r := openRing(t, ring.Config{Kernel: features, Entries: 4, Locked: true})
			if features.tried[len(features.tried)-1]&(1<<12) == 0 {
				lacks(t, "IORING_SETUP_SINGLE_ISSUER with DEFER_TASKRUN", ring.V(6, 1))
			}
			r.Next()
			answer := make(chan error)
			go func() {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				answer <- r.Submit()
			}()
			if err := <-answer; !errors.Is(err, ring.ErrBroken) || !errors.Is(err, syscall.EEXIST) {
				t.Errorf("from another thread: %v", err)
			}
		})
	}
}

// TestWrapAround lets every index pass 2^32, in the smallest queues.
func TestWrapAround(t *testing.T) {
	for _, start := range []uint32{1<<32 - 8, 1<<32 - 1, 1<<31 - 2, 0} {
		for _, entries := range []uint32{2, 4, 8} {
			sim := ring.NewSim(ring.SimConfig{Start: start})
			r := openRing(t, ring.Config{Kernel: sim, Entries: entries, CQEntries: entries})
			next := uint64(0)
			for round := range 50 {
				laid := uint64(0)
				for e := r.Next(); e != nil; e = r.Next() {
					e.UserData = next + laid
					laid++
				}
				if laid != uint64(entries-1) || r.Queued() != entries-1 || r.Space() != 0 {
					t.Fatalf("start %#x, round %d: %d laid, %d queued, room for %d", start, round, laid, r.Queued(), r.Space())
				}
				if err := r.Submit(); err != nil {
					t.Fatal(err)
				}
				var out [16]ring.CQE
				n := r.Reap(out[:])
				for i, c := range out[:n] {
					if c.UserData != next+uint64(i) {
						t.Fatalf("start %#x, round %d: completion %d is of %d, want %d", start, round, i, c.UserData, next+uint64(i))
					}
				}
				if next += uint64(n); uint64(n) != laid {
					t.Fatalf("start %#x, round %d: %d completions of %d", start, round, n, laid)
				}
			}
			if err := sim.Err(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestQueueFull fills the queue: it says so, and still has room for the wake-up.
func TestQueueFull(t *testing.T) {
	eachWorld(t, ring.Config{Entries: 4, CQEntries: 16}, func(g *rig) {
		p := g.pipe(g.T)
		for i := range uint64(3) {
			e := g.r.Next()
			if e == nil {
				g.Fatalf("full after %d", i)
			}
			*e = g.read(i, p.fd, make([]byte, 8), 0)
		}
		for range 3 {
			if e := g.r.Next(); e != nil || g.r.Space() != 0 || g.r.Queued() != 3 {
				g.Fatalf("room beyond the queue: %+v, %d, %d", e, g.r.Space(), g.r.Queued())
			}
		}
		// Nothing will complete, so only the wake-up ends this.
		g.r.Wake()
		if err := g.r.SubmitAndWait(0); err != nil && !errors.Is(err, ring.ErrBusy) {
			g.Fatal(err)
		}
		g.submit()
		g.none(0, 1, 2)
		g.put(cancel(3, 0), cancel(4, 1), cancel(5, 2))
		g.wait(0, 1, 2, 3, 4, 5)
	})
}

// TestBadEntry has an entry with an opcode that does not exist among others. A kernel that submits all goes on behind it.
// One that stops leaves the rest in the queue, from where the next enter takes it.
func TestBadEntry(t *testing.T) {
	const submitAll = 1 << 7
	for _, c := range []struct {
		name   string
		kernel ring.Kernel
		left   uint32
	}{
		{"linux", ring.Linux(), 0},
		{"linux, stopping", withoutFlags{ring.Linux(), submitAll}, 1},
		{"sim", ring.NewSim(ring.SimConfig{}), 0},
		{"sim 5.15", ring.NewSim(ring.SimConfig{Version: ring.V(5, 15)}), 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			flags := &ladder{Kernel: c.kernel}
			g := rigOn(t, ring.Config{Kernel: flags, Entries: 8})
			if c.left == 0 && flags.tried[len(flags.tried)-1]&submitAll == 0 {
				lacks(t, "IORING_SETUP_SUBMIT_ALL", ring.V(5, 18))
			}
			for _, e := range []ring.SQE{nop(1), {Op: 200, UserData: 2}, nop(3)} {
				*g.r.Next() = e
			}
			if err := g.r.Submit(); err != nil {
				t.Fatal(err)
			}
			if q := g.r.Queued(); q != c.left {
				t.Errorf("%d left in the queue, want %d", q, c.left)
			}
			g.submit()
			g.want(1, 0)
			g.want(2, eINVAL)
			g.want(3, 0)
		})
	}
}

// TestPartialSubmit lets the kernel take what it likes. Everything is performed once and in order.
func TestPartialSubmit(t *testing.T) {
	for name, k := range map[string]ring.Kernel{
		"linux":    ring.NewFaults(ring.Linux(), 1, ring.FaultConfig{Limit: 1}),
		"sim":      ring.NewSim(ring.SimConfig{Partial: 1, Seed: 1}),
		"portable": ring.NewFaults(portable(), 1, ring.FaultConfig{Limit: 1}),
	} {
		t.Run(name, func(t *testing.T) {
			g := rigOn(t, ring.Config{Kernel: k, Entries: 16, CQEntries: 256})
			var all []uint64
			for data := uint64(1); data <= 200; data++ {
				for {
					if e := g.r.Next(); e != nil {
						*e = nop(data)
						break
					}
					if err := g.r.Submit(); err != nil {
						t.Fatal(err)
					}
				}
				all = append(all, data)
			}
			for tries := 0; g.r.Queued() > 0; tries++ {
				if err := g.r.Submit(); err != nil || tries > 10_000 {
					t.Fatal(tries, err)
				}
				if f, ok := k.(*ring.Faults); ok && tries == 100 {
					f.Set(ring.FaultConfig{}) // Limit 1 never passes on everything
				}
			}
			g.wait(all...)
			if name != "portable" && !slices.Equal(g.order, all) {
				t.Errorf("order %v", g.order)
			}
		})
	}
}

// TestSignals sends real signals to a thread that waits in enter, as the scheduler does to preempt and profilers do to look.
func TestSignals(t *testing.T) {
	g := rigOn(t, ring.Config{Kernel: ring.Linux(), Entries: 8})
	lockThread(t)
	tid, stop, sent := unix.Gettid(), make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				sent <- n
				return
			default:
				if unix.Tgkill(unix.Getpid(), tid, syscall.SIGURG) == nil {
					n++
				}
				time.Sleep(50 * time.Microsecond)
			}
		}
	}()
	defer func() {
		close(stop)
		if n := <-sent; n == 0 {
			t.Error("no signal was sent")
		}
	}()
	// A wait for something that does not come ends early, without an error, and nothing is lost by it.
	p := g.pipe(t)
	g.put(g.read(1, p.fd, make([]byte, 8), 0))
	early := 0
	for deadline := time.Now().Add(10 * time.Second); early < 200 && time.Now().Before(deadline); {
		if err := g.r.SubmitAndWait(10 * time.Second); err != nil {
			t.Fatal(err)
		}
		g.none(1)
		early++
	}
	if early < 2 {
		t.Errorf("signals ended %d waits", early)
	}
	p.feed([]byte("x"))
	g.want(1, 1)
	for data := uint64(2); data < 2000; data++ {
		g.put(nop(data))
		g.want(data, 0)
	}
}

// TestInterruptedEnter looks at the call itself: what the ring has to live with.
func TestInterruptedEnter(t *testing.T) {
	lockThread(t)
	k := ring.Linux()
	var last struct {
		n     int
		errno syscall.Errno
	}
	spy := &spying{Kernel: k, after: func(n int, errno syscall.Errno) { last.n, last.errno = n, errno }}
	g := rigOn(t, ring.Config{Kernel: spy, Entries: 8})
	p := g.pipe(t)
	tid := unix.Gettid()
	interrupt := func() {
		time.Sleep(5 * time.Millisecond)
		if err := unix.Tgkill(unix.Getpid(), tid, syscall.SIGURG); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []struct {
		submit bool
		n      int
		errno  syscall.Errno
	}{
		{true, 2, 0}, // its entry and the ring's own: a positive answer does not mean that it waited
		{false, -1, syscall.EINTR},
	} {
		if c.submit {
			*g.r.Next() = g.read(1, p.fd, make([]byte, 8), 0)
		}
		for try := 0; ; try++ {
			done := make(chan struct{})
			go func() { defer close(done); interrupt() }()
			err := g.r.SubmitAndWait(10 * time.Second)
			<-done
			if err != nil {
				t.Fatal(err)
			}
			g.none(1)
			if last.n == c.n && last.errno == c.errno {
				break
			}
			if c.submit || try == 10 {
				t.Fatalf("submit %v: enter answered %d, %v; want %d, %v", c.submit, last.n, last.errno, c.n, c.errno)
			}
		}
	}
	g.put(cancel(2, 1))
	g.wait(1, 2)
}

// spying is a kernel of whose Enter one hears the answers.
type spying struct {
	ring.Kernel
	after func(int, syscall.Errno)
}

func (k *spying) Enter(fd int, submit, minComplete, flags uint32, arg *ring.WaitArg) (int, syscall.Errno) {
	n, errno := k.Kernel.Enter(fd, submit, minComplete, flags, arg)
	k.after(n, errno)
	return n, errno
}

// TestWaitTimeout waits for nothing, for a while: also on a kernel whose enter takes no timeout.
func TestWaitTimeout(t *testing.T) {
	const extArg = 1 << 8
	for name, k := range map[string]ring.Kernel{
		"linux":                   ring.Linux(),
		"linux without EXT_ARG":   withoutFeatures{ring.Linux(), extArg},
		"portable":                portable(),
		"sim in real time":        ring.NewSim(ring.SimConfig{RealTime: true}),
		"sim 5.6 in real time":    ring.NewSim(ring.SimConfig{RealTime: true, Version: ring.V(5, 6)}),
		"linux without NO_IOWAIT": withoutFeatures{ring.Linux(), 1 << 17},
	} {
		t.Run(name, func(t *testing.T) {
			r := openRing(t, ring.Config{Kernel: k, Entries: 4})
			const pause = 20 * time.Millisecond
			begin, delays := time.Now(), testenv.Delays()
			for time.Since(begin) < pause {
				if err := r.SubmitAndWait(pause); err != nil {
					t.Fatal(err)
				}
			}
			if took, late := time.Since(begin), delays(); took-late > 5*time.Second {
				t.Errorf("a wait of %v took %v, on a machine that was %v late", pause, took, late)
			}
			if r.Waits > 3 {
				t.Errorf("a wait of %v took %d calls", pause, r.Waits)
			}
		})
	}
}

// TestSubmitFetches never waits: submitting alone must bring what has completed meanwhile, however the kernel delivers it.
func TestSubmitFetches(t *testing.T) {
	for _, locked := range []bool{false, true} {
		for name, k := range map[string]ring.Kernel{"linux": ring.Linux(), "sim": nil} {
			t.Run(fmt.Sprintf("%s, locked %v", name, locked), func(t *testing.T) {
				lockThread(t)
				p := pipe{}
				if k == nil {
					sim, f := ring.NewSim(ring.SimConfig{Delay: 1}), ring.NewSimPipe()
					k, p = sim, pipe{sim.Add(f), f.Feed}
				} else {
					p = realPipe(t)
				}
				g := rigOn(t, ring.Config{Kernel: k, Entries: 8, Locked: locked})
				for data := range uint64(50) {
					g.put(g.read(data, p.fd, make([]byte, 1), 0))
					p.feed([]byte{1})
					for tries := 0; !g.has(data); tries++ {
						if err := g.r.Submit(); err != nil {
							t.Fatal(err)
						}
						if g.reap(); tries > 1 && name == "sim" || tries > 100_000 {
							t.Fatalf("request %d: nothing after %d times", data, tries)
						}
						if name == "sim" && tries == 0 {
							// Without a reason to, the ring does not enter, and the model's time stands still.
							g.put(nop(1000 + data))
						}
					}
				}
			})
		}
	}
}
