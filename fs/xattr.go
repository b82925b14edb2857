package fs

import (
	"bytes"
	"context"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/ops"
)

// GetXattr returns the value of the extended attribute name, such as "user.origin". ENODATA means that there is none of that name.
// Kernel 5.19, else a plain call; getxattr(2).
func (f *File) GetXattr(ctx context.Context, name string) ([]byte, error) {
	value, err := grow(func(b []byte) (int, error) {
		res := do(ctx, f, OpAttr, ops.Fgetxattr(f.h.FD, name, b))
		return res.N, res.Err
	})
	return value, f.wrap("getxattr", err)
}

// SetXattr gives the extended attribute name a value. flags are 0, unix.XATTR_CREATE or unix.XATTR_REPLACE. The value is copied first.
// Kernel 5.19, else a plain call; setxattr(2).
func (f *File) SetXattr(ctx context.Context, name string, value []byte, flags uint32) error {
	return f.wrap("setxattr", do(ctx, f, OpAttr, ops.Fsetxattr(f.h.FD, name, bytes.Clone(value), flags)).Err)
}

// ListXattr returns the names of the extended attributes. listxattr(2).
func (f *File) ListXattr(ctx context.Context) ([]string, error) {
	list, err := grow(func(b []byte) (int, error) {
		return doCall(ctx, f, OpAttr, func(fd int) (int, error) { return unix.Flistxattr(fd, b) })
	})
	if err != nil || len(list) == 0 {
		return nil, f.wrap("listxattr", err)
	}
	return strings.Split(strings.TrimSuffix(string(list), "\x00"), "\x00"), nil
}

// RemoveXattr removes the extended attribute name. removexattr(2).
func (f *File) RemoveXattr(ctx context.Context, name string) error {
	return f.change(ctx, "removexattr", func(fd int) error { return unix.Fremovexattr(fd, name) })
}

// grow calls get with larger buffers until the answer fits. Asking for its size first would be no better: it may change.
func grow(get func([]byte) (int, error)) ([]byte, error) {
	const largest = 64 << 10 // XATTR_SIZE_MAX and XATTR_LIST_MAX
	for size := 256; ; size = min(8*size, largest) {
		b := make([]byte, size)
		n, err := get(b)
		if err == nil {
			return b[:n], nil
		}
		if err != syscall.ERANGE || size == largest {
			return nil, err
		}
	}
}
