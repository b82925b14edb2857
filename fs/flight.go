package fs

import (
	"context"

	"uringo/driver"
	"uringo/executor"
	"uringo/ops"
)

// flight is an operation on a file that was started and is waited for later, in the way of whoever waits. Starting one needs neither a
// goroutine nor a task, so it is how a task has several operations under way.
type flight struct {
	p    *driver.Pending[[]byte]
	over executor.Event

	// Valid when it is over.
	n   int
	err error
}

// launch starts an operation, which holds the file until it has ended.
func (f *File) launch(d *driver.Driver, o ops.Op[[]byte]) (*flight, error) {
	if !f.h.Acquire() {
		return nil, ErrClosed
	}
	o.Release, o.As = f.h.Free, f.whose()
	t := new(flight)
	t.p = driver.Submit(d, o)
	t.p.OnEnd(func(res ops.Result[[]byte]) {
		t.n, t.err = res.N, f.h.Settle(res.Err, ErrClosed)
		t.over.Set()
	})
	return t, nil
}

// wait returns nil when it is over, with n and err. An error is that of ctx, which has ended first, and not what became of the operation: that goes
// on, or is over only now.
func (t *flight) wait(ctx context.Context) error { return t.over.Wait(ctx) }

// end cancels it and waits until it is over.
func (t *flight) end(ctx context.Context) {
	if !t.over.IsSet() {
		t.p.Cancel()
		_ = t.over.Wait(context.WithoutCancel(ctx)) // which never ends early
	}
}
