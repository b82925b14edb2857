package buf

import (
	"errors"
	"fmt"
	"slices"
	"sync"
)

// ErrTaken means that the buffer with this index is out.
var ErrTaken = errors.New("buf: buffer is taken")

// Table is a row of buffers of one size, addressed by index, for programs that keep their own order: a page cache, the frames of a
// database. All methods may be called from any goroutine or task.
type Table struct {
	size   int
	chunks []chunk
	arenas []*Arena

	mu     sync.Mutex
	taken  []bool
	out    int
	closed bool
}

// maxTable, in bytes, is more than the kernel's limit of mappings (vm.max_map_count) lets a process have.
const maxTable = 1 << 40

// NewTable maps a table of n buffers of size bytes each, at addresses that are multiples of align, a power of two; 0 means 4096.
func NewTable(n, size, align int) (*Table, error) {
	if align == 0 {
		align = 4096
	}
	checkAlign(align)
	if n <= 0 || size <= 0 || size > MaxArena-align {
		return nil, fmt.Errorf("buf: a table of %d buffers of %d bytes", n, size)
	}
	step := roundUp(size, align)
	if int64(n) > maxTable/int64(step) {
		return nil, fmt.Errorf("buf: a table of %d buffers of %d bytes: more than %d bytes", n, size, int64(maxTable))
	}
	t := &Table{size: size, taken: make([]bool, n)}
	for left := n; left > 0; {
		m := min(left, max(1, slabSize/step))
		a, err := newArena(m*step, align)
		if err != nil {
			return nil, errors.Join(err, t.Close())
		}
		t.arenas = append(t.arenas, a.fill())
		for i := range m {
			t.chunks = append(t.chunks, chunk{a.mem[i*step : i*step+size : i*step+size], a})
		}
		left -= m
	}
	return t, nil
}

// Len returns the number of buffers.
func (t *Table) Len() int { return len(t.taken) }

// Take lends the buffer with index i, with what is in it and a view of all of it. ErrTaken means that it is out.
func (t *Table) Take(i int) (*Fixed, error) {
	if i < 0 || i >= len(t.taken) {
		return nil, fmt.Errorf("buf: index %d in a table of %d", i, len(t.taken))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return nil, ErrClosed
	case t.taken[i]:
		return nil, fmt.Errorf("%w: %d", ErrTaken, i)
	}
	t.taken[i] = true
	t.out++
	k := t.chunks[i]
	k.arena.hold()
	return newFixed(k.mem, k.arena, place{t, i}), nil
}

// place is where a buffer of a table belongs.
type place struct {
	t *Table
	i int
}

func (p place) put([]byte, *Arena) {
	p.t.mu.Lock()
	defer p.t.mu.Unlock()
	p.t.taken[p.i] = false
	p.t.out--
}

// Arenas returns the table's memory, for a driver to register ahead of time. The arenas have no room for other buffers, and are the table's
// to close.
func (t *Table) Arenas() ([]*Arena, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, ErrClosed
	}
	return slices.Clone(t.arenas), nil
}

// Close gives the memory back, that of buffers which are out when they are released: then it says [ErrInUse]. A second Close does
// nothing.
func (t *Table) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	t.closed = true
	return closeAll(t.arenas, t.out)
}
