package buf

import (
	"errors"
	"fmt"
	"os"
	"sync"
)

// MaxArena is the size of the largest arena in bytes: the kernel registers no more in one piece.
const MaxArena = 1 << 30

// Errors that a caller may want to tell apart.
var (
	// ErrClosed means that the arena, pool or table was closed.
	ErrClosed = errors.New("buf: closed")
	// ErrFull means that an arena has no room left for a buffer.
	ErrFull = errors.New("buf: arena full")
	// ErrInUse is the answer of Close when buffers have not been released: their memory stays until they are.
	ErrInUse = errors.New("buf: closed while buffers are in use")
)

// Arena is a piece of memory outside of the Go heap, from which buffers are cut. It is what a driver registers, as a whole. Its
// methods may be called from any goroutine.
type Arena struct {
	mem []byte

	mu     sync.Mutex
	m      mapping
	used   int // bytes handed out
	out    int // buffers that have not been released
	closed bool
	gone   map[any]func() // see OnClose
}

// NewArena maps an arena of size bytes, rounded up to whole pages. It takes memory as it is used, and all of it when it is registered.
func NewArena(size int) (*Arena, error) { return newArena(size, 1) }

// newArena is NewArena at an address that is a multiple of align, a power of two.
func newArena(size, align int) (*Arena, error) {
	if size <= 0 || size > MaxArena {
		return nil, fmt.Errorf("buf: arena of %d bytes: it takes 1 to %d", size, MaxArena)
	}
	m, mem, err := mapMemory(roundUp(size, os.Getpagesize()), align)
	if err != nil {
		return nil, err
	}
	return &Arena{m: m, mem: mem}, nil
}

// Size returns the size in bytes.
func (a *Arena) Size() int { return len(a.mem) }

// Alloc cuts a buffer of n bytes whose address is a multiple of align, a power of two; 0 means 64, a cache line. Or it returns ErrFull.
// What is cut stays cut: releasing the buffer says that nobody uses it any more, and makes no room for the next.
func (a *Arena) Alloc(n, align int) (*Fixed, error) {
	if align == 0 {
		align = 64
	}
	checkAlign(align)
	a.mu.Lock()
	defer a.mu.Unlock()
	skip := -int(address(a.mem)+uintptr(a.used)) & (align - 1)
	switch {
	case a.closed:
		return nil, ErrClosed
	case n <= 0:
		return nil, fmt.Errorf("buf: buffer of %d bytes", n)
	case n > len(a.mem)-a.used-skip:
		return nil, fmt.Errorf("%w: %d bytes wanted, %d of %d left", ErrFull, n, max(0, len(a.mem)-a.used-skip), len(a.mem))
	}
	from := a.used + skip
	a.used = from + n
	a.out++
	return newFixed(a.mem[from:from+n:from+n], a, nil), nil
}

// fill leaves no room for Alloc, in an arena that somebody cuts up without it.
func (a *Arena) fill() *Arena {
	a.used = len(a.mem)
	return a
}

// Close gives the memory back, now or, with [ErrInUse], when the last buffer is released. No slice of the memory may be used
// after that: it faults. A second Close does nothing.
func (a *Arena) Close() error {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return nil
	}
	a.closed = true
	out := a.out
	a.mu.Unlock()
	if out > 0 {
		return fmt.Errorf("%w: %d", ErrInUse, out)
	}
	return a.unmap()
}

// hold counts a buffer that is out, of an arena that is not closed.
func (a *Arena) hold() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.out++
}

// drop undoes hold.
func (a *Arena) drop() {
	a.mu.Lock()
	a.out--
	last := a.closed && a.out == 0
	a.mu.Unlock()
	if last {
		_ = a.unmap() // which succeeds for what is mapped
	}
}

// unmap ends the arena: it is closed, and no buffer is out.
func (a *Arena) unmap() error {
	a.mu.Lock()
	gone := a.gone
	a.gone = nil
	err := a.m.unmap()
	a.mu.Unlock()
	for _, f := range gone {
		f()
	}
	return err
}

// Memory returns all of the arena's memory, for a driver to register.
func (a *Arena) Memory() []byte { return a.mem }

// OnClose has f called once the arena's memory is gone, unless key is forgotten before with [Arena.Forget]. It is for drivers, which have
// registered the memory. f must not block. If the memory is gone already, f is not called and OnClose returns false.
func (a *Arena) OnClose(key any, f func()) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed && a.out == 0 {
		return false
	}
	if a.gone == nil {
		a.gone = make(map[any]func())
	}
	a.gone[key] = f
	return true
}

// Forget undoes OnClose.
func (a *Arena) Forget(key any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.gone, key)
}
