package executor

import (
	"context"

	"uringo/driver"
	"uringo/ops"
)

// Await waits for an operation that was submitted, alone or in a chain, in the way of ctx's executor: a task that has several under way
// neither holds its worker nor, on Local, the driver. If ctx ends first, it cancels the operation and returns what became of that: a result
// that came in time is delivered, and otherwise Err says why ctx ended.
//
//	d, err := executor.DriverOf(ctx)
//	p, q := driver.Submit(d, ops.ReadAt(fd, b1, 0)), driver.Submit(d, ops.ReadAt(fd, b2, 1<<20))
//	r1, r2 := executor.Await(ctx, p), executor.Await(ctx, q)
func Await[T any](ctx context.Context, p *driver.Pending[T]) ops.Result[T] {
	var over Event
	p.OnEnd(func(ops.Result[T]) { over.Set() })
	if over.Wait(ctx) != nil {
		p.Cancel()
		_ = over.Wait(context.WithoutCancel(ctx)) // which never ends early
	}
	res := p.Wait(ctx) // which has it
	res.Err = inTermsOf(ctx, res.Err)
	return res
}
