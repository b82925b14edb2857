package executor_test

import (
	"context"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"uringo/executor"
)

//go:noinline
func blockOnAPrimitive(until func() bool) {
	for !until() {
		<-time.After(time.Millisecond)
	}
}

//go:noinline
func blockInALoop(until func() bool) {
	for !until() {
	}
}

//go:noinline
func blockInAnIterator(until func() bool) {
	next, stop := iter.Pull(func(yield func(int) bool) { blockOnAPrimitive(until) })
	defer stop()
	next()
}

// A task that holds its worker is named, once for every time that it does.
func TestStallReport(t *testing.T) {
	cooperative(t, func(w *world) {
		core, logs := observer.New(zapcore.WarnLevel)
		w.config.Logger = zap.New(core)
		// On a busy machine a task that only waits for its processor is reported, too.
		naming := func(name string) *observer.ObservedLogs {
			return logs.FilterMessage("a task holds its worker").Filter(func(e observer.LoggedEntry) bool {
				return strings.Contains(e.ContextMap()["stack"].(string), name)
			})
		}
		for _, stall := range []struct {
			name string
			f    func(until func() bool)
		}{
			{"executor_test.blockOnAPrimitive", blockOnAPrimitive},
			{"executor_test.blockInALoop", blockInALoop},
			{"executor_test.blockOnAPrimitive", blockInAnIterator}, // on the iterator's own stack
		} {
			w.ok(func(ctx context.Context) error {
				for range 20 {
					executor.GoHere(ctx, task(forever))
				}
				for range 2 {
					_, err := executor.GoHere(ctx, task(func(ctx context.Context) error {
						begin := time.Now()
						var reported time.Time
						stall.f(func() bool {
							if reported.IsZero() && naming(stall.name).Len() > 0 {
								reported = time.Now()
							}
							// For long enough after the first to see a second.
							return !reported.IsZero() && time.Since(reported) > 50*time.Millisecond || time.Since(begin) > patience/2
						})
						return nop(ctx)
					})).Join(ctx)
					if err != nil {
						return err
					}
					reports := naming(stall.name).All()
					if len(reports) != 1 {
						w.Errorf("%s was reported %d times: %v", stall.name, len(reports), logs.All())
					}
					logs.TakeAll()
					for _, r := range reports {
						stack := r.ContextMap()["stack"].(string)
						if strings.Count(stack, "goroutine ") > 6 {
							w.Errorf("the report of %s names others:\n%s", stall.name, stack)
						}
					}
				}
				return nil
			}, executor.WithStallAfter(20*time.Millisecond))
		}

		logs.TakeAll() // those who ended may have waited for their processor
		w.ok(func(ctx context.Context) error {
			time.Sleep(50 * time.Millisecond)
			return nil
		}, executor.WithStallAfter(-1))
		w.ok(func(ctx context.Context) error {
			for range 50 {
				if err := executor.Sleep(ctx, time.Millisecond); err != nil {
					return err
				}
			}
			return nil
		}, executor.WithStallAfter(time.Second))
		if n := naming("").Len(); n != 0 {
			w.Errorf("%d reports without a stall, or although they are off", n)
		}
	})
}

//go:noinline
func blockToo(until func() bool) { blockOnAPrimitive(until) }

// Of two that hold their worker one right after the other, both are named: the second may be the one that never ends.
func TestStallReportOfTheNext(t *testing.T) {
	cooperative(t, func(w *world) {
		core, logs := observer.New(zapcore.WarnLevel)
		w.config.Logger = zap.New(core)
		w.ok(func(ctx context.Context) error {
			var all []*executor.JoinHandle[struct{}]
			for _, block := range []func(until func() bool){blockInALoop, blockToo} {
				name := "executor_test.blockToo"
				if len(all) == 0 {
					name = "executor_test.blockInALoop"
				}
				all = append(all, executor.GoHere(ctx, task(func(context.Context) error {
					begin := time.Now()
					reported := false
					block(func() bool {
						reported = logs.FilterMessage("a task holds its worker").Filter(func(e observer.LoggedEntry) bool {
							return strings.Contains(e.ContextMap()["stack"].(string), name)
						}).Len() > 0
						return reported || time.Since(begin) > patience/3
					})
					if !reported {
						w.Errorf("%s was not reported: %v", name, logs.All())
					}
					return nil
				})))
			}
			return joinAll(ctx, all...)
		}, executor.WithStallAfter(20*time.Millisecond))
	})
}

// A task that blocks on a Go primitive holds up its own worker only.
func TestBlockedWorker(t *testing.T) {
	cooperative(t, func(w *world) {
		if w.one() {
			return
		}
		w.ok(func(ctx context.Context) error {
			release := make(chan struct{})
			var blocked atomic.Bool
			stuck := executor.Go(ctx, task(func(ctx context.Context) error {
				blocked.Store(true)
				<-release
				return nop(ctx)
			}))
			mate := executor.Go(ctx, task(func(ctx context.Context) error {
				for !blocked.Load() {
					if err := executor.Yield(ctx); err != nil {
						return err
					}
				}
				for range 20 {
					if err := nop(ctx); err != nil {
						return err
					}
					if err := executor.Sleep(ctx, 10*time.Microsecond); err != nil {
						return err
					}
				}
				close(release)
				return nil
			}))
			for _, h := range []*executor.JoinHandle[struct{}]{stuck, mate} {
				if _, err := h.Join(ctx); err != nil {
					return err
				}
			}
			return nil
		})
	})
}
