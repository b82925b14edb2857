package fs

import (
	"context"
	"io"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// CopyMethod says how bytes were copied.
type CopyMethod uint8

const (
	// CopiedNothing means that there was nothing to copy.
	CopiedNothing CopyMethod = iota
	// CopiedByReflink means that both files share their blocks until one of them is written (ioctl_ficlonerange(2)).
	CopiedByReflink
	// CopiedByKernel means that the kernel or the file server copied (copy_file_range(2)); that, too, may share blocks.
	CopiedByKernel
	// CopiedByHand means that the bytes were read and written.
	CopiedByHand
)

// String returns the method's name.
func (m CopyMethod) String() string {
	return [...]string{"nothing", "reflink", "copy_file_range", "read/write"}[m]
}

// copyChunk is how much is copied between two looks at ctx.
const copyChunk = 64 << 20

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// CopyRange copies n bytes, or, if n is negative, everything to the end, from src at srcOff to f at off: by sharing blocks if the file
// system can, else in the kernel, else by reading and writing. It returns how many bytes were copied, also with an error, and by what
// method the last of them. Fewer than n and no error mean that src ended; if both are one file, it ends where it did when the copying began,
// and ranges that overlap are EINVAL, as is an f opened with O_APPEND. With O_DIRECT, what is not aligned may be EINVAL, which says what is
// needed. Holes in src may become zeros in f. A ctx that ends, or closing either file, stops the copying within 64 MiB. Kernel 4.5,
// copy_file_range(2), ioctl_ficlonerange(2).
func (f *File) CopyRange(ctx context.Context, off int64, src *File, srcOff, n int64) (int64, CopyMethod, error) {
	if off < 0 || srcOff < 0 {
		return 0, CopiedNothing, f.wrap("copy", errNegativeOffset)
	}
	if f.flag&unix.O_APPEND != 0 {
		return 0, CopiedNothing, f.wrap("copy", errAppend)
	}
	if src.as != nil && src.as != f.as {
		return 0, CopiedNothing, f.wrap("copy", errTwoUsers)
	}
	if n >= 0 {
		if err := checkRange(max(off, srcOff), n); err != nil {
			return 0, CopiedNothing, f.wrap("copy", err)
		}
	}
	c := copying{ctx: ctx, from: srcOff, to: off, left: n, files: [2]*File{f, src}}
	if n < 0 {
		c.left = 1<<63 - 1 - max(off, srcOff)
	}
	_, err := doCall(ctx, f, OpCopy, func(dst int) (struct{}, error) {
		if !src.h.Acquire() {
			return struct{}{}, &PathError{Op: "copy", Path: src.name, Err: ErrClosed}
		}
		defer src.h.Release()
		c.dst, c.src = dst, src.h.FD
		return struct{}{}, c.run()
	})
	if e, ok := err.(*copyError); ok {
		err = e.f.wrap("copy", e.explain(ctx))
	}
	return c.done, c.method, f.wrap("copy", err)
}

// copyError is what a copy by hand failed with: which file it is about, and what was to be moved there, from which offset on.
type copyError struct {
	f   *File
	off int64
	b   []byte
	err error
}

func (e *copyError) Error() string { return e.err.Error() }

// explain is [File.explain] of it.
func (e *copyError) explain(ctx context.Context) error {
	if !e.f.h.Acquire() {
		return e.err
	}
	defer e.f.h.Release()
	return e.f.explain(ctx, e.err, e.off, e.b)
}

// copying is a copy under way.
type copying struct {
	ctx      context.Context
	dst, src int
	files    [2]*File // whose they are: dst's and src's
	to, from int64
	left     int64
	done     int64
	method   CopyMethod
}

func (c *copying) moved(n int64, m CopyMethod) {
	c.to += n
	c.from += n
	c.left -= n
	c.done += n
	c.method = m
}

// ended returns why the copy is not to go on, if it is not: its context has ended, or somebody closes a file and waits.
func (c *copying) ended() error {
	for _, f := range c.files {
		if f.h.Closing() {
			return f.wrap("copy", ErrClosed)
		}
	}
	return canceled(c.ctx)
}

// run tries one method after the other, each from where the last one stopped.
func (c *copying) run() error {
	var src, dst unix.Stat_t
	if err := unix.Fstat(c.src, &src); err != nil {
		return err
	}
	if err := unix.Fstat(c.dst, &dst); err != nil {
		return err
	}
	if sameData(&src, &dst) {
		size, err := src.Size, error(nil)
		if src.Mode&unix.S_IFMT == unix.S_IFBLK {
			size, err = deviceSize(c.src)
		}
		if err != nil {
			return err
		}
		c.left = min(c.left, max(0, size-c.from)) // what comes behind that while it copies is its own
		if max(c.from-c.to, c.to-c.from) < c.left {
			return errOverlap
		}
	}
	if src.Mode&unix.S_IFMT == unix.S_IFREG && c.reflink(src.Size) {
		return nil
	}
	if done, err := c.inKernel(); done || err != nil {
		return err
	}
	return c.byHand()
}

// sameData reports whether two files are one that has an end, or two names of one block device.
func sameData(a, b *unix.Stat_t) bool {
	if a.Mode&unix.S_IFMT != b.Mode&unix.S_IFMT {
		return false
	}
	switch a.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return a.Dev == b.Dev && a.Ino == b.Ino
	case unix.S_IFBLK:
		return a.Rdev == b.Rdev
	}
	return false
}

// reflink shares the blocks of the whole range. It works for aligned ranges, and up to the end, on file systems that can.
func (c *copying) reflink(size int64) bool {
	n := min(c.left, size-c.from)
	if n <= 0 {
		return false
	}
	r := unix.FileCloneRange{Src_fd: int64(c.src), Src_offset: uint64(c.from), Src_length: uint64(n), Dest_offset: uint64(c.to)}
	if unix.IoctlFileCloneRange(c.dst, &r) != nil {
		return false
	}
	c.moved(n, CopiedByReflink)
	return true
}

// inKernel reports whether the copy is complete, or cannot be.
func (c *copying) inKernel() (bool, error) {
	for c.left > 0 {
		if err := c.ended(); err != nil {
			return false, err
		}
		from, to := c.from, c.to
		n, err := unix.CopyFileRange(c.src, &from, c.dst, &to, int(min(c.left, copyChunk)), 0)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return false, nil // what is really wrong, byHand will meet again
		case n == 0:
			return c.atEnd()
		default:
			c.moved(int64(n), CopiedByKernel)
		}
	}
	return true, nil
}

// atEnd finds out what it means that copy_file_range copied nothing: the end, or, on file systems that make their files up as they
// are read, such as proc, nothing at all.
func (c *copying) atEnd() (bool, error) {
	var b [1]byte
	for {
		n, err := unix.Pread(c.src, b[:], c.from)
		if err != syscall.EINTR {
			return n == 0 && err == nil, nil // an error will meet byHand again
		}
	}
}

func (c *copying) byHand() error {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	for c.left > 0 {
		if err := c.ended(); err != nil {
			return err
		}
		b := (*buf)[:min(c.left, int64(len(*buf)))]
		n, err := unix.Pread(c.src, b, c.from)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return &copyError{c.files[1], c.from, b, err}
		}
		if n == 0 {
			return nil
		}
		for b = b[:n]; len(b) > 0; {
			n, err := unix.Pwrite(c.dst, b, c.to)
			switch {
			case err == syscall.EINTR:
			case err != nil:
				return &copyError{c.files[0], c.to, b, err}
			case n == 0:
				return io.ErrShortWrite
			default:
				c.moved(int64(n), CopiedByHand)
				b = b[n:]
			}
		}
	}
	return nil
}
