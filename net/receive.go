package net

import (
	"context"
	"errors"
	"io"
	"iter"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/ops"
)

// Receives returns an iterator over what arrives, for range. The connection has no buffer while nothing arrives: the kernel takes one from
// the ring of buffers, which any number of connections share; nil means the driver's own, see [driver.Driver.Buffers]. Every chunk belongs to
// the loop's body, which releases it, at once or later and from wherever it likes:
//
//	for chunk, err := range c.Receives(ctx, nil) {
//		if err != nil {
//			return err
//		}
//		handle(chunk.Bytes())
//		chunk.Release()
//	}
//
// The iteration ends without an error at the end of the stream. Any error is the last thing that it brings: that of ctx when that ends,
// [ErrClosed] when the connection is closed, and what else there may be. However it ends, no byte is lost: what had been received and was
// not given to the body comes next, from Read, or from another Receives. While an iteration is on, reading in other ways fails.
//
// A body that is slow holds up the sender and not the memory: at most a quarter of the ring's buffers wait for it, and no more than 64, and
// then the bytes wait in the socket. With all buffers in the hands of bodies, connections wait for the next Release.
//
// For connections that wait much and receive little at a time this is cheaper than Read: one request of the ring receives until the
// iteration ends (multishot), and an idle connection costs no buffer. Allocates nothing for each chunk. Kernel 6.0; before it, and on
// the portable engine, it does the same with one request after the other. recv(2).
func (c *Conn) Receives(ctx context.Context, from *driver.BufferRing) iter.Seq2[driver.Chunk, error] {
	return func(yield func(driver.Chunk, error) bool) {
		in := c.mailbox()
		if err := in.begin(); err != nil {
			yield(driver.Chunk{}, c.fail("read", "recv", err))
			return
		}
		defer in.end()
		for m, ok := in.next(ctx); ok; m, ok = in.next(ctx) {
			m.discard()
			if !yield(driver.ChunkOf(m.Bytes()), nil) {
				return
			}
		}
		s, err := c.incoming(ctx, from, in, ops.Room{})
		if err != nil {
			yield(driver.Chunk{}, c.fail("read", "recv", err))
			return
		}
		defer c.stopReceiving(ctx, s, in, ops.Room{})
		c.follow(in, s)
		for {
			chunk, err := executor.Next(ctx, s)
			if c.hastened(err) {
				var m Received
				m, err = c.rest(ctx, ops.Room{})
				chunk = m.chunk
			}
			if err == io.EOF {
				return
			}
			in.told = err
			if !yield(chunk, c.fail("read", "recv", c.reason(err))) || err != nil {
				return
			}
		}
	}
}

// incoming is the stream of what arrives, of messages if they have room, or the error that an earlier one ended with and nobody was told.
func (s *socket) incoming(ctx context.Context, from *driver.BufferRing, in *inbox, room ops.Room) (*driver.Stream[driver.Chunk], error) {
	if ctx.Err() != nil {
		return nil, driver.Canceled(ctx)
	}
	if err := in.takeError(); err != nil {
		return nil, err
	}
	d, err := driver.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	if from == nil {
		if from, err = d.Buffers(); err != nil {
			return nil, err
		}
	}
	if s.h.InTable() && d != s.h.Driver {
		return nil, errOtherRing
	}
	if !s.h.Acquire() {
		return nil, ErrClosed
	}
	if s.h.InTable() {
		return driver.RecvMultiDirect(d, s.h.FD, from, 0, s.h.Free), nil
	}
	if room == (ops.Room{}) {
		return driver.RecvMulti(d, s.h.FD, from, 0, s.h.Free), nil
	}
	return driver.RecvMsgMulti(d, s.h.FD, from, room, 0, s.h.Free), nil
}

// stopReceiving ends a stream, and keeps what it brought.
func (s *socket) stopReceiving(ctx context.Context, str *driver.Stream[driver.Chunk], in *inbox, room ops.Room) {
	in.mu.Lock()
	in.stream = nil
	in.mu.Unlock()
	err := stop(ctx, str, func(chunk driver.Chunk) { s.keep(in, Received{driver.ChunkOf(chunk.Own()), room, s.net}) })
	switch {
	case err == io.EOF, err == syscall.ECANCELED, err == in.told, errors.Is(err, driver.ErrClosed), errors.Is(err, driver.ErrAbandoned):
		// The socket would say it again, or it is not about the socket.
	default:
		in.err = err
	}
}

// reason is the error of a stream that was ended by Close, or err.
func (s *socket) reason(err error) error {
	if err == syscall.ECANCELED && s.h.Closing() {
		return ErrClosed
	}
	return err
}

// stop ends a stream and waits for that, passing on what it brought by then. It returns the stream's last error.
func stop[T any](ctx context.Context, s *driver.Stream[T], keep func(T)) error {
	s.Cancel()
	ctx = context.WithoutCancel(ctx)
	for {
		v, err := executor.Next(ctx, s)
		if err == nil {
			keep(v)
		} else if err == s.Err() {
			return err
		}
	}
}

// inbox is the receiving side of a socket on which [Conn.Receives] is or was used. What an iteration leaves is its own until it ends, and
// then anybody's under the lock.
type inbox struct {
	mu   sync.Mutex
	busy bool
	*letters
	stream *driver.Stream[driver.Chunk] // the iteration's, for CloseRead to end
	err    error                        // what came after them
	told   error                        // the last error that the iteration was told
}

// letters are what is left, of packets each one. They are apart for their descriptors, which are closed when a socket is dropped.
type letters struct{ left []Received }

// burn gives up what is left.
func (l *letters) burn() {
	for m, ok := l.pop(); ok; m, ok = l.pop() {
		m.discard()
	}
}

var errReceiving = errors.New("another call of Receives has not ended")

// mailbox returns the socket's inbox.
func (s *socket) mailbox() *inbox {
	if in := s.inbox.Load(); in != nil {
		return in
	}
	in := &inbox{letters: new(letters)}
	if s.inbox.CompareAndSwap(nil, in) {
		runtime.AddCleanup(in, (*letters).burn, in.letters)
	}
	return s.inbox.Load()
}

func (in *inbox) begin() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.busy {
		return errReceiving
	}
	in.busy = true
	in.told = nil
	return nil
}

func (in *inbox) end() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.busy = false
}

// next is pop for the iteration, unless its ctx has ended. A transfer that is ended meanwhile may put something back.
func (in *inbox) next(ctx context.Context) (m Received, ok bool) {
	if ctx.Err() != nil {
		return m, false
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.pop()
}

// keep puts m behind what is left, unless nobody will come for it.
func (s *socket) keep(in *inbox, m Received) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if s.h.Closing() {
		m.discard()
		return
	}
	in.left = append(in.left, m)
}

// forget gives up what is left.
func (in *inbox) forget() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.burn()
}

// inherit takes over what another descriptor of the same socket knows of it, and what it has left, unless an iteration is on there.
func (s *socket) inherit(from *socket) {
	s.slow.Store(from.slow.Load())
	s.noMore.Store(from.noMore.Load())
	old := from.inbox.Load()
	if old == nil {
		return
	}
	in := s.mailbox()
	old.mu.Lock()
	defer old.mu.Unlock()
	if !old.busy {
		in.left, old.left = old.left, nil
		in.err = old.takeError()
	}
}

// pop returns the first of what is left.
func (l *letters) pop() (m Received, ok bool) {
	if len(l.left) == 0 {
		return m, false
	}
	m = l.left[0]
	l.left[0] = Received{}
	l.left = l.left[1:]
	return m, true
}

func (in *inbox) takeError() error {
	err := in.err
	in.err = nil
	return err
}

// leftover receives what an iteration has left into bufs. It is false if there is nothing, or not for ctx, which has ended.
func (s *socket) leftover(ctx context.Context, flags int, bufs ...[]byte) (n int, err error, ok bool) {
	n, m, err, ok := s.leftoverMessage(ctx, flags, nil, bufs...)
	if flags&unix.MSG_PEEK == 0 {
		m.discard()
	}
	return n, err, ok
}

// leftoverMessage is leftover with what came beside the data: it is the caller's, unless the flags say to peek. Then the descriptors in it are closed by
// whoever takes it, and peek, if not nil, is called with it before anybody can. Its flags tell if a packet has lost its end.
func (s *socket) leftoverMessage(ctx context.Context, flags int, peek func(Received), bufs ...[]byte) (n int, m Received, err error, ok bool) {
	in := s.inbox.Load()
	if in == nil || s.h.Closing() || ctx.Err() != nil {
		return 0, m, nil, false
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	peeks := flags&unix.MSG_PEEK != 0
	switch {
	case in.busy:
		return 0, m, errReceiving, true
	case len(in.left) == 0 && in.err == nil:
		return 0, m, nil, false
	case len(in.left) == 0 && peeks:
		return 0, m, in.err, true
	case len(in.left) == 0:
		return 0, m, in.takeError(), true
	}
	m = in.left[0]
	data := m.Bytes()
	for _, b := range bufs {
		n += copy(b, data[n:])
	}
	switch {
	case peeks:
		if peek != nil {
			peek(m)
		}
	case n == len(data), s.net.typ != unix.SOCK_STREAM: // a packet loses what there is no room for
		in.pop()
	default:
		in.left[0] = plain(data[n:])
	}
	return n, m, nil, true
}
