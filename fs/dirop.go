package fs

import (
	"context"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/executor"
	"uringo/ops"
)

// doAt performs an operation on a name in a directory. The operation is made by mk for the name as it is to be looked up.
func doAt[T any](ctx context.Context, d *Dir, verb string, op Operation, name string, mk func(name string) ops.Op[T]) error {
	one := single(name)
	if one == "" {
		return d.wrap(verb, name, badName(name))
	}
	return d.wrap(verb, name, do(ctx, d.f, op, mk(one)).Err)
}

// doTwo performs an operation on names in two directories.
func doTwo(ctx context.Context, verb string, op Operation, from *Dir, old string, to *Dir, new string, mk func(old, new string) ops.Op[struct{}]) error {
	err := twoNames(ctx, op, from, old, to, new, mk)
	if err == nil {
		return nil
	}
	return linkError(verb, from.join(old), to.join(new), err)
}

func twoNames(ctx context.Context, op Operation, from *Dir, old string, to *Dir, new string, mk func(old, new string) ops.Op[struct{}]) error {
	one, two := single(old), single(new)
	if one == "" {
		return badName(old)
	}
	if two == "" {
		return badName(new)
	}
	return doBoth(ctx, op, from.f, to.f, func() ops.Op[struct{}] { return mk(one, two) })
}

// doBoth performs an operation on two descriptors.
func doBoth(ctx context.Context, op Operation, a, b *File, mk func() ops.Op[struct{}]) error {
	if a.as != b.as {
		return errTwoUsers
	}
	if !b.h.Acquire() {
		return ErrClosed
	}
	o := mk()
	o.As = a.whose()
	if !a.h.Acquire() {
		b.h.Release()
		return ErrClosed
	}
	o.Release = func() {
		a.h.Release()
		b.h.Release()
	}
	remote := (a.known()|b.known())&traitRemote != 0
	c := executor.CallerOf(ctx)
	res := perform(ctx, c, choose(c, op, a.pinned(op), remote), remote, o)
	b.h.Settle(res.Err, ErrClosed)
	return a.h.Settle(res.Err, ErrClosed)
}

// callAt makes a plain call on a name in a directory, for what has no opcode.
func callAt(ctx context.Context, d *Dir, verb string, op Operation, name string, fn func(fd int, name string) error) error {
	one := single(name)
	if one == "" {
		return d.wrap(verb, name, badName(name))
	}
	_, err := doCall(ctx, d.f, op, func(fd int) (struct{}, error) {
		return struct{}{}, ignoringEINTR(func() error { return fn(fd, one) })
	})
	return d.wrap(verb, name, err)
}

// single returns name without trailing slashes if it is a single component other than .., or else "".
func single(name string) string {
	if t := strings.TrimRight(name, "/"); t != ".." && !strings.Contains(t, "/") {
		return t
	}
	return ""
}

// itself reports whether name means the directory. It is reached by its descriptor then: to look up "." takes the right to search it.
func itself(name string) bool { return single(name) == "." }

func badName(name string) error {
	if name == "" {
		return syscall.ENOENT
	}
	return errNotSingle
}

// chmodAt is fchmodat(2) that does not follow a symbolic link, which Linux has as a call of its own since 6.6. Before, there is a way
// through the descriptor of the file itself, whatever it is.
func chmodAt(dirfd int, name string, bits uint32) error {
	err := unix.Fchmodat(dirfd, name, bits, unix.AT_SYMLINK_NOFOLLOW)
	if err != syscall.ENOSYS && err != syscall.EOPNOTSUPP && err != syscall.EPERM {
		return err
	}
	fd, err2 := unix.Openat(dirfd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err2 != nil {
		return err2
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return syscall.EOPNOTSUPP
	}
	return unix.Chmod(procPath(fd), bits)
}
