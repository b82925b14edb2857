package ops

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestOpenat(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		dir := t.TempDir()
		dirfd := e.opened(unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0))

		fd := e.opened(must(e, Openat(dirfd, "new", unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_APPEND, 0o640)), nil)
		if _, err := unix.Write(fd, []byte("content")); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "new")); string(b) != "content" {
			t.Errorf("the file holds %q, %v", b, err)
		}
		if st, err := os.Stat(filepath.Join(dir, "new")); err != nil || st.Mode().Perm() != 0o640 {
			t.Errorf("%v, %v", st, err)
		}
		if fl, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); fl != unix.FD_CLOEXEC {
			t.Error("the descriptor is not close-on-exec")
		}
		const status = unix.O_APPEND | unix.O_NONBLOCK | unix.O_ACCMODE
		if fl, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); fl&status != unix.O_RDWR|unix.O_APPEND {
			t.Errorf("status flags %#x", fl)
		}

		fails(e, Openat(dirfd, "new", unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600), syscall.EEXIST)
		fails(e, Openat(dirfd, "none", unix.O_RDONLY, 0), syscall.ENOENT)
		fails(e, Openat(dirfd, "new/below", unix.O_RDONLY, 0), syscall.ENOTDIR)
		fails(e, Openat(-1, "new", unix.O_RDONLY, 0), syscall.EBADF)
		fails(e, Openat(dirfd, "", unix.O_RDONLY, 0), syscall.ENOENT)
		fails(e, Openat(dirfd, "new\x00below", unix.O_RDONLY, 0), syscall.EINVAL)
		e.opened(must(e, Openat(unix.AT_FDCWD, filepath.Join(dir, "new"), unix.O_RDONLY, 0)), nil)
		e.opened(must(e, Openat(dirfd, "new", unix.O_PATH, 0)), nil)
		tmp := e.opened(must(e, Openat(dirfd, ".", unix.O_TMPFILE|unix.O_RDWR, 0o600)), nil)
		if n := must(e, WriteAt(tmp, []byte("x"), 0)); n != 1 {
			t.Errorf("wrote %d bytes to the nameless file", n)
		}
	})
}

func TestOpenatFIFO(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		name := filepath.Join(t.TempDir(), "fifo")
		if err := unix.Mkfifo(name, 0o600); err != nil {
			t.Fatal(err)
		}
		fails(e, Openat(unix.AT_FDCWD, name, unix.O_WRONLY, 0), syscall.ENXIO)
		fails(e, Openat2(unix.AT_FDCWD, name, unix.OpenHow{Flags: unix.O_WRONLY}), syscall.ENXIO)
		r := e.opened(must(e, Openat(unix.AT_FDCWD, name, unix.O_RDONLY, 0)), nil)
		w := e.opened(must(e, Openat(unix.AT_FDCWD, name, unix.O_WRONLY, 0)), nil)
		for _, fd := range []int{r, w} {
			if fl, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); fl&unix.O_NONBLOCK != 0 {
				t.Error("left non-blocking")
			}
		}
		asked := e.opened(must(e, Openat(unix.AT_FDCWD, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)), nil)
		if fl, _ := unix.FcntlInt(uintptr(asked), unix.F_GETFL, 0); fl&unix.O_NONBLOCK == 0 {
			t.Error("O_NONBLOCK got lost")
		}
		buf := make([]byte, 8)
		read := ReadAt(r, buf, -1)
		id := e.start(&read.Spec)
		if !e.pending(id) {
			t.Fatalf("read of an empty FIFO: %d", e.await(id))
		}
		must(e, WriteAt(w, []byte("hello"), -1))
		if n := e.await(id); n != 5 || string(buf[:5]) != "hello" {
			t.Errorf("read %d: %q", n, buf)
		}
	})
}

func TestOpenat2(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		dir := t.TempDir()
		for _, err := range []error{
			os.WriteFile(filepath.Join(dir, "file"), nil, 0o600),
			os.Symlink("file", filepath.Join(dir, "link")),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		dirfd := e.opened(unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0))
		how := func(flags, mode, resolve uint64) unix.OpenHow {
			return unix.OpenHow{Flags: flags, Mode: mode, Resolve: resolve}
		}
		fd := e.opened(must(e, Openat2(dirfd, "link", how(unix.O_RDWR, 0, unix.RESOLVE_BENEATH))), nil)
		if fl, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); fl != unix.FD_CLOEXEC {
			t.Error("the descriptor is not close-on-exec")
		}
		e.opened(must(e, Openat2(dirfd, "link", how(unix.O_PATH, 0, 0))), nil)
		e.opened(must(e, Openat2(dirfd, "made", how(unix.O_WRONLY|unix.O_CREAT, 0o600, 0))), nil)
		fails(e, Openat2(dirfd, "link", how(unix.O_RDWR, 0, unix.RESOLVE_NO_SYMLINKS)), syscall.ELOOP)
		fails(e, Openat2(dirfd, "..", how(unix.O_RDONLY, 0, unix.RESOLVE_BENEATH)), syscall.EXDEV)
		fails(e, Openat2(dirfd, "file", how(unix.O_RDWR, 0o600, 0)), syscall.EINVAL)
		fails(e, Openat2(dirfd, "file", how(1<<40, 0, 0)), syscall.EINVAL)
		fails(e, Openat2(dirfd, "file", how(0, 0, 1<<40)), syscall.EINVAL)
		fails(e, Openat2(dirfd, "none", how(unix.O_RDONLY, 0, 0)), syscall.ENOENT)
		fails(e, Openat2(dirfd, "fi\x00le", how(unix.O_RDONLY, 0, 0)), syscall.EINVAL)
	})
}

// A path with .. in it that must stay beneath a directory is found in spite of renames: the kernel wants to be asked for it again then.
func TestOpenat2Renames(t *testing.T) {
	const enough = 1000
	dir := t.TempDir()
	for _, err := range []error{os.Mkdir(filepath.Join(dir, "sub"), 0o700), os.WriteFile(filepath.Join(dir, "old"), nil, 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	dirfd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dirfd)
	var over atomic.Bool
	var renaming sync.WaitGroup
	renaming.Go(func() {
		for !over.Load() {
			if err := errors.Join(unix.Renameat(dirfd, "old", dirfd, "new"), unix.Renameat(dirfd, "new", dirfd, "old")); err != nil {
				t.Error(err)
				return
			}
		}
	})
	defer renaming.Wait()
	defer over.Store(true)
	path, how := strings.Repeat("sub/../", 20), unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH}
	again := 0 // how often the kernel has said so
	for start := time.Now(); again < enough && time.Since(start) < 5*time.Second; {
		fd, err := unix.Openat2(dirfd, path, &how)
		if err == syscall.EAGAIN {
			again++
		} else if err == nil {
			unix.Close(fd)
		}
		o := Openat2(dirfd, path, how)
		r := Run(&o)
		if r.Err != nil {
			t.Errorf("%v, after %d times EAGAIN", r.Err, again)
			return
		}
		unix.Close(r.N)
	}
	t.Logf("%d times EAGAIN", again)
}

// A descriptor that nobody waits for is closed.
func TestOpenDiscard(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		for _, op := range []Op[struct{}]{
			Openat(unix.AT_FDCWD, "/dev/null", unix.O_RDONLY, 0),
			Openat2(unix.AT_FDCWD, "/dev/null", unix.OpenHow{}),
		} {
			res := e.await(e.start(&op.Spec))
			if !isOpen(int(res)) {
				t.Fatalf("%s: %d", op.Kind.Name, res)
			}
			op.Discard(res)
			if isOpen(int(res)) {
				t.Errorf("%s: the discarded descriptor is open", op.Kind.Name)
			}
			op.Discard(-int32(syscall.ECANCELED)) // there is nothing
		}
	})
}

// An operation whose path cannot be one is invalid, and preparing it all the same does no harm.
func TestPathWithNUL(t *testing.T) {
	const bad = "a\x00b"
	for _, op := range []Op[struct{}]{
		Openat(-1, bad, 0, 0), Openat2(-1, bad, unix.OpenHow{}), Mkdirat(-1, bad, 0), Unlinkat(-1, bad, 0),
		Renameat2(-1, bad, -1, "x", 0), Renameat2(-1, "x", -1, bad, 0), Symlinkat(bad, -1, "x"), Symlinkat("x", -1, bad),
		Linkat(-1, bad, -1, "x", 0), Linkat(-1, "x", -1, bad, 0),
		{Spec: Statx(-1, bad, 0, 0, new(unix.Statx_t)).Spec},
		{Spec: Getxattr(bad, "x", nil).Spec}, {Spec: Setxattr("x", bad, nil, 0).Spec}, {Spec: Fgetxattr(-1, bad, nil).Spec},
	} {
		if err := op.Invalid(); err != syscall.EINVAL {
			t.Errorf("%s: %v", op.Kind.Name, err)
		}
		onEngines(t, func(t *testing.T, e *engine) {
			e.need(op.Kind, "5.19")
			if res := e.await(e.start(&op.Spec)); res >= 0 {
				t.Errorf("%s: %d", op.Kind.Name, res)
			}
		})
	}
	ok := Openat(-1, "a", 0, 0)
	if err := ok.Invalid(); err != nil {
		t.Error(err)
	}
}
