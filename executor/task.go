package executor

import (
	"context"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"uringo/driver"
	"uringo/internal/notify"
)

// scope is one call of Start: the tasks that must end before it returns.
type scope struct {
	ctx     context.Context
	unwatch func() bool
	rt      Runtime
	d       *driver.Driver
	log     *zap.Logger
	turns   turns

	mu      sync.Mutex
	live    map[*task]struct{}
	err     error // set when the scope's context has ended: that of new tasks has, too
	stopped bool
	empty   chan struct{} // closed when stopped and live is empty

	foreign bool // the runtime is not one of this package: it may lose tasks
}

func newScope(ctx context.Context, rt Runtime, o options) *scope {
	s := &scope{ctx: ctx, rt: rt, d: rt.Driver(), log: logger(o.config), empty: make(chan struct{}),
		turns: newTurns(), live: make(map[*task]struct{})}
	s.unwatch = context.AfterFunc(ctx, func() { s.cancel(ctx.Err()) })
	_, ours := rt.(native)
	s.foreign = !ours
	return s
}

// cancel ends the context of every task, and of those to come.
func (s *scope) cancel(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = err
	}
	all := slices.Collect(maps.Keys(s.live))
	s.mu.Unlock()
	for _, t := range all {
		t.interrupt(err)
	}
}

// stop cancels what is left and waits for it.
func (s *scope) stop() {
	s.unwatch()
	s.cancel(context.Canceled)
	s.mu.Lock()
	s.stopped = true
	if len(s.live) == 0 {
		close(s.empty)
	}
	s.mu.Unlock()
	waitBeside(s.empty)
}

// waitBeside waits until done is closed. On the own thread of another runtime's driver, that goes on meanwhile: what is waited for may need it.
func waitBeside(done <-chan struct{}) {
	if d := driver.Here(); d != nil {
		go func() { <-done; d.Poke() }()
		d.Attend(func() bool {
			select {
			case <-done:
				return true
			default:
				return false
			}
		})
	}
	<-done
}

// enter counts a task in, unless the scope is over.
func (s *scope) enter(t *task) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped && len(s.live) == 0 {
		return false
	}
	s.live[t] = struct{}{}
	if s.err != nil {
		t.Ending.End(s.err)
	}
	return true
}

func (s *scope) leave(t *task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, t)
	if len(s.live) == 0 && s.stopped {
		close(s.empty)
	}
}

// native is a runtime of this package. It takes tasks as they are.
type native interface {
	// adopt makes the task the runtime's own; near is the task that starts it, or nil.
	adopt(t *task, near *task)
}

// task is one task, and the context that its function gets.
type task struct {
	own driver.Request // what it waits for

	// With the two cache lines of the request, this one is all that an operation of a coroutine touches.
	req           *driver.Request // own, or another after own was abandoned
	co            *coroutine      // that runs it
	local         *local          // home, if it is that
	home          home            // where it runs; nil for a goroutine
	waiter        driver.Waiter   // how it learns of its operation's end
	g             atomic.Uintptr  // identity of its goroutine while it runs; 0 before and after
	opSeq         driver.Seq      // of a coroutine: the operation that ends with the task's context, 0 if none
	queued        bool            // of a coroutine: it is in its home's run queue
	dead          bool            // of a coroutine: it has ended
	notify.Ending                 // of the context

	next   *task         // in a list of completions
	opChan chan struct{} // of a goroutine: receives when its operation has ended

	// Of a goroutine: the operation that ends with the task's context.
	current    atomic.Pointer[driver.Request]
	currentSeq atomic.Uint32

	scope   *scope
	values  context.Context // of the starter: what its context carried
	legacy  context.Context // the same, for the tasks that this one starts
	body    func(*task) error
	claimed atomic.Bool
	unwatch func() bool // ends the watch over a starter's context that can end by itself
	err     error
	ended   Event

	launched atomic.Bool // all of the above is in its place
	received atomic.Bool // of a foreign runtime: the operation has ended
}

// home is where coroutines run: a worker, or the driver goroutine.
type home interface {
	submit(*driver.Request) // on the home's goroutine
	wake(*task)             // from anywhere
	flush()                 // from anywhere: hands over what was submitted
}

// here reports whether the caller is the task itself and not somebody to whom it lent its context.
func (t *task) here() bool { return t.g.Load() == getg() }

// JoinHandle is a task that was started, seen from outside.
type JoinHandle[T any] struct {
	t     *task
	value T
}

// Go starts a task on the executor of ctx and returns at once. On Workers it goes to the next worker in turn; see [GoHere]. If
// the task cannot be started, Join says why.
//
// Nobody has to join a task. The error of one that nobody joins is not told to anybody; a panic goes to the driver's logger in any case,
// if it has one.
//
// The task's context carries the values of ctx. It ends when Abort is called, when Start ends, or, if ctx can end before its own
// task does (context.WithTimeout, say), with ctx.
func Go[T any](ctx context.Context, fn func(ctx context.Context) (T, error)) *JoinHandle[T] {
	return start(ctx, fn, false)
}

// GoHere is like Go, but on Workers the new task shares the worker of the task that ctx belongs to, so the two never run at the same time.
func GoHere[T any](ctx context.Context, fn func(ctx context.Context) (T, error)) *JoinHandle[T] {
	return start(ctx, fn, true)
}

func start[T any](ctx context.Context, fn func(ctx context.Context) (T, error), here bool) *JoinHandle[T] {
	t := taskOf(ctx)
	if t == nil {
		h := &JoinHandle[T]{t: &task{err: ErrNoRuntime}}
		h.t.ended.Set()
		return h
	}
	near := t
	if !here {
		near = nil
	}
	return spawn(t.scope, ctx, fn, near)
}

func spawn[T any](s *scope, ctx context.Context, fn func(ctx context.Context) (T, error), near *task) *JoinHandle[T] {
	h := &JoinHandle[T]{}
	h.t = newTask(s, ctx, func(t *task) (err error) {
		h.value, err = fn(t)
		return err
	})
	h.t.launch(near)
	return h
}

func newTask(s *scope, ctx context.Context, body func(*task) error) *task {
	t := &task{scope: s, values: ctx, legacy: ctx, body: body}
	t.req = &t.own
	switch p := taskOf(ctx); {
	case p == nil || !p.plain(ctx):
		// A context with an end of its own: the task's end, but not that of the tasks it starts.
		t.legacy = context.WithoutCancel(ctx)
		if err := ctx.Err(); err != nil {
			t.Ending.End(err)
			break
		}
		t.unwatch = context.AfterFunc(ctx, func() { t.interrupt(ctx.Err()) })
	case ctx == context.Context(p):
		// Not p itself: of a long row of tasks, each started by the one before, the ended ones must not stay.
		t.values, t.legacy = p.legacy, p.legacy
	default:
		// Of p, only values: it does not end with that, nor by its deadline.
		t.values = context.WithoutCancel(ctx)
		t.legacy = t.values
	}
	return t
}

// launch gives the task to its runtime.
func (t *task) launch(near *task) {
	s := t.scope
	if !s.enter(t) {
		t.claimed.Store(true)
		t.end(ErrStopped)
		return
	}
	if rt, ok := s.rt.(native); ok {
		rt.adopt(t, near)
		return
	}
	t.asGoroutine()
	t.launched.Store(true)
	if t.Err() != nil {
		t.finishUnrun(driver.Canceled(t))
	} else if err := s.ask(t.run); err != nil {
		t.finishUnrun(fmt.Errorf("uringo: executor refused the task: %w", err))
	}
}

// ask gives a task to a foreign runtime. What happens there is no reason to lose the task.
func (s *scope) ask(run func()) (err error) {
	defer s.catch(&err)
	return s.rt.Spawn(run)
}

// asGoroutine prepares the task to wait for its operations on a channel.
func (t *task) asGoroutine() {
	t.opChan = make(chan struct{}, 1)
	t.waiter = (*goroutineWaiter)(t)
	if t.scope.foreign {
		t.waiter = (*foreignWaiter)(t)
	}
}

// goroutineWaiter is how a task that is a goroutine learns that its operation ended.
type goroutineWaiter task

// Complete runs on the driver goroutine.
func (gt *goroutineWaiter) Complete(*driver.Request) { gt.opChan <- struct{}{} }

// foreignWaiter is the same for a task on a foreign runtime, which may not receive what it ought to.
type foreignWaiter task

// Complete runs on the driver goroutine.
func (ft *foreignWaiter) Complete(*driver.Request) {
	ft.received.Store(true)
	signal(ft.opChan).unpark()
}

// waitForeign waits for the task's operation in the way of a foreign runtime. Whatever that does, the operation has ended
// afterwards: its memory goes back to the caller, or both the memory and the request stay with the driver.
func (t *task) waitForeign() {
	defer func() {
		for !t.received.Load() {
			<-t.opChan
		}
		t.letGo()
	}()
	t.scope.rt.Wait(t.opChan)
}

// claim gives the right to run the task, or to end it unrun, to one caller.
func (t *task) claim() bool { return t.claimed.CompareAndSwap(false, true) }

// run is the life of a task, on the goroutine that its executor chose.
func (t *task) run() {
	if !t.claim() {
		return
	}
	if t.Err() != nil {
		t.finish(driver.Canceled(t)) // aborted before it ran
		return
	}
	t.g.Store(getg())
	err := ErrGoexit
	defer func() { t.finish(err) }()
	defer t.scope.catch(&err)
	err = t.body(t)
}

// recoverInto turns a panic into an error. It is deferred.
func recoverInto(err *error) {
	if p := recover(); p != nil {
		*err = panicked(p)
	}
}

// panicked is the error of a panic that was recovered just now.
func panicked(p any) error { return &PanicError{Value: p, Stack: debug.Stack()} }

// catch is recoverInto for a panic that perhaps nobody but the logger is told of.
func (s *scope) catch(err *error) {
	if p := recover(); p != nil {
		*err = panicked(p)
		s.report(*err)
	}
}

// report tells the logger of a panic. Another one, in there, must not keep the task from ending.
func (s *scope) report(err error) {
	defer func() { _ = recover() }()
	s.log.Error("task panicked", zap.Error(err))
}

// finishUnrun ends the task unless it runs or has ended.
func (t *task) finishUnrun(err error) {
	if t.claim() {
		t.finish(err)
	}
}

// finish ends the task. It looks at no method of the error, which is the user's: that of a nil pointer, say, would panic.
func (t *task) finish(err error) {
	t.end(err)
	t.scope.leave(t)
}

func (t *task) end(err error) {
	t.err = err
	t.dead = true
	t.g.Store(0)
	if t.unwatch != nil {
		t.unwatch()
	}
	t.Ending.End(context.Canceled)
	t.ended.Set()
}

// unpark makes a coroutine that waits look again.
func (t *task) unpark() { t.home.wake(t) }

// interrupt ends the task's context: the operation it waits for is cancelled, any other wait looks again.
func (t *task) interrupt(err error) {
	if !t.Ending.End(err) || !t.launched.Load() {
		return // if it is still being launched, it will see its end before it runs
	}
	if t.scope.foreign {
		t.finishUnrun(driver.Canceled(t)) // a foreign runtime may never run it
	}
	if t.home != nil {
		t.unpark()
	} else if r := t.current.Load(); r != nil {
		t.scope.d.Cancel(r, driver.Seq(t.currentSeq.Load()))
	}
}

// Join waits for the task and returns what its function returned. A panic is a *[PanicError]. If ctx, which is the caller's
// context, ends first, Join returns its error and the task goes on.
func (h *JoinHandle[T]) Join(ctx context.Context) (T, error) {
	if err := h.t.ended.wait(ctx, h.t); err != nil {
		var zero T
		return zero, err
	}
	return h.value, h.t.err
}

// Abort cancels the task's context, and with it the operation that the task waits for. It does not wait: Join does. A task that
// had not begun does not run at all.
func (h *JoinHandle[T]) Abort() { h.t.interrupt(context.Canceled) }

// PanicError is the error of a task that panicked.
type PanicError struct {
	Value any    // what was passed to panic
	Stack []byte // of the task, as debug.Stack gives it
}

// Error returns the value of the panic, and the task's stack.
func (e *PanicError) Error() string {
	return fmt.Sprintf("uringo: task panicked: %v\n\n%s", e.Value, e.Stack)
}

// Unwrap returns the value of the panic if that is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}
