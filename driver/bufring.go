package driver

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"sync"
	"syscall"

	"go.uber.org/zap"

	"uringo/internal/ring"
)

// BufferRing is memory for what arrives: buffers of one size that the kernel takes from when there is something, instead of one buffer
// for each connection that waits. It serves any number of streams of one driver, see [RecvMulti].
//
// A buffer is the kernel's until something was received into it, then the reader's, as a [Chunk], until that is released. What streams
// hold for readers that do not come is copied elsewhere when buffers run out, so that only readers can keep others waiting: with all buffers
// in the hands of readers, streams wait for the next release. Nothing is lost then: bytes wait in the sockets.
type BufferRing struct {
	d     *Driver
	size  int
	limit int // of items in a stream
	mem   []byte
	group uint16

	bundles     bool // a stream may fill several buffers at once
	incremental bool // the kernel fills a buffer bit by bit
	bytesOnly   bool // incremental was wished for: packets might be cut

	mu       sync.Mutex
	kernel   *ring.Provided // nil if the driver picks the buffers: an old kernel, or none
	free     []uint16       // without kernel: what is there to pick
	out      []bool         // by number: with a reader, in a stream, or picked
	gen      []uint32       // by number: counts the readers it had
	held     int            // how many are out
	starving []*Request     // streams that wait for a buffer
	streams  map[*stream]struct{}
	users    int // streams that have not ended
	closed   bool
	relief   []*stream // a copy of streams; the driver goroutine's

	// With bundles: the numbers in the order in which the kernel has them, and where each is in that.
	order []uint16
	at    []uint16
	given int

	// Of an incremental ring: by number, how far the kernel has come, and how many parts are out; and which, so that each is
	// released once.
	filled []int
	parts  []int
	live   map[part]struct{}
}

// part is a piece of a buffer that a reader has.
type part struct {
	id  uint16
	off uint32
}

// BufferOption is a wish for a [BufferRing].
type BufferOption func(*BufferRing)

// Incremental has what arrives take only the part of a buffer that it needs, and the next go behind it: for large buffers, few of them, and messages
// of very different sizes, on streams of bytes: packets, which the end of a buffer might cut, are EINVAL. A buffer is free again when all that it
// holds was released. Before kernel 6.12, and where the driver picks the buffers, each piece takes a whole buffer, and readers see no difference.
// IOU_PBUF_RING_INC, io_uring_register(2).
func Incremental() BufferOption {
	return func(b *BufferRing) { b.incremental, b.bytesOnly = true, true }
}

// Bundles has one completion fill several buffers when more is there than one takes, on streams of bytes: for much data in small
// buffers. Each buffer is still a [Chunk] of its own. Before kernel 6.10, and where the driver picks the buffers, each takes a
// completion, and readers see no difference. IORING_RECVSEND_BUNDLE, io_uring_enter(2).
func Bundles() BufferOption { return func(b *BufferRing) { b.bundles = true } }

// ErrInUse means that a BufferRing cannot be closed because streams use it.
var ErrInUse = errors.New("uringo: buffers in use")

// Buffers returns a ring of buffers of the driver's own, for readers without special wishes: 256 buffers of 8 KiB, made by the first
// call. It must not be closed.
func (d *Driver) Buffers() (*BufferRing, error) {
	const n, size = 256, 8 << 10
	if b := d.shared.Load(); b != nil {
		return b, nil
	}
	var err error
	open := func() {
		if d.shared.Load() != nil {
			return // somebody else's call was the first
		}
		b := makeBuffers(d, n, size, nil)
		if err = d.openProvided(b, n); err == nil {
			d.shared.Store(b)
		}
	}
	switch {
	case !d.doInside(open):
		return nil, ErrClosed
	case err != nil:
		return nil, fmt.Errorf("uringo: %w", err)
	}
	return d.shared.Load(), nil
}

// NewBufferRing makes n buffers of size bytes. n is a power of two, up to 32768. The memory is on the Go heap, and unused parts of it cost nothing.
// Kernels before 5.19, and the portable engine, have no rings of buffers, and a user may lack memory to lock for one: there the driver picks one for
// every operation, which readers cannot tell. IORING_REGISTER_PBUF_RING, io_uring_register(2).
func NewBufferRing(d *Driver, n, size int, options ...BufferOption) (*BufferRing, error) {
	const sizeMax = 1 << 30
	switch {
	case n < 1 || n > ring.MaxProvided || bits.OnesCount(uint(n)) != 1:
		return nil, fmt.Errorf("uringo: a ring of %d buffers: the number must be a power of two, up to %d", n, ring.MaxProvided)
	case size < 1 || size > sizeMax:
		return nil, fmt.Errorf("uringo: buffers of %d bytes: the size must be from 1 to %d", size, sizeMax)
	case size > math.MaxInt/n:
		return nil, fmt.Errorf("uringo: %d buffers of %d bytes: they have no room in memory", n, size)
	}
	b := makeBuffers(d, n, size, options)
	var err error
	if !d.doInside(func() { err = d.openProvided(b, n) }) {
		return nil, ErrClosed
	}
	if err != nil {
		return nil, fmt.Errorf("uringo: %w", err)
	}
	return b, nil
}

// makeBuffers makes a ring of buffers, but for the kernel's part of it.
func makeBuffers(d *Driver, n, size int, options []BufferOption) *BufferRing {
	b := &BufferRing{d: d, size: size, limit: max(1, min(n/4, StreamLimit)), mem: make([]byte, n*size), out: make([]bool, n),
		gen: make([]uint32, n), streams: make(map[*stream]struct{})}
	for _, o := range options {
		o(b)
	}
	return b
}

// openProvided makes the kernel's part of b, if the kernel has that.
func (d *Driver) openProvided(b *BufferRing, n int) error {
	if d.broken != nil {
		return d.broken
	}
	if d.engine != Portable && d.ring.Supports(ring.OpRecv) && d.ring.Supports(ring.OpRecvmsg) { // a plain call knows no groups
		for d.provided[b.group] != nil {
			if b.group++; b.group == 0 {
				return errors.New("too many rings of buffers")
			}
		}
		k, err := d.ring.OpenProvided(n, b.group, b.incremental)
		if b.incremental && errors.Is(err, syscall.EINVAL) {
			b.incremental = false
			k, err = d.ring.OpenProvided(n, b.group, false)
		}
		switch {
		case err == nil:
			b.kernel = k
			if d.provided == nil {
				d.provided = make(map[uint16]*BufferRing)
			}
			d.provided[b.group] = b
		case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EOPNOTSUPP),
			errors.Is(err, syscall.ENOMEM): // what the user may lock
			d.log.Debug("the driver picks buffers itself", zap.Error(err))
		default:
			return err
		}
	}
	b.prepare(n)
	for id := range n {
		b.giveBack(uint16(id))
	}
	return nil
}

// prepare makes what the wishes that were granted need.
func (b *BufferRing) prepare(n int) {
	b.bundles = b.bundles && b.kernel != nil && b.d.ring.Bundles()
	b.incremental = b.incremental && b.kernel != nil
	if b.bundles {
		b.order, b.at = make([]uint16, n), make([]uint16, n)
	}
	if b.incremental {
		b.limit = StreamLimit
		b.filled, b.parts, b.live = make([]int, n), make([]int, n), make(map[part]struct{})
	}
}

// Close gives the memory back. Streams that use it must have ended, or Close returns ErrInUse. Chunks that somebody holds stay valid. The
// driver closes what is left when it is closed.
func (b *BufferRing) Close() error {
	b.mu.Lock()
	if b.users > 0 {
		defer b.mu.Unlock()
		return fmt.Errorf("%w by %d streams", ErrInUse, b.users)
	}
	b.closed = true
	b.mu.Unlock()
	var err error
	b.d.doInside(func() { err = b.d.closeProvided(b) }) // or the end of the driver has done it
	if err != nil {
		return fmt.Errorf("uringo: %w", err)
	}
	return nil
}

// closeProvided gives up the kernel's part of b. Of a broken ring it stays: the kernel may still use it.
func (d *Driver) closeProvided(b *BufferRing) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	k := b.kernel
	if k == nil || d.broken != nil {
		return nil
	}
	b.kernel = nil
	delete(d.provided, b.group)
	return d.ring.CloseProvided(k)
}

// BufferStats is where the buffers of a BufferRing are.
type BufferStats struct {
	Size int // of a buffer, in bytes
	Free int // with the kernel, or to be picked
	Held int // with readers, in streams, or in an operation of their own
}

// Stats returns a snapshot. Free and Held make up the number of buffers at any time.
func (b *BufferRing) Stats() BufferStats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return BufferStats{Size: b.size, Free: len(b.out) - b.held, Held: b.held}
}

// buffer returns the memory of a number.
func (b *BufferRing) buffer(id uint16) []byte {
	i := int(id) * b.size
	return b.mem[i : i+b.size : i+b.size]
}

// giveBack makes a buffer free. The lock is held, or nobody else knows b yet.
func (b *BufferRing) giveBack(id uint16) {
	if b.kernel == nil {
		b.free = append(b.free, id)
		return
	}
	if b.bundles {
		i := b.given & (len(b.order) - 1)
		b.order[i], b.at[id] = id, uint16(i)
		b.given++
	}
	if b.incremental {
		b.filled[id] = 0
	}
	b.kernel.Give(id, b.buffer(id))
}

// after returns the number that the kernel uses next.
func (b *BufferRing) after(id uint16) uint16 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.order[(int(b.at[id])+1)&(len(b.order)-1)]
}

// took notes that the kernel used a buffer, for the first of n bytes; rest is how many there was no room for. more says that the kernel
// goes on with the buffer. ok is false if it cannot be so, or there is nothing in the buffer to give back.
func (b *BufferRing) took(id uint16, n int, more bool) (c Chunk, rest int, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if int(id) >= len(b.out) || b.out[id] {
		return Chunk{}, 0, false
	}
	if !b.incremental {
		b.out[id] = true
		b.held++
		k := min(n, b.size)
		return b.chunk(id, k), n - k, true
	}
	if n == 0 {
		return Chunk{}, 0, false // the kernel takes nothing for that, whatever it says
	}
	off := b.filled[id]
	k := min(n, b.size-off)
	b.filled[id] += k
	b.parts[id]++
	b.live[part{id, uint32(off)}] = struct{}{}
	if n > k || !more {
		b.out[id] = true
		b.held++
	}
	c = b.chunk(id, b.size)
	c.mem, c.off = c.mem[off:off+k:off+k], uint32(off)
	return c, n - k, true
}

// pick takes a buffer for an operation without the kernel's help.
func (b *BufferRing) pick() (c Chunk, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.free)
	if n == 0 {
		return Chunk{}, false
	}
	id := b.free[n-1]
	b.free = b.free[:n-1]
	b.out[id] = true
	b.held++
	return b.chunk(id, b.size), true
}

func (b *BufferRing) chunk(id uint16, n int) Chunk {
	return Chunk{mem: b.buffer(id)[:n], home: b, id: id, gen: b.gen[id]}
}

// await has a stream armed at the next release, unless a buffer is free, or becomes free by relieving the streams.
func (b *BufferRing) await(r *Request) bool {
	for relieved := false; ; relieved = true {
		b.mu.Lock()
		if b.held < len(b.out) {
			b.mu.Unlock()
			return false
		}
		if relieved {
			b.starving = append(b.starving, r)
			b.mu.Unlock()
			return true
		}
		b.relief = b.relief[:0]
		for s := range b.streams {
			b.relief = append(b.relief, s)
		}
		b.mu.Unlock()
		for _, s := range b.relief {
			s.detach()
		}
		clear(b.relief)
	}
}

// join counts a stream in.
func (b *BufferRing) join(d *Driver, s *stream) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.d != d:
		return errors.New("uringo: buffers of another driver")
	case b.closed && d.closing.Load():
		return ErrClosed // whoever closed them, that is what matters
	case b.closed:
		return errors.New("uringo: buffers closed")
	}
	b.users++
	b.streams[s] = struct{}{}
	return nil
}

// leave undoes join, as far as the kernel is concerned, and forget, as far as the reader is.
func (b *BufferRing) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.users--
}

func (b *BufferRing) forget(s *stream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.streams, s)
}

// release takes a buffer back.
func (b *BufferRing) release(id uint16, gen, off uint32) {
	b.mu.Lock()
	if b.incremental {
		b.releasePart(id, gen, off)
		return
	}
	if b.gen[id] != gen || !b.out[id] {
		b.mu.Unlock()
		panic(errReleasedTwice)
	}
	b.freed(id)
}

const errReleasedTwice = "uringo: chunk released twice"

// releasePart is release for an incremental ring. It unlocks.
func (b *BufferRing) releasePart(id uint16, gen, off uint32) {
	if _, ok := b.live[part{id, off}]; !ok || b.gen[id] != gen {
		b.mu.Unlock()
		panic(errReleasedTwice)
	}
	delete(b.live, part{id, off})
	if b.parts[id]--; b.parts[id] > 0 || !b.out[id] {
		b.mu.Unlock()
		return
	}
	b.freed(id)
}

// freed makes a buffer free and has the streams that wait for one armed. It unlocks.
func (b *BufferRing) freed(id uint16) {
	b.gen[id]++
	b.out[id] = false
	b.held--
	starving := b.starving
	b.starving = nil
	if !b.closed {
		b.giveBack(id)
	}
	b.mu.Unlock()
	for _, r := range starving {
		b.d.wake(r)
	}
}

// Chunk is something that was received, in a buffer of a [BufferRing]. It is its reader's until Release.
type Chunk struct {
	mem  []byte
	home *BufferRing // nil: the memory is nobody else's
	gen  uint32
	off  uint32 // of an incremental ring: where in the buffer
	id   uint16
}

// Bytes returns what was received. It must not be used after Release.
func (c Chunk) Bytes() []byte { return c.mem }

// Release gives the buffer back, for the next to arrive. A second Release panics, unless the chunk was copied out of its buffer: see
// [BufferRing]. It may be called from any goroutine, never waits, and works after the driver was closed.
func (c Chunk) Release() {
	if c.home != nil {
		c.home.release(c.id, c.gen, c.off)
	}
}

// ChunkOf makes a chunk of memory that is no part of a BufferRing. Its Release does nothing.
func ChunkOf(b []byte) Chunk { return Chunk{mem: b} }

// Own copies what was received, releases the chunk, and returns the copy: for readers that keep it for long.
func (c Chunk) Own() []byte {
	if c.home == nil {
		return c.mem
	}
	own := append([]byte(nil), c.mem...)
	c.Release()
	return own
}
