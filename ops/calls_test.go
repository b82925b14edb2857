package ops

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

// perform makes the plain call of an operation.
func perform[T any](op Op[T]) int32 {
	e := new(ring.SQE)
	op.Prepare(e)
	res := calls[e.Op].Do(e)
	runtime.KeepAlive(&op)
	return res
}

// The calls themselves wait, and give the same as when they are tried first.
func TestCallsWait(t *testing.T) {
	e := &engine{TB: t}
	r, w := e.pipe()
	fd := e.file("")
	go func() {
		time.Sleep(time.Millisecond)
		perform(WriteAt(w, []byte("abc"), 5))
	}()
	buf := make([]byte, 2)
	if n := perform(PollAdd(r, unix.POLLIN)); n != unix.POLLIN {
		t.Errorf("poll: %d", n)
	}
	if n := perform(ReadAt(r, buf, 0)); n != 2 || string(buf) != "ab" {
		t.Errorf("read: %d %q", n, buf)
	}
	if n := perform(ReadvAt(r, [][]byte{buf}, 7)); n != 1 || buf[0] != 'c' {
		t.Errorf("readv: %d %q", n, buf)
	}
	if n := perform(WritevAt(fd, [][]byte{[]byte("x"), []byte("yz")}, 1)); n != 3 || e.content(fd) != "\x00xyz" {
		t.Errorf("writev: %d %q", n, e.content(fd))
	}
	go func() {
		time.Sleep(time.Millisecond)
		perform(WriteAtFlags(w, []byte("abc"), 9, unix.RWF_NOWAIT))
	}()
	if n := perform(Splice(r, -1, fd, 0, 3, 0)); n != 3 || e.content(fd) != "abcz" {
		t.Errorf("splice: %d %q", n, e.content(fd))
	}
	if n := perform(NopResult(-5)); n != -5 {
		t.Errorf("nop: %d", n)
	}
	if n := perform(Nop()); n != 0 {
		t.Errorf("nop: %d", n)
	}
	open := Openat(unix.AT_FDCWD, os.DevNull, unix.O_RDONLY, 0)
	null := perform(open)
	calls[ring.OpOpenat].Drop(nil, null)
	if isOpen(int(null)) {
		t.Error("a dropped descriptor is open")
	}
}

// Named FIFOs do not say beforehand whether they would block. Nothing gets lost in either direction, and the calls are short enough.
func TestFIFOStream(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		name := filepath.Join(t.TempDir(), "fifo")
		if err := unix.Mkfifo(name, 0o600); err != nil {
			t.Fatal(err)
		}
		r := e.opened(must(e, Openat(unix.AT_FDCWD, name, unix.O_RDONLY, 0)), nil)
		w := must(e, Openat(unix.AT_FDCWD, name, unix.O_WRONLY, 0))
		received := make(chan []byte, 1)
		go func() {
			var all []byte
			for buf := make([]byte, 4096); ; {
				n, err := unix.Read(r, buf)
				if err != nil && err != unix.EINTR {
					t.Error(err)
				}
				if n == 0 {
					break
				}
				all = append(all, buf[:max(0, n)]...)
			}
			received <- all
		}()
		sent := make([]byte, 300_000)
		for i := range sent {
			sent[i] = byte(i >> 8)
		}
		for i, rest := 0, sent; len(rest) > 0; i++ {
			part := rest[:min(len(rest), 1000+i*500)]
			n := 0
			if i%2 == 0 {
				n = must(e, WriteAt(w, part, -1))
			} else {
				n = must(e, WritevAt(w, [][]byte{nil, part[:1], part[1:]}, -1))
			}
			if n < 1 || n > len(part) {
				t.Fatalf("wrote %d of %d", n, len(part))
			}
			rest = rest[n:]
		}
		must(e, Close(w))
		if got := <-received; string(got) != string(sent) {
			t.Errorf("received %d bytes; want %d", len(got), len(sent))
		}
	})
}

// A file that somebody holds a lease on is waited for, and not refused.
func TestOpenLeased(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		fd := e.file("content")
		name, err := os.Readlink(filepath.Join("/proc/self/fd", strconv.Itoa(fd)))
		if err != nil {
			t.Fatal(err)
		}
		leased := e.opened(unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0))
		must(e, Close(fd))
		if _, err := unix.FcntlInt(uintptr(leased), unix.F_SETLEASE, unix.F_RDLCK); err != nil {
			t.Skipf("needs file leases: %v", err)
		}
		open := Openat(unix.AT_FDCWD, name, unix.O_WRONLY, 0)
		id := e.start(&open.Spec)
		if !e.pending(id) {
			t.Fatalf("opened in spite of the lease: %d", e.await(id))
		}
		if _, err := unix.FcntlInt(uintptr(leased), unix.F_SETLEASE, unix.F_UNLCK); err != nil {
			t.Fatal(err)
		}
		e.opened(int(e.await(id)), nil)
	})
}

func TestOpenHowMemory(t *testing.T) {
	op := Openat2(unix.AT_FDCWD, os.DevNull, unix.OpenHow{})
	e := new(ring.SQE)
	op.Prepare(e)
	e.Len--
	if res := callOpenat2(e); res != einval {
		t.Errorf("short rules: %d", res)
	}
	e.Off = 0
	if res := callOpenat2(e); res != -int32(unix.EFAULT) {
		t.Errorf("no rules: %d", res)
	}
	runtime.KeepAlive(&op)
}

// What may wait for a disk is not for whoever submits it, who may be a driver: also at a file's own position. What never waits is.
func TestCallsNow(t *testing.T) {
	e := &engine{TB: t}
	fd := e.file("content")
	r, w := e.pipe()
	buf := make([]byte, 7)
	now := func(op Op[[]byte]) int32 {
		q := new(ring.SQE)
		op.Prepare(q)
		res := calls[q.Op].Now(q)
		runtime.KeepAlive(&op)
		return res
	}
	for _, c := range []struct {
		what string
		op   Op[[]byte]
		want int32
	}{
		{"file read at its position", ReadAt(fd, buf, -1), eagain},
		{"file read", ReadAt(fd, buf, 0), eagain},
		{"file written at its position", WriteAt(fd, buf, -1), eagain},
		{"empty pipe", ReadAt(r, buf, -1), eagain},
		{"pipe with room", WriteAt(w, buf, -1), 7},
		{"full pipe", ReadAt(r, buf, -1), 7},
	} {
		if res := now(c.op); res != c.want {
			t.Errorf("%s: %d, want %d", c.what, res, c.want)
		}
	}
	if n := perform(ReadAt(fd, buf, -1)); n != 7 { // nobody moved it
		t.Errorf("then: %d", n)
	}
}
