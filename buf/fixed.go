package buf

import (
	"errors"
	"fmt"
	"sync/atomic"
)

// ErrReleased means that a buffer was used after Release.
var ErrReleased = errors.New("buf: buffer used after Release")

// Fixed is a buffer that a driver can keep registered with its ring. It has one owner at a time; see the package comment. Operations
// use its view, at first the whole buffer or what was asked of the pool.
type Fixed struct {
	mem    []byte
	lo, hi int // the view
	arena  *Arena
	home   home // where the memory goes; nil: it stays in the arena unused
	state  atomic.Uint32
}

// home is what buffers return to.
type home interface{ put(mem []byte, a *Arena) }

// The state is one of these and the number of operations that the kernel has, times onePin.
const (
	owned    uint32 = iota
	released        // by its owner, and not to be touched
	lost            // its owner was let go: it goes home with the last operation
	shared          // it lives on as Bytes
	onePin
	stateMask = onePin - 1
)

func newFixed(mem []byte, a *Arena, h home) *Fixed {
	return &Fixed{mem: mem, hi: len(mem), arena: a, home: h}
}

// Bytes returns the view. The slice must not be used after Release. It panics if the buffer was released.
func (b *Fixed) Bytes() []byte {
	b.check("Bytes")
	return b.mem[b.lo:b.hi:b.hi]
}

// Len returns the length of the view in bytes.
func (b *Fixed) Len() int { return b.hi - b.lo }

// Cap returns the size of the whole buffer in bytes.
func (b *Fixed) Cap() int { return len(b.mem) }

// View bounds what the next operations and Bytes see to bytes lo to hi of the whole buffer, whatever the view was before, and returns b.
// It must not be called while an operation has the buffer. It panics if the bounds make no sense, as slicing does.
func (b *Fixed) View(lo, hi int) *Fixed {
	b.check("View")
	if lo < 0 || lo > hi || hi > len(b.mem) {
		panic(fmt.Sprintf("buf: view [%d:%d] of a buffer of %d bytes", lo, hi, len(b.mem)))
	}
	b.lo, b.hi = lo, hi
	return b
}

// Bounds returns which bytes of the whole buffer the view is.
func (b *Fixed) Bounds() (lo, hi int) { return b.lo, b.hi }

// Whole makes the view the whole buffer again, and returns b.
func (b *Fixed) Whole() *Fixed { return b.View(0, len(b.mem)) }

func (b *Fixed) check(what string) {
	switch b.state.Load() & stateMask {
	case released:
		panic("buf: " + what + " of a buffer that was released")
	case shared:
		panic("buf: " + what + " of a buffer that was shared")
	case lost:
		panic("buf: " + what + " of a buffer whose operation was abandoned")
	}
}

// Release gives the buffer back. If the kernel still has it, its memory is used again when that is over. A second Release panics. One
// of a buffer whose operation was abandoned does nothing: that buffer goes back by itself.
func (b *Fixed) Release() {
	for {
		s := b.state.Load()
		switch s & stateMask {
		case lost:
			return
		case released:
			panic("buf: buffer released twice")
		case shared:
			panic("buf: Release of a buffer that was shared")
		}
		if b.state.CompareAndSwap(s, s|released) {
			if s == owned {
				b.goHome()
			}
			return
		}
	}
}

// Usable returns ErrReleased if the buffer is not its caller's any more, and otherwise nil.
func (b *Fixed) Usable() error {
	switch {
	case b == nil:
		return errors.New("buf: nil buffer")
	case b.state.Load()&stateMask != owned:
		return ErrReleased
	}
	return nil
}

// Pin keeps the memory from being used for anything else until Unpin. It is false if the buffer was released. It is for drivers, around
// the time for which the kernel has the buffer.
func (b *Fixed) Pin() bool {
	for {
		s := b.state.Load()
		if s&stateMask != owned {
			return false
		}
		if b.state.CompareAndSwap(s, s+onePin) {
			return true
		}
	}
}

// Unpin undoes Pin.
func (b *Fixed) Unpin() {
	s := b.state.Add(^uint32(onePin - 1))
	if s&stateMask != owned && s < onePin {
		b.goHome()
	}
}

// Abandon releases a buffer in the name of an owner who was let go and cannot do so. It is for drivers.
func (b *Fixed) Abandon() {
	for {
		s := b.state.Load()
		if s&stateMask != owned {
			return // released meanwhile
		}
		if b.state.CompareAndSwap(s, s|lost) {
			if s == owned {
				b.goHome()
			}
			return
		}
	}
}

// Arena returns where the buffer is, for a driver to register.
func (b *Fixed) Arena() *Arena { return b.arena }

// goHome is called once, when neither an owner nor the kernel has the buffer.
func (b *Fixed) goHome() {
	if b.home != nil {
		b.home.put(b.mem, b.arena)
	}
	b.arena.drop()
}
