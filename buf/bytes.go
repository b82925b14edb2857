package buf

import (
	"fmt"
	"sync/atomic"
)

// Bytes is a piece of memory that several may read at once and nobody writes. Each holder has a Bytes of its own and releases that; with
// the last one the memory goes back to the pool or table it came from. The Bytes of one holder is for one goroutine at a time.
type Bytes struct {
	data []byte
	of   *sharing
	done atomic.Bool
}

// sharing counts the holders of a buffer.
type sharing struct {
	holders atomic.Int64
	b       *Fixed // nil for memory of the Go heap
}

// Share turns the view of b into Bytes. From here on b itself must not be used; in particular it is not to be released. It panics if an
// operation has b.
func (b *Fixed) Share() *Bytes {
	if !b.state.CompareAndSwap(owned, shared) {
		b.check("Share")
		panic("buf: Share of a buffer that an operation has")
	}
	return newBytes(b.mem[b.lo:b.hi:b.hi], b)
}

// BytesOf makes Bytes of memory on the Go heap, which nobody may write to any more.
func BytesOf(p []byte) *Bytes { return newBytes(p[:len(p):len(p)], nil) }

func newBytes(data []byte, b *Fixed) *Bytes {
	s := &Bytes{data: data, of: &sharing{b: b}}
	s.of.holders.Store(1)
	return s
}

// Bytes returns the memory, for reading until Release. It panics after that.
func (s *Bytes) Bytes() []byte {
	s.check("Bytes")
	return s.data
}

// Len returns the length in bytes.
func (s *Bytes) Len() int { return len(s.data) }

// Slice returns Bytes of bytes lo to hi of s, for a holder of their own: both have to be released. It panics if the bounds make no sense.
func (s *Bytes) Slice(lo, hi int) *Bytes {
	s.check("Slice")
	if lo < 0 || lo > hi || hi > len(s.data) {
		panic(fmt.Sprintf("buf: slice [%d:%d] of %d bytes", lo, hi, len(s.data)))
	}
	s.of.holders.Add(1)
	return &Bytes{data: s.data[lo:hi:hi], of: s.of}
}

// Clone returns the same bytes for another holder.
func (s *Bytes) Clone() *Bytes { return s.Slice(0, len(s.data)) }

// Release ends this holder's use. A second Release panics.
func (s *Bytes) Release() {
	if s.done.Swap(true) {
		panic("buf: Bytes released twice")
	}
	if s.of.holders.Add(-1) == 0 && s.of.b != nil {
		s.of.b.goHome()
	}
}

func (s *Bytes) check(what string) {
	if s.done.Load() {
		panic("buf: " + what + " of Bytes that were released")
	}
}
