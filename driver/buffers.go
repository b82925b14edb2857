package driver

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"go.uber.org/zap"

	"uringo/buf"
	"uringo/internal/ring"
	"uringo/ops"
)

// buffers is the ring's table of registered memory: which arena has which index. The first operation on memory of an arena registers that;
// if it cannot be, the operation does without. The kernel keeps what a running operation uses, whatever becomes of the table.
type buffers struct {
	index     map[*buf.Arena]int // noIndex: the kernel does not want this one
	free      []uint32
	state     tableState
	notBefore int64 // after a refusal for want of memory, when to ask again, by the driver's clock
	told      bool  // that memory is short
}

type tableState uint8

const (
	unopened tableState = iota
	opened
	refused // by an old or restricted kernel, or there is no ring
)

const (
	tableSize = 1024 // arenas; an empty place costs eight bytes
	noIndex   = -1

	// maxLazy is the size of the largest arena that is registered on the way: looking up more pages would hold up the driver.
	maxLazy = 8 << 20
)

// fix makes an entry one on registered memory, if its memory is or can be.
func (d *Driver) fix(s *ops.Spec, e *ring.SQE) {
	if d.buffers.state == refused || !d.ring.Supports(s.Kind.Fixed) {
		return
	}
	a := s.Arena()
	if a == nil {
		return
	}
	i, known := d.buffers.index[a]
	if !known {
		if d.clock < d.buffers.notBefore || a.Size() > maxLazy || d.buffers.full() {
			return
		}
		if i = d.registerLazily(a); i == noIndex {
			return
		}
	}
	if i != noIndex {
		e.Op = s.Kind.Fixed
		e.BufIndex = uint16(i)
		d.stats.Fixed++
	}
}

// registerLazily returns an arena's new index, or noIndex. That is no error for anybody, but worth a word in the log.
func (d *Driver) registerLazily(a *buf.Arena) int {
	err := d.register(a)
	switch {
	case err == nil:
		return d.buffers.index[a]
	case errors.Is(err, syscall.ENOMEM):
		// What others give back counts for a while longer, and limits change.
		d.buffers.notBefore = int64(time.Since(d.start)) + int64(time.Second)
		if !d.buffers.told {
			d.buffers.told = true
			d.log.Warn("buffers work unregistered", zap.Error(err))
		}
	default:
		d.log.Debug("buffers work unregistered", zap.Error(err))
	}
	return noIndex
}

// register puts an arena into the table.
func (d *Driver) register(a *buf.Arena) error {
	b := &d.buffers
	switch {
	case d.broken != nil:
		return d.broken
	case a == nil:
		return errors.New("nil arena")
	}
	if i, known := b.index[a]; known && i != noIndex {
		return nil
	}
	if b.state == unopened {
		b.open(d)
	}
	switch {
	case b.state == refused:
		return fmt.Errorf("%w: registered buffers need io_uring, and Linux 5.19", errors.ErrUnsupported)
	case b.full():
		return fmt.Errorf("the table of registered buffers is full: it has %d arenas", tableSize)
	case !a.OnClose(d, func() { go d.later(func() { d.unregister(a) }) }): // who closes it must not wait for the driver
		return buf.ErrClosed
	}
	i := b.free[len(b.free)-1]
	if err := d.ring.SetBuffer(i, a.Memory()); err != nil {
		if !errors.Is(err, syscall.ENOMEM) {
			b.index[a] = noIndex
		} else {
			a.Forget(d)
		}
		return err
	}
	b.free = b.free[:len(b.free)-1]
	b.index[a] = int(i)
	d.stats.Registered += a.Size()
	if b.full() {
		d.log.Debug("the table of registered buffers is full: further ones work unregistered", zap.Int("arenas", tableSize))
	}
	return nil
}

// full reports whether there is a table, and no room in it. Then it is not worth an error for every operation.
func (b *buffers) full() bool { return b.state == opened && len(b.free) == 0 }

func (b *buffers) open(d *Driver) {
	b.state = refused
	if d.engine != Uring {
		return
	}
	if err := d.ring.OpenBuffers(tableSize); err != nil {
		d.log.Debug("buffers work unregistered", zap.Error(err))
		return
	}
	b.state = opened
	b.index = make(map[*buf.Arena]int)
	for i := range uint32(tableSize) {
		b.free = append(b.free, tableSize-1-i)
	}
}

// unregister takes an arena out of the table. Its memory is gone.
func (d *Driver) unregister(a *buf.Arena) {
	b := &d.buffers
	i, known := b.index[a]
	if !known || d.broken != nil {
		return
	}
	delete(b.index, a)
	if i == noIndex {
		return
	}
	d.stats.Registered -= a.Size()
	if err := d.ring.SetBuffer(uint32(i), nil); err != nil {
		d.log.Warn("a registered buffer stays registered", zap.Error(err))
		return
	}
	b.free = append(b.free, uint32(i))
}

// forgetAll has the arenas no longer know the driver.
func (b *buffers) forgetAll(d *Driver) {
	for a := range b.index {
		a.Forget(d)
	}
	b.index = nil
	b.state = refused
}

// RegisterBuffers registers arenas with the driver's ring now, rather than with the first operation on them; arenas of more than 8 MiB
// are registered in this way only. It returns when all are, or with an error, when the first could not be: operations on the rest work
// all the same, unregistered. ENOMEM then means the limit of memory that the user may lock (RLIMIT_MEMLOCK), which the text
// gives; errors.ErrUnsupported, that there is no ring, or an old kernel. A ring has room for 1024 arenas. One that is closed is
// unregistered. Kernel 5.19.
//
// Registering takes the memory of a whole arena, and the driver does nothing else meanwhile: some 35 µs a MiB, and about 200 µs for memory
// that was not used before.
func (d *Driver) RegisterBuffers(arenas ...*buf.Arena) error {
	var err error
	register := func() {
		for _, a := range arenas {
			if err = d.register(a); err != nil {
				err = fmt.Errorf("uringo: register buffers: %w", err)
				return
			}
		}
	}
	if !d.doInside(register) {
		return ErrClosed
	}
	return err
}
