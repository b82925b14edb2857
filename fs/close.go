package fs

import (
	"context"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/handle"
	"uringo/ops"
)

// Close closes the file. Operations on it that have not ended are cancelled; those that wait, on a pipe say, end with [ErrClosed], and
// further ones fail so at once. Close waits for all of them. If ctx ends first, Close returns its error and the file is closed
// later, in the background. A second Close is an error, [ErrClosed]. Kernel 5.6, close(2).
//
// Close does not sync. On most file systems an error in writing shows at SyncAll or not at all.
func (f *File) Close(ctx context.Context) error {
	first, err := f.h.ShutLater(ctx, (*unlocked)(f))
	switch {
	case !first:
		err = ErrClosed
	case err == nil:
		err = f.closeFD(ctx)
	}
	return f.wrap("close", err)
}

// Detach ends the use of the file as Close does, but does not close it: the descriptor belongs to the caller, who may make an [os.File] of it with
// [os.NewFile]. If ctx ends while it waits for operations in flight, the file is closed after them.
func (f *File) Detach(ctx context.Context) (fd int, err error) {
	first, err := f.h.ShutLater(ctx, (*unlocked)(f))
	if !first {
		err = ErrClosed
	}
	if err != nil {
		return -1, f.wrap("detach", err)
	}
	return f.h.FD, nil
}

// closeFD is close(2), after everything else has ended. A ctx that has ended does not keep it from happening. It can take long for the last
// reference to an unlinked file, and for whatever a remote file system does then.
func (f *File) closeFD(ctx context.Context) error {
	if f.known()&traitRemote != 0 {
		return f.h.CloseApart(ctx, f.leave) // it may have to wait for a server
	}
	f.leave()
	c := executor.CallerOf(ctx)
	r := choose(c, OpClose, f.pinned(OpClose), false)
	p := &onNames[OpClose]
	if s, ok := p.enter(c, r); ok {
		defer p.leave(ctx, s, 0)
		count(ctx, s.lane, driver.RouteDirect)
		return ops.CloseNow(f.h.FD)
	}
	res := perform(context.WithoutCancel(ctx), c, r.instead(), false, ops.Close(f.h.FD))
	if handle.NotPerformed(res.Err) {
		return ops.CloseNow(f.h.FD) // there is no driver any more: this may be its thread, which would wait for itself
	}
	return res.Err
}
