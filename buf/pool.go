package buf

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// ErrNoBuffer is the answer of TryGet when all buffers of the size are out.
var ErrNoBuffer = errors.New("buf: all buffers of this size are in use")

// Class is a kind of buffer in a pool.
type Class struct {
	Size  int // in bytes, rounded up to the pool's alignment
	Count int // how many there are at most
}

// PoolConfig says what a pool holds.
type PoolConfig struct {
	// Classes are the sizes of buffers. At least one is needed, and no size twice.
	Classes []Class

	// Align is what the addresses and sizes of buffers are multiples of, a power of two. Zero means 4096, which direct I/O wants at
	// most.
	Align int

	// Scrub has the memory of a buffer zeroed before the next owner gets it. Otherwise a short read leaves what the last one had
	// in the rest of the buffer.
	Scrub bool
}

// slabSize is how much memory is mapped, and registered, at a time: under a small limit of memory to lock, a part of the pool can then be
// registered, and the rest works without.
const slabSize = 1 << 20

// Pool lends buffers of a few sizes. Memory is mapped when it is needed, and stays with the pool. All methods may be called from any
// goroutine or task.
type Pool struct {
	cfg PoolConfig

	mu      sync.Mutex
	classes []*class // by size
	arenas  []*Arena
	out     int
	closed  bool
}

// class is the buffers of one size. The pool's lock guards it.
type class struct {
	pool    *Pool
	size    int
	left    int // how many may still be made
	free    []chunk
	waiters list.List // of *waiter, first come first
}

// chunk is the memory of a buffer that nobody has.
type chunk struct {
	mem   []byte
	arena *Arena
}

// waiter waits for a buffer, which is handed to it, so that whoever comes later cannot take it.
type waiter struct {
	event Event
	b     *Fixed
	err   error
}

// NewPool returns a pool. It maps nothing yet.
func NewPool(cfg PoolConfig) (*Pool, error) {
	if cfg.Align == 0 {
		cfg.Align = 4096
	}
	if cfg.Align < 0 || cfg.Align&(cfg.Align-1) != 0 {
		return nil, fmt.Errorf("buf: PoolConfig.Align is %d, not a power of two", cfg.Align)
	}
	if len(cfg.Classes) == 0 {
		return nil, errors.New("buf: PoolConfig.Classes is empty")
	}
	p := &Pool{cfg: cfg}
	for _, c := range cfg.Classes {
		if c.Size <= 0 || c.Size > MaxArena-cfg.Align || c.Count <= 0 {
			return nil, fmt.Errorf("buf: a class of %d buffers of %d bytes", c.Count, c.Size)
		}
		p.classes = append(p.classes, &class{pool: p, size: roundUp(c.Size, cfg.Align), left: c.Count})
	}
	slices.SortFunc(p.classes, func(a, b *class) int { return cmp.Compare(a.size, b.size) })
	for i := range p.classes[1:] {
		if p.classes[i].size == p.classes[i+1].size {
			return nil, fmt.Errorf("buf: two classes of %d bytes", p.classes[i].size)
		}
	}
	return p, nil
}

// Get lends a buffer of at least n bytes, of the smallest class that has them, with a view of n bytes. While all of the class are out it
// waits, first come first served, until one comes back or ctx ends. It allocates a handle of some hundred bytes.
func (p *Pool) Get(ctx context.Context, n int) (*Fixed, error) {
	if ctx.Err() != nil {
		return nil, canceled(ctx)
	}
	c, err := p.classFor(n)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	b, err := c.next()
	if err != ErrNoBuffer {
		p.mu.Unlock()
		return b.scrubbed(n), err
	}
	w := &waiter{event: newEvent(ctx)}
	place := c.waiters.PushBack(w)
	p.mu.Unlock()

	waited := false
	defer func() {
		if !waited { // an executor of the user's has made a mistake: a buffer must not be given to who has gone
			c.giveUp(w, place, ErrReleased)
			if w.b != nil {
				w.b.Release()
			}
		}
	}()
	err = w.event.Wait(ctx)
	if waited = true; err != nil {
		c.giveUp(w, place, err)
	}
	return w.b.scrubbed(n), w.err
}

// giveUp ends a wait because of err, unless a buffer has come, or the end of the pool.
func (c *class) giveUp(w *waiter, place *list.Element, err error) {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	if w.b == nil && w.err == nil {
		c.waiters.Remove(place)
		w.err = fmt.Errorf("buf: waiting for a buffer of %d bytes: %w", c.size, err)
	}
}

// TryGet is Get without waiting: while all buffers are out, or others wait for them, it returns ErrNoBuffer.
func (p *Pool) TryGet(n int) (*Fixed, error) {
	c, err := p.classFor(n)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	b, err := c.next()
	p.mu.Unlock()
	return b.scrubbed(n), err
}

// scrubbed makes a buffer ready for an owner who wants n bytes.
func (b *Fixed) scrubbed(n int) *Fixed {
	if b == nil {
		return nil
	}
	if b.home.(*class).pool.cfg.Scrub {
		clear(b.mem)
	}
	return b.View(0, n)
}

func (p *Pool) classFor(n int) (*class, error) {
	for _, c := range p.classes {
		if n >= 0 && n <= c.size {
			return c, nil
		}
	}
	return nil, fmt.Errorf("buf: a buffer of %d bytes: the largest class has %d", n, p.classes[len(p.classes)-1].size)
}

// next returns a buffer that is free, unless others wait for it. The lock is held.
func (c *class) next() (*Fixed, error) {
	if c.pool.closed {
		return nil, ErrClosed
	}
	if c.waiters.Len() > 0 {
		return nil, ErrNoBuffer
	}
	if len(c.free) == 0 {
		if c.left == 0 {
			return nil, ErrNoBuffer
		}
		if err := c.grow(); err != nil {
			return nil, err
		}
	}
	last := len(c.free) - 1
	k := c.free[last] // the one used last is in the processor's caches
	c.free = c.free[:last]
	return c.lend(k), nil
}

// lend makes a buffer of memory that is free. The lock is held, and the pool is not closed.
func (c *class) lend(k chunk) *Fixed {
	k.arena.hold()
	c.pool.out++
	return newFixed(k.mem, k.arena, c)
}

// grow maps memory for some more buffers. The lock is held.
func (c *class) grow() error {
	n := min(c.left, max(1, slabSize/c.size))
	a, err := newArena(n*c.size, c.pool.cfg.Align)
	if err != nil {
		return err
	}
	for i := n - 1; i >= 0; i-- {
		c.free = append(c.free, chunk{a.mem[i*c.size : (i+1)*c.size : (i+1)*c.size], a})
	}
	c.left -= n
	c.pool.arenas = append(c.pool.arenas, a.fill())
	return nil
}

// put takes a buffer's memory back, and hands it to whoever waits longest.
func (c *class) put(mem []byte, a *Arena) {
	p := c.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out--
	if p.closed {
		return
	}
	k := chunk{mem, a}
	if first := c.waiters.Front(); first != nil {
		w := c.waiters.Remove(first).(*waiter)
		w.b = c.lend(k)
		w.event.Set()
		return
	}
	c.free = append(c.free, k)
}

// Arenas maps what is not mapped yet and returns all of the pool's memory, for a driver to register ahead of time. The arenas have no room
// for other buffers, and are the pool's to close.
func (p *Pool) Arenas() ([]*Arena, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.classes {
		for c.left > 0 && !p.closed {
			if err := c.grow(); err != nil {
				return nil, err
			}
		}
	}
	if p.closed {
		return nil, ErrClosed
	}
	return slices.Clone(p.arenas), nil
}

// Close ends the pool: whoever waits for a buffer gets [ErrClosed]. The memory is given back, that of buffers which are out when they
// are released: then Close says [ErrInUse]. A second Close does nothing.
func (p *Pool) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	for _, c := range p.classes {
		for e := c.waiters.Front(); e != nil; e = e.Next() {
			w := e.Value.(*waiter)
			w.err = ErrClosed
			w.event.Set()
		}
		c.waiters.Init()
		c.free = nil
	}
	return closeAll(p.arenas, p.out)
}

// closeAll closes arenas of which so many buffers are out.
func closeAll(arenas []*Arena, out int) error {
	var errs []error
	for _, a := range arenas {
		if err := a.Close(); err != nil && !errors.Is(err, ErrInUse) {
			errs = append(errs, err)
		}
	}
	if out > 0 {
		errs = append(errs, fmt.Errorf("%w: %d", ErrInUse, out))
	}
	return errors.Join(errs...)
}
