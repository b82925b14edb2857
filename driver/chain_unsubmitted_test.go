package driver_test

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/ops"
)

// Who waits for a member of a chain that nobody submits, waits until his context ends, and then the chain can no longer be submitted.
func TestChainNeverSubmitted(t *testing.T) {
	on(t, chaining, func(e *rig) {
		d := e.open(driver.Config{})
		for name, end := range map[string]func(p *driver.Pending[[]byte], ctx context.Context, cancel func()) ops.Result[[]byte]{
			"a context that has ended": func(p *driver.Pending[[]byte], ctx context.Context, cancel func()) ops.Result[[]byte] {
				cancel()
				return p.Wait(ctx)
			},
			"a context that ends": func(p *driver.Pending[[]byte], ctx context.Context, cancel func()) ops.Result[[]byte] {
				go cancel()
				return p.Wait(ctx)
			},
			"a cancellation": func(p *driver.Pending[[]byte], ctx context.Context, cancel func()) ops.Result[[]byte] {
				defer cancel()
				p.Cancel()
				p.Cancel()
				r := <-p.Done()
				if r.Err == syscall.ECANCELED {
					r.Err = context.Canceled
				}
				return r
			},
		} {
			fd := e.file([]byte("old"))
			var c driver.Chain
			before := driver.Link(&c, ops.WriteAt(fd, []byte("new"), 0))
			p := driver.Link(&c, ops.ReadAt(fd, make([]byte, 3), 0))
			behind := driver.HardLink(&c, ops.Nop())
			told := 0
			p.OnEnd(func(ops.Result[[]byte]) { told++ })
			ctx, cancel := context.WithCancel(context.Background())
			var r ops.Result[[]byte]
			e.soon(name, func() { r = end(p, ctx, cancel) })
			if r.N != 0 || r.Err != context.Canceled || len(r.Buf) != 3 {
				e.Errorf("%s: %+v", name, r)
			}
			if err := c.Submit(d); !errors.Is(err, syscall.ECANCELED) {
				e.Errorf("%s: submitted after that: %v", name, err)
			}
			for _, p := range []ops.Result[[]byte]{result(e, before), {Err: result(e, behind).Err}} {
				if !errors.Is(p.Err, syscall.ECANCELED) {
					e.Errorf("%s: another member: %v", name, p.Err)
				}
			}
			if told != 1 {
				e.Errorf("%s: told %d times", name, told)
			}
			got := make([]byte, 4)
			if n, err := unix.Pread(fd, got, 0); err != nil || string(got[:n]) != "old" {
				e.Errorf("%s: the file has %q, %v", name, got[:max(n, 0)], err)
			}
		}
	})
}

// Who waits before the chain is submitted, has the result like any other.
func TestChainSubmittedLater(t *testing.T) {
	on(t, chaining, func(e *rig) {
		d := e.open(driver.Config{})
		for range 20 {
			var c driver.Chain
			driver.Link(&c, ops.Nop())
			p := driver.Link(&c, ops.Nop())
			ctx, cancel := context.WithCancel(context.Background())
			var both sync.WaitGroup
			both.Go(func() {
				if r := p.Wait(ctx); r.Err != nil && r.Err != context.Canceled && !errors.Is(r.Err, syscall.ECANCELED) {
					e.Errorf("%+v", r)
				}
			})
			both.Go(func() {
				if r := p.Wait(context.Background()); r.Err != nil && !errors.Is(r.Err, syscall.ECANCELED) {
					e.Errorf("%+v", r)
				}
			})
			if e.rng.IntN(2) == 0 {
				both.Go(cancel)
			}
			if err := c.Submit(d); err != nil && !errors.Is(err, syscall.ECANCELED) {
				e.Error(err)
			}
			e.soon("those who wait", both.Wait)
			cancel()
		}
	})
}
