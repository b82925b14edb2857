package net_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/testenv"
	"uringo/net"
)

func TestMain(m *testing.M) {
	testenv.OpenNetpoller()
	os.Exit(m.Run())
}

func executors() []executor.Executor {
	return []executor.Executor{executor.Goroutines(), executor.Pool(8), executor.Workers(1), executor.Workers(2), executor.Local()}
}

// each runs test as the root task of every executor on every engine, and on a plain goroutine whose context carries a driver, and sees
// that neither goroutines nor descriptors are left over. A test must not end its task with t.Fatal, which would leave out what it
// deferred to after a wait: it says t.Error and returns.
func each(t *testing.T, test func(t *testing.T, ctx context.Context)) {
	t.Helper()
	for _, engine := range testenv.Engines(t) {
		for _, e := range executors() {
			t.Run(fmt.Sprintf("%v/%v", engine, e), func(t *testing.T) {
				run(t, e, driver.Config{Engine: engine}, test)
			})
		}
		t.Run(fmt.Sprintf("%v/plain", engine), func(t *testing.T) {
			plain(t, driver.Config{Engine: engine}, test)
		})
	}
}

func run(t *testing.T, e executor.Executor, cfg driver.Config, test func(t *testing.T, ctx context.Context)) {
	t.Helper()
	testenv.Leakless(t, func(ctx context.Context) error {
		return executor.Start(ctx, func(ctx context.Context) error {
			defer net.ClosePipes()
			test(t, ctx)
			return nil
		}, executor.WithExecutor(e), executor.WithDriver(cfg))
	})
}

// plain runs test on a goroutine with a driver of its own.
func plain(t *testing.T, cfg driver.Config, test func(t *testing.T, ctx context.Context)) {
	t.Helper()
	testenv.Leakless(t, func(ctx context.Context) error {
		d, err := driver.Open(cfg)
		if err != nil {
			return err
		}
		defer net.ClosePipes()
		test(t, context.WithValue(driver.NewContext(ctx, d), plainKey{}, true))
		return d.Close(ctx)
	})
}

// together runs functions at the same time, as tasks where there are tasks and as goroutines otherwise, and returns their errors.
func together(ctx context.Context, fs ...func(ctx context.Context) error) error {
	errs := make([]error, len(fs))
	wait := make([]func(), len(fs))
	for i, f := range fs {
		wait[i] = start(ctx, func(ctx context.Context) { errs[i] = f(ctx) })
	}
	for _, w := range wait {
		w()
	}
	return errors.Join(errs...)
}

// start starts a function beside the caller, and returns one that waits for it.
func start(ctx context.Context, f func(ctx context.Context)) (wait func()) {
	var ended executor.Event
	g := func(ctx context.Context) (struct{}, error) {
		defer ended.Set()
		f(ctx)
		return struct{}{}, nil
	}
	if ctx.Value(plainKey{}) != nil {
		go g(ctx)
	} else {
		executor.Go(ctx, g)
	}
	return func() { _ = ended.Wait(context.WithoutCancel(ctx)) }
}

// plainKey marks a context that belongs to no task.
type plainKey struct{}
