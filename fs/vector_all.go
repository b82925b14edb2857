package fs

import (
	"context"
	"io"
	"slices"

	"uringo/internal/handle"
)

// ReadvExactAt reads from offset off until all of bufs are full, one after the other, and hands bufs back. A read that stops inside a buffer is
// taken up there. The count says how much was read in any case; an end of the file before that is io.ErrUnexpectedEOF, or io.EOF if
// nothing was read. Any number of buffers will do. See [File.ReadvAt].
func (f *File) ReadvExactAt(ctx context.Context, bufs [][]byte, off int64) (int, [][]byte, error) {
	if err := f.checkRead(off, lengthOf(bufs)); err != nil {
		return 0, bufs, err
	}
	return allOfVector(bufs, off, func(rest [][]byte, off int64) (int, error) {
		n, _, err := f.ReadvAt(ctx, rest, off)
		return n, err
	})
}

// WritevAllAt writes all of bufs at offset off, one after the other, and hands bufs back. A write that stops inside a buffer is taken up
// there. The count says how much was written, also with an error; a file that takes no more is io.ErrShortWrite. Any number of buffers
// will do. See [File.WritevAt].
func (f *File) WritevAllAt(ctx context.Context, bufs [][]byte, off int64) (int, [][]byte, error) {
	if err := f.checkWrite(off, lengthOf(bufs)); err != nil {
		return 0, bufs, err
	}
	return allOfVector(bufs, off, func(rest [][]byte, off int64) (int, error) {
		n, _, err := f.WritevAt(ctx, rest, off)
		if n == 0 && err == nil {
			err = f.wrap("write", io.ErrShortWrite)
		}
		return n, err
	})
}

// allOfVector calls move for what is left of bufs until that is nothing. The list given back is the caller's, whose buffers nobody shortened.
func allOfVector(bufs [][]byte, off int64, move func(rest [][]byte, off int64) (int, error)) (int, [][]byte, error) {
	total := lengthOf(bufs)
	rest, done := bufs, 0
	for int64(done) < total {
		n, err := move(rest, off+int64(done))
		done += n
		if err != nil {
			if err == io.EOF && done > 0 {
				err = io.ErrUnexpectedEOF
			}
			return done, handle.Back(bufs, err), err
		}
		if int64(done) < total {
			rest = without(bufs, done)
		}
	}
	return done, bufs, nil
}

// without returns what is left of bufs after its first n bytes, in a list of its own.
func without(bufs [][]byte, n int) [][]byte {
	for n >= len(bufs[0]) {
		n -= len(bufs[0])
		bufs = bufs[1:]
	}
	rest := slices.Clone(bufs)
	rest[0] = rest[0][n:]
	return rest
}
