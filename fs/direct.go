package fs

import (
	"context"
	"fmt"
	"io"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/buf"
	"uringo/internal/handle"
)

// Alignment is what a file opened with O_DIRECT asks for, in bytes; both are powers of two.
type Alignment struct {
	Memory int // of a buffer's address; see buf.Aligned
	Offset int // of offsets and lengths
}

// safeAlignment does for every device.
const safeAlignment = 4096

// DirectIO returns the alignment that direct I/O on the file needs: what the kernel says (statx(2), STATX_DIOALIGN, 6.1) or, if it
// does not say, 4096 for both. A file that cannot be read or written so at all is EOPNOTSUPP.
func (f *File) DirectIO(ctx context.Context) (Alignment, error) {
	a, err := f.alignment(ctx)
	return a, f.wrap("statx", err)
}

func (f *File) alignment(ctx context.Context) (Alignment, error) {
	if a := f.aligned.Load(); a != 0 {
		return Alignment{int(a >> 32), int(uint32(a))}, nil
	}
	var st unix.Statx_t
	if err := f.statx(ctx, 0, unix.STATX_DIOALIGN, &st); err != nil {
		return Alignment{}, err
	}
	a := Alignment{safeAlignment, safeAlignment}
	if st.Mask&unix.STATX_DIOALIGN != 0 {
		if st.Dio_offset_align == 0 {
			return Alignment{}, syscall.EOPNOTSUPP
		}
		a = Alignment{int(max(1, st.Dio_mem_align)), int(st.Dio_offset_align)}
	}
	f.aligned.Store(uint64(a.Memory)<<32 | uint64(a.Offset))
	return a, nil
}

// fits reports whether b may be moved at offset off as it is.
func (a Alignment) fits(b []byte, off int64) bool {
	mask := int64(a.Offset) - 1
	return (off|int64(len(b)))&mask == 0 && buf.IsAligned(b, a.Memory)
}

// checkRange is checkRange for a transfer that is widened to whole blocks.
func (a Alignment) checkRange(off, n int64) error { return checkRange(off, n+int64(a.Offset)-1) }

// alignError says what was not aligned. It is EINVAL, as the kernel would say.
type alignError struct {
	a   Alignment
	off int64 // negative: where the file stood, or ended
	n   int64
}

func (e alignError) Error() string {
	where := ""
	if e.off >= 0 {
		where = fmt.Sprintf("offset %d, ", e.off)
	}
	return fmt.Sprintf("direct I/O needs offset and length to be multiples of %d, and a buffer at a multiple of %d: %slength %d",
		e.a.Offset, e.a.Memory, where, e.n)
}

func (e alignError) Unwrap() error { return syscall.EINVAL }

// explain returns the error of a transfer between bufs and offset off, or, if that is negative, where the file stands. EINVAL of direct I/O says what
// is not aligned, if that is why.
func (f *File) explain(ctx context.Context, err error, off int64, bufs ...[]byte) error {
	if err != syscall.EINVAL || f.flag&unix.O_DIRECT == 0 || f.h.InTable() || f.known()&traitStream != 0 {
		return err
	}
	a, unknown := f.alignment(ctx)
	if unknown != nil {
		return err
	}
	if f.flag&unix.O_APPEND != 0 {
		off = -1
	}
	fits := off >= 0
	for _, b := range bufs {
		fits = fits && a.fits(b, off)
	}
	if fits {
		return err
	}
	return alignError{a, off, lengthOf(bufs)}
}

// directChunk is how much goes through a buffer for what is not aligned, at a time.
const directChunk = 1 << 20

// ReadDirectAt is [File.ReadExactAt] for files opened with O_DIRECT, whatever the alignment: what is aligned goes straight into b, and
// anything else is read widened to whole blocks, into a buffer of its own, and copied from there. It hands b back. On other files it is
// ReadExactAt. Kernel 5.6, pread(2).
func (f *File) ReadDirectAt(ctx context.Context, b []byte, off int64) (int, []byte, error) {
	if f.flag&unix.O_DIRECT == 0 {
		return f.ReadExactAt(ctx, b, off)
	}
	if err := f.checkRead(off, int64(len(b))); err != nil {
		return 0, b, err
	}
	a, err := f.alignment(ctx)
	done := 0
	if err == nil && len(b) > 0 {
		err = a.checkRange(off, int64(len(b)))
	}
	if err == nil {
		done, err = f.readDirect(ctx, a, b, off)
	}
	if err == io.EOF && done > 0 {
		err = io.ErrUnexpectedEOF
	}
	return done, handle.Back(b, err), f.wrap("read", err)
}

// readDirect reads until b is full, or to the end of the file, which is io.EOF. It never goes on from where a block was not read whole:
// that is the end, and what is left would not be aligned.
func (f *File) readDirect(ctx context.Context, a Alignment, b []byte, off int64) (done int, err error) {
	if a.fits(b, off) {
		for done < len(b) {
			n, err := f.readAt(ctx, b[done:], nil, off+int64(done), f.h.Free)
			done += n
			if err != nil {
				return done, err
			}
			if n&(a.Offset-1) != 0 {
				return done, io.EOF
			}
		}
		return done, nil
	}
	mask := int64(a.Offset) - 1
	lo := off &^ mask
	scratch := buf.Aligned(int(min((off+int64(len(b))+mask)&^mask-lo, max(directChunk, int64(a.Offset)))), a.Memory)
	for done < len(b) {
		at := off + int64(done)
		lo := at &^ mask
		hi := min((off+int64(len(b))+mask)&^mask, lo+int64(len(scratch)))
		n, err := f.readDirect(ctx, a, scratch[:hi-lo], lo)
		if handle.Abandoned(err) {
			return done, err
		}
		if skip := int(at - lo); n > skip {
			done += copy(b[done:], scratch[skip:n])
		}
		if err != nil && done < len(b) {
			return done, err
		}
	}
	return done, nil
}

// Padding says what becomes of a direct write that is not aligned.
type Padding uint8

const (
	// Refuse makes it an error, which says what is needed and is EINVAL.
	Refuse Padding = iota
	// Pad widens it to whole blocks, with what the file has there already, and zeros after its end; the file gets no longer than it
	// has to. Padded writes of one File take turns, and wait until the kernel has let go of the block, however soon a Config.CancelGrace
	// lets others go. What others write to the same block between reading it and writing it is lost. At its end the file is too long for a
	// moment, and is cut then, unless others have made it longer meanwhile: they must not do so between that look and the cut. The file must
	// be open for reading too, unless all of that is after its end.
	Pad
)

// WriteDirectAt is [File.WriteAllAt] for files opened with O_DIRECT: with [Refuse], what is not aligned is EINVAL with an error that says what
// is needed; with [Pad], it is widened to whole blocks. It hands b back. On other files it is WriteAllAt. Kernel 5.6, pwrite(2).
func (f *File) WriteDirectAt(ctx context.Context, b []byte, off int64, p Padding) (int, []byte, error) {
	if f.flag&unix.O_DIRECT == 0 {
		return f.WriteAllAt(ctx, b, off)
	}
	if err := f.checkWrite(off, int64(len(b))); err != nil {
		return 0, b, err
	}
	a, err := f.alignment(ctx)
	if err == nil && len(b) > 0 {
		err = a.checkRange(off, int64(len(b)))
	}
	done := 0
	switch {
	case err != nil || len(b) == 0:
	case a.fits(b, off):
		return f.WriteAllAt(ctx, b, off)
	case p == Refuse:
		err = alignError{a, off, int64(len(b))}
	default:
		done, err = f.writePadded(ctx, a, b, off)
	}
	return done, handle.Back(b, err), f.wrap("write", err)
}

// writePadded writes b in whole blocks, by way of a buffer.
func (f *File) writePadded(ctx context.Context, a Alignment, b []byte, off int64) (done int, err error) {
	if !f.h.Acquire() { // to the end: a Close that comes meanwhile is not to find the file too long
		return 0, ErrClosed
	}
	defer f.h.Release()
	mask, end := int64(a.Offset)-1, off+int64(len(b))
	lo, hi := off&^mask, (end+mask)&^mask
	if lo < off || hi > end {
		// Of two at once, one would write over the other's part of a block they share, or cut off what the other wrote behind its own.
		if err := f.padding.Lock(ctx); err != nil {
			return 0, err
		}
		defer f.padding.Unlock()
	}
	size, err := f.length(ctx)
	if err != nil {
		return 0, err
	}
	scratch := buf.Aligned(int(min(hi-lo, max(directChunk, int64(a.Offset)))), a.Memory)
	for err == nil && lo < hi {
		block := scratch[:min(hi-lo, int64(len(scratch)))]
		next := lo + int64(len(block))
		// What is there before the first byte and after the last one stays.
		if lo < off {
			err = f.fill(ctx, a, block[:a.Offset], lo, size)
		}
		if last := next - int64(a.Offset); err == nil && next > end && (last != lo || lo >= off) {
			err = f.fill(ctx, a, block[last-lo:], last, size)
		}
		if err != nil {
			return done, err
		}
		from := max(off, lo)
		n := copy(block[from-lo:], b[from-off:])
		wrote := 0
		wrote, err = f.writeKept(ctx, block, lo) // while the kernel may still write the block, it is nobody else's turn
		done += max(0, min(n, wrote-int(from-lo)))
		lo += int64(wrote)
	}
	if last := max(size, end); lo > last {
		if failed := f.cut(context.WithoutCancel(ctx), lo, last); err == nil {
			err = failed
		}
	}
	return done, err
}

// cut makes the file end at to, if it ends at from: where it does not, somebody has made it longer or shorter meanwhile. The caller holds a reference.
func (f *File) cut(ctx context.Context, from, to int64) error {
	_, err := callHeld(ctx, f, OpAttr, func(fd int) (struct{}, error) {
		return struct{}{}, ignoringEINTR(func() error {
			var st unix.Stat_t
			if err := unix.Fstat(fd, &st); err != nil || st.Size != from {
				return err
			}
			return unix.Ftruncate(fd, to)
		})
	})
	return f.wrap("truncate", err)
}

// fill reads a block of a file of the given size, and makes zeros of what it does not have.
func (f *File) fill(ctx context.Context, a Alignment, block []byte, off, size int64) error {
	n := 0
	if off < size {
		var err error
		if n, err = f.readDirect(ctx, a, block, off); err != nil && err != io.EOF {
			return err
		}
	}
	clear(block[n:])
	return nil
}
