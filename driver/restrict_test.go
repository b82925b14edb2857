package driver_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"uringo/buf"
	"uringo/driver"
	"uringo/internal/testenv"
	"uringo/ops"
)

// In a restricted ring everything works, and what the restriction excludes is a plain call.
func TestRestrict(t *testing.T) {
	only, err := driver.OnlyOps("FSYNC", "ioring_op_mkdirat")
	if err != nil {
		t.Fatal(err)
	}
	nothing, err := driver.OnlyOps()
	if err != nil {
		t.Fatal(err)
	}
	for name, restriction := range map[string]driver.Restriction{
		"no": {}, "data": driver.DataOnly(), "files": driver.FilesOnly(), "sockets": driver.SocketsOnly(), "two": only, "all": nothing,
	} {
		on(t, engines, func(e *rig) {
			d := e.open(driver.Config{Restrict: restriction})
			dir := e.TempDir()
			fd := e.file([]byte("hello"))
			a, b := e.sockets()
			excluded := func(op string) bool { return name != "no" && !slices.Contains(restriction.Ops(), op) }
			// check performs an operation, of which either the ring or a plain call has to be the way.
			check := func(op string, perform func() int) int {
				e.Helper()
				before := d.Stats().Calls
				n := perform()
				if called := d.Stats().Calls != before; called != excluded(op) {
					e.Errorf("restriction %s, %s: a plain call: %v", name, op, called)
				}
				return n
			}
			file := filepath.Join(dir, "file")
			opened := check("openat", func() int { return must(e, d, ops.Openat(unix.AT_FDCWD, file, unix.O_RDWR|unix.O_CREAT, 0o600)) })
			e.keep(opened, nil)
			check("mkdirat", func() int { return must(e, d, ops.Mkdirat(unix.AT_FDCWD, filepath.Join(dir, "dir"), 0o700)) })
			var st unix.Statx_t
			check("statx", func() int { return must(e, d, ops.Statx(unix.AT_FDCWD, file, 0, unix.STATX_BASIC_STATS, &st)) })
			if n := check("write", func() int { return must(e, d, ops.WriteAt(fd, []byte("HE"), 0)) }); n != 2 {
				e.Errorf("%d bytes written", n)
			}
			check("fsync", func() int { return must(e, d, ops.Fsync(fd)) })
			got := make([]byte, 5)
			before := d.Stats().Calls
			if n := must(e, d, ops.ReadAt(fd, got, 0)); string(got[:n]) != "HEllo" {
				e.Errorf("read %q", got[:n])
			}
			if d.Stats().Calls != before {
				e.Error("reading, which the ring needs itself, is a plain call")
			}
			check("socket", func() int {
				return e.keep(must(e, d, ops.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)), nil)
			})
			check("send", func() int { return must(e, d, ops.Send(a, []byte("ping"), 0)) })
			check("recv", func() int { return must(e, d, ops.Recv(b, got, 0)) })
			if string(got[:4]) != "ping" {
				e.Errorf("received %q", got)
			}
		})
	}
}

// Registered buffers and rings of buffers are there in a restricted ring, too.
func TestRestrictKeepsBuffers(t *testing.T) {
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{Restrict: driver.DataOnly()})
		arena, err := buf.NewArena(1 << 16)
		if err != nil {
			e.Fatal(err)
		}
		defer arena.Close()
		one := e.alloc(arena, 100)
		defer one.Release()
		if r := do(e, d, ops.ReadFixedAt(e.file([]byte("hello")), one, 0)); r.Err != nil || r.N != 5 {
			e.Errorf("%+v", r)
		}
		if want := e.registers() && testenv.MayRegister(e); (d.Stats().Fixed > 0) != want {
			e.Errorf("%d operations on registered memory; want some: %v", d.Stats().Fixed, want)
		}
		b, err := driver.NewBufferRing(d, 4, 64)
		if err != nil {
			e.Fatal(err)
		}
		in, out := e.sockets()
		s := driver.RecvMulti(d, in, b, 0, nil)
		e.write(out, []byte("ping"))
		c, err := s.Next(e.Context())
		if err != nil || string(c.Bytes()) != "ping" {
			e.Errorf("%q, %v", c.Bytes(), err)
		}
		c.Release()
		if err := s.Close(e.Context()); err != nil {
			e.Error(err)
		}
	})
}

// Places in the ring's table cannot be had where no plain call could fill them, and whoever asks is told.
func TestRestrictDirect(t *testing.T) {
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{Restrict: driver.DataOnly()})
		r := do(e, d, ops.OpenDirect(unix.AT_FDCWD, filepath.Join(e.TempDir(), "file"), unix.O_RDWR|unix.O_CREAT, 0o600))
		want := syscall.EOPNOTSUPP
		if d.Engine() == driver.Portable {
			want = syscall.ENXIO // it has no table
		}
		if !errors.Is(r.Err, want) {
			e.Errorf("%+v", r)
		}
	})
}

// Without the ring's polls there is no table: a plain call would wait for whatever descriptor has the number of the place.
func TestRestrictDirectPolls(t *testing.T) {
	names := []string{"openat", "read", "write", "fsync", "recv", "send", "shutdown", "close"}
	on(t, engines, func(e *rig) {
		for _, with := range []string{"poll_add", "nop"} {
			only, err := driver.OnlyOps(append(names, with)...)
			if err != nil {
				e.Fatal(err)
			}
			d := e.open(driver.Config{Restrict: only})
			want := error(syscall.ENXIO)
			if with == "poll_add" && e.registers() {
				want = nil
			}
			if r := do(e, d, ops.OpenDirect(unix.AT_FDCWD, "/dev/null", unix.O_RDWR, 0)); r.Err != want {
				e.Errorf("with %s: %+v, want %v", with, r, want)
			}
		}
	})
}

func TestRestrictionNames(t *testing.T) {
	if ops := (driver.Restriction{}).Ops(); ops != nil {
		t.Errorf("the zero restriction allows only %v", ops)
	}
	r, err := driver.OnlyOps("Read", "openat2", "IORING_OP_FSYNC", "read")
	if got := fmt.Sprint(r.Ops()); err != nil || got != "[fsync read openat2]" {
		t.Errorf("%v, %v", got, err)
	}
	for _, name := range []string{"", "ioring_op_", "uring_cmd", "reads", "IORING_OP_IORING_OP_READ"} {
		if r, err := driver.OnlyOps("nop", name); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", name)) || r != (driver.Restriction{}) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, op := range driver.DataOnly().Ops() {
		for _, at := range []string{"open", "at2", "stat", "linkat", "rename", "mkdir", "xattr", "socket", "connect", "bind"} {
			if strings.Contains(op, at) {
				t.Errorf("DataOnly allows %s", op)
			}
		}
	}
}
