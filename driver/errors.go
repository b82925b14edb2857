package driver

import (
	"context"
	"errors"
	"os"
	"syscall"
)

// Errors that a caller may want to tell apart.
var (
	// ErrClosed means that the driver is closing or closed: the operation was not performed.
	ErrClosed = errors.New("uringo: driver closed")

	// ErrAbandoned means that the caller stopped waiting while the kernel still owned the operation, because of
	// Config.CancelGrace or of a Close that ran out of time. The buffer is not handed back, and what the operation did
	// or will do is unknown.
	ErrAbandoned = errors.New("uringo: operation abandoned, its buffer stays with the kernel")

	// ErrNoDriver means that a context carries no driver. Run the code inside executor.Start, or pass a context made by
	// driver.NewContext.
	ErrNoDriver = errors.New("uringo: context carries no driver: call from a task of executor.Start, or use driver.NewContext")

	// ErrBroken means that the ring failed in a way that cannot be mended. Operations in flight are abandoned.
	ErrBroken = errors.New("uringo: ring broken")
)

// Canceled returns the error of an operation that ended because ctx did. It matches context.Cause(ctx), and for a deadline
// also os.ErrDeadlineExceeded. But a cause that is the error of an operation which was abandoned, as errgroup makes it one for the others of a
// group, does not have it match ErrAbandoned: that would say of this operation that its buffer is lost.
func Canceled(ctx context.Context) error {
	cause, err := context.Cause(ctx), ctx.Err()
	switch {
	case cause == nil:
		return syscall.ECANCELED
	case cause != err:
	case err == context.DeadlineExceeded:
		return errDeadline // connections with deadlines see it all the time
	case err == context.Canceled:
		return err
	}
	if matches(cause, ErrAbandoned) {
		cause = &elsewhere{cause}
	}
	if !matches(cause, err) {
		cause = errors.Join(err, cause)
	}
	if err == context.DeadlineExceeded || matches(cause, context.DeadlineExceeded) {
		return &deadlineError{cause}
	}
	return cause
}

// matches is errors.Is for an error of the user's: its methods may panic, as those of a nil pointer do, and that must not end who asks.
func matches(err, target error) (is bool) {
	defer func() { _ = recover() }()
	return errors.Is(err, target)
}

// elsewhere is the end of a context because of an operation that was abandoned.
type elsewhere struct{ cause error }

func (e *elsewhere) Error() string { return e.cause.Error() }
func (e *elsewhere) Is(target error) bool {
	return target != ErrAbandoned && errors.Is(e.cause, target)
}
func (e *elsewhere) As(target any) bool { return errors.As(e.cause, target) }

var errDeadline = &deadlineError{context.DeadlineExceeded}

// deadlineError is a context's deadline under both of its names.
type deadlineError struct{ cause error }

func (e *deadlineError) Error() string        { return e.cause.Error() }
func (e *deadlineError) Unwrap() error        { return e.cause }
func (e *deadlineError) Is(target error) bool { return target == os.ErrDeadlineExceeded }
func (e *deadlineError) Timeout() bool        { return true }
func (e *deadlineError) Temporary() bool      { return true }

// IsCanceled reports whether err is the outcome of an operation that was cancelled before it did anything.
func IsCanceled(err error) bool { return err == syscall.ECANCELED }
