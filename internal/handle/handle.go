// Package handle is what files and sockets have in common: an open descriptor that counts the operations on it, so that it is closed
// only when none is queued or in flight. The kernel looks a descriptor's number up when it starts an operation, not when that is
// queued, and gives the number to the next file as soon as it is closed.
package handle

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/ops"
)

// Handle is an open descriptor and the count of the operations on it.
type Handle struct {
	// state is the number of references times refOne, and the two bits below. An operation takes a reference before it is
	// queued and drops it when it has ended, or, if its caller was let go, when the kernel has.
	state atomic.Uint64
	_     [56]byte // every operation writes to the cache line above; what follows is only read

	FD      int
	direct  bool // FD is a place in the table of the driver's ring
	Driver  *driver.Driver
	cleanup runtime.Cleanup
	idle    executor.Event // closing, and the last reference is gone

	// Free is Release as a value: what the driver calls at the end of an abandoned operation.
	Free func()
}

const (
	closing  = 1 << iota // Close was called: no new references
	finished             // the descriptor may be closed, by whoever set this bit
	refOne
)

// leftover is what it takes to close a descriptor whose handle is gone.
type leftover struct {
	fd     int
	direct bool
	drv    *driver.Driver
}

// Open fills in h, the first field of its owner. The descriptor belongs to h from now on.
func (h *Handle) Open(fd int, drv *driver.Driver) {
	h.FD, h.Driver = fd, drv
	h.Free = h.Release
}

// OpenDirect is Open for a place in the table of drv's ring.
func (h *Handle) OpenDirect(place int, drv *driver.Driver) {
	h.Open(place, drv)
	h.direct = true
}

// InTable reports whether FD is a place in the table of the driver's ring.
func (h *Handle) InTable() bool { return h.direct }

// Collect has the descriptor closed in the background when h is dropped without being closed. An operation in flight holds its
// handle, so none is left at that time.
func (h *Handle) Collect() {
	h.cleanup = runtime.AddCleanup(h, func(l leftover) { go l.close() }, h.last())
}

func (h *Handle) last() leftover { return leftover{h.FD, h.direct, h.Driver} }

func (l leftover) close() error {
	if l.direct {
		r := <-driver.Submit(l.drv, ops.CloseDirect(l.fd)).Done()
		if NotPerformed(r.Err) {
			return nil // the table is gone, and the file with it
		}
		return r.Err
	}
	if Lingers(l.fd) {
		return ops.CloseNow(l.fd)
	}
	r := <-driver.Submit(l.drv, ops.Close(l.fd)).Done()
	if NotPerformed(r.Err) {
		return unix.Close(l.fd)
	}
	return r.Err
}

// Lingers reports whether fd is a socket whose closing may wait for its peer, and would hold up the ring, were it closed there: SO_LINGER is set.
func Lingers(fd int) bool {
	l, err := unix.GetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER)
	return err == nil && l.Onoff != 0 && l.Linger > 0
}

// Acquire takes a reference. It is false once Close has been called.
func (h *Handle) Acquire() bool {
	if h.state.Add(refOne)&closing != 0 {
		h.Release()
		return false
	}
	return true
}

// Release drops a reference.
func (h *Handle) Release() {
	if h.state.Add(^uint64(refOne-1)) == closing && h.finish() {
		h.idle.Set()
	}
}

// Closing reports whether Close has been called.
func (h *Handle) Closing() bool { return h.state.Load()&closing != 0 }

// finish decides, once, that nobody uses the descriptor any more.
func (h *Handle) finish() bool { return h.state.CompareAndSwap(closing, closing|finished) }

// Settle ends an operation that took a reference: unless the kernel still has it, the reference is dropped. An operation that ended
// because of Close gets the error closed.
func (h *Handle) Settle(err, closed error) error {
	if err == nil {
		h.Release()
		return nil
	}
	if Abandoned(err) {
		return err // the driver calls Free
	}
	if (err == syscall.ECANCELED || err == syscall.EINTR) && h.Closing() {
		err = closed
	}
	h.Release()
	return err
}

// Shut ends the use of the descriptor: no operation begins any more, those in flight are cancelled and waited for. Its caller is then
// the one to call Close or Detach. If ctx ends while it waits, the rest happens in the background, the closing included. Of several
// calls one succeeds; first is false for the others.
func (h *Handle) Shut(ctx context.Context) (first bool, err error) { return h.ShutLater(ctx, h) }

// ShutLater is Shut for an owner with more to do than to close the descriptor: later is what is closed if that happens in the background.
func (h *Handle) ShutLater(ctx context.Context, later io.Closer) (first bool, err error) {
	if h.state.Or(closing)&closing != 0 {
		return false, nil
	}
	h.cleanup.Stop()
	if !h.finish() {
		if err := h.drain(ctx); err != nil {
			go func() {
				if h.drain(context.Background()) == nil {
					_ = later.Close() // nobody is left to tell
				}
			}()
			return true, err
		}
	}
	return true, nil
}

// drain cancels the operations in flight and waits until they have ended. An operation that was on its way to the driver may miss
// a cancellation, so they are repeated. What does not end soon may be another driver's.
func (h *Handle) drain(ctx context.Context) error {
	for pause := time.Millisecond; ; pause = min(2*pause, time.Second) {
		if pause == time.Millisecond || h.direct {
			h.Driver.CancelDescriptor(h.FD, h.direct, h.held)
		} else {
			driver.CancelEverywhere(h.FD, h.held)
		}
		wait, cancel := context.WithTimeout(ctx, pause)
		err := h.idle.Wait(wait)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return driver.Canceled(ctx)
		}
	}
}

// held reports whether the descriptor is this handle's still.
func (h *Handle) held() bool { return h.state.Load()&finished == 0 }

// Close closes the descriptor after Shut. It blocks, on the system call or, for a place in the ring's table, on the driver: not for the driver's
// own thread. See Lingers.
func (h *Handle) Close() error {
	if h.direct {
		return h.last().close()
	}
	return ops.CloseNow(h.FD)
}

// ClosePlace is Close for a place in the ring's table, by way of ctx's executor where that is the driver's: the caller may be on the driver's
// own thread, and must not wait for itself there. A ctx that has ended does not keep it from happening.
func (h *Handle) ClosePlace(ctx context.Context) error {
	if d, err := executor.DriverOf(ctx); err != nil || d != h.Driver {
		ctx = driver.NewContext(context.Background(), h.Driver)
	}
	res := executor.Do(context.WithoutCancel(ctx), ops.CloseDirect(h.FD))
	if NotPerformed(res.Err) {
		return nil // the table goes with its ring, and the file with it
	}
	return res.Err
}

// CloseApart is Close for a descriptor whose closing may wait for somebody else and must not be cancelled: it happens on a goroutine of
// its own, and first before it, if that is not nil. If ctx ends first, it goes on in the background.
func (h *Handle) CloseApart(ctx context.Context, first func()) error {
	var err error
	var done executor.Event
	go func() {
		if first != nil {
			first()
		}
		err = h.Close()
		done.Set()
	}()
	if early := done.Wait(ctx); early != nil {
		return early
	}
	return err
}

// staying is the context of a caller who waits until the kernel has let go of what was given to it: to be let go before by a Config.CancelGrace
// would bring nothing but not to know what became of it.
type staying struct{ context.Context }

// Stay returns a context for the operations of such a caller.
func Stay(ctx context.Context) context.Context { return staying{ctx} }

// Stays reports whether ctx is one: then the operation is ops.Spec.Patient.
func Stays(ctx context.Context) bool {
	_, ok := ctx.(staying)
	return ok
}

// Abandoned reports whether the kernel still has what was given to the operation.
func Abandoned(err error) bool { return err != nil && errors.Is(err, driver.ErrAbandoned) }

// Back is what a call hands back of what was given to it: nothing if the kernel has it still.
func Back[B any](b B, err error) (back B) {
	if Abandoned(err) {
		return back
	}
	return b
}

// NotPerformed reports whether a driver refused an operation without starting it.
func NotPerformed(err error) bool {
	return err != nil && (errors.Is(err, driver.ErrClosed) || errors.Is(err, driver.ErrBroken) || errors.Is(err, driver.ErrNoDriver))
}
