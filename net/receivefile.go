package net

import (
	"context"
	"errors"
	"io"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/ops"
)

// ReceiveFile writes n bytes that it receives to a file at offset off, or everything until the connection ends if n is negative, and returns
// how many it wrote. An end of the connection before n bytes is no error. f is an *fs.File, an *os.File, or whatever else has the
// descriptor of a regular file; its position is neither used nor moved, and a file opened with O_APPEND is written at its end. The bytes
// of TCP and Unix streams do not pass through the process. Other readers take their share.
//
// When writing fails or ctx ends, what was received and not written is not lost: the next reads return it. It returns only when the
// kernel has let go of the file. Kernel 5.7; splice(2).
func (c *Conn) ReceiveFile(ctx context.Context, f syscall.Conn, off, n int64) (int64, error) {
	if off < 0 {
		return 0, c.fail("read", "splice", syscall.EINVAL)
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, c.fail("read", "splice", err)
	}
	var t transfer
	var failure error
	if err := raw.Control(func(fd uintptr) { // which keeps it open meanwhile
		if failure = regular(int(fd)); failure != nil {
			return
		}
		t = transfer{rctx: ctx, wctx: ctx, dst: &fileSink{c, int(fd), off}, src: c, quota: quota{left: n}}
		failure = t.run()
	}); err != nil {
		return 0, c.fail("read", "splice", err)
	}
	return t.done, c.fail("read", "splice", failure)
}

var errNotRegular = errors.New("not a regular file")

func regular(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return sysError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errNotRegular
	}
	return nil
}

// fileSink is a file as the end of a transfer.
type fileSink struct {
	src *Conn
	fd  int
	off int64
}

func (s *fileSink) drain(ctx context.Context, p *pipe) (done int, err error) {
	for p.held > 0 {
		n, err, lost := toEnd(ctx, s.src.h.Driver, ops.Splice(p.r, -1, s.fd, s.off, p.held, unix.SPLICE_F_MOVE))
		if lost {
			n = p.taken()
		}
		if err == nil && n == 0 {
			err = io.ErrShortWrite
		}
		p.held -= n
		s.off += int64(n)
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// send writes b, once. What the kernel did with it if it was asked to stop cannot be known: so it is not asked.
func (s *fileSink) send(ctx context.Context, b []byte) (int, error) {
	if ctx.Err() != nil {
		return 0, driver.Canceled(ctx)
	}
	n, err := onRing(context.WithoutCancel(ctx), ops.WriteAt(s.fd, b, s.off), nil)
	s.off += int64(n)
	return n, err
}

func (s *fileSink) fail(err error) error { return s.src.fail("read", "splice", err) }
