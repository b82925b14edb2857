package net

import (
	"context"
	"errors"
	"io"
	"iter"
	"runtime"
	"sync/atomic"
	"syscall"

	"uringo/buf"
	"uringo/driver"
)

// ReadHalf is the receiving side of a connection, for a task of its own. Its methods are those of the [Conn].
type ReadHalf struct{ half }

// WriteHalf is the sending side of a connection, for a task of its own. Its methods are those of the [Conn]. On a Unix socket each call allocates
// what it takes to be ended by Close.
type WriteHalf struct{ half }

// Split divides a connection between who receives and who sends. Each closes its half, and who comes last closes the connection: neither has
// to know of the other. A half that is dropped without Close is closed in the background, at some time.
//
// The halves have the connection from now on. c is still good for its options and addresses; closing it ends both. Whoever wants a Conn
// again has it from [Reunite].
func (c *Conn) Split() (*ReadHalf, *WriteHalf) {
	p := &pair{c: c}
	r, w := &ReadHalf{half{pair: p, side: reading}}, &WriteHalf{half{pair: p, side: writing}}
	r.cleanup = runtime.AddCleanup(&r.half, (*pair).dropReading, p)
	w.cleanup = runtime.AddCleanup(&w.half, (*pair).dropWriting, p)
	return r, w
}

// Reunite makes one connection of the two halves of one, the Conn that was split, and ends the use of them: further operations on the halves
// fail with [ErrClosed], those that wait go on. Halves of different connections, or of different calls of Split, are refused, and so is a
// half that was closed (ErrClosed); then everything is as it was.
func Reunite(r *ReadHalf, w *WriteHalf) (*Conn, error) {
	p := r.pair
	switch {
	case p != w.pair:
		return nil, p.c.fail("reunite", "", errOtherHalf)
	case !p.ended.CompareAndSwap(0, reading|writing|reunited):
		return nil, p.c.fail("reunite", "", ErrClosed)
	}
	r.cleanup.Stop()
	w.cleanup.Stop()
	return p.c, nil
}

var errOtherHalf = errors.New("halves of different connections")

// pair is what the halves of a connection share. It does not know them, so that each can be dropped.
type pair struct {
	c     *Conn
	ended atomic.Uint32 // the sides that were closed
}

// The bits of pair.ended.
const (
	reading = 1 << iota
	writing
	reunited
)

func (p *pair) dropReading() { p.drop(reading) }
func (p *pair) dropWriting() { p.drop(writing) }

// drop is close for nobody to wait for. It is called by the collector, which must not wait either.
func (p *pair) drop(side uint32) {
	go p.close(background(p.c.h.Driver), side) // nobody is left to tell of an error
}

// close closes one side, and the connection after the other one.
func (p *pair) close(ctx context.Context, side uint32) error {
	switch old := p.ended.Or(side); {
	case old&side != 0:
		return p.c.fail("close", "close", ErrClosed)
	case old != 0:
		return p.c.Close(ctx)
	}
	if side == writing {
		err := p.c.endWriting()
		p.c.ways().bar(syscall.EPIPE)
		return err
	}
	if err := p.c.CloseRead(); !errors.Is(err, syscall.ENOTCONN) { // if it is, the connection has ended by itself
		return err
	}
	return nil
}

// gone is a connection like that of the pair, but closed.
func (p *pair) gone() *Conn {
	c := unopened(p.c.local, p.c.remote)
	c.net = p.c.net
	c.h.Open(-1, p.c.h.Driver)
	_, _ = c.h.Shut(context.Background()) // it was never used
	return c
}

// half is what both halves can do.
type half struct {
	*pair
	side    uint32
	cleanup runtime.Cleanup
}

// LocalAddr returns the address of this end. It must not be modified.
func (h *half) LocalAddr() Addr { return h.pair.c.local }

// RemoteAddr returns the address of the other end. It must not be modified.
func (h *half) RemoteAddr() Addr { return h.pair.c.remote }

// Close closes the half. Operations on it that have not ended end with [ErrClosed], and further ones fail so at once. The peer is told, see
// [Conn.CloseWrite] and [Conn.CloseRead], and the other half goes on; if that is closed already, Close is [Conn.Close]. A second Close is an error,
// ErrClosed.
//
// To close the sending half does not cut short what was sent.
func (h *half) Close(ctx context.Context) error {
	h.cleanup.Stop()
	return h.pair.close(ctx, h.side)
}

// conn returns the connection for an operation, after which outcome is called. If the half is closed, it is one that is closed, too.
func (h *half) conn() *Conn {
	if h.ended.Load()&h.side != 0 {
		return h.gone()
	}
	return h.c
}

// outcome returns the error of an operation: one that ended with err because its half was closed ends with ErrClosed. The collector leaves h alone
// until it is called.
func (h *half) outcome(err error) error {
	defer runtime.KeepAlive(h)
	if err == nil || h.ended.Load()&(h.side|reunited) != h.side {
		return err
	}
	switch {
	case err == io.EOF, err == io.ErrUnexpectedEOF:
		return h.c.fail("read", "recv", ErrClosed)
	case errors.Is(err, syscall.EPIPE):
		return h.c.fail("write", "send", ErrClosed)
	}
	return err
}

// Read is [Conn.Read].
func (r *ReadHalf) Read(ctx context.Context, b []byte) (int, []byte, error) {
	n, b, err := r.conn().Read(ctx, b)
	return n, b, r.outcome(err)
}

// Peek is [Conn.Peek].
func (r *ReadHalf) Peek(ctx context.Context, b []byte) (int, []byte, error) {
	n, b, err := r.conn().Peek(ctx, b)
	return n, b, r.outcome(err)
}

// ReadFull is [Conn.ReadFull].
func (r *ReadHalf) ReadFull(ctx context.Context, b []byte) (int, []byte, error) {
	n, b, err := r.conn().ReadFull(ctx, b)
	return n, b, r.outcome(err)
}

// Readv is [Conn.Readv].
func (r *ReadHalf) Readv(ctx context.Context, bufs [][]byte) (int, [][]byte, error) {
	n, bufs, err := r.conn().Readv(ctx, bufs)
	return n, bufs, r.outcome(err)
}

// ReadFixed is [Conn.ReadFixed].
func (r *ReadHalf) ReadFixed(ctx context.Context, b *buf.Fixed) (int, *buf.Fixed, error) {
	n, b, err := r.conn().ReadFixed(ctx, b)
	return n, b, r.outcome(err)
}

// RecvMsg is [Conn.RecvMsg].
func (r *ReadHalf) RecvMsg(ctx context.Context, m *Message) error {
	return r.outcome(r.conn().RecvMsg(ctx, m))
}

// PeekMsg is [Conn.PeekMsg].
func (r *ReadHalf) PeekMsg(ctx context.Context, m *Message) error {
	return r.outcome(r.conn().PeekMsg(ctx, m))
}

// Receives is [Conn.Receives]. An iteration ends without an error when the half is closed meanwhile.
func (r *ReadHalf) Receives(ctx context.Context, from *driver.BufferRing) iter.Seq2[driver.Chunk, error] {
	return func(yield func(driver.Chunk, error) bool) {
		defer runtime.KeepAlive(r)
		r.conn().Receives(ctx, from)(yield)
	}
}

// ReceivesMsg is [Conn.ReceivesMsg]. An iteration ends without an error when the half is closed meanwhile.
func (r *ReadHalf) ReceivesMsg(ctx context.Context, from *driver.BufferRing) iter.Seq2[Received, error] {
	return func(yield func(Received, error) bool) {
		defer runtime.KeepAlive(r)
		r.conn().ReceivesMsg(ctx, from)(yield)
	}
}

// ReceiveFile is [Conn.ReceiveFile]. That the half is closed meanwhile is an end of the connection to it.
func (r *ReadHalf) ReceiveFile(ctx context.Context, f syscall.Conn, off, n int64) (int64, error) {
	n, err := r.conn().ReceiveFile(ctx, f, off, n)
	return n, r.outcome(err)
}

// Readable is [Conn.Readable].
func (r *ReadHalf) Readable(ctx context.Context) error { return r.outcome(r.conn().Readable(ctx)) }

// begin is conn for an operation that sends, with the context for that. leave is called with its error, before outcome. To shut down sending tells
// nobody who waits for room on a Unix socket.
func (w *WriteHalf) begin(ctx context.Context) (c *Conn, under context.Context, leave func(error) error) {
	c = w.conn()
	if c.net.proto != "unix" {
		return c, ctx, func(err error) error { return err }
	}
	under, leave = c.enter(ctx)
	return c, under, leave
}

// Write is [Conn.Write].
func (w *WriteHalf) Write(ctx context.Context, b []byte) (int, []byte, error) {
	c, ctx, leave := w.begin(ctx)
	n, b, err := c.Write(ctx, b)
	return n, b, w.outcome(leave(err))
}

// WriteAll is [Conn.WriteAll].
func (w *WriteHalf) WriteAll(ctx context.Context, b []byte) (int, []byte, error) {
	c, ctx, leave := w.begin(ctx)
	n, b, err := c.WriteAll(ctx, b)
	return n, b, w.outcome(leave(err))
}

// Writev is [Conn.Writev].
func (w *WriteHalf) Writev(ctx context.Context, bufs [][]byte) (int, [][]byte, error) {
	c, ctx, leave := w.begin(ctx)
	n, bufs, err := c.Writev(ctx, bufs)
	return n, bufs, w.outcome(leave(err))
}

// WriteZeroCopy is [Conn.WriteZeroCopy].
func (w *WriteHalf) WriteZeroCopy(ctx context.Context, b []byte) (n int, buf []byte, copied bool, err error) {
	c, ctx, leave := w.begin(ctx)
	n, b, copied, err = c.WriteZeroCopy(ctx, b)
	return n, b, copied, w.outcome(leave(err))
}

// WriteFixed is [Conn.WriteFixed].
func (w *WriteHalf) WriteFixed(ctx context.Context, b *buf.Fixed) (int, *buf.Fixed, error) {
	c, ctx, leave := w.begin(ctx)
	n, b, err := c.WriteFixed(ctx, b)
	return n, b, w.outcome(leave(err))
}

// WriteFixedAll is [Conn.WriteFixedAll].
func (w *WriteHalf) WriteFixedAll(ctx context.Context, b *buf.Fixed) (int, *buf.Fixed, error) {
	c, ctx, leave := w.begin(ctx)
	n, b, err := c.WriteFixedAll(ctx, b)
	return n, b, w.outcome(leave(err))
}

// SendMsg is [Conn.SendMsg].
func (w *WriteHalf) SendMsg(ctx context.Context, m *Message) (int, error) {
	c, ctx, leave := w.begin(ctx)
	n, err := c.SendMsg(ctx, m)
	return n, w.outcome(leave(err))
}

// SendMsgZeroCopy is [Conn.SendMsgZeroCopy].
func (w *WriteHalf) SendMsgZeroCopy(ctx context.Context, m *Message) (n int, copied bool, err error) {
	c, ctx, leave := w.begin(ctx)
	n, copied, err = c.SendMsgZeroCopy(ctx, m)
	return n, copied, w.outcome(leave(err))
}

// SendFile is [Conn.SendFile].
func (w *WriteHalf) SendFile(ctx context.Context, f syscall.Conn, off, n int64) (int64, error) {
	c, ctx, leave := w.begin(ctx)
	n, err := c.SendFile(ctx, f, off, n)
	return n, w.outcome(leave(err))
}

// Splice is [Conn.Splice]. That src is closed meanwhile is an end of it.
func (w *WriteHalf) Splice(ctx context.Context, src *ReadHalf, n int64) (int64, error) {
	defer runtime.KeepAlive(src)
	c, ctx, leave := w.begin(ctx)
	n, err := c.Splice(ctx, src.conn(), n)
	return n, w.outcome(leave(err))
}

// Writable is [Conn.Writable].
func (w *WriteHalf) Writable(ctx context.Context) error {
	c, ctx, leave := w.begin(ctx)
	return w.outcome(leave(c.Writable(ctx)))
}
