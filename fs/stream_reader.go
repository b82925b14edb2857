package fs

import (
	"context"
	"errors"
	"io"

	"uringo/executor"
)

// StreamReader reads a file in order, with the blocks ahead under way already: an io.Reader, io.WriterTo, io.Seeker and io.Closer, for one
// goroutine or task at a time. It neither uses nor moves the file position of [File.Read]; several may read one file.
//
// What the page cache has is copied at once. From where it ends on, and from the start for files opened with O_DIRECT, whatever their
// alignment, blocks are read ahead, two at first and more the longer the reading goes on.
type StreamReader struct {
	f      *File
	ctx    context.Context
	off    int64 // of what Read returns next
	blocks *blocks
	ahead  []*block // in the order of the file, without gaps; the first one has off
	next   int64    // where the block after those begins
	window int      // how many there may be
	closed bool
}

// NewStreamReader returns a StreamReader that starts at offset off and works under ctx. Close it to have its buffers back. Pipes and other
// files without offsets are ESPIPE. Kernel 5.6.
func (f *File) NewStreamReader(ctx context.Context, off int64, o StreamOptions) (*StreamReader, error) {
	s, err := f.newBlocks(ctx, off, o)
	if err != nil {
		return nil, f.wrap("read", err)
	}
	return &StreamReader{f: f, ctx: ctx, off: off, blocks: s, window: 1}, nil
}

// directly is how long a read is at least to be copied from the page cache to where it is wanted, without a block in between.
const directly = 16 << 10

// Read implements io.Reader. An error belongs to the place in the file that the stream has come to: all before that was returned, and the
// next Read tries there again. So it does after io.EOF, and finds what the file has got since.
func (r *StreamReader) Read(p []byte) (int, error) {
	if r.closed {
		return 0, r.f.wrap("read", ErrClosed)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if len(r.ahead) == 0 && len(p) >= directly {
		n, all, err := r.f.cached(r.ctx, p, r.off)
		r.off += int64(n)
		if n > 0 {
			return n, nil
		}
		if all {
			return 0, r.f.wrap("read", err)
		}
	}
	v, err := r.view()
	n := copy(p, v)
	r.off += int64(n)
	return n, err
}

// WriteTo implements io.WriterTo: it hands w the blocks themselves, up to the end of the file.
func (r *StreamReader) WriteTo(w io.Writer) (done int64, err error) {
	for {
		v, err := r.view()
		if err == io.EOF {
			return done, nil
		}
		if err != nil {
			return done, err
		}
		n, err := w.Write(v)
		if n < 0 || n > len(v) {
			return done, errBadWriter
		}
		r.off += int64(n)
		done += int64(n)
		if err == nil && n < len(v) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return done, err
		}
	}
}

// errBadWriter is of an io.Writer that says that it took what it cannot have taken.
var errBadWriter = errors.New("invalid write result")

// Seek implements io.Seeker. Blocks ahead are of use still if the new position is in one of them.
func (r *StreamReader) Seek(offset int64, whence int) (int64, error) {
	if r.closed {
		return 0, r.f.wrap("seek", ErrClosed)
	}
	off, err := r.f.seekTo(r.ctx, r.off, offset, whence)
	if err == nil {
		r.off = off
	}
	return off, err
}

// Close ends what is under way and gives the buffers back; the file stays open. A second Close is ErrClosed. What went wrong further on in
// the file than anybody read is no error.
func (r *StreamReader) Close() error {
	if r.closed {
		return r.f.wrap("close", ErrClosed)
	}
	r.closed = true
	r.drop(len(r.ahead))
	r.blocks.close()
	return nil
}

// view returns what the file has at the stream's position, waiting for it if need be: a part of a block, valid until the next call.
func (r *StreamReader) view() ([]byte, error) {
	if r.closed {
		return nil, r.f.wrap("read", ErrClosed)
	}
	for again := false; ; again = true {
		r.skip()
		if len(r.ahead) == 0 {
			v, err := r.begin()
			if v != nil || err != nil {
				return v, r.f.wrap("read", err)
			}
		}
		if err := r.extend(); err != nil {
			return nil, r.f.wrap("read", err)
		}
		b := r.ahead[0]
		if err := b.arrive(r.ctx, r.f, r.blocks.offset); err != nil {
			return nil, r.f.wrap("read", err)
		}
		if r.off < b.end() {
			return b.mem[r.off-b.off : b.n], nil
		}
		if b.err != nil {
			err, here := b.err, r.off == b.end()
			r.drop(len(r.ahead))
			if here || again {
				return nil, r.f.wrap("read", err)
			} // else it is about what is before the position, which may have been read long ago
		}
	}
}

// skip drops blocks that the position is not in: those before it, or all.
func (r *StreamReader) skip() {
	for len(r.ahead) > 0 {
		b := r.ahead[0]
		end := b.end()
		if b.t != nil || b.err != nil { // under way, or with an error at its end, which is still to be told
			end = b.off + int64(r.blocks.size)
		}
		switch {
		case r.off < b.off:
			r.drop(len(r.ahead))
		case r.off >= end:
			r.drop(1)
			r.window = min(r.window+1, r.blocks.most)
		default:
			return
		}
	}
}

// drop gives the first n blocks back.
func (r *StreamReader) drop(n int) {
	for _, b := range r.ahead[:n] {
		r.blocks.put(r.ctx, b)
	}
	r.ahead = append(r.ahead[:0], r.ahead[n:]...)
	if len(r.ahead) == 0 && r.window > 2 {
		r.window = 2
	}
}

// begin has no blocks to start from: it looks into the page cache, and if that has nothing it sets out to read ahead.
func (r *StreamReader) begin() ([]byte, error) {
	b, err := r.blocks.get(r.ctx)
	if err != nil {
		return nil, err
	}
	n, all, err := r.f.cached(r.ctx, b.mem, r.off)
	if n > 0 {
		b.off, b.n = r.off, n
		r.ahead, r.next = append(r.ahead, b), b.end()
		r.window = 1
		return b.mem[:n], nil
	}
	r.blocks.put(r.ctx, b)
	if all {
		return nil, err
	}
	r.next = r.off &^ int64(r.blocks.offset-1)
	r.window = 2
	return nil, nil
}

// extend starts reading blocks as far ahead as the window goes.
func (r *StreamReader) extend() error {
	for len(r.ahead) < r.window {
		b, err := r.blocks.get(r.ctx)
		if b == nil || err != nil {
			if len(r.ahead) > 0 {
				return nil // it does without
			}
			return err
		}
		if err := canceled(r.ctx); err != nil {
			r.blocks.put(r.ctx, b)
			return err
		}
		if err := r.blocks.read(b, r.next); err != nil {
			r.blocks.put(r.ctx, b)
			return err
		}
		r.ahead = append(r.ahead, b)
		r.next += int64(r.blocks.size)
	}
	return nil
}

// cached is what tryRead finds in the page cache, if that is worth a try, and as much of it as may be copied in one go.
func (f *File) cached(ctx context.Context, p []byte, off int64) (n int, all bool, err error) {
	c := executor.CallerOf(ctx)
	whole := len(p)
	if !c.MayBlock() {
		p = p[:min(len(p), maxTry)]
	}
	if f.pinned(OpRead) != Auto || !f.worthTrying(c, len(p)) {
		return 0, false, nil
	}
	if !f.h.Acquire() {
		return 0, true, ErrClosed
	}
	defer f.h.Release()
	n, all, err = f.tryRead(ctx, c, p, off)
	return n, all && (n < len(p) || n == whole), err
}
