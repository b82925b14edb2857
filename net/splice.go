package net

import (
	"bytes"
	"context"
	"io"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/internal/handle"
)

// Splice sends n bytes that it receives from src, or everything until src ends if n is negative, and returns how many it sent. An end of
// src before n bytes is no error. Between TCP and Unix streams the bytes do not pass through the process; connections of other kinds are
// read and written, to the same result. It takes turns with [Conn.WriteAll]; other readers of src take their share.
//
// When sending fails, c is closed or ctx ends, what was received from src and not sent is not lost: the next reads of src return it. It costs the
// kernel's memory for up to 1 MiB in flight, and nothing while nothing arrives. To a peer who is gone it is like [Conn.SendFile]. Kernel 5.6;
// splice(2).
func (c *Conn) Splice(ctx context.Context, src *Conn, n int64) (int64, error) {
	if n == 0 {
		return 0, nil
	}
	if err := c.writes.Lock(ctx); err != nil {
		return 0, c.fail("write", "splice", err)
	}
	defer c.writes.Unlock()
	return c.splice(ctx, ctx, connSink{c}, src, n)
}

// splice is Splice to dst, which is c, that receives under another context than it sends. It waits at src for most of the time, and yet ends when
// c is closed.
func (c *Conn) splice(rctx, wctx context.Context, dst sink, src *Conn, n int64) (int64, error) {
	under, leave := c.enter(rctx)
	t := transfer{rctx: under, wctx: wctx, dst: dst, src: src, quota: quota{left: n}}
	err := t.run()
	return t.done, leave(err)
}

// sink is where a transfer goes.
type sink interface {
	// drain sends what is in the pipe, and returns how much it sent.
	drain(ctx context.Context, p *pipe) (int, error)
	// send sends b once, for a caller who stays. An error that wraps driver.ErrAbandoned means that the kernel still has b.
	send(ctx context.Context, b []byte) (int, error)
	// fail adds to an error what was tried.
	fail(err error) error
}

// connSink is a connection whose turn to write was taken.
type connSink struct{ c *Conn }

func (s connSink) drain(ctx context.Context, p *pipe) (int, error) { return s.c.drain(ctx, p) }

func (s connSink) send(ctx context.Context, b []byte) (int, error) {
	return s.c.sendPart(handle.Stay(ctx), b, s.c.h.Free)
}

func (s connSink) fail(err error) error { return s.c.fail("write", "splice", err) }

// piecemeal is a connection whose turn to write is taken for each piece that has come: others may write while none comes.
type piecemeal struct{ connSink }

func (s piecemeal) drain(ctx context.Context, p *pipe) (int, error) {
	if err := s.c.writes.Lock(ctx); err != nil {
		return 0, err
	}
	defer s.c.writes.Unlock()
	return s.c.drain(ctx, p)
}

func (s piecemeal) send(ctx context.Context, b []byte) (int, error) {
	return s.c.sendAll(handle.Stay(ctx), b, s.c.freeWrite)
}

// transfer is a [Conn.Splice] or [Conn.ReceiveFile] under way. It may receive under another context than it sends.
type transfer struct {
	rctx, wctx context.Context
	dst        sink
	src        *Conn
	copies     bool  // it is read and write
	pipe       *pipe // nil while there is nothing to put in
	quota
}

// quota is how much is to be moved, everything if left is negative, and how much has been.
type quota struct{ left, done int64 }

func (q *quota) moved(n int) {
	q.done += int64(n)
	if q.left > 0 {
		q.left -= int64(n)
	}
}

// room returns how many bytes may be moved next, at most most.
func (q *quota) room(most int) int {
	if q.left < 0 {
		return most
	}
	return int(min(q.left, int64(most)))
}

// run moves until left is 0 or src ends.
func (t *transfer) run() error {
	t.copies = t.src.net.typ != unix.SOCK_STREAM // splice(2) would cut packets where the pipe is full
	defer t.dropPipe()
	for t.left != 0 {
		step := t.byPipe
		if t.copies || t.src.hasLeftover() {
			step = t.byHand
		}
		if err := step(); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (t *transfer) dropPipe() {
	if t.pipe != nil {
		t.pipe.give()
		t.pipe = nil
	}
}

// byPipe moves what has arrived, once.
func (t *transfer) byPipe() error {
	n, err := t.src.attempt(t.rctx, unix.POLLIN, t.fill)
	switch {
	case err == errByHand:
		t.copies = true
		return nil
	case err != nil:
		return t.src.fail("read", "splice", err)
	case n == 0:
		return io.EOF
	}
	t.pipe.held = n
	n, err = t.dst.drain(t.wctx, t.pipe)
	t.moved(n)
	if t.pipe.held == 0 {
		return nil
	}
	rest := t.pipe.empty()
	if refusal(err) == errByHand {
		t.copies = true
		return t.send(rest)
	}
	t.src.putBack(rest)
	return t.dst.fail(err)
}

// fill moves what has arrived into a pipe. While nothing arrives there is no pipe: there may be thousands who wait.
func (t *transfer) fill() (int, error) {
	if t.pipe == nil {
		p, err := takePipe()
		if err != nil {
			return 0, errByHand
		}
		t.pipe = p
	}
	n, err := spliceNow(t.src.h.FD, t.pipe.w, t.room(t.pipe.size))
	if err != nil {
		t.dropPipe()
	}
	return n, refusal(err)
}

// drain sends what is in the pipe.
func (s *socket) drain(ctx context.Context, p *pipe) (done int, err error) {
	for p.held > 0 {
		n, err := s.attempt(ctx, unix.POLLOUT, func() (int, error) { return spliceNow(p.r, s.h.FD, p.held) })
		if err == nil && n == 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			return done, err
		}
		done += n
		p.held -= n
	}
	return done, nil
}

// spliceNow moves up to n bytes without waiting.
func spliceNow(from, to, n int) (int, error) {
	for {
		k, err := unix.Splice(from, nil, to, nil, n, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if err != syscall.EINTR {
			return int(k), err
		}
	}
}

// relayBuffers are for what goes by hand. A packet that Linux sends without being told otherwise fits in.
var relayBuffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// byHand receives once and sends that.
func (t *transfer) byHand() error {
	b := relayBuffers.Get().(*[]byte)
	into := *b
	if t.src.net.typ == unix.SOCK_STREAM { // of a packet, what is not received is lost
		into = into[:t.room(len(into))]
	}
	n, err := t.src.receive(handle.Stay(t.rctx), into, 0, t.src.h.Free)
	if err == nil {
		wanted := t.room(n)
		t.src.putBack(bytes.Clone(into[wanted:n]))
		err = t.send(into[:wanted])
	} else if err != io.EOF {
		err = t.src.fail("read", "recv", err)
	}
	recycle(&relayBuffers, b, err)
	return err
}

// send sends b, in a turn that was taken. What it cannot send is put back.
func (t *transfer) send(b []byte) error {
	for len(b) > 0 {
		n, err := t.dst.send(t.wctx, b)
		t.moved(n)
		b = b[n:]
		if err == nil && n == 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			t.src.putBack(bytes.Clone(b))
			return t.dst.fail(err)
		}
	}
	return nil
}

// hasLeftover reports whether the socket has something that was received and not delivered.
func (s *socket) hasLeftover() bool {
	in := s.inbox.Load()
	if in == nil {
		return false
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.busy || len(in.left) > 0 || in.err != nil
}

// putBack has b received again, before anything else.
func (s *socket) putBack(b []byte) {
	if len(b) == 0 {
		return
	}
	in := s.mailbox()
	in.mu.Lock()
	defer in.mu.Unlock()
	in.left = slices.Insert(in.left, 0, plain(b))
}
