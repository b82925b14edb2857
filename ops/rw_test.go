package ops

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReadAt(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		fd := e.file("0123456789")
		for _, c := range []struct {
			len  int
			off  int64
			want string
		}{{4, 0, "0123"}, {4, 3, "3456"}, {20, 0, "0123456789"}, {4, 8, "89"}, {4, 10, ""}, {4, 1 << 40, ""}, {0, 0, ""}} {
			buf := make([]byte, c.len)
			r := do(e, ReadAt(fd, buf, c.off))
			if r.Err != nil || string(r.Buf[:r.N]) != c.want || len(r.Buf) != c.len {
				t.Errorf("%d bytes at %d: %d %q, %v; want %q", c.len, c.off, r.N, r.Buf, r.Err, c.want)
			}
		}
		buf := make([]byte, 6)
		for _, want := range []string{"012345", "6789", ""} {
			if r := do(e, ReadAt(fd, buf, -1)); r.Err != nil || string(buf[:r.N]) != want {
				t.Errorf("at the position: %q, %v; want %q", buf[:r.N], r.Err, want)
			}
		}
		fails(e, ReadAt(fd, buf, -2), syscall.EINVAL)
		fails(e, ReadAt(-1, buf, 0), syscall.EBADF)
		dir := e.opened(unix.Open(t.TempDir(), unix.O_RDONLY|unix.O_CLOEXEC, 0))
		fails(e, ReadAt(dir, buf, 0), syscall.EISDIR)
		w := e.opened(unix.Open(os.DevNull, unix.O_WRONLY|unix.O_CLOEXEC, 0))
		fails(e, ReadAt(w, buf, 0), syscall.EBADF)
		if r := do(e, ReadAt(-1, buf, 0)); &r.Buf[0] != &buf[0] {
			t.Error("a failed read cost the buffer")
		}
	})
}

func TestWriteAt(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		fd := e.file("0123456789")
		if n := must(e, WriteAt(fd, []byte("ab"), 3)); n != 2 {
			t.Errorf("wrote %d", n)
		}
		must(e, WriteAt(fd, []byte("x"), 12))
		must(e, WriteAt(fd, []byte("yz"), -1))
		must(e, WriteAt(fd, []byte("!"), -1))
		must(e, WriteAt(fd, nil, 100))
		if got, want := e.content(fd), "yz!ab56789\x00\x00x"; got != want {
			t.Errorf("%q; want %q", got, want)
		}
		fails(e, WriteAt(fd, []byte("x"), -2), syscall.EINVAL)
		fails(e, WriteAt(-1, []byte("x"), 0), syscall.EBADF)
		full := e.opened(unix.Open("/dev/full", unix.O_WRONLY|unix.O_CLOEXEC, 0))
		fails(e, WriteAt(full, []byte("x"), 0), syscall.ENOSPC)
		r, w := e.pipe()
		_ = unix.Close(r)
		fails(e, WriteAt(w, []byte("x"), -1), syscall.EPIPE)
	})
}

func TestReadWriteFlags(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		fd := e.file("0123456789")
		must(e, WriteAtFlags(fd, []byte("a"), 0, unix.RWF_DSYNC))
		must(e, WriteAtFlags(fd, []byte("b"), 0, unix.RWF_APPEND))
		must(e, WritevAtFlags(fd, [][]byte{[]byte("c"), []byte("d")}, 1, unix.RWF_SYNC))
		if got, want := e.content(fd), "acd3456789b"; got != want {
			t.Errorf("%q; want %q", got, want)
		}
		buf := make([]byte, 4)
		if n := must(e, ReadAtFlags(fd, buf, 0, unix.RWF_NOWAIT)); n != 4 || string(buf) != "acd3" {
			t.Errorf("%d %q", n, buf) // it was just written, so it is cached
		}
		fails(e, ReadAtFlags(fd, buf, 0, 1<<30), syscall.EOPNOTSUPP)

		r, _ := e.pipe()
		op := ReadAtFlags(r, buf, -1, unix.RWF_NOWAIT)
		if !op.NoWait() {
			t.Error("does not know that it must not wait")
		}
		fails(e, op, syscall.EAGAIN)
		fails(e, ReadvAtFlags(r, [][]byte{buf}, -1, unix.RWF_NOWAIT), syscall.EAGAIN)
		for flag, want := range map[uint32]error{unix.RWF_HIPRI: syscall.EINVAL, unix.RWF_ATOMIC: syscall.EOPNOTSUPP, 1 << 30: syscall.EOPNOTSUPP} {
			fails(e, ReadAtFlags(r, buf, -1, flag), want)
			fails(e, ReadvAtFlags(r, [][]byte{buf}, -1, flag), want)
		}
		fails(e, ReadAtFlags(fd, buf, 0, unix.RWF_HIPRI), syscall.EINVAL)
		if plain := ReadAt(r, buf, -1); plain.NoWait() {
			t.Error("believes that it must not wait")
		}
	})
}

func TestVectored(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		fd := e.file("")
		if n := must(e, WritevAt(fd, [][]byte{[]byte("ab"), nil, []byte("cde"), {}}, 1)); n != 5 {
			t.Errorf("wrote %d", n)
		}
		if got, want := e.content(fd), "\x00abcde"; got != want {
			t.Errorf("%q; want %q", got, want)
		}
		a, b := make([]byte, 2), make([]byte, 9)
		if r := do(e, ReadvAt(fd, [][]byte{a, nil, b}, 1)); r.N != 5 || string(a) != "ab" || string(b[:3]) != "cde" || len(r.Buf) != 3 {
			t.Errorf("%+v", r)
		}
		if n := must(e, ReadvAt(fd, [][]byte{b}, -1)); n != 6 {
			t.Errorf("at the position: %d", n)
		}
		if n := must(e, ReadvAt(fd, nil, 0)); n != 0 {
			t.Errorf("into nothing: %d", n)
		}
		many := make([][]byte, MaxVec+10)
		for i := range many {
			many[i] = []byte{byte(i)}
		}
		if n := must(e, WritevAt(fd, many, 0)); n != MaxVec {
			t.Errorf("wrote %d of %d buffers", n, len(many))
		}
		fails(e, ReadvAt(fd, [][]byte{a}, -2), syscall.EINVAL)
	})
}

// Files without offsets take any: the ring is not pread(2).
func TestOffsetOfPipe(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		r, w := e.pipe()
		for _, off := range []int64{-1, 0, 77} {
			must(e, WriteAt(w, []byte("abc"), off))
			must(e, WritevAt(w, [][]byte{[]byte("def")}, off))
			buf := make([]byte, 3)
			if n := must(e, ReadAt(r, buf, off)); string(buf[:n]) != "abc" {
				t.Errorf("%q", buf[:n])
			}
			if n := must(e, ReadvAt(r, [][]byte{buf}, off)); string(buf[:n]) != "def" {
				t.Errorf("%q", buf[:n])
			}
		}
		fails(e, ReadAt(r, make([]byte, 1), -2), syscall.EINVAL)
	})
}

// Sockets have no offsets either, but the ring says so, except at the beginning.
func TestOffsetOfSocket(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
			p, err := unix.Socketpair(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC, 0)
			e.opened(p[0], err)
			e.opened(p[1], err)
			b := make([]byte, 1)
			for _, off := range []int64{3, 0, -1} {
				var want error
				if off > 0 {
					want = syscall.ESPIPE
				}
				for what, r := range map[string]func() error{
					"write":        func() error { return do(e, WriteAt(p[0], b, off)).Err },
					"writev":       func() error { return do(e, WritevAt(p[0], [][]byte{b}, off)).Err },
					"read":         func() error { return do(e, ReadAt(p[1], b, off)).Err },
					"readv":        func() error { return do(e, ReadvAt(p[1], [][]byte{b}, off)).Err },
					"read no wait": func() error { return do(e, ReadAtFlags(p[1], b, off, unix.RWF_NOWAIT)).Err },
					"read nothing": func() error { return do(e, ReadAt(p[1], nil, off)).Err },
					"plain write":  func() error { o := WriteAt(p[0], b, off); return Run(&o).Err },
					"plain read":   func() error { o := ReadAt(p[1], b, off); return Run(&o).Err },
				} {
					for range 2 { // what is to be read
						if _, err := unix.Write(p[0], b); err != nil {
							t.Fatal(err)
						}
					}
					if err := r(); err != want {
						t.Errorf("%s at %d: %v, want %v", what, off, err, want)
					}
				}
			}
		}
	})
}

// What has nothing to read yet is waited for, whatever kind of file it is.
func TestReadWaits(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		event := e.opened(unix.Eventfd(0, unix.EFD_CLOEXEC))
		r, w := e.pipe()
		master := e.opened(unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0))
		if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
			t.Fatal(err)
		}
		n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
		if err != nil {
			t.Fatal(err)
		}
		terminal := e.opened(unix.Open(fmt.Sprintf("/dev/pts/%d", n), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0))
		mode, err := unix.IoctlGetTermios(terminal, unix.TCGETS)
		if err == nil {
			mode.Oflag &^= unix.OPOST // or the end of the line comes in another way, and sometimes later
			err = unix.IoctlSetTermios(terminal, unix.TCSETS, mode)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			name     string
			from, to int
		}{
			{"pipe", r, w}, {"socket", e.opened(pair[0], nil), e.opened(pair[1], nil)}, {"event counter", event, event},
			{"terminal", master, terminal},
		} {
			const sent = "8 bytes\n"
			buf := make([]byte, 16)
			read := ReadAt(c.from, buf, -1)
			id := e.start(&read.Spec)
			if !e.pending(id) {
				t.Fatalf("%s: did not wait: %d", c.name, e.await(id))
			}
			if c.from == event && !e.portable {
				// A non-blocking write: the ring's own would do, too, but is done by a worker.
				if _, err := unix.Write(event, []byte(sent)); err != nil {
					t.Fatal(err)
				}
			} else {
				must(e, WriteAt(c.to, []byte(sent), -1))
			}
			got := e.await(id)
			if got != 8 || string(buf[:8]) != sent {
				t.Errorf("%s: %d %q", c.name, got, buf)
			}
		}
	})
}

// A write that fills the pipe is short or waits; none of it is lost.
func TestWriteWaits(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		r, w := e.pipe()
		size, err := unix.FcntlInt(uintptr(w), unix.F_GETPIPE_SZ, 0)
		if err != nil {
			t.Fatal(err)
		}
		fill := []byte(strings.Repeat("f", size))
		for n := 0; n < size; {
			n += must(e, WriteAt(w, fill[n:], -1))
		}
		write := WriteAt(w, []byte("late"), -1)
		id := e.start(&write.Spec)
		if !e.pending(id) {
			t.Fatalf("wrote to a full pipe: %d", e.await(id))
		}
		buf := make([]byte, size)
		for n := 0; n < size; {
			n += must(e, ReadAt(r, buf[n:], -1))
		}
		if n := e.await(id); n != 4 {
			t.Errorf("wrote %d", n)
		}
		if n := must(e, ReadAt(r, buf, -1)); string(buf[:n]) != "late" {
			t.Errorf("%q", buf[:n])
		}
	})
}

// The shapes of requests need no kernel.
func TestTransferLimits(t *testing.T) {
	huge, err := unix.Mmap(-1, 0, MaxTransfer+4096, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(huge)
	if op := ReadAt(0, huge, 0); op.len != MaxTransfer || len(op.Buf) != len(huge) {
		t.Errorf("%d bytes", op.len)
	}
	v := WritevAt(0, [][]byte{huge[:MaxTransfer-1], huge[:4096], huge[:1]}, 0).aux.(*vec)
	if v.total != MaxTransfer || len(v.iov) != 2 || v.iov[1].Len != 1 {
		t.Errorf("%d bytes in %d buffers", v.total, len(v.iov))
	}
	// The rest is the caller's still, and a chain does not take the first part for all.
	for _, op := range []Spec{WriteAt(0, huge, 5).Spec, WritevAt(0, [][]byte{huge[:MaxTransfer-1], huge[:4096], huge[:1]}, 5).Spec} {
		if op.Whole() || !op.Short(MaxTransfer) || !op.Advance(MaxTransfer) {
			t.Errorf("%s: the first part is all", op.Kind.Name)
			continue
		}
		if left := int32(op.total()); !op.Whole() || left != 4096 || op.Short(left) || op.off != 5+MaxTransfer {
			t.Errorf("%s: then %d bytes at %d", op.Kind.Name, left, op.off)
		}
	}
}
