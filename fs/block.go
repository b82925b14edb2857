package fs

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"uringo/buf"
	"uringo/driver"
	"uringo/executor"
	"uringo/internal/handle"
	"uringo/ops"
)

// StreamOptions says how far a [StreamReader] works ahead, or a [StreamWriter] behind. The zero value is a good choice for most.
type StreamOptions struct {
	// BlockSize is how many bytes one operation moves. Zero means 256 KiB. With O_DIRECT it is rounded up to what the file needs.
	BlockSize int

	// Depth is how many blocks are under way at most, beside the one that the caller is at: a stream holds Depth+1 blocks of memory, and
	// fewer as long as those do. Zero means 8.
	Depth int

	// Pool is where the memory of blocks comes from; it needs a class of at least BlockSize. Direct I/O is cheaper with it: the driver can
	// keep such memory registered. While the pool has no more, a stream does with the blocks that it has, and waits for its first.
	// It keeps them until it is closed. So tasks that have two streams each, as for a copy, could hold all there is by the one and wait
	// for ever for the first of the other: a pool that they share needs Depth+1 buffers for every stream that is open at a time. Nil means
	// the Go heap.
	Pool *buf.Pool

	// WriteOut has a StreamWriter see to it that the kernel begins to write to the device what has come into the file, some MiB at a time
	// (sync_file_range(2)), while more comes. A sync at the end then finds little left to do. For a file that will not be synced it is
	// wasted work, and with O_DIRECT it means nothing.
	WriteOut bool
}

const (
	defaultBlock = 256 << 10
	defaultDepth = 8
)

// block is a part of a file on its way in or out.
type block struct {
	mem   []byte
	fixed *buf.Fixed // that mem belongs to, if it does
	off   int64      // where it is in the file
	n     int        // how many bytes of mem mean something
	err   error      // what became of the rest
	t     *flight    // nil: it is not under way
}

func (b *block) end() int64 { return b.off + int64(b.n) }

// arrive waits for a block that is read to be there: whole, or as far as it goes, with the reason why not in err. What is returned is the
// error of ctx, if that ends first. Offsets and lengths must be multiples of align.
func (b *block) arrive(ctx context.Context, f *File, align int) error {
	if b.t == nil {
		return nil
	}
	if err := b.t.wait(ctx); err != nil {
		return err
	}
	n := b.t.n
	b.t, b.n, b.err = nil, b.n+n, b.t.err
	for b.err == nil && b.n < len(b.mem) {
		if b.n&(align-1) != 0 || n == 0 {
			b.err = io.EOF // the rest of a block that is read directly would not be aligned
			break
		}
		n, b.err = f.readAt(ctx, b.mem[b.n:], b.fixed, b.off+int64(b.n), f.h.Free)
		b.n += n
	}
	if handle.Abandoned(b.err) {
		b.n = 0
	}
	return nil
}

// blocks are those of one stream.
type blocks struct {
	f      *File
	d      *driver.Driver
	pool   *buf.Pool
	size   int
	most   int // Depth+1
	memory int // what addresses are multiples of
	offset int // what offsets and lengths are multiples of; 1 without O_DIRECT
	made   int
	free   []*block
}

// newBlocks checks what a stream is asked for.
func (f *File) newBlocks(ctx context.Context, off int64, o StreamOptions) (*blocks, error) {
	s := &blocks{f: f, pool: o.Pool, size: o.BlockSize, most: o.Depth + 1, memory: 1, offset: 1}
	switch {
	case off < 0:
		return nil, errNegativeOffset
	case o.BlockSize < 0 || o.BlockSize > ops.MaxTransfer:
		return nil, badArgument(fmt.Sprintf("StreamOptions.BlockSize is %d, of 1 to %d", o.BlockSize, ops.MaxTransfer))
	case o.Depth < 0:
		return nil, badArgument(fmt.Sprintf("StreamOptions.Depth is %d", o.Depth))
	case o.BlockSize == 0:
		s.size = defaultBlock
	}
	if o.Depth == 0 {
		s.most = defaultDepth + 1
	}
	var err error
	if s.d, err = executor.DriverOf(ctx); err != nil {
		return nil, err
	}
	if err := f.positional(); err != nil {
		return nil, err
	}
	if f.flag&unix.O_DIRECT != 0 {
		a, err := f.alignment(ctx)
		if err != nil {
			return nil, err
		}
		s.memory, s.offset = a.Memory, a.Offset
		s.size = (s.size + a.Offset - 1) &^ (a.Offset - 1)
	}
	return s, nil
}

// get returns a block, or nil if there are as many as there may be. A stream's first block is waited for.
func (s *blocks) get(ctx context.Context) (*block, error) {
	executor.CallerOf(ctx).GiveWay(ctx, s.size)
	if last := len(s.free) - 1; last >= 0 {
		b := s.free[last]
		s.free = s.free[:last]
		return b, nil
	}
	if s.made == s.most {
		return nil, nil
	}
	b := new(block)
	if s.pool == nil {
		b.mem = buf.Aligned(s.size, s.memory)
	} else {
		var err error
		if b.fixed, err = s.pool.TryGet(s.size); err == buf.ErrNoBuffer {
			if s.made > 0 {
				return nil, nil
			}
			b.fixed, err = s.pool.Get(ctx, s.size)
		}
		if err != nil {
			return nil, err
		}
		if b.mem = b.fixed.Bytes(); !buf.IsAligned(b.mem, s.memory) {
			b.fixed.Release()
			return nil, fmt.Errorf("the buffers of StreamOptions.Pool are not aligned to %d bytes, as the file needs them", s.memory)
		}
	}
	s.made++
	return b, nil
}

// put takes a block back. It ends what is under way there.
func (s *blocks) put(ctx context.Context, b *block) {
	if b.t != nil {
		b.t.end(ctx)
		b.err = b.t.err
	}
	if handle.Abandoned(b.err) {
		s.made-- // the kernel has it
		return
	}
	*b = block{mem: b.mem, fixed: b.fixed}
	s.free = append(s.free, b)
}

// close gives the memory back.
func (s *blocks) close() {
	for _, b := range s.free {
		if b.fixed != nil {
			b.fixed.Release()
		}
	}
	s.free, s.made, s.most = nil, 0, 0
}

// read starts reading a block.
func (s *blocks) read(b *block, off int64) error {
	b.off = off
	return b.read(s.f, s.d)
}

// read starts reading what b does not have yet.
func (b *block) read(f *File, d *driver.Driver) (err error) {
	rest, off := b.mem[b.n:], b.off+int64(b.n)
	o := ops.ReadAt(f.h.FD, rest, off)
	if b.fixed != nil {
		o = ops.ReadIn(f.h.FD, b.fixed, rest, off)
	}
	b.t, err = f.launch(d, f.unhurried(o, OpRead))
	return err
}

// write starts writing the bytes that b has.
func (s *blocks) write(b *block) (err error) {
	o := ops.WriteAt(s.f.h.FD, b.mem[:b.n], b.off)
	if b.fixed != nil {
		o = ops.WriteFrom(s.f.h.FD, b.fixed, b.mem[:b.n], b.off)
	}
	b.t, err = s.f.launch(s.d, s.f.unhurried(o, OpWrite))
	return err
}

// unhurried gives an operation that nobody waits for yet to the ring, unless the user wants otherwise. What would take long to copy is for
// a thread of the kernel, so that it holds up neither the driver nor, on its thread, the tasks.
func (f *File) unhurried(o ops.Op[[]byte], op Operation) ops.Op[[]byte] {
	if r := f.pinned(op); r == Call || r == Inline {
		o.Route = ops.RouteCall
	} else if f.takesLong(len(o.Buf)) {
		o.Flags |= ops.Async
	}
	return o
}
