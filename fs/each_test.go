package fs_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/testenv"
)

func executors() []executor.Executor {
	return []executor.Executor{executor.Goroutines(), executor.Pool(4), executor.Workers(1), executor.Workers(3), executor.Local()}
}

// each runs test as the root task of every executor on every engine, and sees that neither goroutines nor descriptors are left over.
// A test must not end its task with t.Fatal, which would leave out what it deferred to after a wait: it says t.Error and returns.
func each(t *testing.T, test func(t *testing.T, ctx context.Context)) {
	t.Helper()
	eachWith(t, driver.Config{}, test)
}

// eachWith is each with drivers of a configuration, but for the engine.
func eachWith(t *testing.T, cfg driver.Config, test func(t *testing.T, ctx context.Context)) {
	t.Helper()
	for _, engine := range testenv.Engines(t) {
		cfg.Engine = engine
		for _, e := range executors() {
			t.Run(fmt.Sprintf("%v/%v", engine, e), func(t *testing.T) { run(t, e, cfg, test) })
		}
	}
}

func run(t *testing.T, e executor.Executor, cfg driver.Config, test func(t *testing.T, ctx context.Context)) {
	t.Helper()
	testenv.Leakless(t, func(ctx context.Context) error {
		return executor.Start(ctx, func(ctx context.Context) error {
			test(t, ctx)
			return nil
		}, executor.WithExecutor(e), executor.WithDriver(cfg))
	})
}

// goAll runs n tasks and waits for them. It returns the first error.
func goAll(ctx context.Context, n int, task func(ctx context.Context, i int) error) error {
	tasks := make([]*executor.JoinHandle[struct{}], n)
	for i := range tasks {
		tasks[i] = executor.Go(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, task(ctx, i) })
	}
	var errs []error
	for _, task := range tasks {
		if _, err := task.Join(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
