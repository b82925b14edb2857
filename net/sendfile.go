package net

import (
	"context"
	"errors"
	"io"
	stdnet "net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/executor"
	"uringo/internal/handle"
	"uringo/ops"
)

// SendFile sends n bytes of a file from offset off, or everything to its end if n is negative, and returns how many it sent. An end of the
// file before n bytes is no error. f is an *fs.File, an *os.File, or whatever else has a descriptor; its position is neither used nor
// moved. The bytes of a regular file do not pass through the process. What the page cache has goes out at once; what it has not, the ring
// fetches, and no thread waits for it. It takes turns with [Conn.WriteAll].
//
// A ctx that ends stops it, but it returns only when the kernel has let go of the file. To a peer who is gone it is EPIPE and, for want of a
// flag, SIGPIPE, which Go ignores unless the program asks for it. Kernel 5.7; sendfile(2), splice(2).
func (c *Conn) SendFile(ctx context.Context, f syscall.Conn, off, n int64) (int64, error) {
	if off < 0 {
		return 0, c.fail("write", "sendfile", syscall.EINVAL)
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, c.fail("write", "sendfile", err)
	}
	s := sending{ctx: ctx, c: c, off: off, quota: quota{left: n}, ask: mostAsk}
	var sendErr error
	if err = raw.Control(func(fd uintptr) { // which keeps it open meanwhile
		s.fd = int(fd)
		sendErr = s.run()
	}); err != nil {
		return 0, c.fail("write", "sendfile", err)
	}
	return s.done, c.fail("write", "sendfile", sendErr)
}

// sending is a [Conn.SendFile] under way.
type sending struct {
	ctx  context.Context
	c    *Conn
	fd   int
	off  int64
	size int64 // of the file, when it was looked at
	file file
	quota
	ask        int // for so much at once
	pipe       *pipe
	untellable bool // the file does not say what the page cache has of it
	uncounted  bool // and the kernel not how much
}

// How much of a file is sent at once, between two looks at what the page cache has: as much as a socket can have room for, if the page cache
// has it all, and of a connection that takes little not much more than that. Tasks in turn find less in the processor's caches, but over a
// loopback, where the reader makes room all the time, one is not to go on without end.
const (
	leastAsk = 512 << 10
	mostAsk  = 8 << 20
)

// errByHand says that the kernel cannot send this file to this socket by itself.
var errByHand = errors.New("by hand")

func (s *sending) run() error {
	if s.left == 0 {
		return nil
	}
	if err := s.c.writes.Lock(s.ctx); err != nil {
		return err
	}
	defer s.c.writes.Unlock()
	var st unix.Stat_t
	if err := unix.Fstat(s.fd, &st); err != nil {
		return err
	}
	s.file = file{uint64(st.Dev), st.Ino}
	step, kind := s.inKernel, st.Mode&unix.S_IFMT
	if s.size = st.Size; kind != unix.S_IFREG || s.size == 0 { // files of proc are empty until they are read
		step = s.byHand
	}
	if kind == unix.S_IFSOCK {
		s.off = 0 // the kernel refuses others, where of pipes it ignores them
	}
	defer func() {
		if s.pipe != nil {
			s.pipe.give()
		}
	}()
	for s.left != 0 {
		n, err := step()
		if err == errByHand {
			step = s.byHand
			continue
		}
		if kind != unix.S_IFSOCK {
			s.off += int64(n)
		}
		s.moved(n)
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
	}
	return nil
}

// inKernel sends once what is there of the file. The end of the file is 0.
func (s *sending) inKernel() (int, error) {
	n := s.next()
	for !s.cached(n) {
		if n <= leastAsk {
			return s.fetched(n)
		}
		s.ask = leastAsk
		n = s.next()
	}
	sent, err := s.c.attemptMuch(s.ctx, func() (int, error) {
		off := s.off
		for {
			n, err := unix.Sendfile(s.c.h.FD, s.fd, &off, n)
			if err != syscall.EINTR {
				return max(n, 0), err
			}
		}
	})
	s.ask = min(max(2*sent, leastAsk), mostAsk)
	return sent, refusal(err)
}

// next returns how many bytes to send next.
func (s *sending) next() int {
	n := s.room(s.ask)
	if s.off < s.size {
		n = int(min(int64(n), s.size-s.off))
	}
	return n
}

// refusal tells that it is not the kernel's work from other errors.
func refusal(err error) error {
	switch err {
	case syscall.EINVAL, syscall.ENOSYS, syscall.EOPNOTSUPP, syscall.EPERM:
		return errByHand // if the file or the socket is what is wrong, that shows there
	}
	return err
}

// cached reports whether sending the next n bytes will not wait for a disk, as far as one can tell.
func (s *sending) cached(n int) bool {
	if !s.complete(n) {
		return false
	}
	if !s.untellable {
		// The last byte is the last to arrive: a page may be there and its content not yet.
		var b [1]byte
		_, err := ops.TryRead(s.fd, b[:], s.off+int64(n)-1)
		if err == nil {
			return true
		}
		if err == syscall.EAGAIN {
			return false
		}
		s.untellable = true
	}
	return executor.CallerOf(s.ctx).MayBlock()
}

// complete reports whether the page cache has all pages of the next n bytes, or that nobody tells: before kernel 6.5, and of files which
// the caller neither owns nor may write to. cachestat(2).
func (s *sending) complete(n int) bool {
	end := s.off + int64(n)
	if s.uncounted || s.off >= s.size || s.file.wasResident(s.off, end) { // or there may be nothing more
		return true
	}
	var st unix.Cachestat_t
	if err := unix.Cachestat(uint(s.fd), &unix.CachestatRange{Off: uint64(s.off), Len: uint64(n)}, &st, 0); err != nil {
		s.uncounted = true
		return true
	}
	page := int64(os.Getpagesize())
	if int64(st.Cache) < (end-1)/page-s.off/page+1 {
		return false
	}
	s.file.isResident(s.off, end)
	return true
}

// fetched has the ring read n bytes of the file into a pipe, and sends what it got.
func (s *sending) fetched(n int) (int, error) {
	if s.pipe == nil {
		p, err := takePipe()
		if err != nil {
			return 0, errByHand
		}
		s.pipe = p
	}
	n, err, lost := toEnd(s.ctx, s.c.h.Driver, ops.Splice(s.fd, s.off, s.pipe.w, -1, min(n, s.pipe.size), unix.SPLICE_F_MOVE))
	if lost {
		s.pipe.close() // with whatever came into it
		s.pipe = nil
		return 0, err
	}
	if err != nil {
		return 0, refusal(err)
	}
	s.pipe.held = n
	n, err = s.c.drain(s.ctx, s.pipe)
	if s.pipe.held > 0 { // the file has it still
		s.pipe.close()
		s.pipe = nil
	}
	return n, err
}

// byHand reads once and sends that.
func (s *sending) byHand() (int, error) {
	b := relayBuffers.Get().(*[]byte)
	n, err, _ := toEnd(s.ctx, s.c.h.Driver, ops.ReadAt(s.fd, (*b)[:s.room(len(*b))], s.off))
	sent := 0
	for err == nil && sent < n {
		var k int
		k, err = s.c.sendPart(handle.Stay(s.ctx), (*b)[sent:n], s.c.h.Free)
		sent += k
		if err == nil && k == 0 {
			err = io.ErrShortWrite
		}
		if handle.Abandoned(err) {
			return sent, err // the kernel has the buffer
		}
	}
	relayBuffers.Put(b)
	return sent, err
}

// ReadFrom implements io.ReaderFrom: net/http and io.Copy find it. From a connection of this package and from a file it does not copy
// the data through the process; see [Conn.Splice] and [Conn.SendFile]. While it waits for something to come from a connection, others may write.
func (a *netConn) ReadFrom(r io.Reader) (n int64, err error) {
	n, err, ok := a.readFrom(r)
	if ok {
		return n, err
	}
	type writer struct{ io.Writer } // which is no ReaderFrom
	m, err := io.Copy(writer{a}, r)
	return n + m, err
}

func (a *netConn) readFrom(r io.Reader) (n int64, err error, ok bool) {
	left, src := int64(-1), r
	limited, _ := r.(*io.LimitedReader)
	if limited != nil {
		left, src = max(0, limited.N), limited.R
		defer func() { limited.N -= n }()
	}
	switch src := src.(type) {
	case *netConn:
		if left == 0 {
			return 0, nil, true
		}
		rctx, wctx := src.read.context(), a.write.context()
		n, err = a.c.splice(rctx, wctx, piecemeal{connSink{a.c}}, src.c, left)
		if rctx.Err() == nil {
			rctx = wctx
		}
		return n, stdOpError(rctx, err), true
	case interface {
		syscall.Conn
		io.Seeker
	}:
		off, err := src.Seek(0, io.SeekCurrent)
		if err != nil {
			return 0, nil, false // no file, or a pipe
		}
		ctx := a.write.context()
		n, err = a.c.SendFile(ctx, src, off, left)
		if _, seekErr := src.Seek(off+n, io.SeekStart); err == nil {
			err = seekErr
		}
		return n, stdOpError(ctx, err), true
	}
	return 0, nil, false
}

// WriteTo implements io.WriterTo: between connections of this package it is [Conn.Splice].
func (a *netConn) WriteTo(w io.Writer) (int64, error) {
	if to, ok := w.(*netConn); ok {
		n, err, _ := to.readFrom(a)
		return n, err
	}
	type reader struct{ io.Reader } // which is no WriterTo
	return io.Copy(w, reader{a})
}

// stdOpError is stdError for an error that says what was tried.
func stdOpError(ctx context.Context, err error) error {
	if e, ok := err.(*stdnet.OpError); ok {
		e.Err = stdError(ctx, e.Err)
	}
	return err
}

var (
	_ io.ReaderFrom = (*netConn)(nil)
	_ io.WriterTo   = (*netConn)(nil)
)
