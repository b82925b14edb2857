package driver

import (
	"context"
	"sync"
	"syscall"

	"uringo/ops"
)

// Pending is an operation that was submitted. Its result can be had in two ways, from the channel of Done or by Wait; it is
// the same result.
type Pending[T any] struct {
	req Request
	op  ops.Op[T]

	mu     sync.Mutex
	d      *Driver // nil for a member of a chain that was not submitted; then it stays
	seq    Seq     // the same
	ended  bool
	result ops.Result[T]
	done   chan ops.Result[T] // made by the first Done
	wake   chan struct{}      // made by the first Wait, closed at the end
	onEnd  []func(ops.Result[T])
}

// Submit hands an operation to the driver and returns at once. The memory it names, such as a read's buffer, belongs to the
// driver until the result is in; the result hands it back. Every operation gets a result, also when the driver closes.
func Submit[T any](d *Driver, op ops.Op[T]) *Pending[T] {
	p := &Pending[T]{d: d, op: op}
	if err := op.Invalid(); err != nil {
		p.end(op.Result(0, err))
		return p
	}
	p.seq = p.req.Reset(&op.Spec, (*pendingWaiter[T])(p))
	d.Send(&p.req)
	return p
}

// Done returns the channel on which the result arrives, once; then it is closed. Nobody has to receive from it.
func (p *Pending[T]) Done() <-chan ops.Result[T] {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done == nil {
		p.done = make(chan ops.Result[T], 1)
		if p.ended {
			p.done <- p.result
			close(p.done)
		}
	}
	return p.done
}

// OnEnd has f called with the result as soon as that is in: now if it is there already, and otherwise on the driver goroutine, or for a
// driver that is closed or does not have it on another, such as that of whoever submits or cancels. There f must not block. It may submit
// what comes next.
func (p *Pending[T]) OnEnd(f func(ops.Result[T])) {
	p.mu.Lock()
	if !p.ended {
		p.onEnd = append(p.onEnd, f)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	f(p.result)
}

// Wait returns the result. If ctx ends first, it cancels the operation and returns what became of it: a result that came in
// time is delivered, and otherwise Err says why ctx ended. A member of a chain that nobody submits has no result until then.
//
// Wait holds up its goroutine, and all of a guest: its driver goes on, but the guest's other tasks do not run. Tasks call executor.Await.
func (p *Pending[T]) Wait(ctx context.Context) ops.Result[T] {
	p.mu.Lock()
	if p.ended {
		p.mu.Unlock()
		return p.result
	}
	if p.wake == nil {
		p.wake = make(chan struct{})
	}
	d := p.d
	p.mu.Unlock()
	if d != nil && d.OnDriver() {
		p.pump(ctx, d)
	} else if h := d.host(); h != nil {
		p.OnEnd(func(ops.Result[T]) { h.Poke() })
		p.pump(ctx, h)
	}
	select {
	case <-p.wake:
	case <-ctx.Done():
		p.Cancel()
		<-p.wake
	}
	r := p.result
	if IsCanceled(r.Err) && ctx.Err() != nil {
		r.Err = Canceled(ctx)
	}
	return r
}

// pump runs a driver until the result is in, for a caller that holds that driver's own goroutine.
func (p *Pending[T]) pump(ctx context.Context, d *Driver) {
	stop := context.AfterFunc(ctx, p.Cancel)
	defer stop()
	d.Attend(func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.ended
	})
}

// Cancel asks for the operation to end early and returns at once. The result says whether it did (syscall.ECANCELED). A member of a chain
// that was not submitted ends at once, and the chain can no longer be submitted.
func (p *Pending[T]) Cancel() {
	p.mu.Lock()
	if p.d == nil {
		p.endLocked(p.op.Result(0, syscall.ECANCELED))
		return
	}
	p.mu.Unlock()
	p.d.Cancel(&p.req, p.seq)
}

// pendingWaiter is a Pending as a [Waiter], which nobody but the driver is to tell of an end.
type pendingWaiter[T any] Pending[T]

func (w *pendingWaiter[T]) Complete(r *Request) {
	p := (*Pending[T])(w)
	if r.Abandoned() {
		p.end(ops.Result[T]{Err: ErrAbandoned})
		return
	}
	p.end(p.op.Result(r.Outcome()))
}

func (p *Pending[T]) end(r ops.Result[T]) {
	p.mu.Lock()
	p.endLocked(r)
}

// endLocked is end for who holds the lock, and gives that back. Of a member that is cancelled, the first end counts.
func (p *Pending[T]) endLocked(r ops.Result[T]) {
	if p.ended {
		p.mu.Unlock()
		return
	}
	p.result, p.ended = r, true
	if p.done != nil {
		p.done <- r
		close(p.done)
	}
	if p.wake != nil {
		close(p.wake)
	}
	p.mu.Unlock()
	p.tell(p.onEnd) // complete, now that ended is set
}

// tell tells users, the rest also if one of them makes a mistake.
func (p *Pending[T]) tell(fs []func(ops.Result[T])) {
	if len(fs) > 0 {
		defer p.tell(fs[1:])
		p.d.tellUser(func() { fs[0](p.result) })
	}
}
