package net

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"uringo/driver"
	"uringo/executor"
	"uringo/ops"
)

// Server serves connections of which most are idle most of the time: a connection without anything to do costs neither a buffer nor a
// task, and so no stack. A task runs for it as long as there is something to handle. Where messages come one after the other, a task
// of its own for each connection that calls [Conn.Receives] costs less processor time.
type Server struct {
	// Handle is called with what arrives on a connection, piece by piece and in order: never twice at a time for one connection. It
	// may send, and wait, and must release the chunk. While a connection is served, receiving from it in other ways fails. An error
	// ends the connection, and so does a panic in a task, which goes to the driver's logger. Where Serve was called on a plain goroutine, so is
	// Handle, and a panic ends the program.
	Handle func(ctx context.Context, c *Conn, chunk driver.Chunk) error

	// Ended, if not nil, is called when a connection has ended and been closed, after the last call of Handle: with the error of Handle
	// or of the connection, nil if the peer ended it.
	Ended func(c *Conn, err error)

	// Buffers is where things arrive. Nil means the driver's own, see [driver.Driver.Buffers].
	Buffers *driver.BufferRing
}

// Serve accepts connections from l and serves them until ctx ends or l is closed. Then it closes all of them, waits for the calls of Handle
// to return, and returns why: the error of ctx, or [ErrClosed]. It does not close l. Running out of files or of memory for a while makes
// new connections wait. Each connection is an operation in flight, see [driver.Config]. Kernel 6.0 (multishot receive); before it, and on
// the portable engine, it does the same with one request after the other.
func (s *Server) Serve(ctx context.Context, l *Listener) error {
	sv := &serving{Server: s, ctx: ctx, bell: new(executor.Event), all: make(map[*served]struct{})}
	dispatcher := sv.start(sv.dispatch)
	err := sv.accept(l)
	sv.mu.Lock()
	sv.over = true
	sv.bell.Set()
	sv.mu.Unlock()
	dispatcher()
	sv.end()
	return err
}

// serving is one call of Serve.
type serving struct {
	*Server
	ctx context.Context

	mu    sync.Mutex
	all   map[*served]struct{}
	ready []*served       // those for which a task is to be started
	bell  *executor.Event // set when there are some, or it is over
	over  bool
}

// served is a connection and what is needed to take it up again.
type served struct {
	sv     *serving
	c      *Conn
	stream *driver.Stream[driver.Chunk]
	news   atomic.Uint32 // how often the stream told of something; 0 without a task
	wait   func()        // for the task; nil without one

	finished bool // Ended is being told, or was
}

// accept has connections served until there are no more.
func (sv *serving) accept(l *Listener) (err error) {
	var c *Conn
	for c, err = range l.Accepts(sv.ctx) {
		if err == nil {
			err = sv.serve(c)
		}
		if e := syscall.Errno(0); err != nil && !(errors.As(err, &e) && ofTheMoment(e)) {
			return err
		}
	}
	return err // with which the iteration has ended: it looks like one of the moment if that is what ended ctx
}

func (sv *serving) serve(c *Conn) error {
	in := c.mailbox()
	err := in.begin()
	var s *driver.Stream[driver.Chunk]
	if err == nil {
		s, err = c.incoming(sv.ctx, sv.Buffers, in, ops.Room{})
	}
	if err != nil {
		_ = c.Close(context.WithoutCancel(sv.ctx)) // the error that counts is the other
		return c.fail("read", "recv", err)
	}
	v := &served{sv: sv, c: c, stream: s}
	sv.mu.Lock()
	sv.all[v] = struct{}{}
	sv.mu.Unlock()
	s.OnReady(v.tell)
	return nil
}

// tell asks for a task, unless there is one. It runs on the driver goroutine, where none is started: a runtime of somebody else's might
// run it there.
func (v *served) tell() {
	if v.news.Add(1) > 1 {
		return
	}
	sv := v.sv
	sv.mu.Lock()
	sv.ready = append(sv.ready, v)
	sv.bell.Set()
	sv.mu.Unlock()
}

// dispatch starts tasks for connections that have something to handle.
func (sv *serving) dispatch(context.Context) {
	var ready []*served
	for {
		sv.mu.Lock()
		bell := sv.bell
		sv.mu.Unlock()
		if bell.Wait(sv.ctx) != nil {
			return
		}
		sv.mu.Lock()
		if sv.over {
			sv.mu.Unlock()
			return
		}
		ready, sv.ready = sv.ready, ready[:0]
		sv.bell = new(executor.Event)
		sv.mu.Unlock()
		for i, v := range ready {
			ready[i] = nil
			wait := sv.start(v.run)
			sv.mu.Lock()
			if v.news.Load() > 0 { // else it has been and gone
				v.wait = wait
			}
			sv.mu.Unlock()
		}
	}
}

// start starts a function beside the caller, as a task if there are tasks, and returns one that waits for its end.
func (sv *serving) start(f func(ctx context.Context)) (wait func()) {
	ctx := context.WithoutCancel(sv.ctx)
	if !executor.InTask(ctx) {
		done := new(executor.Event)
		go func() {
			defer done.Set()
			f(sv.ctx)
		}()
		return func() { _ = done.Wait(ctx) } // which never ends early
	}
	h := executor.Go(sv.ctx, func(ctx context.Context) (struct{}, error) {
		f(ctx)
		return struct{}{}, nil
	})
	return func() { _, _ = h.Join(ctx) } // it may have been ended before it began, and end sees to that
}

// run is a task for the connection.
func (v *served) run(ctx context.Context) {
	returned := false
	defer func() {
		if !returned { // and no task would ever come for it again
			v.finish(ctx, errHandle)
		}
	}()
	v.handle(ctx)
	returned = true
}

var errHandle = errors.New("Server.Handle panicked, or ended its task")

// handle handles what there is. When there is nothing more, the connection goes on without a task.
func (v *served) handle(ctx context.Context) {
	for {
		news := v.news.Load()
		for {
			chunk, err, ok := v.stream.Take()
			if !ok {
				break
			}
			if err == nil {
				if err = v.sv.Handle(ctx, v.c, chunk); err == nil {
					continue
				}
			} else if err == io.EOF {
				err = nil
			} else {
				err = v.c.fail("read", "recv", v.c.reason(err))
			}
			v.finish(ctx, err)
			return
		}
		v.sv.mu.Lock()
		idle := v.news.CompareAndSwap(news, 0)
		if idle {
			v.wait = nil // or its memory would stay
		}
		v.sv.mu.Unlock()
		if idle {
			return
		}
	}
}

// finish ends a connection, once. Until Ended has returned the connection is one of all: end waits for the task.
func (v *served) finish(ctx context.Context, err error) {
	v.close(ctx)
	sv := v.sv
	sv.mu.Lock()
	first := !v.finished
	v.finished = true
	sv.mu.Unlock()
	if first && sv.Ended != nil {
		sv.Ended(v.c, err)
	}
	sv.mu.Lock()
	delete(sv.all, v)
	sv.mu.Unlock()
}

// close closes the connection, and gives back what arrived for nobody.
func (v *served) close(ctx context.Context) {
	v.stream.Discard()
	_ = v.c.Close(context.WithoutCancel(ctx)) // Handle may have closed it
}

// end ends all connections that are left: no task is started for them any more.
func (sv *serving) end() {
	sv.mu.Lock()
	left := slices.Collect(maps.Keys(sv.all))
	sv.mu.Unlock()
	for _, v := range left {
		v.close(sv.ctx) // which ends what Handle waits for
		sv.mu.Lock()
		wait := v.wait
		sv.mu.Unlock()
		if wait != nil {
			wait()
		}
		v.finish(sv.ctx, v.c.fail("read", "recv", ErrClosed))
	}
}
