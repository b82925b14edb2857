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
// read and written, to the same result. Other writers wait until Splice is done; other readers of src take their share.
//
// When sending fails or ctx ends, what was received from src and not sent is not lost: the next reads of src return it. It costs the
// kernel's memory for up to 1 MiB in flight, and the process no buffer while nothing arrives. Kernel 5.6; splice(2).
func (c *Conn) Splice(ctx context.Context, src *Conn, n int64) (int64, error) {
	t := transfer{rctx: ctx, wctx: ctx, dst: c, src: src, left: n}
	err := t.run()
	return t.done, err
}

// transfer is a [Conn.Splice] under way. It may receive under another context than it sends.
type transfer struct {
	rctx, wctx context.Context
	dst, src   *Conn
	pipe       *pipe // nil when it is read and write
	left, done int64
}

func (t *transfer) run() error {
	if t.left == 0 {
		return nil
	}
	if err := t.dst.writes.Take(t.wctx); err != nil {
		return t.dst.fail("write", "splice", err)
	}
	defer t.dst.writes.Give()
	if t.src.net.typ != unix.SOCK_SEQPACKET { // splice(2) would cut packets where the pipe is full
		t.pipe, _ = takePipe() // without one, it goes by hand
	}
	defer t.dropPipe()
	for t.left != 0 {
		step := t.byPipe
		if t.pipe == nil || t.src.hasLeftover() {
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

func (t *transfer) sent(n int) {
	t.done += int64(n)
	if t.left > 0 {
		t.left -= int64(n)
	}
}

// room returns how many bytes may be received next, at most most.
func (t *transfer) room(most int) int {
	if t.left < 0 {
		return most
	}
	return int(min(t.left, int64(most)))
}

// byPipe moves what has arrived, once.
func (t *transfer) byPipe() error {
	n, err := t.src.attempt(t.rctx, unix.POLLIN, func() (int, error) {
		return spliceNow(t.src.h.FD, t.pipe.w, t.room(t.pipe.size))
	})
	switch {
	case err == syscall.EINVAL:
		t.dropPipe() // not of this source
		return nil
	case err != nil:
		return t.src.fail("read", "splice", err)
	case n == 0:
		return io.EOF
	}
	t.pipe.held = n
	n, err = t.dst.drain(t.wctx, t.pipe)
	t.sent(n)
	if t.pipe.held == 0 {
		return nil
	}
	rest := t.pipe.empty()
	if err == syscall.EINVAL {
		t.dropPipe() // not to this destination
		return t.send(rest)
	}
	t.src.putBack(rest)
	return t.dst.fail("write", "splice", err)
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
	if t.src.net.typ != unix.SOCK_SEQPACKET { // of a packet, what is not received is lost
		into = into[:t.room(len(into))]
	}
	n, err := t.src.receive(t.rctx, into, 0, t.src.h.Free)
	if err == nil {
		wanted := t.room(n)
		t.src.putBack(bytes.Clone(into[wanted:n]))
		err = t.send(into[:wanted])
	} else if err != io.EOF {
		err = t.src.fail("read", "recv", err)
	}
	if !handle.Abandoned(err) { // else the kernel has it still
		relayBuffers.Put(b)
	}
	return err
}

// send sends b, in a turn that was taken. What it cannot send is put back.
func (t *transfer) send(b []byte) error {
	for len(b) > 0 {
		n, err := t.dst.send(t.wctx, b, 0, t.dst.h.Free)
		t.sent(n)
		b = b[n:]
		if err == nil && n == 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			t.src.putBack(bytes.Clone(b))
			return t.dst.fail("write", "send", err)
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
	in.left = slices.Insert(in.left, 0, b)
}
