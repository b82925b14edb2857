package fs

import (
	"context"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/ops"
)

// handle is an open descriptor and the count of the operations on it. The kernel looks a descriptor's number up when it starts an
// operation, not when that is queued, and gives the number to the next file as soon as it is closed. So a descriptor is closed only
// when no operation on it is queued or in flight.
type handle struct {
	// state is the number of references times refOne, and the two bits below. An operation takes a reference before it is
	// queued and drops it when it has ended, or, if its caller was let go, when the kernel has.
	state  atomic.Uint64
	tries  atomic.Uint32 // see countTry
	budget budget
	_      [48]byte // every operation writes to the cache line above; what follows is only read

	fd      int
	name    string
	drv     *driver.Driver
	cleanup runtime.Cleanup
	idle    executor.Event // closing, and the last reference is gone
	free    func()         // release, as a value: what the driver calls at the end of an abandoned operation
}

const (
	closing  = 1 << iota // Close was called: no new references
	finished             // the descriptor may be closed, by whoever set this bit
	refOne
)

// leftover is what it takes to close a descriptor whose handle is gone.
type leftover struct {
	fd  int
	drv *driver.Driver
}

// open fills in h, the first field of owner.
func (h *handle) open(fd int, name string, drv *driver.Driver) {
	h.fd, h.name, h.drv = fd, name, drv
	h.free = h.release
}

// collect has the descriptor closed in the background when h is dropped without being closed. An operation in flight holds its
// handle, so none is left at that time.
func (h *handle) collect() {
	h.cleanup = runtime.AddCleanup(h, func(l leftover) { go l.close() }, leftover{h.fd, h.drv})
}

func (l leftover) close() error {
	r := <-driver.Submit(l.drv, ops.Close(l.fd)).Done()
	if notPerformed(r.Err) {
		return unix.Close(l.fd)
	}
	return r.Err
}

// acquire takes a reference. It is false once Close has been called.
func (h *handle) acquire() bool {
	if h.state.Add(refOne)&closing != 0 {
		h.release()
		return false
	}
	return true
}

// release drops a reference.
func (h *handle) release() {
	if h.state.Add(^uint64(refOne-1)) == closing && h.finish() {
		h.idle.Set()
	}
}

// finish decides, once, that nobody uses the descriptor any more.
func (h *handle) finish() bool { return h.state.CompareAndSwap(closing, closing|finished) }

// settle ends an operation that took a reference: unless the kernel still has it, the reference is dropped. An operation that ended
// because of Close says so.
func (h *handle) settle(err error) error {
	if err == nil {
		h.release()
		return nil
	}
	if abandoned(err) {
		return err // the driver calls free
	}
	if (err == syscall.ECANCELED || err == syscall.EINTR) && h.state.Load()&closing != 0 {
		err = ErrClosed
	}
	h.release()
	return err
}

// close closes the descriptor: it marks it, ends what is in flight, waits for that and closes. If ctx ends while it waits, the rest
// goes on in the background. The number is never closed twice.
func (h *handle) close(ctx context.Context, route func(context.Context) (Route, bool)) error {
	if h.state.Or(closing)&closing != 0 {
		return &PathError{Op: "close", Path: h.name, Err: ErrClosed}
	}
	h.cleanup.Stop()
	if !h.finish() {
		if err := h.drain(ctx); err != nil {
			go func() {
				if h.drain(context.Background()) == nil {
					_ = h.last().close() // nobody is left to tell
				}
			}()
			return &PathError{Op: "close", Path: h.name, Err: err}
		}
	}
	r, remote := route(ctx)
	return pathError("close", h.name, h.closeFD(ctx, r, remote))
}

// drain cancels the operations in flight and waits until they have ended. An operation that was on its way to the driver may miss
// a cancellation, so they are repeated.
func (h *handle) drain(ctx context.Context) error {
	for pause := time.Millisecond; ; pause = min(2*pause, time.Second) {
		driver.Submit(h.drv, ops.CancelFD(h.fd))
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

// closeFD is close(2). A ctx that has ended does not keep it from happening.
func (h *handle) closeFD(ctx context.Context, r Route, remote bool) error {
	if remote {
		// It may have to wait for a server, and must not be cancelled.
		var err error
		var done executor.Event
		go func() {
			err = h.last().close()
			done.Set()
		}()
		if err := done.Wait(ctx); err != nil {
			return err
		}
		return err
	}
	res := perform(context.WithoutCancel(ctx), r, false, ops.Close(h.fd))
	if notPerformed(res.Err) {
		return h.last().close()
	}
	return res.Err
}

func (h *handle) last() leftover { return leftover{h.fd, h.drv} }
