package ops

import (
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestXattr(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		e.need(kindGetxattr, "5.19")
		fd := e.file("")
		path := filepath.Join("/proc/self/fd", strconv.Itoa(fd))
		r := do(e, Fsetxattr(fd, "user.a", []byte("value"), 0))
		if r.Err == syscall.EOPNOTSUPP {
			t.Skip("this file system has no user attributes")
		}
		if r.Err != nil || string(r.Buf) != "value" {
			t.Fatalf("%+v", r)
		}
		must(e, Setxattr(path, "user.b", []byte("longer value"), unix.XATTR_CREATE))
		must(e, Setxattr(path, "user.empty", nil, 0))
		fails(e, Setxattr(path, "user.b", []byte("x"), unix.XATTR_CREATE), syscall.EEXIST)
		fails(e, Fsetxattr(fd, "user.c", []byte("x"), unix.XATTR_REPLACE), syscall.ENODATA)

		buf := make([]byte, 64)
		if r := do(e, Fgetxattr(fd, "user.b", buf)); string(r.Buf[:r.N]) != "longer value" {
			t.Errorf("%d %q, %v", r.N, r.Buf, r.Err)
		}
		if r := do(e, Getxattr(path, "user.a", buf)); string(r.Buf[:r.N]) != "value" {
			t.Errorf("%d %q, %v", r.N, r.Buf, r.Err)
		}
		if n := must(e, Getxattr(path, "user.empty", buf)); n != 0 {
			t.Errorf("%d", n)
		}
		// The size, without the value.
		if n := must(e, Getxattr(path, "user.b", nil)); n != 12 {
			t.Errorf("%d", n)
		}
		if n := must(e, Fgetxattr(fd, "user.b", nil)); n != 12 {
			t.Errorf("%d", n)
		}
		fails(e, Getxattr(path, "user.b", buf[:3]), syscall.ERANGE)
		fails(e, Fgetxattr(fd, "user.none", buf), syscall.ENODATA)
		fails(e, Getxattr("/none", "user.a", buf), syscall.ENOENT)
		fails(e, Fgetxattr(fd, "user.\x00", buf), syscall.EINVAL)
	})
}
