// Package buf is memory for I/O: buffers that the kernel can keep ready for a ring, pools of them, and the alignment that direct I/O
// asks for.
//
// A [Fixed] is a buffer outside of the Go heap, in an [Arena] that the garbage collector never looks at. It comes from a [Pool], by
// size, from a [Table], by index, or straight from an Arena, and goes back with [Fixed.Release]:
//
//	pool, err := buf.NewPool(buf.PoolConfig{Classes: []buf.Class{{Size: 64 << 10, Count: 128}}})
//	defer pool.Close()
//	b, err := pool.Get(ctx, 4096) // waits for its turn if all are out
//	defer b.Release()
//	n, b, err := f.ReadFixedAt(ctx, b, 0)
//	use(b.Bytes()[:n])
//
// The first operation with a buffer has the driver register the buffer's arena with its ring, so that the kernel need not look
// the pages up again for every operation; that pays for direct I/O. Where it cannot be had, for want of memory to lock, on an old
// kernel, on the portable engine, the same operations work on the same memory without. A buffer belongs to no driver: each
// one that gets to see it registers it for itself.
//
// # Who owns a buffer
//
// Whoever got it, until Release. An operation pins it: the memory of a buffer that is released too early is not used again before the
// kernel has let go. Using a buffer after Release is [ErrReleased], and a second Release panics. A caller who was let go with
// driver.ErrAbandoned has lost the buffer; it goes home by itself when the kernel is done, and a deferred Release does no harm.
//
// A slice from [Fixed.Bytes] must not be used after Release, nor given to an operation for plain slices: nothing would pin it.
//
// In builds with the race detector arenas are on the Go heap, because the detector sees nothing else: there a buffer that is touched
// while the kernel has it is reported.
package buf
