package fs

import (
	"bytes"
	"context"
	"encoding/binary"
	iofs "io/fs"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Entry is a name in a directory, as it was read. It is a [DirEntry]. Entries are made several at a time: one that is kept has up to 15 others
// stay in memory.
type Entry struct {
	name string
	ino  uint64
	mode FileMode // the type bits
	from *listing
	info FileInfo // from the reading, if that was to describe it
}

// listing is what the entries of one reading share.
type listing struct {
	ctx context.Context
	dir string
	in  *Dir // to be asked instead of the path: it has its own rights; nil if it has not
}

// Name returns the entry's name, without its directory.
func (e *Entry) Name() string { return e.name }

// IsDir reports whether the entry is a directory.
func (e *Entry) IsDir() bool { return e.mode.IsDir() }

// Type returns the type bits of the entry's mode.
func (e *Entry) Type() FileMode { return e.mode }

// Inode returns the number of the file in its file system. For a mount point it is that of the directory beneath.
func (e *Entry) Inode() uint64 { return e.ino }

// Info describes the file now, by its path and under the context that the directory was read with; an entry from a [Walker] with Stat
// was described when its directory was read.
func (e *Entry) Info() (FileInfo, error) {
	if e.info != nil {
		return e.info, nil
	}
	if e.from.in != nil {
		return e.from.in.Lstat(e.from.ctx, e.name)
	}
	return Lstat(e.from.ctx, e.from.dir+"/"+e.name)
}

// String formats the entry as io/fs does.
func (e *Entry) String() string { return iofs.FormatDirEntry(e) }

// ReadDir returns the entries of the named directory, sorted by name; with an error, those read before it. getdents64(2).
func ReadDir(ctx context.Context, name string) ([]DirEntry, error) {
	f, err := OpenFile(ctx, name, dirFlags, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close(ctx)
	return f.sortedEntries(ctx)
}

// sortedEntries is what [ReadDir] returns of a directory that is open.
func (f *File) sortedEntries(ctx context.Context) ([]DirEntry, error) {
	entries, err := (&Dir{f: f}).ReadDir(ctx)
	sortByName(entries)
	list := make([]DirEntry, len(entries))
	for i, e := range entries {
		list[i] = e
	}
	return list, err
}

func sortByName(entries []*Entry) {
	slices.SortFunc(entries, func(a, b *Entry) int { return strings.Compare(a.name, b.name) })
}

// direntBuffers are buffers for getdents64(2).
var direntBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// readEntries reads the directory fd from its start. It stops when ctx ends.
func readEntries(fd int, l *listing) (entries []*Entry, err error) {
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return nil, err
	}
	var some batch[Entry]
	err = eachName(l.ctx, fd, func(name string, ino uint64, typ byte) error {
		mode, err := entryMode(fd, name, typ)
		if err == unix.ENOENT { // it was removed meanwhile
			return nil
		}
		if err != nil {
			return pathError("lstat", l.dir+"/"+name, err)
		}
		e := some.next()
		*e = Entry{name: name, ino: ino, mode: mode, from: l}
		entries = append(entries, e)
		return nil
	})
	return entries, err
}

// readAnew is readEntries for a directory of which the calling thread has yet to find out whether it may read it. To open "." takes the right to
// search it as well, which by way of /proc it does not.
func readAnew(fd int, l *listing) ([]*Entry, error) {
	own := -1
	open := func(at int, name string) error {
		return ignoringEINTR(func() (err error) {
			own, err = unix.Openat(at, name, dirFlags|unix.O_CLOEXEC, 0)
			return err
		})
	}
	err := open(fd, ".")
	if err == unix.EACCES && open(cwd, procPath(fd)) == nil {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	defer unix.Close(own)
	return readEntries(own, l)
}

// batch makes values several at a time, for a directory's many. Whoever keeps one keeps its neighbours.
type batch[T any] struct {
	free []T
	size int
}

func (b *batch[T]) next() *T {
	if len(b.free) == 0 {
		b.size = min(max(2*b.size, 1), 16)
		b.free = make([]T, b.size)
	}
	v := &b.free[0]
	b.free = b.free[1:]
	return v
}

// entryMode turns a type of getdents64(2) into a FileMode. Some file systems leave it open, so that somebody has to look, which takes the right to
// search the directory.
func entryMode(fd int, name string, typ byte) (FileMode, error) {
	if typ != unix.DT_UNKNOWN {
		return fileMode(uint32(typ) << 12).Type(), nil
	}
	var st unix.Stat_t
	err := ignoringEINTR(func() error { return unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return fileMode(st.Mode).Type(), err
}

// eachName calls f for every name in the directory fd from where it stands, except . and .. .
func eachName(ctx context.Context, fd int, f func(name string, ino uint64, typ byte) error) error {
	buf := direntBuffers.Get().(*[]byte)
	defer direntBuffers.Put(buf)
	for {
		b, err := dirents(ctx, fd, *buf)
		if err != nil || len(b) == 0 {
			return err
		}
		if err := eachIn(b, f); err != nil {
			return err
		}
	}
}

// dirents reads the next entries of the directory fd into buf. At the end there are none.
func dirents(ctx context.Context, fd int, buf []byte) ([]byte, error) {
	if err := canceled(ctx); err != nil {
		return nil, err
	}
	n := 0
	err := ignoringEINTR(func() (err error) {
		n, err = unix.Getdents(fd, buf)
		return err
	})
	if err == unix.ENOENT { // it was removed
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return buf[:n], nil
}

// eachIn is eachName for entries that were read.
func eachIn(b []byte, f func(name string, ino uint64, typ byte) error) error {
	for len(b) > 0 {
		// struct linux_dirent64: inode, offset, record length, type, name
		ino := binary.NativeEndian.Uint64(b)
		record := b[:binary.NativeEndian.Uint16(b[16:])]
		b = b[len(record):]
		name, _, _ := bytes.Cut(record[19:], []byte{0})
		if ino == 0 || string(name) == "." || string(name) == ".." {
			continue
		}
		if err := f(string(name), ino, record[18]); err != nil {
			return err
		}
	}
	return nil
}
