package net

import (
	"context"
	"sync"

	"golang.org/x/sys/unix"

	"uringo/executor"
)

// Proxy sends to each of two connections what it receives from the other, by [Conn.Splice], until both have ended, and returns how many
// bytes went to b and to a. The end of one is passed on by [Conn.CloseWrite] while the other direction goes on. The first error ends
// both directions, and is returned; so does the end of ctx. The connections stay open: to close them is up to the caller.
//
// A peer that is gone ends it, by keep-alive probes if need be. One that is there and silent does not: who wants a limit ends ctx. Kernel 5.6,
// splice(2).
func Proxy(ctx context.Context, a, b *Conn) (toB, toA int64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var once sync.Once
	pass := func(ctx context.Context, dst, src *Conn, n *int64) {
		var failure error
		if *n, failure = dst.Splice(ctx, src, -1); failure == nil {
			failure = dst.endWriting()
		}
		if failure != nil {
			once.Do(func() { err = failure })
			cancel()
		}
	}
	wait := beside(ctx, func(ctx context.Context) { pass(ctx, a, b, &toA) })
	pass(ctx, b, a, &toB)
	if failure := wait(); failure != nil {
		once.Do(func() { err = failure })
	}
	return toB, toA, err
}

// endWriting is CloseWrite. That the peer has gone completely is as good.
func (c *Conn) endWriting() error {
	return c.control("close", "shutdown", func(fd int) error {
		if err := unix.Shutdown(fd, unix.SHUT_WR); err != unix.ENOTCONN {
			return err
		}
		return nil
	})
}

// beside runs f at the same time as the caller goes on: on a goroutine if the caller has one, else as a task of the same worker. wait
// returns when f has, or cannot be run.
func beside(ctx context.Context, f func(context.Context)) (wait func() error) {
	if executor.CallerOf(ctx).MayBlock() {
		var done executor.Event
		go func() {
			defer done.Set()
			f(ctx)
		}()
		return func() error { return done.Wait(context.WithoutCancel(ctx)) }
	}
	h := executor.GoHere(ctx, func(ctx context.Context) (struct{}, error) {
		f(ctx)
		return struct{}{}, nil
	})
	return func() error {
		_, err := h.Join(context.WithoutCancel(ctx))
		return err
	}
}
