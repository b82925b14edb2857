package executor

import (
	"context"
	"runtime"

	"uringo/driver"
	"uringo/internal/notify"
	"uringo/ops"
)

// Do performs an operation and waits for it in the way of ctx's executor. The buffer that op borrows is in the result again,
// except if the operation was abandoned (driver.ErrAbandoned). A ctx that is no task's and carries no driver is driver.ErrNoDriver.
//
// A ctx that has ended fails the operation before it is submitted. One that ends later cancels it; Do then waits for the
// operation's own outcome, so what was read or written by then is returned and not lost.
func Do[T any](ctx context.Context, op ops.Op[T]) (r ops.Result[T]) { // small enough to be inlined
	if r.N, r.Err = Perform(ctx, &op.Spec); r.Err != driver.ErrAbandoned {
		r.Buf = op.Buf
	}
	return r
}

// Perform is [Do] for callers who keep the buffer themselves: what s borrows is theirs again when it returns, except with
// driver.ErrAbandoned. It copies s, and nothing else: an operation is larger than a cache line.
func Perform(ctx context.Context, s *ops.Spec) (int, error) {
	t, ok := ctx.(*task)
	if !ok || t.co == nil || !t.here() || s.Invalid() != nil {
		return do(ctx, s)
	}
	// A task's own coroutine with its own context: the path that has to be fast, so it is all in one frame. After a switch of
	// stacks the processor foresees no return, and each costs as much as a system call's entry used to.
	if t.Over() {
		return 0, driver.Canceled(ctx)
	}
	r := t.req
	t.opSeq = r.Reset(s, t.waiter) // by this the home finds what to cancel when it learns that the context has ended
	switch l := t.local; {
	case l == nil:
		t.home.submit(r)
	case !l.alone():
		l.out.add(r)
	default:
		l.rush(t, r)
	}
	for co := t.co; !r.Ended() || t.queued; {
		b := co.crew.depart(co)
		switch {
		case b == nil:
		case b.out:
			b.out = false
			b.yield(struct{}{})
		default:
			b.out = true
			b.next()
		}
	}
	t.opSeq = 0
	n, err := r.Outcome()
	if err != nil {
		return t.outcome(ctx, r)
	}
	return n, nil
}

// do is Do for all other callers, and for contexts with an end of their own.
func do(ctx context.Context, s *ops.Spec) (int, error) {
	if err := s.Invalid(); err != nil {
		return 0, err
	}
	t := taskOf(ctx)
	if t == nil {
		d, err := driver.FromContext(ctx)
		if err != nil {
			return 0, err
		}
		if c := current(); c != nil && c.scope.d == d {
			return c.doWith(ctx, s)
		}
		return doForeign(ctx, d, s)
	}
	switch {
	case !t.here():
		return t.doElsewhere(ctx, s)
	case t.home == nil:
		return t.doOnGoroutine(ctx, s)
	}
	return t.doWith(ctx, s)
}

// doWith performs an operation on the task's own coroutine, with whatever context.
func (t *task) doWith(ctx context.Context, s *ops.Spec) (int, error) {
	if ctx.Err() != nil {
		return 0, driver.Canceled(ctx)
	}
	r := t.req
	seq := r.Reset(s, t.waiter)
	if t.plain(ctx) {
		t.opSeq = seq
		defer func() { t.opSeq = 0 }()
	} else if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() { t.scope.d.Cancel(r, seq) })
		defer stop()
	}
	t.home.submit(r)
	for !r.Ended() {
		t.pause()
	}
	return t.outcome(ctx, r)
}

// outcome is that of the task's request, in the terms of the context.
func (t *task) outcome(ctx context.Context, r *driver.Request) (int, error) {
	n, err := r.Outcome()
	if err == nil {
		return n, nil
	}
	t.letGo()
	return n, inTermsOf(ctx, err)
}

// letGo gives the task another request, if its own is the driver's for good.
func (t *task) letGo() {
	if t.req.Abandoned() {
		t.req = t.req.Successor()
	}
}

// inTermsOf gives the error of an operation that was cancelled because ctx ended the name of that.
func inTermsOf(ctx context.Context, err error) error {
	if driver.IsCanceled(err) && ctx.Err() != nil {
		return driver.Canceled(ctx)
	}
	return err
}

// doOnGoroutine performs an operation for a task that is a goroutine, on that goroutine.
func (t *task) doOnGoroutine(ctx context.Context, s *ops.Spec) (int, error) {
	r := t.req
	seq := r.Reset(s, t.waiter)
	same := t.plain(ctx)
	if same {
		// Before the look at the context: whoever ends it after that look finds the request and cancels it.
		t.currentSeq.Store(uint32(seq))
		t.current.Store(r)
		defer t.current.Store(nil)
	}
	if ctx.Err() != nil {
		r.Withdraw()
		return 0, driver.Canceled(ctx)
	}
	if !same && ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() { t.scope.d.Cancel(r, seq) })
		defer stop()
	}
	if t.scope.foreign {
		t.received.Store(false)
		t.scope.d.Send(r)
		t.waitForeign()
	} else {
		t.scope.d.Send(r)
		<-t.opChan
	}
	return t.outcome(ctx, r)
}

// doElsewhere performs an operation for somebody to whom the task lent its context.
func (t *task) doElsewhere(ctx context.Context, s *ops.Spec) (int, error) {
	if c := current(); c != nil && c.scope == t.scope {
		return c.doWith(ctx, s) // another task, which waits in its own way
	}
	if t.home != nil {
		t.home.flush() // the caller may hold the worker: the others' operations must not wait for it
	}
	return doForeign(ctx, t.scope.d, s)
}

// foreign is a request with a channel to wait on.
type foreign struct {
	req  driver.Request
	d    *driver.Driver
	done chan struct{}

	// Of a context that can be watched: what to cancel at its end.
	watcher notify.Watcher
	seq     driver.Seq
}

func (f *foreign) Complete(*driver.Request) { f.done <- struct{}{} }

// newForeign returns one for d that was used before, or makes it.
func newForeign(d *driver.Driver) *foreign {
	if f, ok := d.Spares().Get().(*foreign); ok {
		return f
	}
	f := &foreign{d: d, done: make(chan struct{}, 1)}
	f.watcher.End = func() { d.Cancel(&f.req, f.seq) }
	return f
}

// doForeign performs an operation for a goroutine: it waits on the operation's result channel.
func doForeign(ctx context.Context, d *driver.Driver, s *ops.Spec) (int, error) {
	if ctx.Err() != nil {
		return 0, driver.Canceled(ctx)
	}
	if d.OnDriver() {
		return doPumping(ctx, d, s) // an iterator inside a task, with a context that does not tell
	}
	if current() != nil || d.OnOther() {
		return doBeside(ctx, d, s)
	}
	f := newForeign(d)
	seq := f.req.Reset(s, f)
	d.Send(&f.req)
	if w, ok := ctx.(notify.Context); ok {
		f.seq = seq
		if !w.Watch(&f.watcher) {
			d.Cancel(&f.req, seq)
		}
		<-f.done
		w.Unwatch(&f.watcher)
	} else if done := ctx.Done(); done != nil {
		select {
		case <-f.done:
		case <-done:
			d.Cancel(&f.req, seq)
			<-f.done
		}
	} else {
		<-f.done
	}
	return f.outcome(ctx)
}

// beside is a request on the driver of another runtime than the task's that waits.
type beside struct {
	req  driver.Request
	over Event
}

func (b *beside) Complete(*driver.Request) { b.over.Set() }

// doBeside performs an operation for a coroutine, or an iterator inside one, on a driver that is not its runtime's. Other tasks of its worker
// run meanwhile, and its own driver if it is one of Local's: two that waited for each other's drivers would wait for ever.
func doBeside(ctx context.Context, d *driver.Driver, s *ops.Spec) (int, error) {
	b := new(beside)
	seq := b.req.Reset(s, b)
	d.Send(&b.req)
	if b.over.Wait(ctx) != nil {
		d.Cancel(&b.req, seq)
		_ = b.over.Wait(context.WithoutCancel(ctx)) // which never ends early
	}
	n, err := b.req.Outcome()
	return n, inTermsOf(ctx, err)
}

// doPumping performs an operation for code on the driver's own thread that is not a task, such as an iterator inside one. Nobody
// but itself can run the driver meanwhile.
func doPumping(ctx context.Context, d *driver.Driver, s *ops.Spec) (int, error) {
	if ctx.Err() != nil {
		return 0, driver.Canceled(ctx)
	}
	f := newForeign(d)
	seq := f.req.Reset(s, f)
	stop := context.AfterFunc(ctx, func() { d.Cancel(&f.req, seq) })
	d.Issue(&f.req)
	d.Pump(func() bool { return len(f.done) > 0 })
	stop()
	<-f.done
	return f.outcome(ctx)
}

func (f *foreign) outcome(ctx context.Context) (int, error) {
	n, err := f.req.Outcome()
	if err == driver.ErrAbandoned {
		return 0, err // the driver keeps the request
	}
	f.d.Spares().Put(f)
	return n, inTermsOf(ctx, err)
}

// DriverOf returns the driver to which Do gives the operations of ctx, or driver.ErrNoDriver.
func DriverOf(ctx context.Context) (*driver.Driver, error) {
	if t := taskOf(ctx); t != nil {
		return t.scope.d, nil
	}
	return driver.FromContext(ctx)
}

// Yield lets other tasks run: those of its worker, or, on a Pool, those that wait for a place. If ctx has ended, it does not, and returns the
// error of ctx.
func Yield(ctx context.Context) error {
	if ctx.Err() != nil {
		return driver.Canceled(ctx)
	}
	letOthersRun(ctx, (*task).yield)
	return nil
}

// letOthersRun has others run instead of the caller, a coroutine in the way that is given.
func letOthersRun(ctx context.Context, coroutine func(*task)) {
	t := taskOf(ctx)
	if t == nil || !t.here() {
		t = current()
	}
	switch {
	case t == nil:
		runtime.Gosched()
	case t.home != nil:
		coroutine(t)
	default:
		t.yieldGoroutine()
	}
}

// yieldGoroutine lets other tasks run instead of one that is a goroutine: its runtime has it wait for what is there already.
func (t *task) yieldGoroutine() {
	if _, unbounded := t.scope.rt.(*goroutines); unbounded {
		runtime.Gosched()
		return
	}
	signal(t.opChan).unpark() // what a foreign runtime has not received before will do as well
	defer func() {
		select {
		case <-t.opChan: // nor this, maybe
		default:
		}
	}()
	t.scope.rt.Wait(t.opChan)
}
