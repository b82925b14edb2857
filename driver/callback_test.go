package driver_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"uringo/driver"
	"uringo/internal/testenv"
	"uringo/ops"
)

// Who is told of an end submits what comes next, and more than there is room for in the channel.
func TestSubmitFromOnEnd(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		const n = 3000
		var left atomic.Int32
		left.Store(n)
		done := make(chan struct{})
		op, want := e.nop(5)
		driver.Submit(d, op).OnEnd(func(ops.Result[struct{}]) {
			for range n {
				driver.Submit(d, op).OnEnd(func(r ops.Result[struct{}]) {
					if r.Err != nil || r.N != want {
						e.Errorf("%+v, want %d", r, want)
					}
					if left.Add(-1) == 0 {
						close(done)
					}
				})
			}
		})
		e.soon("what was submitted at an end", func() { <-done })
	})
}

// Who is told of an end goes on submitting while the driver ends, and after.
func TestSubmitFromOnEndAtTheEnd(t *testing.T) {
	testenv.SkipShort(t)
	on(t, everywhere, func(e *rig) {
		for range size(2, 100) {
			d := e.open(driver.Config{})
			const rows, after = 8, 2000
			var left atomic.Int32
			left.Store(rows)
			done := make(chan struct{})
			op, _ := e.nop(5)
			for range rows {
				refused := 0
				var next func(ops.Result[struct{}])
				next = func(r ops.Result[struct{}]) {
					if r.Err != nil {
						if !errors.Is(r.Err, driver.ErrClosed) {
							e.Errorf("an operation: %v", r.Err)
						}
						if refused++; refused == after {
							if left.Add(-1) == 0 {
								close(done)
							}
							return
						}
					}
					driver.Submit(d, op).OnEnd(next)
				}
				driver.Submit(d, op).OnEnd(next)
			}
			e.soon("Close", func() { e.shut(d) })
			e.soon("a row of operations", func() { <-done })
		}
	})
}

// Members of a chain that is not submitted are told of their end, too, by no driver.
func TestOnEndOfRefusedChain(t *testing.T) {
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{Entries: 4})
		var c driver.Chain
		told := 0
		const n = 100
		for range n {
			driver.Link(&c, ops.Nop()).OnEnd(func(r ops.Result[struct{}]) {
				if !errors.Is(r.Err, driver.ErrChainTooLong) {
					e.Errorf("a member of a chain that is too long: %v", r.Err)
				}
				told++
			})
		}
		if err := c.Submit(d); !errors.Is(err, driver.ErrChainTooLong) {
			e.Errorf("a chain that is too long: %v", err)
		}
		if told != n {
			e.Errorf("%d of %d were told", told, n)
		}
	})
}
