package ops

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNames(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		e.need(kindLinkat, "5.15")
		dir := t.TempDir()
		in := func(name string) string { return filepath.Join(dir, name) }
		fd := e.opened(unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0))

		must(e, Mkdirat(fd, "sub", 0o750))
		if st, err := os.Stat(in("sub")); err != nil || st.Mode() != os.ModeDir|0o750 {
			t.Errorf("made %v, %v", st, err)
		}
		sub := e.opened(unix.Open(in("sub"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0))
		fails(e, Mkdirat(fd, "sub", 0o750), syscall.EEXIST)
		fails(e, Mkdirat(fd, "none/sub", 0o750), syscall.ENOENT)

		must(e, Symlinkat("some target", sub, "link"))
		if s, err := os.Readlink(in("sub/link")); s != "some target" {
			t.Errorf("link to %q, %v", s, err)
		}
		fails(e, Symlinkat("x", sub, "link"), syscall.EEXIST)
		fails(e, Symlinkat("", sub, "empty"), syscall.ENOENT)

		if err := os.WriteFile(in("a"), []byte("a"), 0o600); err != nil {
			t.Fatal(err)
		}
		must(e, Linkat(fd, "a", sub, "b", 0))
		if st, err := os.Stat(in("sub/b")); err != nil || st.Sys().(*syscall.Stat_t).Nlink != 2 {
			t.Errorf("linked %v, %v", st, err)
		}
		fails(e, Linkat(fd, "a", sub, "b", 0), syscall.EEXIST)
		fails(e, Linkat(fd, "none", sub, "c", 0), syscall.ENOENT)

		must(e, Renameat2(sub, "b", fd, "c", 0))
		if _, err := os.Stat(in("c")); err != nil {
			t.Error(err)
		}
		if err := os.WriteFile(in("d"), []byte("d"), 0o600); err != nil {
			t.Fatal(err)
		}
		fails(e, Renameat2(fd, "d", fd, "c", unix.RENAME_NOREPLACE), syscall.EEXIST)
		must(e, Renameat2(fd, "d", fd, "c", unix.RENAME_EXCHANGE))
		if b, err := os.ReadFile(in("c")); string(b) != "d" {
			t.Errorf("exchanged: %q, %v", b, err)
		}
		must(e, Renameat2(unix.AT_FDCWD, in("d"), fd, "c", 0))
		fails(e, Renameat2(fd, "none", fd, "c", 0), syscall.ENOENT)
		fails(e, Renameat2(fd, "c", fd, "e", 1<<30), syscall.EINVAL)

		must(e, Unlinkat(fd, "c", 0))
		fails(e, Unlinkat(fd, "c", 0), syscall.ENOENT)
		fails(e, Unlinkat(fd, "sub", 0), syscall.EISDIR)
		fails(e, Unlinkat(fd, "sub", unix.AT_REMOVEDIR), syscall.ENOTEMPTY)
		fails(e, Unlinkat(fd, "sub", 1<<30), syscall.EINVAL)
		must(e, Unlinkat(sub, "link", 0))
		must(e, Unlinkat(fd, "sub", unix.AT_REMOVEDIR))
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != 1 || left[0].Name() != "a" {
			t.Errorf("left %v, %v", left, err)
		}
	})
}
