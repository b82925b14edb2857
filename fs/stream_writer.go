package fs

import (
	"context"
	"errors"
	"io"
	"math"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/handle"
	"uringo/ops"
)

// StreamWriter writes a file in order, with the blocks behind still under way: an io.Writer, io.ReaderFrom and io.Closer, for one goroutine
// or task at a time. It neither uses nor moves the file position of [File.Write].
//
// Write returns when its bytes are copied. They are in the file after [StreamWriter.Flush], and on stable storage after
// [StreamWriter.Sync]. An error of a block appears in a later call, or in Close: whichever comes first returns it, and Write, Flush and Sync
// return it from then on, since what is missing in the file stays missing. [StreamWriter.Flushed] says how far the file is whole.
//
// A file opened with O_DIRECT may be written at any offset and in any length; what does not fill whole blocks is padded as
// [File.WriteDirectAt] does with [Pad], so it has to be open for reading too unless the stream begins and ends with whole blocks or after
// the end of the file.
type StreamWriter struct {
	f       *File
	ctx     context.Context
	blocks  *blocks
	current *block   // being filled; nil: the next byte needs one
	behind  []*block // under way, in the order of the file
	off     int64    // of the next byte
	flushed int64    // all before that is in the file
	out     *outgoing
	err     error
	told    bool // somebody got err
	closed  bool
}

// NewStreamWriter returns a StreamWriter that starts at offset off and works under ctx. It has to be closed: until then, the last bytes are
// not in the file. A file opened with O_APPEND is refused with EINVAL, and pipes and other files without offsets are ESPIPE. Kernel 5.6.
func (f *File) NewStreamWriter(ctx context.Context, off int64, o StreamOptions) (*StreamWriter, error) {
	if err := f.checkWrite(off, 0); err != nil {
		return nil, err
	}
	s, err := f.newBlocks(ctx, off, o)
	if err != nil {
		return nil, f.wrap("write", err)
	}
	w := &StreamWriter{f: f, ctx: ctx, off: off, flushed: off, blocks: s}
	if o.WriteOut && f.flag&unix.O_DIRECT == 0 {
		w.out = &outgoing{from: off}
	}
	return w, nil
}

// Offset returns where in the file the next byte goes.
func (w *StreamWriter) Offset() int64 { return w.off }

// Flushed returns up to where everything that was given to the stream is in the file.
func (w *StreamWriter) Flushed() int64 { return w.flushed }

// Write implements io.Writer. It waits when all blocks are under way. The count says what was taken.
func (w *StreamWriter) Write(p []byte) (done int, err error) {
	for err = w.failed(); err == nil && len(p) > 0; err = w.failed() {
		var room []byte
		if room, err = w.room(); err != nil {
			return done, w.fail(err)
		}
		n := copy(room, p)
		w.took(n)
		done, p = done+n, p[n:]
	}
	return done, err
}

// ReadFrom implements io.ReaderFrom: src reads into the blocks themselves, up to its end.
func (w *StreamWriter) ReadFrom(src io.Reader) (done int64, err error) {
	idle := 0
	for err = w.failed(); err == nil; err = w.failed() {
		room, err := w.room()
		if err != nil {
			return done, w.fail(err)
		}
		n, err := src.Read(room)
		if n < 0 || n > len(room) {
			return done, errBadReader
		}
		w.took(n)
		done += int64(n)
		if idle++; n > 0 {
			idle = 0
		}
		switch {
		case err == io.EOF:
			return done, w.failed()
		case err == nil && idle == 100:
			err = io.ErrNoProgress
		}
		if err != nil {
			return done, err // of src: the stream is all right
		}
	}
	return done, err
}

// errBadReader is of an io.Reader that says that it read what it cannot have read.
var errBadReader = errors.New("invalid read result")

// Flush returns when all that was written so far is in the file.
func (w *StreamWriter) Flush() error {
	if err := w.failed(); err != nil {
		return err
	}
	return w.fail(w.flush())
}

// Sync is Flush, and then [File.SyncData].
func (w *StreamWriter) Sync() error {
	if err := w.Flush(); err != nil {
		return err
	}
	return w.fail(w.f.SyncData(w.ctx))
}

// Close is Flush, and gives the buffers back; the file stays open. It returns the stream's error unless another call has. A second Close is
// ErrClosed. If ctx has ended, what is under way is cancelled and waited for.
func (w *StreamWriter) Close() error {
	if w.closed {
		return w.f.wrap("close", ErrClosed)
	}
	told := w.told
	err := w.err
	if err == nil {
		err = w.fail(w.flush())
	}
	w.closed = true
	for _, b := range w.behind {
		w.blocks.put(w.ctx, b)
	}
	if w.current != nil {
		w.blocks.put(w.ctx, w.current)
	}
	w.behind, w.current = nil, nil
	w.blocks.close()
	if told {
		return nil
	}
	return err
}

// failed returns the error of a stream that cannot go on.
func (w *StreamWriter) failed() error {
	if w.closed {
		return w.f.wrap("write", ErrClosed)
	}
	w.told = w.told || w.err != nil
	return w.err
}

// fail notes an error, which is told with that.
func (w *StreamWriter) fail(err error) error {
	if err != nil && w.err == nil {
		w.err, w.told = w.f.wrap("write", err), true
	}
	return w.err
}

// room returns where the next bytes go, waiting for a block if need be.
func (w *StreamWriter) room() ([]byte, error) {
	for w.current == nil {
		if err := canceled(w.ctx); err != nil {
			return nil, err
		}
		b, err := w.blocks.get(w.ctx)
		if err != nil {
			return nil, err
		}
		if b != nil {
			b.off = w.off
			w.current = b
			break
		}
		if err := w.land(); err != nil {
			return nil, err
		}
	}
	// With O_DIRECT the first block ends where an aligned one can begin.
	b := w.current
	size := len(b.mem) - int(b.off&int64(w.blocks.offset-1))
	if err := checkRange(w.off, 1); err != nil {
		return nil, err
	}
	size = int(min(int64(size), math.MaxInt64-b.off)) // no file goes on from there
	return b.mem[b.n:size], nil
}

// took notes that n bytes were put where room said, and sends the block off if it is full.
func (w *StreamWriter) took(n int) {
	b := w.current
	b.n += n
	w.off += int64(n)
	if b.n == len(b.mem)-int(b.off&int64(w.blocks.offset-1)) {
		if err := w.send(); err != nil && w.err == nil {
			w.err = w.f.wrap("write", err)
		}
	}
}

// send has the current block written.
func (w *StreamWriter) send() error {
	if err := canceled(w.ctx); err != nil {
		return err
	}
	if !w.aligned() {
		if err := w.pad(); err != nil {
			return err
		}
		w.blocks.put(w.ctx, w.current)
		w.current = nil
		return nil
	}
	for len(w.behind) > 0 && w.behind[0].t.over.IsSet() { // errors are best known early
		if err := w.land(); err != nil {
			return err
		}
	}
	b := w.current
	if err := w.blocks.write(b); err != nil {
		return err
	}
	w.behind, w.current = append(w.behind, b), nil
	return nil
}

// aligned reports whether the current block can be written as it is.
func (w *StreamWriter) aligned() bool {
	b := w.current
	return w.f.flag&unix.O_DIRECT == 0 || (b.off|int64(b.n))&int64(w.blocks.offset-1) == 0
}

// pad writes a block that is not aligned, when everything before it is in the file, and keeps it. The length of the file is right then.
func (w *StreamWriter) pad() error {
	if err := w.landAll(); err != nil {
		return err
	}
	b := w.current
	n, _, err := w.f.WriteDirectAt(w.ctx, b.mem[:b.n], b.off, Pad)
	w.reached(b.off + int64(n))
	return err
}

// reached notes that all before off is in the file. A block that was padded once is written again: if that fails, the file still has what it had.
func (w *StreamWriter) reached(off int64) { w.flushed = max(w.flushed, off) }

// flush is Flush.
func (w *StreamWriter) flush() error {
	if b := w.current; b != nil && w.flushed < b.end() {
		if !w.aligned() {
			return w.pad() // and go on filling it, so that it is written whole then
		}
		if err := w.send(); err != nil {
			return err
		}
	}
	return w.landAll()
}

func (w *StreamWriter) landAll() error {
	for len(w.behind) > 0 {
		if err := w.land(); err != nil {
			return err
		}
	}
	return nil
}

// land waits until the first of the blocks under way is in the file, all of it.
func (w *StreamWriter) land() error {
	b := w.behind[0]
	if err := b.t.wait(w.ctx); err != nil {
		return err
	}
	n, err := b.t.n, b.t.err
	done := n
	for err == nil && done < b.n {
		if n == 0 {
			err = io.ErrShortWrite
			break
		}
		n, err = w.f.writeAt(w.ctx, b.mem[done:b.n], b.fixed, b.off+int64(done), w.f.h.Free)
		done += n
	}
	w.reached(b.off + int64(done))
	if handle.Abandoned(err) {
		b.t.err = err
	}
	if err != nil {
		return err // it stays, for Close to give it back
	}
	w.behind = append(w.behind[:0], w.behind[1:]...)
	w.blocks.put(w.ctx, b)
	w.writeOut()
	return nil
}

// outgoing is how far the kernel was told to write a stream to the device.
type outgoing struct {
	from int64 // all before that
	busy atomic.Bool
}

// writeOutEvery is how many bytes have to have come into the file for the kernel to be told; for tests a variable.
var writeOutEvery int64 = 8 << 20

// writeOut has the kernel begin to write what is new in the file to the device, unless it is still at what it was told before: then it will be more
// the next time. Nobody waits for that; what goes wrong, the sync of the file will say.
func (w *StreamWriter) writeOut() {
	o := w.out
	if o == nil || w.flushed-o.from < writeOutEvery || o.busy.Load() || !w.f.h.Acquire() {
		return
	}
	o.busy.Store(true)
	n := min(w.flushed-o.from, ops.MaxTransfer)
	start := ops.SyncFileRange(w.f.h.FD, o.from, uint32(n), unix.SYNC_FILE_RANGE_WRITE)
	start.As = w.f.whose()
	o.from += n
	driver.Submit(w.blocks.d, start).OnEnd(func(ops.Result[struct{}]) {
		w.f.h.Release()
		o.busy.Store(false)
	})
}
