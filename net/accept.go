package net

import (
	"context"
	"iter"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/ops"
)

// Accepts returns an iterator over connections as they come, for range:
//
//	for c, err := range l.Accepts(ctx) {
//		if err != nil {
//			log.Print(err)
//			continue
//		}
//		executor.Go(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, serve(ctx, c) })
//	}
//
// Errors of a moment, too many open files (EMFILE, ENFILE) or too little memory, are brought like connections, and the iteration goes on:
// by itself, within half a second after the shortage has passed. Any other error is the last thing that it brings: that of ctx when that
// ends, [ErrClosed] when the listener is closed. However it ends, connections that had been accepted and were not given to a
// body come next, from other iterations, or from calls of Accept that begin then; Close closes them.
//
// A body that is slow leaves connections in the listener's queue: at most 64 wait for it as open files. Several iterations at a time share
// what comes, one request of the ring for all of a driver (multishot). Kernel 5.19; before it, and on the portable engine, it is one
// request after the other. accept4(2).
func (l *Listener) Accepts(ctx context.Context) iter.Seq2[*Conn, error] {
	return func(yield func(*Conn, error) bool) {
		for {
			c, a, err := l.join(ctx)
			switch {
			case err != nil:
				yield(nil, l.fail("accept", "accept4", err))
				return
			case c == nil:
				defer l.leave(ctx, a)
				a.each(ctx, l, yield)
				return
			case !yield(c, nil):
				return
			}
		}
	}
}

// accepting is the stream of connections that iterations on one driver share.
type accepting struct {
	d      *driver.Driver
	stream *driver.Stream[int]
	users  int
}

// each passes on what comes.
func (a *accepting) each(ctx context.Context, l *Listener, yield func(*Conn, error) bool) {
	for {
		fd, err := executor.Next(ctx, a.stream)
		var c *Conn
		if err == nil {
			c = l.conn(a.d, fd, nil)
		}
		if !yield(c, l.fail("accept", "accept4", l.reason(err))) || err != nil && !ofTheMoment(err) {
			return
		}
	}
}

// ofTheMoment reports whether accepting goes on after an error.
func ofTheMoment(err error) bool {
	switch err {
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM:
		return true
	}
	return false
}

// join returns a connection that was left over, or else the driver's stream. Nobody can leave meanwhile, so nothing is left over behind the
// back of who joins.
func (l *Listener) join(ctx context.Context) (*Conn, *accepting, error) {
	if ctx.Err() != nil {
		return nil, nil, driver.Canceled(ctx)
	}
	d, err := driver.FromContext(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := l.changing.Lock(ctx); err != nil {
		return nil, nil, err
	}
	defer l.changing.Unlock()
	if c := l.left.pop(); c != nil {
		return c, nil, nil
	}
	for _, a := range l.streams {
		if a.d == d && a.stream.Err() == nil {
			a.users++
			return nil, a, nil
		}
	}
	if !l.h.Acquire() {
		return nil, nil, ErrClosed
	}
	op := ops.AcceptMulti(l.h.FD, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	op.Ended = l.h.Free
	a := &accepting{d, driver.SubmitMulti(d, op), 1}
	l.streams = append(l.streams, a)
	return nil, a, nil
}

// leave undoes join. The last to leave a stream ends it, and keeps what it brought.
func (l *Listener) leave(ctx context.Context, a *accepting) {
	ctx = context.WithoutCancel(ctx)
	_ = l.changing.Lock(ctx) // which never ends early
	defer l.changing.Unlock()
	if a.users--; a.users > 0 {
		return
	}
	l.streams = slices.DeleteFunc(l.streams, func(b *accepting) bool { return a == b })
	_ = stop(ctx, a.stream, func(fd int) { l.left.push(l.conn(a.d, fd, nil)) }) // a listener says its errors again
	if l.h.Closing() {
		l.left.close(ctx) // Close may have looked before
	}
}

// backlog is connections that were accepted and not given out.
type backlog struct {
	mu    sync.Mutex
	conns []*Conn
}

func (b *backlog) push(c *Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conns = append(b.conns, c)
}

func (b *backlog) pop() *Conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.conns) == 0 {
		return nil
	}
	c := b.conns[0]
	b.conns[0] = nil
	b.conns = b.conns[1:]
	return c
}

func (b *backlog) some() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.conns) > 0
}

// close closes what is there. The connections are not in use.
func (b *backlog) close(ctx context.Context) {
	for c := b.pop(); c != nil; c = b.pop() {
		_ = c.Close(ctx) // of a connection that nobody asked for, nobody wants to know
	}
}
