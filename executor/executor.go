package executor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"uringo/driver"
)

// Executor decides where tasks run and how they wait. This package has four; a program may bring its own.
type Executor interface {
	// Open starts the executor for one call of Start. cfg is what the user wants of the driver.
	Open(cfg driver.Config) (Runtime, error)
	// String names the executor in logs and errors.
	String() string
}

// Runtime is an executor at work. Its methods are called by tasks and by Start, never by the driver goroutine, so it may block
// where its users can bear it.
type Runtime interface {
	// Driver returns the driver that performs the tasks' operations. The runtime opened it and closes it.
	Driver() *driver.Driver

	// Spawn arranges for run to be called once, on whatever goroutine, and may return before, after or while it runs. An
	// error means that run will not be called: the task ends with it. A run that is never called ends when Start does.
	Spawn(run func()) error

	// Wait is called on a task that waits, and returns after a value has been received from ready. It is where a runtime
	// can let something else run meanwhile.
	Wait(ready <-chan struct{})

	// Close is called when all tasks have ended.
	Close(ctx context.Context) error
}

// ErrGoexit is the error of a task that ended its goroutine with runtime.Goexit, as testing's FailNow does.
var ErrGoexit = errors.New("uringo: task called runtime.Goexit")

// ErrStopped is the error of a task started after its Start had ended.
var ErrStopped = errors.New("uringo: runtime stopped")

// ErrNested is the error of joining a task of Local from code on the same thread that is not a task, such as an iterator inside
// one: the joined task could not run meanwhile.
var ErrNested = errors.New("uringo: cannot wait for a task of this thread from outside of a task")

// ErrNoRuntime is the error of Go outside of tasks: nothing would wait for the new task.
var ErrNoRuntime = errors.New("uringo: context belongs to no task: call from inside executor.Start")

type options struct {
	executor Executor
	config   driver.Config
	stall    time.Duration
}

// Option changes how Start works.
type Option func(*options)

// WithExecutor chooses the executor. The default is Workers(1); with nil, Start fails.
func WithExecutor(e Executor) Option { return func(o *options) { o.executor = e } }

// WithDriver configures the driver. The default is the zero Config.
func WithDriver(cfg driver.Config) Option { return func(o *options) { o.config = cfg } }

// WithStallAfter sets how long a task of Workers or Local may hold its goroutine before it is reported. Zero means one second; a
// negative value turns the report off.
func WithStallAfter(d time.Duration) Option { return func(o *options) { o.stall = d } }

// Start runs root as a task and returns its error when it and every task started from it have ended. When root returns, or ctx
// ends, the remaining tasks are cancelled. A panic in root is a *[PanicError]. An executor or a driver that cannot be opened is an error, and root
// does not run then, nor under a ctx that has ended.
//
// With a Config.CancelGrace, Start waits no longer than that for operations which were abandoned, and then returns an error that names them; see
// [driver.Driver.Close].
//
// Start blocks its caller. A task of Workers or Local that calls it holds its worker for that time; operations on its driver go on.
func Start(ctx context.Context, root func(ctx context.Context) error, opts ...Option) (err error) {
	o := options{executor: Workers(1)}
	for _, opt := range opts {
		if opt == nil {
			return errors.New("uringo: Start with an Option that is nil")
		}
		opt(&o)
	}
	if o.executor == nil {
		return errors.New("uringo: WithExecutor(nil): tasks need an executor")
	}
	if o.stall == 0 {
		o.stall = time.Second
	}
	if ctx.Err() != nil {
		return driver.Canceled(ctx)
	}
	for _, t := range [...]*task{taskOf(ctx), current()} {
		if t != nil && t.home != nil {
			t.home.flush() // if that is held up, the others' operations must not wait for it
		}
	}
	rt, err := o.executor.Open(o.config)
	if err != nil {
		return err
	}
	if rt == nil {
		return fmt.Errorf("uringo: executor %v: Open returned no Runtime", o.executor)
	}
	s := newScope(ctx, rt, o)
	if w, ok := rt.(watched); ok && o.stall > 0 {
		stop := watch(w, o.stall, s.log)
		defer stop()
	}
	// Deferred, as a foreign runtime may run the root right here, where it may call runtime.Goexit.
	defer func() {
		s.stop()

		// All tasks have ended, so the driver holds nothing but what was abandoned, if anything.
		end := context.Background()
		if grace := o.config.CancelGrace; grace > 0 {
			var cancel context.CancelFunc
			end, cancel = context.WithTimeout(end, grace)
			defer cancel()
		}
		if closing := rt.Close(end); closing != nil {
			err = errors.Join(err, closing)
		}
	}()
	h := spawn(s, ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, root(ctx) }, nil)
	waitBeside(h.t.ended.channel())
	return h.t.err
}

func logger(cfg driver.Config) *zap.Logger {
	if cfg.Logger == nil {
		return zap.NewNop()
	}
	return cfg.Logger
}
