package executor

import (
	"context"
	"fmt"

	"golang.org/x/sync/semaphore"

	"uringo/driver"
)

// Goroutines returns an executor whose tasks are goroutines. A task waits by receiving from its operation's result channel and
// may block on anything.
func Goroutines() Executor { return goroutinesExecutor{} }

type goroutinesExecutor struct{}

func (goroutinesExecutor) String() string { return "goroutines" }

func (goroutinesExecutor) Open(cfg driver.Config) (Runtime, error) {
	d, err := driver.Open(cfg)
	if err != nil {
		return nil, err
	}
	return &goroutines{d}, nil
}

type goroutines struct{ d *driver.Driver }

func (rt *goroutines) Driver() *driver.Driver          { return rt.d }
func (rt *goroutines) Spawn(run func()) error          { go run(); return nil }
func (rt *goroutines) Wait(ready <-chan struct{})      { <-ready }
func (rt *goroutines) Close(ctx context.Context) error { return rt.d.Close(ctx) }
func (rt *goroutines) adopt(t *task, _ *task)          { t.asGoroutine(); t.launched.Store(true); go t.run() }

// Pool returns an executor whose tasks are goroutines, at most n of them at once; further ones wait for a place. A task that
// waits for an operation keeps its place. One that waits for another task, for an Event, a lock or a Queue, in Sleep or in Block lends it
// meanwhile, so tasks can start others and join them, and one that yields passes it on. A goroutine to which a task gave its context has no place
// to lend. The root counts like any other task: where n tasks wait for operations that do not end, it does not get its place back
// before they are cancelled. With n < 1, Start fails.
func Pool(n int) Executor { return poolExecutor(n) }

type poolExecutor int

func (n poolExecutor) String() string { return fmt.Sprintf("pool(%d)", int(n)) }

func (n poolExecutor) Open(cfg driver.Config) (Runtime, error) {
	if n < 1 {
		return nil, fmt.Errorf("uringo: Pool(%d): at least one task must be able to run", int(n))
	}
	d, err := driver.Open(cfg)
	if err != nil {
		return nil, err
	}
	return &pool{goroutines: goroutines{d}, places: semaphore.NewWeighted(int64(n))}, nil
}

type pool struct {
	goroutines
	places *semaphore.Weighted
}

func (rt *pool) take() { _ = rt.places.Acquire(context.Background(), 1) } // cannot fail without an end
func (rt *pool) give() { rt.places.Release(1) }

func (rt *pool) Wait(ready <-chan struct{}) {
	rt.give()
	<-ready
	rt.take()
}

func (rt *pool) adopt(t *task, _ *task) {
	t.asGoroutine()
	t.launched.Store(true)
	go func() {
		rt.take()
		defer rt.give()
		t.run()
	}()
}
