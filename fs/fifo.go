package fs

import (
	"context"
	"strconv"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/handle"
	"uringo/ops"
)

// awaitWriter makes of a FIFO that was opened for reading, without waiting, one that has or had a writer, as a blocking open does. It
// returns the same descriptor or, after closing that, another one.
func awaitWriter(ctx context.Context, d *driver.Driver, as *driver.Personality, fd, flag int) (int, error) {
	// A writer may have come and gone before anybody waits for one. What he left shows on the descriptor that was there.
	came := driver.Submit(d, ops.PollAdd(fd, unix.POLLIN))
	flag &^= unix.O_CREAT | unix.O_TRUNC | unix.O_NOFOLLOW
	waited, err := openWaiting(ctx, d, place{dirfd: cwd, as: as}, procPath(fd), flag, 0, came)
	came.Cancel()
	_, _ = executor.Block(context.WithoutCancel(ctx), func() (struct{}, error) { // the operation holds the file open
		<-came.Done()
		return struct{}{}, nil
	})
	if err == nil && waited < 0 {
		err = came.Wait(context.WithoutCancel(ctx)).Err // with which the driver may have ended
	}
	if err == nil && waited < 0 {
		if _, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, 0); err == nil {
			return fd, nil
		}
	}
	_ = unix.Close(fd) // a FIFO has nothing to lose
	if handle.Abandoned(err) {
		err = driver.ErrClosed // which has let us go; the kernel has nothing of the caller's, neither the directory nor a buffer
	}
	return waited, err
}

// openWaiting opens what may make it wait, for as long as ctx lets it, or until enough has ended, which may be nil: then there is
// no descriptor and no error.
func openWaiting(ctx context.Context, d *driver.Driver, at place, name string, flag int, mode uint32,
	enough *driver.Pending[struct{}]) (int, error) {
	o := &opening{fd: -1}
	if d.Engine() == driver.Uring {
		o.byRing(d, at, name, flag, mode)
	} else if err := o.byHand(ctx, at, name, flag); err != nil {
		return -1, err
	}
	if enough != nil {
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			select {
			case <-enough.Done():
				o.news.Set()
			case <-stop:
			}
		}()
	}
	err := o.news.Wait(ctx)
	if o.ended.IsSet() {
		o.forget()
		return o.fd, o.err
	}
	if release, ok := o.cancel(); ok {
		o.discard(context.WithoutCancel(ctx))
		release()
		if at.free != nil && handle.Abandoned(o.err) {
			return -1, o.err // the kernel may still look for the name in that directory
		}
	} else {
		go o.discard(context.Background())
	}
	return -1, err
}

// opening is an open(2) that waits.
type opening struct {
	fd    int
	err   error
	ended executor.Event // fd and err are there
	news  executor.Event // it ended, or something else happened that its caller waits for

	unwanted atomic.Bool // byHand: nobody waits any more, and the file is to stay as it is

	// cancel makes it end soon, if it can; then release is called when it has ended.
	cancel func() (release func(), ok bool)
	// forget is called when it has ended and is not cancelled any more.
	forget func()
}

func (o *opening) end() {
	o.ended.Set()
	o.news.Set()
}

// discard waits for the outcome, which nobody wants any more.
func (o *opening) discard(ctx context.Context) {
	if o.ended.Wait(ctx) == nil && o.err == nil {
		_ = unix.Close(o.fd)
	}
	o.forget()
}

func (o *opening) byRing(d *driver.Driver, at place, name string, flag int, mode uint32) {
	op := at.open(name, flag, mode)
	op.Flags |= ops.Async // a thread of the kernel waits, and lets itself be cancelled
	op.Release = at.free
	p := driver.Submit(d, op)
	o.cancel = func() (func(), bool) {
		p.Cancel()
		return func() {}, true
	}
	o.forget = func() {}
	go func() {
		r := <-p.Done()
		o.fd, o.err = r.N, r.Err
		o.end()
	}()
}

// byHand waits on a goroutine. Its thread can only be freed by opening the other end of the FIFO for a moment.
func (o *opening) byHand(ctx context.Context, at place, name string, flag int) error {
	fifo := -1
	find := at.open(name, unix.O_PATH, 0)
	find.As = nil // by the thread
	err := withRights(ctx, at.as, func() error {
		r := ops.Run(&find)
		fifo = r.N
		return r.Err
	})
	if err != nil {
		return err
	}
	var st unix.Stat_t
	hasEnds := unix.Fstat(fifo, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO
	go func() {
		o.err = withRights(context.WithoutCancel(ctx), at.as, func() error {
			err := ignoringEINTR(func() (err error) {
				o.fd, err = unix.Open(procPath(fifo), flag&^(unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW)|unix.O_CLOEXEC, 0)
				return err
			})
			if err == nil && flag&unix.O_TRUNC != 0 && !o.unwanted.Load() {
				err = o.empty()
			}
			return err
		})
		o.end()
	}()
	o.forget = func() { _ = unix.Close(fifo) } // not before: to cancel is to open by its number
	o.cancel = func() (func(), bool) {
		o.unwanted.Store(true)
		if !hasEnds {
			return nil, false // a lease, whose holder has his time
		}
		other := unix.O_WRONLY
		if flag&unix.O_ACCMODE == unix.O_WRONLY {
			other = unix.O_RDONLY
		}
		end, err := unix.Open(procPath(fifo), other|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, false // no permission
		}
		return func() { _ = unix.Close(end) }, true
	}
	return nil
}

// empty does what O_TRUNC asks for, which takes the right to write to the file and not that it was opened for that. What waits for a lease and
// is given up cannot be stopped, as a FIFO can: with that flag it would empty the file some time later.
func (o *opening) empty() error {
	err := ignoringEINTR(func() error { return unix.Truncate(procPath(o.fd), 0) })
	if err == nil || err == syscall.EINVAL { // there is nothing to cut off a FIFO or a device
		return nil
	}
	_ = unix.Close(o.fd) // it was not even written to
	o.fd = -1
	return err
}

func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
