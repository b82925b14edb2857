package fs

import (
	"context"
	"io"
	"math"
	"os"
	"syscall"

	"uringo/driver"
)

// What callers need beside this package, under the names of os and io/fs.
type (
	FileInfo  = os.FileInfo
	FileMode  = os.FileMode
	DirEntry  = os.DirEntry
	PathError = os.PathError
	LinkError = os.LinkError
)

// Types of files, as in FileMode.
const (
	ModeDir        = os.ModeDir
	ModeSymlink    = os.ModeSymlink
	ModeNamedPipe  = os.ModeNamedPipe
	ModeSocket     = os.ModeSocket
	ModeDevice     = os.ModeDevice
	ModeCharDevice = os.ModeCharDevice
	ModeType       = os.ModeType
	ModePerm       = os.ModePerm
)

// Errors for errors.Is.
var (
	ErrInvalid    = os.ErrInvalid
	ErrNotExist   = os.ErrNotExist
	ErrExist      = os.ErrExist
	ErrPermission = os.ErrPermission
	ErrClosed     = os.ErrClosed
)

const (
	errAppend         badArgument = "the file was opened with O_APPEND, and has no other place to write to than its end: use Write"
	errAppendInRing   badArgument = "a file in the ring is written at offsets, and with O_APPEND has none: use OpenFile"
	errNotSingle      badArgument = "name must be a single path component"
	errNotRemoved     badArgument = "neither . nor .. is removed"
	errNegativeOffset badArgument = "negative offset"
	errNegativeSize   badArgument = "negative size"
	errRange          badArgument = "offset and length exceed the largest file"
	errOverlap        badArgument = "source and destination overlap" // a copy of a file onto itself, which would destroy it
	errWhence         badArgument = "invalid whence"
)

// badArgument says what is wrong with an argument. It is EINVAL, as the kernel would say.
type badArgument string

func (e badArgument) Error() string   { return string(e) }
func (e badArgument) Is(t error) bool { return t == syscall.EINVAL }

// refusal is an errno for a reason that its own text does not tell.
type refusal struct {
	errno  syscall.Errno
	reason string
}

func (e *refusal) Error() string { return e.reason }
func (e *refusal) Unwrap() error { return e.errno }

// What openat2(2) says of a path that was to stay beneath a directory.
var (
	errOutside = &refusal{syscall.EXDEV, "the path leads out of the directory"}
	errSymlink = &refusal{syscall.ELOOP, "the path has a symbolic link"}
)

// checkRange validates where a transfer of n bytes shall take place.
func checkRange(off, n int64) error {
	switch {
	case off < 0:
		return errNegativeOffset
	case off > math.MaxInt64-n:
		return errRange
	}
	return nil
}

// pathError wraps err once: an error that names a path already, and io.EOF, stay as they are.
func pathError(op, path string, err error) error {
	switch e := err.(type) {
	case nil:
		return nil
	case *PathError, *LinkError:
		return e
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return err
	}
	return &PathError{Op: op, Path: path, Err: err}
}

func linkError(op, from, to string, err error) error {
	if err == nil {
		return nil
	}
	return &LinkError{Op: op, Old: from, New: to, Err: err}
}

// says reports whether err is this answer of the kernel to an operation of this package. errors.Is also tells of what is behind the end of a
// context, which may be what another operation was told of another file.
func says(err error, errno syscall.Errno) bool {
	switch e := err.(type) {
	case *PathError:
		return e.Err == errno
	case *LinkError:
		return e.Err == errno
	}
	return err == errno
}

// canceled returns the error of ctx, if it has ended.
func canceled(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return driver.Canceled(ctx)
}
