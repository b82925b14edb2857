package fs

import (
	"context"

	"golang.org/x/sys/unix"

	"uringo/driver"
)

// Pipe makes a pipe: what is written to w can be read from r, in the same order, by [File.Write] and [File.Read]. A read waits for a write,
// and a write for room, 64 KiB mostly; ctx ends the wait. When w is closed, r ends with io.EOF; when r is closed, writing is EPIPE. Both are
// close-on-exec. pipe(2).
func Pipe(ctx context.Context) (r, w *File, err error) {
	d, err := driver.FromContext(ctx)
	if err != nil {
		return nil, nil, &PathError{Op: "pipe", Path: "|", Err: err}
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, &PathError{Op: "pipe", Path: "|", Err: err}
	}
	const traits = traitKnown | traitStream
	return newFile(d, fds[0], "|0", unix.O_RDONLY, traits), newFile(d, fds[1], "|1", unix.O_WRONLY, traits), nil
}
