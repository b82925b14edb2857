package executor_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"uringo/executor"
	"uringo/internal/testenv"
	"uringo/ops"
)

func TestSleep(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			for _, d := range []time.Duration{-1, 0, time.Nanosecond, 5 * time.Millisecond} {
				begin := time.Now()
				if err := executor.Sleep(ctx, d); err != nil {
					return err
				}
				if took := time.Since(begin); took < d {
					w.Errorf("a sleep of %v took %v", d, took)
				}
			}
			short, cancel := context.WithCancel(ctx)
			cancel()
			for _, d := range []time.Duration{0, time.Hour} {
				is(w, executor.Sleep(short, d), context.Canceled)
			}
			return nil
		})
	})
}

// Nobody wakes up before the time, however many sleep. In which order those wake up whose time has come is not promised: a busy
// machine makes their timers ring together.
func TestSleepOrder(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			const slack = 5 * time.Millisecond // the clocks of a virtual machine's processors are not quite one
			var all []*executor.JoinHandle[struct{}]
			for i := range 5 {
				all = append(all, executor.Go(ctx, task(func(ctx context.Context) error {
					begin, d := time.Now(), time.Duration(5-i)*30*time.Millisecond
					err := executor.Sleep(ctx, d)
					if slept := time.Since(begin); slept < d-slack {
						w.Errorf("slept %v instead of %v", slept, d)
					}
					return err
				})))
			}
			for _, h := range all {
				if _, err := h.Join(ctx); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func TestManySleepers(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			n := 10_000
			if raceEnabled && !exhaustive {
				n = 500
			}
			begin, delays := time.Now(), testenv.Delays()
			all := make([]*executor.JoinHandle[struct{}], n)
			for i := range all {
				all[i] = executor.Go(ctx, task(func(ctx context.Context) error {
					return executor.Sleep(ctx, time.Duration(i%20)*time.Millisecond)
				}))
			}
			for _, h := range all {
				if _, err := h.Join(ctx); err != nil {
					return err
				}
			}
			if took, late := time.Since(begin), delays(); took-late > 5*time.Second {
				w.Errorf("%d sleeps of up to 20ms took %v, on a machine that was %v late", n, took, late)
			}
			return nil
		})
	})
}

// A task that yields all the time keeps neither other tasks nor their operations, timers and requests from outside from going on.
func TestYieldIsFair(t *testing.T) {
	everywhere(t, func(w *world) {
		rd, wr := pipe(w)
		w.ok(func(ctx context.Context) error {
			var stop atomic.Bool
			var turns [3]int
			var hogs []*executor.JoinHandle[struct{}]
			n := len(turns)
			if w.name == "pool" || w.name == "outside" {
				n = 1
			}
			for i := range n {
				hogs = append(hogs, executor.GoHere(ctx, task(func(ctx context.Context) error {
					for !stop.Load() {
						turns[i]++
						if err := executor.Yield(ctx); err != nil {
							return err
						}
					}
					return nil
				})))
			}
			outside := make(chan error, 1)
			go func() { outside <- nop(ctx) }()
			reader := executor.GoHere(ctx, func(ctx context.Context) (string, error) {
				_, buf, err := read(ctx, rd, make([]byte, 4))
				return string(buf), err
			})
			if w.name != "pool" && w.name != "outside" {
				if err := executor.Sleep(ctx, 2*time.Millisecond); err != nil {
					return err
				}
			}
			if err := executor.Do(ctx, ops.Timeout(time.Millisecond)).Err; err != nil {
				return err
			}
			if err := write(ctx, wr, "data"); err != nil {
				return err
			}
			for range 10 {
				if err := nop(ctx); err != nil {
					return err
				}
			}
			if w.name == "pool" || w.name == "outside" {
				stop.Store(true) // the reader needs a place
			}
			if v, err := reader.Join(ctx); v != "data" || err != nil {
				w.Errorf("%q, %v", v, err)
			}
			if _, err := executor.Block(ctx, func() (int, error) { return 0, <-outside }); err != nil {
				return err
			}
			stop.Store(true)
			for _, h := range hogs {
				if _, err := h.Join(ctx); err != nil {
					return err
				}
			}
			if w.one() {
				low, high := turns[0], turns[0]
				for _, n := range turns {
					low, high = min(low, n), max(high, n)
				}
				if low == 0 || high > low+10 {
					w.Errorf("turns of three tasks that yield: %v", turns)
				}
			}
			return nil
		})
	})
}

// On one worker, tasks that yield take turns.
func TestYieldOrder(t *testing.T) {
	cooperative(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			var order []int
			var all []*executor.JoinHandle[struct{}]
			for i := range 3 {
				all = append(all, executor.GoHere(ctx, task(func(ctx context.Context) error {
					for range 3 {
						order = append(order, i)
						if err := executor.Yield(ctx); err != nil {
							return err
						}
					}
					return nil
				})))
			}
			for _, h := range all {
				if _, err := h.Join(ctx); err != nil {
					return err
				}
			}
			if got := fmt.Sprint(order); got != "[0 1 2 0 1 2 0 1 2]" {
				w.Errorf("order %s", got)
			}
			return nil
		})
	})
}

func TestEvent(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			var before executor.Event
			if before.IsSet() {
				w.Error("a new event has happened")
			}
			before.Set()
			before.Set()
			if !before.IsSet() {
				w.Error("Set did not make it happen")
			}
			if err := before.Wait(ctx); err != nil {
				return err
			}
			ended, cancel := context.WithCancel(ctx)
			cancel()
			if err := before.Wait(ended); err != nil {
				w.Errorf("what has happened is waited for with any context: %v", err)
			}
			is(w, new(executor.Event).Wait(ended), context.Canceled)

			// Many waiters of all kinds; a part of them gives up.
			var e executor.Event
			var woken, gaveUp atomic.Int32
			short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
			defer cancel()
			wait := func(ctx context.Context) {
				switch err := e.Wait(ctx); {
				case err == nil:
					woken.Add(1)
				default:
					is(w, err, context.DeadlineExceeded)
					gaveUp.Add(1)
				}
			}
			var all []*executor.JoinHandle[struct{}]
			var outside sync.WaitGroup
			for range 50 {
				all = append(all, executor.Go(ctx, task(func(ctx context.Context) error { wait(ctx); return nop(ctx) })))
				all = append(all, executor.Go(ctx, task(func(ctx context.Context) error { wait(short); return nop(ctx) })))
				outside.Go(func() { wait(ctx) })
				outside.Go(func() { wait(context.Background()) })
				outside.Go(func() { wait(short) })
			}
			// A pool that is smaller than the number of waiters begins some only when others have ended.
			for begin := time.Now(); w.name != "pool" && gaveUp.Load() < 100 && time.Since(begin) < 10*time.Second; {
				if err := executor.Sleep(ctx, 10*time.Millisecond); err != nil {
					return err
				}
			}
			e.Set()
			for _, h := range all {
				if _, err := h.Join(ctx); err != nil {
					return err
				}
			}
			if _, err := executor.Block(ctx, func() (int, error) { outside.Wait(); return 0, nil }); err != nil {
				return err
			}
			if w.name != "pool" && (woken.Load() != 150 || gaveUp.Load() != 100) {
				w.Errorf("%d of 150 were woken, %d of 100 gave up", woken.Load(), gaveUp.Load())
			}
			if n := woken.Load() + gaveUp.Load(); n != 250 {
				w.Errorf("%d of 250 waits ended", n)
			}
			return nil
		})
	})
}

// Set from anywhere at any moment wakes every waiter, once.
func TestEventRaces(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			for i := range rounds(2000) {
				var e executor.Event
				wait := func(ctx context.Context) (bool, error) {
					if i%3 == 0 {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, time.Duration(i%50)*time.Microsecond)
						defer cancel()
					}
					err := e.Wait(ctx)
					return err == nil, nop(context.WithoutCancel(ctx))
				}
				a, b := executor.Go(ctx, wait), executor.GoHere(ctx, wait)
				switch i % 4 {
				case 0:
					go e.Set()
				case 1:
					executor.Go(ctx, task(func(context.Context) error { e.Set(); return nil }))
				case 2:
					time.AfterFunc(time.Duration(i%30)*time.Microsecond, e.Set)
				case 3:
					e.Set()
				}
				for _, h := range []*executor.JoinHandle[bool]{a, b} {
					ok, err := h.Join(ctx)
					if err != nil {
						return err
					}
					if !ok && i%3 != 0 {
						w.Error("a wait without an end failed")
					}
				}
			}
			return nil
		})
	})
}

// Spurious wake-ups: a task that gave up on an event and went on to something else is not disturbed when it happens.
func TestLateEvent(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			for range rounds(1000) {
				var e executor.Event
				h := executor.GoHere(ctx, task(func(ctx context.Context) error {
					short, cancel := context.WithTimeout(ctx, 20*time.Microsecond)
					defer cancel()
					_ = e.Wait(short)
					for range 3 {
						begin := time.Now()
						if err := executor.Sleep(ctx, 50*time.Microsecond); err != nil {
							return err
						}
						if took := time.Since(begin); took < 50*time.Microsecond {
							return fmt.Errorf("a sleep ended after %v", took)
						}
						if err := nop(ctx); err != nil {
							return err
						}
					}
					return nil
				}))
				time.AfterFunc(30*time.Microsecond, e.Set)
				if _, err := h.Join(ctx); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// Tasks that yield until another has run let it run, also where they have all the places that there are.
func TestYieldUntil(t *testing.T) {
	everywhere(t, func(w *world) {
		var spinning, ran atomic.Bool
		until := func(ctx context.Context, set *atomic.Bool) error {
			for !set.Load() {
				if err := executor.Yield(ctx); err != nil {
					return err
				}
			}
			return nil
		}
		ctx, stop := context.WithTimeout(context.Background(), patience/4)
		defer stop()
		err := w.runIn(ctx, func(ctx context.Context) error {
			executor.Go(ctx, task(func(ctx context.Context) error {
				spinning.Store(true)
				return until(ctx, &ran)
			}))
			if err := until(ctx, &spinning); err != nil {
				return err
			}
			executor.Go(ctx, task(func(context.Context) error { ran.Store(true); return nil }))
			return until(ctx, &ran)
		})
		if err != nil {
			w.Errorf("Start: %v", err)
		}
	})
}
