package ring_test

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
	"uringo/ops"
)

func portable() ring.Kernel { return ring.NewPortable(ops.Calls(), 16) }

// wakers are the engines with a wake-up of their own.
func wakers() map[string]ring.Config {
	return map[string]ring.Config{
		"linux":        {Kernel: ring.Linux()},
		"linux locked": {Kernel: ring.Linux(), Locked: true},
		"portable":     {Kernel: portable()},
		"sim":          {Kernel: ring.NewSim(ring.SimConfig{})},
	}
}

// TestNoLostWake wakes a ring that is about to wait, or waits, or has just stopped, and checks that every wake-up ends a
// wait. It makes 25 000 rounds on each of four engines, a fifth of that under the race detector, and 1 000 000 with
// URINGO_NIGHTLY=1.
func TestNoLostWake(t *testing.T) {
	rounds := uint64(25_000)
	switch {
	case nightly():
		rounds = 1_000_000
	case underRace:
		rounds /= 5
	}
	for name, cfg := range wakers() {
		t.Run(name, func(t *testing.T) {
			if cfg.Locked {
				lockThread(t)
			}
			cfg.Entries = 4
			r := openRing(t, cfg)
			var asked, woken atomic.Uint64
			done := make(chan struct{})
			go func() {
				defer close(done)
				for round := uint64(1); round <= rounds; round++ {
					for asked.Load() < round {
						runtime.Gosched()
					}
					spin(int(round*7%64) * 8)
					woken.Store(round)
					r.Wake()
				}
			}()
			const lost = 10 * time.Second
			for round := uint64(1); round <= rounds; round++ {
				asked.Store(round)
				spin(int(round*13%64) * 8)
				for woken.Load() < round {
					// The simulated clock would jump over a timeout.
					timeout, begin := lost, time.Now()
					if name == "sim" {
						timeout = 0
					}
					if err := r.SubmitAndWait(timeout); err != nil {
						t.Fatal(err)
					}
					if time.Since(begin) >= lost && woken.Load() >= round {
						t.Fatalf("wake-up %d was lost", round)
					}
					var out [4]ring.CQE
					if n := r.Reap(out[:]); n > 0 {
						t.Fatalf("completions out of nothing: %+v", out[:n])
					}
				}
			}
			<-done
		})
	}
}

// spin passes some time without giving up the processor.
func spin(n int) {
	for range n {
		spun.Add(1)
	}
}

var spun atomic.Int64

// TestWakeWhen wakes before, while and after the ring waits.
func TestWakeWhen(t *testing.T) {
	for name, cfg := range wakers() {
		t.Run(name, func(t *testing.T) {
			if cfg.Locked {
				lockThread(t)
			}
			cfg.Entries = 4
			r := openRing(t, cfg)
			wait := func(what string) {
				t.Helper()
				if err := r.SubmitAndWait(0); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				var out [4]ring.CQE
				r.Reap(out[:])
			}
			r.Wake()
			wait("before")
			// Several count as one, at least.
			for range 1000 {
				r.Wake()
			}
			wait("before, often")
			for range 20 {
				timer := time.AfterFunc(time.Millisecond, r.Wake)
				wait("during")
				timer.Stop()
			}
			// From many goroutines at once.
			var all sync.WaitGroup
			for range 32 {
				all.Go(func() {
					for range 100 {
						r.Wake()
					}
				})
			}
			wait("from many")
			all.Wait()
			r.Wake()
			wait("after")
		})
	}
}

// TestWakeAfterClose wakes a ring that is closed. Its descriptor belongs to somebody else by then.
func TestWakeAfterClose(t *testing.T) {
	for name, cfg := range wakers() {
		t.Run(name, func(t *testing.T) {
			if cfg.Locked {
				lockThread(t)
			}
			r, err := ring.Open(cfg)
			if ring.Unavailable(err) {
				t.Skipf("needs io_uring: %v, running %s", err, release())
			}
			if err != nil {
				t.Fatal(err)
			}
			r.Wake()
			if err := r.SubmitAndWait(0); err != nil {
				t.Fatal(err)
			}
			stop := make(chan struct{})
			var wakers sync.WaitGroup
			for range 4 {
				wakers.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
							r.Wake()
						}
					}
				})
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			var fds []int
			for range 16 {
				fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
				if err != nil {
					t.Fatal(err)
				}
				fds = append(fds, fd)
			}
			time.Sleep(2 * time.Millisecond)
			close(stop)
			wakers.Wait()
			for _, fd := range fds {
				if _, err := unix.Read(fd, make([]byte, 8)); err != syscall.EAGAIN {
					t.Errorf("a wake-up went to a stranger: %v", err)
				}
				unix.Close(fd)
			}
		})
	}
}

// TestCloseWhileArmed closes a ring whose wake-up is in flight, or laid and not taken, many times: it must neither hang nor
// leave anything.
func TestCloseWhileArmed(t *testing.T) {
	fds, maps := belongings(t)
	for i := range 50 {
		k := ring.Kernel(ring.Linux())
		if i%2 == 1 {
			k = ring.NewFaults(k, uint64(i), ring.FaultConfig{EnterFails: 0.7, Limit: 0.7})
		}
		r, err := ring.Open(ring.Config{Kernel: k, Entries: 4})
		if ring.Unavailable(err) {
			t.Skipf("needs io_uring: %v, running %s", err, release())
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := r.SubmitAndWait(time.Microsecond); err != nil && !errors.Is(err, ring.ErrBusy) {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if f, m := belongings(t); f != fds || m != maps {
		t.Errorf("%d descriptors and %d mappings left over", f-fds, m-maps)
	}
}
