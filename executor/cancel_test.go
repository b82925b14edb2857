package executor_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/ring"
	"uringo/ops"
)

// spin wastes a random short time: on average as long as an operation takes.
func spin(r *rand.Rand) {
	for range r.IntN(40) {
		runtime.Gosched()
	}
}

// A read is cancelled at every moment: in the outbox, in the ring, while the data arrives, when it is over. It returns data or
// Canceled, and in the second case the data is still there.
func TestCancelRaces(t *testing.T) {
	everywhere(t, func(w *world) {
		rd, wr := pipe(w)
		seed := rand.Uint64()
		defer func() {
			if w.Failed() {
				w.Logf("seed %d", seed)
			}
		}()
		rng := rand.New(rand.NewPCG(seed, 0))
		var data, cancelled int
		w.ok(func(ctx context.Context) error {
			for i := range rounds(10_000) {
				start := executor.Go[string]
				if i%2 == 0 {
					start = executor.GoHere
				}
				var cancel context.CancelFunc = func() {}
				h := start(ctx, func(ctx context.Context) (string, error) {
					if i%4 == 1 {
						ctx, cancel = context.WithTimeout(ctx, time.Duration(i%37)*time.Microsecond)
						defer cancel()
					}
					n, buf, err := read(ctx, rd, make([]byte, 8))
					if len(buf) != 8 {
						w.Error("the buffer did not come back")
					}
					if err == nil && n != 8 || err != nil && n != 0 {
						w.Errorf("read %d, %v", n, err)
					}
					return string(buf[:n]), err
				})
				want := string([]byte{'a', byte(i), byte(i >> 8), byte(i >> 16), 'b', 'c', 'd', 'e'})
				done := make(chan error, 2)
				a, b := rng.Uint64(), rng.Uint64()
				go func() {
					spin(rand.New(rand.NewPCG(a, 0)))
					_, err := unix.Write(wr, []byte(want))
					done <- err
				}()
				aborter := executor.GoHere(ctx, task(func(ctx context.Context) error {
					if i%3 == 0 {
						if err := executor.Yield(ctx); err != nil {
							return err
						}
					}
					h.Abort()
					if i%5 == 0 {
						h.Abort()
					}
					return nil
				}))
				if i%8 == 7 {
					aborter.Abort() // then this round's is the only end
					go func() {
						spin(rand.New(rand.NewPCG(b, 0)))
						h.Abort()
					}()
				}
				got, err := h.Join(ctx)
				if e := <-done; e != nil {
					return e
				}
				if _, err := aborter.Join(ctx); err != nil && !errors.Is(err, context.Canceled) {
					return err
				}
				if err == nil {
					data++
				} else {
					cancelled++
					if i%4 == 1 {
						is(w, err, context.Canceled, os.ErrDeadlineExceeded)
					} else {
						is(w, err, context.Canceled)
					}
					buf := make([]byte, 16)
					n, err := unix.Read(rd, buf)
					if err != nil {
						return err
					}
					got = string(buf[:n])
				}
				if got != want {
					w.Errorf("round %d: %q arrived, %q was sent", i, got, want)
				}
			}
			return nil
		})
		w.Logf("%d rounds ended with data, %d as cancelled", data, cancelled)
	})
}

// stubborn is a kernel that does not cancel.
func stubborn(inner ring.Kernel) ring.Kernel {
	return ring.NewFaults(inner, 1, ring.FaultConfig{
		Inject:  1,
		Results: []int32{-int32(syscall.EALREADY)},
		Match:   func(e *ring.SQE) bool { return e.Op == ring.OpAsyncCancel },
	})
}

// With CancelGrace a cancelled operation that does not end is left to the driver, without its buffer. The task goes on.
func TestCancelGrace(t *testing.T) {
	everywhere(t, func(w *world) {
		inner := ring.Linux()
		if w.engine == driver.Portable {
			inner = ring.NewPortable(ops.Calls(), 16)
		}
		w.engine = driver.Uring // with whatever behind it
		w.config = driver.OnKernel(driver.Config{CancelGrace: 10 * time.Millisecond}, stubborn(inner))
		rd, wr := pipe(w)
		w.soon(patience, "Start", func() {
			err := w.start(context.Background(), func(ctx context.Context) error {
				d, err := driver.FromContext(ctx)
				if err != nil {
					return err
				}
				abandons := func(ctx context.Context) {
					n, buf, err := read(ctx, rd, make([]byte, 8))
					if n != 0 || buf != nil || !errors.Is(err, driver.ErrAbandoned) {
						w.Errorf("%d, %v, %v", n, buf, err)
					}
				}
				// inFlight waits until so many reads are in the kernel.
				inFlight := func(ctx context.Context, n int) error {
					for begin := time.Now(); d.Stats().InFlightBy["read"] != n; {
						if time.Since(begin) > patience/2 {
							return errors.New("the read is not in the kernel")
						}
						if err := executor.Sleep(ctx, time.Millisecond); err != nil {
							return err
						}
					}
					return nil
				}
				// By Abort, by a derived context, and from a goroutine.
				cancels := make(chan context.CancelFunc, 4)
				h := executor.GoHere(ctx, task(func(ctx context.Context) error {
					for range 3 {
						short, cancel := context.WithCancel(ctx)
						cancels <- cancel
						abandons(short)
						// The request that is used next is another one.
						for range 10 {
							if err := nop(ctx); err != nil {
								return err
							}
						}
					}
					other := make(chan struct{})
					short, cancel := context.WithCancel(ctx)
					cancels <- cancel
					go func() { abandons(short); close(other) }()
					if _, err := executor.Block(ctx, func() (int, error) { <-other; return 0, nil }); err != nil {
						return err
					}
					abandons(ctx)
					is(w, nop(ctx), context.Canceled)
					return errors.Join(nop(context.WithoutCancel(ctx)), executor.Sleep(context.WithoutCancel(ctx), time.Millisecond))
				}))
				for i := range 5 {
					if err := inFlight(ctx, i+1); err != nil {
						return err
					}
					if i < 4 {
						(<-cancels)()
					}
				}
				h.Abort()
				if _, err := h.Join(ctx); err != nil {
					return err
				}
				s := d.Stats()
				if s.Abandoned != 5 || s.AbandonedDone != 0 || s.InFlight < 5 {
					w.Errorf("abandoned %d, of these ended %d, in flight %d", s.Abandoned, s.AbandonedDone, s.InFlight)
				}
				// The kernel lets go of them at last.
				for range 5 {
					if err := write(ctx, wr, "12345678"); err != nil {
						return err
					}
				}
				for begin := time.Now(); d.Stats().AbandonedDone < 5; {
					if time.Since(begin) > patience/2 {
						return errors.New("abandoned operations do not end")
					}
					if err := executor.Sleep(ctx, time.Millisecond); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				w.Error(err)
			}
		})
	})
}

// If the kernel never lets go, Start names what is stuck and returns nevertheless.
func TestCancelGraceAtTheEnd(t *testing.T) {
	everywhere(t, func(w *world) {
		inner := ring.Linux()
		if w.engine == driver.Portable {
			inner = ring.NewPortable(ops.Calls(), 16)
		}
		w.engine = driver.Uring
		w.config = driver.OnKernel(driver.Config{CancelGrace: 10 * time.Millisecond}, stubborn(inner))
		rd, wr := pipe(w)
		var left atomic.Pointer[driver.Driver]
		w.soon(2*time.Second, "Start", func() {
			err := w.start(context.Background(), func(ctx context.Context) error {
				d, err := driver.FromContext(ctx)
				left.Store(d)
				executor.Go(ctx, task(func(ctx context.Context) error {
					_, buf, err := read(ctx, rd, make([]byte, 8))
					is(w, err, driver.ErrAbandoned, context.Canceled) // the second if it was still in the outbox
					if errors.Is(err, driver.ErrAbandoned) && buf != nil {
						w.Error("an abandoned read returned its buffer")
					}
					return err
				}))
				for d.Stats().InFlightBy["read"] == 0 {
					if err := executor.Sleep(ctx, time.Millisecond); err != nil {
						return err
					}
				}
				return err
			})
			is(w, err, context.DeadlineExceeded)
			if err == nil || !strings.Contains(err.Error(), "read on fd") {
				w.Errorf("the error does not name what is stuck: %v", err)
			}
		})
		// The driver lives on until the kernel lets go.
		if _, err := unix.Write(wr, []byte("12345678")); err != nil {
			w.Fatal(err)
		}
		w.soon(patience, "the end of the driver", func() {
			if err := left.Load().Close(context.Background()); err != nil {
				w.Error(err)
			}
		})
	})
}
