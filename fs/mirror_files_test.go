package fs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"uringo/fs"
)

// mirrorFile are two open files.
type mirrorFile struct {
	here  *fs.File
	there *os.File
	flag  int
}

// onFile makes a move of what is done to an open file.
func onFile(weight int, do func(w *mirror, o *mirrorFile)) move {
	return move{weight, func(w *mirror) {
		if o := w.files[w.rng.IntN(len(w.files))]; o != nil {
			do(w, o)
		} else {
			w.openFile()
		}
	}}
}

// fileMoves are calls on open files.
var fileMoves = []move{
	{4, (*mirror).openFile},
	{1, func(w *mirror) { w.closeFile(w.rng.IntN(len(w.files))) }},
	onFile(1, func(w *mirror, o *mirrorFile) { // and again, and what comes after that
		w.did("close %s, twice perhaps", o.here.Name())
		w.sameError(o.here.Close(w.ctx), o.there.Close())
	}),
	onFile(10, func(w *mirror, o *mirrorFile) {
		a, off := w.bytes(), w.offset()
		b := bytes.Clone(a)
		w.did("ReadExactAt %s %d %d", o.here.Name(), len(a), off)
		n, got, err := o.here.ReadExactAt(w.ctx, a, off)
		if err == io.ErrUnexpectedEOF {
			err = io.EOF
		}
		m, wantErr := o.there.ReadAt(b, off)
		w.same(fmt.Sprint(n, sum(got)), err, fmt.Sprint(m, sum(b)), wantErr)
	}),
	onFile(6, func(w *mirror, o *mirrorFile) {
		a, off := w.bytes(), w.offset()
		w.did("ReadAt %s %d %d", o.here.Name(), len(a), off)
		b := bytes.Clone(a)
		n, got, err := o.here.ReadAt(w.ctx, a, off)
		m, wantErr := o.there.ReadAt(b, off)
		w.shortRead(w.faults, n, got, err, m, b, wantErr)
	}),
	onFile(5, func(w *mirror, o *mirrorFile) {
		a, off := w.bytes(), w.offset()
		w.did("ReadvAt %s %d %d", o.here.Name(), len(a), off)
		b := bytes.Clone(a)
		n, _, err := o.here.ReadvAt(w.ctx, w.pieces(a), off)
		m, wantErr := o.there.ReadAt(b, off)
		w.shortRead(true, n, a, err, m, b, wantErr)
	}),
	onFile(10, func(w *mirror, o *mirrorFile) {
		data, off := w.bytes(), w.offset()
		w.did("WriteAllAt %s %d %d", o.here.Name(), len(data), off)
		n, _, err := o.here.WriteAllAt(w.ctx, data, off)
		m, wantErr := o.there.WriteAt(data, off)
		w.wrote(o, n, err, m, wantErr)
	}),
	onFile(6, func(w *mirror, o *mirrorFile) {
		data, off := w.bytes(), w.offset()
		w.did("WriteAt %s %d %d", o.here.Name(), len(data), off)
		n, _, err := o.here.WriteAt(w.ctx, data, off)
		m, wantErr := o.there.WriteAt(w.asMuch(n, err, data), off)
		w.wrote(o, n, err, m, wantErr)
	}),
	onFile(5, func(w *mirror, o *mirrorFile) {
		data, off := w.bytes(), w.offset()
		w.did("WritevAt %s %d %d", o.here.Name(), len(data), off)
		n, _, err := o.here.WritevAt(w.ctx, w.pieces(data), off)
		m, wantErr := o.there.WriteAt(w.asMuch(n, err, data), off)
		w.wrote(o, n, err, m, wantErr)
	}),
	onFile(5, func(w *mirror, o *mirrorFile) {
		a := w.bytes()
		w.did("Read %s %d", o.here.Name(), len(a))
		n, _, err := o.here.Read(w.ctx, a)
		b := w.asMuch(n, err, make([]byte, len(a)))
		m, wantErr := o.there.Read(b)
		w.same(sum(a[:n]), err, sum(b[:m]), wantErr)
	}),
	onFile(5, func(w *mirror, o *mirrorFile) {
		data := w.bytes()
		w.did("Write %s %d", o.here.Name(), len(data))
		pos := int64(-1)
		if o.flag&os.O_APPEND != 0 {
			pos, _ = o.there.Seek(0, io.SeekCurrent)
		}
		n, _, err := o.here.Write(w.ctx, data)
		m, wantErr := o.there.Write(data)
		if pos >= 0 {
			_, _ = o.there.Seek(pos, io.SeekStart)
		}
		w.same(fmt.Sprint(n), err, fmt.Sprint(m), wantErr)
	}),
	onFile(2, func(w *mirror, o *mirrorFile) {
		off := max(0, w.offset())
		w.did("read it all, %s from %d", o.here.Name(), off)
		got, err := io.ReadAll(o.here.NewReader(w.ctx, off))
		want, wantErr := io.ReadAll(io.NewSectionReader(o.there, off, math.MaxInt64-off))
		w.same(sum(got), err, sum(want), wantErr)
	}),
	onFile(2, func(w *mirror, o *mirrorFile) {
		off, data := max(0, w.offset()), w.bytes()
		if o.flag&os.O_APPEND != 0 {
			return
		}
		w.did("copy to it, %s at %d, %d", o.here.Name(), off, len(data))
		n, err := io.Copy(o.here.NewWriter(w.ctx, off), bytes.NewReader(data))
		m, wantErr := io.Copy(io.NewOffsetWriter(o.there, off), bytes.NewReader(data))
		w.same(fmt.Sprint(n), err, fmt.Sprint(m), wantErr)
	}),
	onFile(3, func(w *mirror, o *mirrorFile) {
		w.did("Stat %s", o.here.Name())
		got, err := o.here.Stat(w.ctx)
		want, wantErr := o.there.Stat()
		w.same(describe(got, err), err, describe(want, wantErr), wantErr)
	}),
	onFile(4, func(w *mirror, o *mirrorFile) {
		size := w.offset()
		w.did("Truncate %s %d", o.here.Name(), size)
		err := o.here.Truncate(w.ctx, size)
		if size < 0 { // says so itself
			if err == nil {
				w.fail("truncated to %d", size)
			}
			return
		}
		w.sameError(err, o.there.Truncate(size))
	}),
	onFile(4, func(w *mirror, o *mirrorFile) {
		mode := []uint32{0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_ZERO_RANGE,
			unix.FALLOC_FL_COLLAPSE_RANGE, unix.FALLOC_FL_INSERT_RANGE}[w.rng.IntN(6)]
		off, n := max(0, w.offset()), max(0, w.offset())
		if mode&(unix.FALLOC_FL_COLLAPSE_RANGE|unix.FALLOC_FL_INSERT_RANGE) != 0 {
			off, n = off&^4095, min(n, 30_000)&^4095
		}
		w.did("Fallocate %s %d %d %d", o.here.Name(), mode, off, n)
		err := o.here.Fallocate(w.ctx, mode, off, n)
		w.sameErrno(err, raw(o.there, func(fd int) error { return unix.Fallocate(fd, mode, off, n) }))
	}),
	onFile(2, func(w *mirror, o *mirrorFile) {
		off, n, advice := max(0, w.offset()), max(0, w.offset()), []int{unix.FADV_DONTNEED, unix.FADV_WILLNEED, unix.FADV_RANDOM}[w.rng.IntN(3)]
		w.did("Fadvise %s %d %d %d", o.here.Name(), off, n, advice)
		w.sameErrno(o.here.Fadvise(w.ctx, off, n, advice), raw(o.there, func(fd int) error { return unix.Fadvise(fd, off, n, advice) }))
	}),
	onFile(2, func(w *mirror, o *mirrorFile) {
		off, hole := max(0, w.offset()), w.rng.IntN(2) == 0
		w.did("SeekData or SeekHole %s %d %t", o.here.Name(), off, hole)
		seek, whence := o.here.SeekData, unix.SEEK_DATA
		if hole {
			seek, whence = o.here.SeekHole, unix.SEEK_HOLE
		}
		got, err := seek(w.ctx, off)
		want, wantErr := o.there.Seek(off, whence)
		// Where data begins is for the file system to say, which may have written the one file out and not the other: of what is about to be
		// written, ext4 may say in that moment that it is none.
		none, wantNone := errors.Is(err, unix.ENXIO), errors.Is(wantErr, unix.ENXIO)
		if none == wantNone || hole {
			w.same("", err, "", wantErr)
		}
		if got != want || none != wantNone {
			for _, move := range []error{seekTo(o.here.Fd(), off), seekTo(o.there.Fd(), off)} {
				if move != nil {
					w.fail("%v", move)
				}
			}
		}
	}),
	onFile(2, func(w *mirror, o *mirrorFile) {
		mode := w.mode() | 0o600
		w.did("Chmod %s %v", o.here.Name(), mode)
		w.sameError(o.here.Chmod(w.ctx, mode), o.there.Chmod(mode))
	}),
	onFile(1, func(w *mirror, o *mirrorFile) {
		uid, gid := w.rng.IntN(3)-1, w.rng.IntN(3)-1
		w.did("Chown %s %d %d", o.here.Name(), uid, gid)
		w.sameError(o.here.Chown(w.ctx, uid, gid), o.there.Chown(uid, gid))
	}),
	onFile(2, func(w *mirror, o *mirrorFile) {
		when := w.when()
		w.did("Chtimes %s %v", o.here.Name(), when)
		ts := unix.Timespec{Nsec: unix.UTIME_OMIT}
		if !when.IsZero() {
			ts = unix.NsecToTimespec(when.UnixNano())
		}
		w.sameErrno(o.here.Chtimes(w.ctx, when, when), raw(o.there, func(fd int) error {
			return unix.UtimesNanoAt(fd, "", []unix.Timespec{ts, ts}, unix.AT_EMPTY_PATH)
		}))
	}),
	onFile(1, func(w *mirror, o *mirrorFile) {
		sync := []func() error{func() error { return o.here.SyncAll(w.ctx) }, func() error { return o.here.SyncData(w.ctx) }}[w.rng.IntN(2)]
		if w.rng.IntN(4) > 0 { // it takes long
			return
		}
		w.did("sync %s", o.here.Name())
		w.sameError(sync(), o.there.Sync())
	}),
	onFile(2, func(w *mirror, o *mirrorFile) {
		name, value, flags := w.xattr(), w.bytes(), w.rng.IntN(3)
		value = value[:min(len(value), 150)]
		w.did("SetXattr %s %s %d %d", o.here.Name(), name, len(value), flags)
		err := o.here.SetXattr(w.ctx, name, value, uint32(flags))
		w.sameErrno(err, raw(o.there, func(fd int) error { return unix.Fsetxattr(fd, name, value, flags) }))
	}),
	onFile(2, func(w *mirror, o *mirrorFile) {
		name := w.xattr()
		w.did("GetXattr %s %s", o.here.Name(), name)
		got, err := o.here.GetXattr(w.ctx, name)
		want, n := make([]byte, 200), 0
		wantErr := raw(o.there, func(fd int) (err error) { n, err = unix.Fgetxattr(fd, name, want); return err })
		w.same(sum(got), nil, sum(want[:max(0, n)]), nil)
		w.sameErrno(err, wantErr)
	}),
	onFile(1, func(w *mirror, o *mirrorFile) {
		w.did("ListXattr %s", o.here.Name())
		got, err := o.here.ListXattr(w.ctx)
		list, n := make([]byte, 1000), 0
		wantErr := raw(o.there, func(fd int) (err error) { n, err = unix.Flistxattr(fd, list); return err })
		var want []string
		for _, b := range bytes.Split(list[:max(0, n)], []byte{0}) {
			if len(b) > 0 {
				want = append(want, string(b))
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		w.same(fmt.Sprint(got), nil, fmt.Sprint(want), nil)
		w.sameErrno(err, wantErr)
	}),
	onFile(1, func(w *mirror, o *mirrorFile) {
		name := w.xattr()
		w.did("RemoveXattr %s %s", o.here.Name(), name)
		w.sameErrno(o.here.RemoveXattr(w.ctx, name), raw(o.there, func(fd int) error { return unix.Fremovexattr(fd, name) }))
	}),
	{4, (*mirror).copyRange},
}

func (w *mirror) xattr() string {
	return []string{"user.one", "user.two", "user.one", "nonsense"}[w.rng.IntN(4)]
}

func (w *mirror) openFile() {
	i := w.rng.IntN(len(w.files))
	w.closeFile(i)
	name, perm := w.name(), w.mode()|0o600
	flag := []int{os.O_RDONLY, os.O_RDWR, os.O_RDWR, os.O_WRONLY}[w.rng.IntN(4)]
	for _, one := range []struct{ flag, odds int }{{os.O_CREATE, 2}, {os.O_TRUNC, 6}, {os.O_EXCL, 8}, {os.O_APPEND, 6},
		{unix.O_DSYNC, 50}, {unix.O_DIRECTORY, 30}, {unix.O_NOFOLLOW, 10}, {unix.O_NONBLOCK, 20}, {unix.O_NOATIME, 20}} {
		if w.rng.IntN(one.odds) == 0 {
			flag |= one.flag
		}
	}
	if w.rng.IntN(30) == 0 {
		flag = os.O_RDWR | unix.O_TMPFILE
	}
	w.did("OpenFile %q %#x %v", name, flag, perm)
	here, err := fs.OpenFile(w.ctx, w.here+name, flag, perm)
	there, wantErr := os.OpenFile(w.there+name, flag, perm)
	w.sameError(err, wantErr)
	if err != nil || wantErr != nil {
		return
	}
	if !w.faults && w.rng.IntN(3) == 0 {
		here.Pin(fs.OpRead, fs.Route(w.rng.IntN(4)))
		here.Pin(fs.OpWrite, fs.Route(w.rng.IntN(4)))
	}
	w.files[i] = &mirrorFile{here, there, flag}
}

func (w *mirror) closeFile(i int) {
	o := w.files[i]
	if o == nil {
		return
	}
	w.files[i] = nil
	w.did("Close %s", o.here.Name())
	w.sameError(o.here.Close(w.ctx), o.there.Close())
}

// shortRead compares one operation, which may be short, with a full read.
func (w *mirror) shortRead(mayBe bool, n int, got []byte, err error, m int, want []byte, wantErr error) {
	w.Helper()
	if n > 0 {
		if n > m || !mayBe && n < m || err != nil || !bytes.Equal(got[:n], want[:n]) {
			w.fail("read %s, %v; package os: %s, %v", sum(got[:n]), err, sum(want[:m]), wantErr)
		}
		return
	}
	if m != 0 {
		w.fail("read nothing, %v; package os: %d bytes", err, m)
	}
	w.sameError(err, wantErr)
}

// asMuch returns what of data package os is to move, where the operation moved n bytes.
func (w *mirror) asMuch(n int, err error, data []byte) []byte {
	if err != nil || n == 0 {
		return data
	}
	if n < len(data) && !w.faults {
		w.did("… %d bytes of it", n)
	}
	return data[:n]
}

func (w *mirror) wrote(o *mirrorFile, n int, err error, m int, wantErr error) {
	w.Helper()
	if o.flag&os.O_APPEND != 0 && err != nil && wantErr != nil { // has a text of its own
		w.same(fmt.Sprint(n), nil, fmt.Sprint(m), nil)
		return
	}
	w.same(fmt.Sprint(n), err, fmt.Sprint(m), wantErr)
}

// pieces cuts b up.
func (w *mirror) pieces(b []byte) (bufs [][]byte) {
	for len(b) > 0 {
		n := min(len(b), w.rng.IntN(2000))
		bufs = append(bufs, b[:n])
		b = b[n:]
	}
	return bufs
}

// copyRange copies between two open files. Package os has nothing like it: there it is done by hand, if it worked here.
func (w *mirror) copyRange() {
	i, j := w.rng.IntN(len(w.files)), w.rng.IntN(len(w.files))
	dst, src := w.files[i], w.files[j]
	if dst == nil || src == nil || i == j {
		return
	}
	a, err1 := dst.there.Stat()
	b, err2 := src.there.Stat()
	if err1 != nil || err2 != nil || os.SameFile(a, b) {
		return
	}
	off, srcOff, n := max(0, w.offset()), max(0, w.offset()), w.offset()
	w.did("CopyRange %s %d from %s %d %d", dst.here.Name(), off, src.here.Name(), srcOff, n)
	done, _, err := dst.here.CopyRange(w.ctx, off, src.here, srcOff, n)
	if err != nil {
		if a.Mode().IsRegular() && b.Mode().IsRegular() && dst.flag&(os.O_WRONLY|os.O_RDWR) != 0 && dst.flag&os.O_APPEND == 0 &&
			src.flag&os.O_WRONLY == 0 {
			w.fail("%v", err)
		}
		return
	}
	size := max(0, b.Size()-srcOff)
	if n >= 0 {
		size = min(size, n)
	}
	if done != size {
		w.fail("copied %d bytes of %d", done, size)
	}
	data := make([]byte, size)
	if _, err := src.there.ReadAt(data, srcOff); err != nil {
		w.fail("%v", err)
	}
	if _, err := dst.there.WriteAt(data, off); err != nil {
		w.fail("%v", err)
	}
}

// raw makes a call on a file's descriptor.
func raw(f *os.File, call func(fd int) error) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var cerr error
	if err := c.Control(func(fd uintptr) { cerr = call(int(fd)) }); err != nil {
		return os.ErrClosed
	}
	return cerr
}

func seekTo(fd uintptr, off int64) error {
	_, err := unix.Seek(int(fd), off, unix.SEEK_SET)
	return err
}
