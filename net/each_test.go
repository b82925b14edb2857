package net_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/testenv"
	"uringo/net"
)

// The tests of this package run at one of two sizes: as they are, or with URINGO_NIGHTLY=1 as long as it takes to trust the package.
// URINGO_ENGINE=uring or portable leaves out what does not run on that engine, URINGO_SEED=n repeats a failure.

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVar); role != "" {
		os.Exit(roles[role]())
	}
	testenv.OpenNetpoller()
	os.Exit(testenv.KernelContent(m.Run))
}

// roleVar names what a test binary that a test has started is to do instead of testing.
const roleVar = "URINGO_NET_TEST_ROLE"

// roles are programs that a test runs in a process of their own. They return the exit status.
var roles = map[string]func() int{}

// size is how often a test does what it does.
func size(commit, nightly int) int {
	if testenv.Nightly() {
		return nightly
	}
	return commit
}

// share is size for a test that runs in every way of each: the ways share out what it does in a nightly run.
func share(t *testing.T, commit, nightly int) int {
	t.Helper()
	ways := len(testenv.Engines(t)) * (len(executors()) + 1)
	return size(commit, (nightly+ways-1)/ways)
}

// random returns a function that makes sources of random numbers, one for each task. What it starts from is printed, and URINGO_SEED=n
// repeats it.
func random(t *testing.T) func(i int) *rand.Rand {
	t.Helper()
	seed := testenv.Seed(t, rand.Uint64())
	return func(i int) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(i))) }
}

// quantile returns the value below which a part q of the samples are. It sorts them.
func quantile(samples []time.Duration, q float64) time.Duration {
	if len(samples) == 0 {
		return 0
	}
	slices.Sort(samples)
	return samples[min(int(q*float64(len(samples))), len(samples)-1)]
}

func executors() []executor.Executor {
	return []executor.Executor{executor.Goroutines(), executor.Pool(8), executor.Workers(1), executor.Workers(2), executor.Local()}
}

// each runs test as the root task of every executor on every engine, and on a plain goroutine whose context carries a driver, and sees
// that neither goroutines nor descriptors are left over. A test must not end its task with t.Fatal, which would leave out what it
// deferred to after a wait: it says t.Error and returns.
func each(t *testing.T, test func(t *testing.T, ctx context.Context)) {
	t.Helper()
	eachWith(t, driver.Config{}, test)
}

// eachWith is each with drivers that are configured in some way.
func eachWith(t *testing.T, cfg driver.Config, test func(t *testing.T, ctx context.Context)) {
	t.Helper()
	for _, engine := range testenv.Engines(t) {
		cfg.Engine = engine
		for _, e := range executors() {
			t.Run(fmt.Sprintf("%v/%v", engine, e), func(t *testing.T) { run(t, e, cfg, test) })
		}
		t.Run(fmt.Sprintf("%v/plain", engine), func(t *testing.T) { plain(t, cfg, test) })
	}
}

// untilLetGo waits until the kernel has let go of what was abandoned: the end of the driver waits no longer for it than its caller did.
func untilLetGo(ctx context.Context) error {
	d, err := driver.FromContext(ctx)
	for err == nil {
		if s := d.Stats(); s.Abandoned == s.AbandonedDone {
			break
		}
		err = executor.Sleep(ctx, time.Millisecond)
	}
	return err
}

func run(t *testing.T, e executor.Executor, cfg driver.Config, test func(t *testing.T, ctx context.Context)) {
	t.Helper()
	testenv.Leakless(t, func(ctx context.Context) error {
		return executor.Start(ctx, func(ctx context.Context) error {
			defer net.ClosePipes()
			test(t, ctx)
			return untilLetGo(ctx)
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
