package fs_test

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/fs"
)

// mirrorDir are two open directories. Package os has no like of Dir, so the calls that it stands for are made there.
type mirrorDir struct {
	here  *fs.Dir
	there int
}

func onDir(weight int, do func(w *mirror, d *mirrorDir)) move {
	return move{weight, func(w *mirror) {
		if d := w.dirs[w.rng.IntN(len(w.dirs))]; d != nil {
			do(w, d)
		} else {
			w.openDir()
		}
	}}
}

// dirMoves are calls on open directories.
var dirMoves = []move{
	{1, (*mirror).openDir},
	onDir(2, func(w *mirror, d *mirrorDir) {
		name, perm := w.component(), w.mode()|0o700
		w.did("Dir.Mkdir %s %s", d.here.Name(), name)
		w.sameErrno(d.here.Mkdir(w.ctx, name, perm), unix.Mkdirat(d.there, name, uint32(perm.Perm())|special(perm)))
	}),
	onDir(2, func(w *mirror, d *mirrorDir) {
		name := w.component()
		w.did("Dir.Remove %s %s", d.here.Name(), name)
		w.sameErrno(d.here.Remove(w.ctx, name), unix.Unlinkat(d.there, name, 0))
	}),
	onDir(1, func(w *mirror, d *mirrorDir) {
		name := w.component()
		w.did("Dir.RemoveDir %s %s", d.here.Name(), name)
		w.sameErrno(d.here.RemoveDir(w.ctx, name), unix.Unlinkat(d.there, name, unix.AT_REMOVEDIR))
	}),
	onDir(2, func(w *mirror, d *mirrorDir) {
		to := w.dirs[w.rng.IntN(len(w.dirs))]
		if to == nil {
			return
		}
		old, new, flags := w.component(), w.component(), []uint{0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE}[w.rng.IntN(4)]
		w.did("Dir.Rename %s %s %s %s %d", d.here.Name(), old, to.here.Name(), new, flags)
		w.sameErrno(d.here.Rename(w.ctx, old, to.here, new, flags), unix.Renameat2(d.there, old, to.there, new, flags))
	}),
	onDir(2, func(w *mirror, d *mirrorDir) {
		to := w.dirs[w.rng.IntN(len(w.dirs))]
		if to == nil {
			return
		}
		old, new := w.component(), w.component()
		w.did("Dir.Link %s %s %s %s", d.here.Name(), old, to.here.Name(), new)
		w.sameErrno(d.here.Link(w.ctx, old, to.here, new), unix.Linkat(d.there, old, to.there, new, 0))
	}),
	onDir(1, func(w *mirror, d *mirrorDir) {
		here, there := w.target()
		name := w.component()
		w.did("Dir.Symlink %s %s %s", d.here.Name(), here, name)
		w.sameErrno(d.here.Symlink(w.ctx, here, name), unix.Symlinkat(there, d.there, name))
	}),
	onDir(1, func(w *mirror, d *mirrorDir) {
		name := w.component()
		w.did("Dir.Readlink %s %s", d.here.Name(), name)
		got, err := d.here.Readlink(w.ctx, name)
		b := make([]byte, 4096)
		n, wantErr := unix.Readlinkat(d.there, name, b)
		w.same(got, nil, string(b[:max(0, n)]), nil)
		w.sameErrno(err, wantErr)
	}),
	onDir(1, func(w *mirror, d *mirrorDir) {
		name := w.component()
		w.did("Dir.Mknod %s %s", d.here.Name(), name)
		w.sameErrno(d.here.Mknod(w.ctx, name, unix.S_IFSOCK|0o600, 0), unix.Mknodat(d.there, name, unix.S_IFSOCK|0o600, 0))
	}),
	onDir(1, func(w *mirror, d *mirrorDir) {
		name, mode := w.component(), w.mode()|0o700
		w.did("Dir.Chmod %s %s %v", d.here.Name(), name, mode)
		w.sameErrno(d.here.Chmod(w.ctx, name, mode), unix.Fchmodat(d.there, name, uint32(mode.Perm())|special(mode), unix.AT_SYMLINK_NOFOLLOW))
	}),
	onDir(1, func(w *mirror, d *mirrorDir) {
		name, when := w.component(), w.when()
		if when.IsZero() {
			return
		}
		w.did("Dir.Chtimes %s %s %v", d.here.Name(), name, when)
		ts := unix.NsecToTimespec(when.UnixNano())
		w.sameErrno(d.here.Chtimes(w.ctx, name, when, when),
			unix.UtimesNanoAt(d.there, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
	}),
	onDir(2, func(w *mirror, d *mirrorDir) {
		name := w.component()
		w.did("Dir.Lstat %s %s", d.here.Name(), name)
		got, err := d.here.Lstat(w.ctx, name)
		var st unix.Stat_t
		wantErr := unix.Fstatat(d.there, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil && wantErr == nil {
			is := got.Sys().(*syscall.Stat_t)
			w.same(fmt.Sprintf("%o", is.Mode), nil, fmt.Sprintf("%o", st.Mode), nil)
			if !got.IsDir() {
				w.same(fmt.Sprintf("%d", is.Size), nil, fmt.Sprintf("%d", st.Size), nil)
			}
		}
		w.sameErrno(err, wantErr)
	}),
	onDir(2, func(w *mirror, d *mirrorDir) {
		w.did("Dir.ReadDir %s", d.here.Name())
		list, err := d.here.ReadDir(w.ctx)
		var got []string
		for _, e := range list {
			got = append(got, e.String())
		}
		slices.Sort(got)
		var want []string
		fd, wantErr := unix.FcntlInt(uintptr(d.there), unix.F_DUPFD_CLOEXEC, 0) // not opened again: the permissions may have changed
		if wantErr == nil {
			f := os.NewFile(uintptr(fd), "there")
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				w.Error(err)
			}
			var there []os.DirEntry
			there, wantErr = f.ReadDir(-1)
			f.Close()
			for _, e := range there {
				want = append(want, iofs.FormatDirEntry(e))
			}
			slices.Sort(want)
		}
		if errors.Is(wantErr, unix.ENOENT) { // removed: nothing in it
			wantErr = nil
		}
		w.same(fmt.Sprint(got), nil, fmt.Sprint(want), nil)
		w.sameErrno(err, wantErr)
	}),
	onDir(3, func(w *mirror, d *mirrorDir) {
		name := w.component()
		if w.rng.IntN(2) == 0 {
			name += "/" + w.component()
		}
		i, flag := w.rng.IntN(len(w.files)), []int{os.O_RDONLY, os.O_RDWR | os.O_CREATE, os.O_RDWR | os.O_TRUNC}[w.rng.IntN(3)]
		w.closeFile(i)
		w.did("Dir.OpenFile %s %s %#x", d.here.Name(), name, flag)
		here, err := d.here.OpenFile(w.ctx, name, flag, 0o644)
		mode := uint64(0)
		if flag&os.O_CREATE != 0 {
			mode = 0o644
		}
		fd, wantErr := unix.Openat2(d.there, name, &unix.OpenHow{Flags: uint64(flag | unix.O_CLOEXEC), Mode: mode,
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS})
		w.sameErrno(err, wantErr)
		if err == nil && wantErr == nil {
			w.files[i] = &mirrorFile{here, os.NewFile(uintptr(fd), strings.Replace(here.Name(), w.here, w.there, 1)), flag}
		}
	}),
}

func (w *mirror) component() string {
	return []string{"a", "b", "c", "d", "."}[min(w.rng.IntN(13)/3, 4)]
}

func (w *mirror) openDir() {
	i, name := w.rng.IntN(len(w.dirs)), w.name()
	w.closeDir(i)
	w.did("OpenDir %q", name)
	here, err := fs.OpenDir(w.ctx, w.here+name)
	there, wantErr := -1, error(nil)
	if strings.Contains(name, "\x00") {
		wantErr = unix.EINVAL
	} else {
		there, wantErr = unix.Open(w.there+name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}
	w.sameErrno(err, wantErr)
	if err == nil && wantErr == nil {
		w.dirs[i] = &mirrorDir{here, there}
	}
}

func (w *mirror) closeDir(i int) {
	d := w.dirs[i]
	if d == nil {
		return
	}
	w.dirs[i] = nil
	w.did("Dir.Close %s", d.here.Name())
	w.sameErrno(d.here.Close(w.ctx), unix.Close(d.there))
}

// special are the bits beside the permissions, as the kernel writes them.
func special(m fs.FileMode) (bits uint32) {
	for _, one := range []struct {
		mode fs.FileMode
		bit  uint32
	}{{os.ModeSetuid, unix.S_ISUID}, {os.ModeSetgid, unix.S_ISGID}, {os.ModeSticky, unix.S_ISVTX}} {
		if m&one.mode != 0 {
			bits |= one.bit
		}
	}
	return bits
}
