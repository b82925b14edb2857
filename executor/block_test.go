package executor_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"uringo/executor"
)

func TestBlock(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			if v, err := executor.Block(ctx, func() (int, error) { return 7, nil }); v != 7 || err != nil {
				w.Errorf("%d, %v", v, err)
			}
			if v, err := executor.Block(ctx, func() (int, error) { return 7, errTest }); v != 7 || err != errTest {
				w.Errorf("%d, %v", v, err)
			}
			v, err := executor.Block(ctx, func() (int, error) { culprit(errTest); return 7, nil })
			panicked(w, err, "executor_test.culprit")
			is(w, err, errTest)
			if v != 0 {
				w.Errorf("value %d", v)
			}
			v, err = executor.Block(ctx, func() (int, error) { leave(); return 7, nil })
			is(w, err, executor.ErrGoexit)
			if v != 0 {
				w.Errorf("value %d", v)
			}
			return nop(ctx)
		})
	})
}

// Others run while a task is in Block, on every executor.
func TestBlockLetsOthersRun(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			met := make(chan struct{})
			h := executor.GoHere(ctx, func(ctx context.Context) (int, error) {
				return executor.Block(ctx, func() (int, error) { <-met; return 7, nil })
			})
			other := executor.GoHere(ctx, task(func(ctx context.Context) error {
				if err := nop(ctx); err != nil {
					return err
				}
				close(met)
				return nil
			}))
			if _, err := other.Join(ctx); err != nil {
				return err
			}
			if v, err := h.Join(ctx); v != 7 || err != nil {
				w.Errorf("%d, %v", v, err)
			}
			return nil
		})
	})
}

// A context that has ended keeps fn from running; one that ends later does not: fn finishes, and its result counts.
func TestBlockAndTheEndOfTheContext(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			ended, cancel := context.WithCancel(ctx)
			cancel()
			_, err := executor.Block(ended, func() (int, error) { w.Error("fn ran"); return 0, nil })
			is(w, err, context.Canceled)

			begun, proceed := new(executor.Event), make(chan struct{})
			h := executor.Go(ctx, func(ctx context.Context) (int, error) {
				v, err := executor.Block(ctx, func() (int, error) { begun.Set(); <-proceed; return 7, nil })
				is(w, nop(ctx), context.Canceled)
				return v, err
			})
			if err := begun.Wait(ctx); err != nil {
				return err
			}
			h.Abort()
			if err := executor.Sleep(ctx, 2*time.Millisecond); err != nil {
				return err
			}
			close(proceed)
			if v, err := h.Join(ctx); v != 7 || err != nil {
				w.Errorf("%d, %v", v, err)
			}
			return nil
		})
	})
}

// What may not be done in a task of Workers and Local, may be done in Block. The threads that die of it may have submitted
// operations that are still in the kernel, which cancels these; nobody notices.
func TestBlockWithALockedThread(t *testing.T) {
	everywhere(t, func(w *world) {
		rd, wr := pipe(w)
		w.ok(func(ctx context.Context) error {
			reader := executor.GoHere(ctx, func(ctx context.Context) (string, error) {
				_, buf, err := read(ctx, rd, make([]byte, 4))
				return string(buf), err
			})
			for range rounds(200) {
				if _, err := executor.Block(ctx, func() (int, error) {
					runtime.LockOSThread() // and never unlocks: the thread ends with the goroutine
					time.Sleep(100 * time.Microsecond)
					return 0, nil
				}); err != nil {
					return err
				}
				if err := nop(ctx); err != nil {
					return err
				}
			}
			if err := write(ctx, wr, "data"); err != nil {
				return err
			}
			if v, err := reader.Join(ctx); v != "data" || err != nil {
				w.Errorf("%q, %v", v, err)
			}
			return nil
		})
	})
}

// A task of Goroutines and its kin may lock its thread itself.
func TestLockedThreadOnGoroutines(t *testing.T) {
	where(t, func(w *world) bool { return !w.coop() }, func(w *world) {
		w.ok(func(ctx context.Context) error {
			_, err := executor.Go(ctx, task(func(ctx context.Context) error {
				runtime.LockOSThread()
				return errors.Join(nop(ctx), executor.Sleep(ctx, time.Millisecond), nop(ctx))
			})).Join(ctx)
			return err
		})
	})
}

// 2000 at once run in turns, with a bounded number of threads.
func TestBlockIsBounded(t *testing.T) {
	everywhere(t, func(w *world) {
		if raceEnabled && !exhaustive && w.name != "worker" && w.name != "local" {
			return
		}
		before := threads(w)
		w.ok(func(ctx context.Context) error {
			var g gauge
			var all []*executor.JoinHandle[int]
			release := make(chan struct{})
			n := 2000
			if w.name == "pool" || w.name == "outside" {
				n = 1000
			}
			for i := range n {
				all = append(all, executor.Go(ctx, func(ctx context.Context) (int, error) {
					return executor.Block(ctx, func() (int, error) {
						g.in()
						defer g.out()
						if i%100 == 0 {
							blockThread()
						}
						<-release
						return i, nil
					})
				}))
			}
			for begin := time.Now(); g.now.Load() < 512 && time.Since(begin) < patience/2; {
				if err := executor.Sleep(ctx, time.Millisecond); err != nil {
					return err
				}
			}
			if err := executor.Sleep(ctx, 5*time.Millisecond); err != nil {
				return err
			}
			close(release)
			for i, h := range all {
				if v, err := h.Join(ctx); v != i || err != nil {
					w.Errorf("task %d: %d, %v", i, v, err)
				}
			}
			if most := g.most.Load(); most != 512 {
				w.Errorf("%d at once", most)
			}
			return nil
		})
		if n := threads(w); n > before+600 {
			w.Errorf("%d threads, %d before", n, before)
		}
	})
}

// blockThread sits in a system call.
func blockThread() {
	r, w, err := os.Pipe()
	if err != nil {
		return
	}
	defer r.Close()
	defer w.Close()
	var wg sync.WaitGroup
	wg.Go(func() { time.Sleep(time.Millisecond); w.Write([]byte{0}) })
	r.Fd() // blocking from now on
	r.Read(make([]byte, 1))
	wg.Wait()
}

// threads returns how many threads the process has.
func threads(t testing.TB) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(status, []byte("Threads:"))
	number, _, _ := bytes.Cut(rest, []byte("\n"))
	n, err := strconv.Atoi(string(bytes.TrimSpace(number)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// What has not had its turn when the context ends does not run, so the end does not wait for a long queue.
func TestBlockInAQueue(t *testing.T) {
	everywhere(t, func(w *world) {
		release := make(chan struct{})
		var ran gauge
		err := w.run(func(ctx context.Context) error {
			var first, late []*executor.JoinHandle[int]
			block := func(ctx context.Context) (int, error) {
				return executor.Block(ctx, func() (int, error) { ran.in(); <-release; return 7, nil })
			}
			for range 512 {
				first = append(first, executor.Go(ctx, block))
			}
			for begin := time.Now(); ran.now.Load() < 512 && time.Since(begin) < patience/2; {
				if err := executor.Sleep(ctx, time.Millisecond); err != nil {
					return err
				}
			}
			for range 100 {
				late = append(late, executor.Go(ctx, block))
			}
			if err := executor.Sleep(ctx, 5*time.Millisecond); err != nil {
				return err
			}
			for _, h := range late {
				h.Abort()
			}
			for _, h := range late {
				_, err := h.Join(ctx)
				is(w, err, context.Canceled)
			}
			close(release)
			for _, h := range first {
				if v, err := h.Join(ctx); v != 7 || err != nil {
					w.Errorf("%d, %v", v, err)
				}
			}
			return nil
		})
		if n := ran.now.Load(); err != nil || n != 512 {
			w.Errorf("%d of 512 ran, %v", n, err)
		}
	})
}

// Within Block, Block goes on also when all turns are taken by such as wait for theirs.
func TestBlockWithinBlock(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			const turns = 512
			var all []*executor.JoinHandle[int]
			var inside sync.WaitGroup // once all are in the outer one, they enter the inner one
			inside.Add(turns)
			for i := range turns {
				all = append(all, executor.Go(ctx, func(ctx context.Context) (int, error) {
					return executor.Block(ctx, func() (int, error) {
						inside.Done()
						inside.Wait()
						return executor.Block(ctx, func() (int, error) {
							return executor.Block(ctx, func() (int, error) { return i, nil })
						})
					})
				}))
			}
			for i, h := range all {
				if v, err := h.Join(ctx); v != i || err != nil {
					w.Errorf("task %d: %d, %v", i, v, err)
				}
			}
			_, err := executor.Block(ctx, func() (int, error) {
				_, err := executor.Block(ctx, func() (int, error) { leave(); return 7, nil })
				is(w, err, executor.ErrGoexit)
				_, err = executor.Block(ctx, func() (int, error) { culprit(errTest); return 7, nil })
				panicked(w, err, "executor_test.culprit")
				return 7, nil
			})
			return err
		})
	})
}
