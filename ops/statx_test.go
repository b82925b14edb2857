package ops

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestStatx(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		dir := t.TempDir()
		for _, err := range []error{
			os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o640),
			os.Symlink("file", filepath.Join(dir, "link")),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		dirfd := e.opened(unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0))
		fd := e.opened(unix.Open(filepath.Join(dir, "file"), unix.O_RDONLY|unix.O_CLOEXEC, 0))
		for _, c := range []struct {
			dirfd int
			path  string
			flags int
			mode  uint16
			size  uint64
		}{
			{dirfd, "file", 0, unix.S_IFREG | 0o640, 7},
			{dirfd, "link", 0, unix.S_IFREG | 0o640, 7},
			{dirfd, "link", unix.AT_SYMLINK_NOFOLLOW, unix.S_IFLNK | 0o777, 4},
			{fd, "", unix.AT_EMPTY_PATH, unix.S_IFREG | 0o640, 7},
			{unix.AT_FDCWD, filepath.Join(dir, "file"), unix.AT_STATX_DONT_SYNC, unix.S_IFREG | 0o640, 7},
		} {
			r := do(e, Statx(c.dirfd, c.path, c.flags, unix.STATX_BASIC_STATS, new(unix.Statx_t)))
			st := r.Buf
			if r.Err != nil || st.Mode != c.mode || st.Size != c.size || st.Mask&unix.STATX_BASIC_STATS != unix.STATX_BASIC_STATS {
				t.Errorf("%q: mode %#o, size %d, %v", c.path, st.Mode, st.Size, r.Err)
			}
		}
		st := new(unix.Statx_t)
		fails(e, Statx(dirfd, "none", 0, unix.STATX_SIZE, st), syscall.ENOENT)
		fails(e, Statx(dirfd, "", 0, unix.STATX_SIZE, st), syscall.ENOENT)
		fails(e, Statx(dirfd, "file", 1<<30, unix.STATX_SIZE, st), syscall.EINVAL)
		fails(e, Statx(-1, "", unix.AT_EMPTY_PATH, unix.STATX_SIZE, st), syscall.EBADF)
		fails(e, Statx(dirfd, "fi\x00le", 0, unix.STATX_SIZE, st), syscall.EINVAL)
	})
}
