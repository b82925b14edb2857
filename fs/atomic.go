package fs

import (
	"context"
	"io"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/handle"
	"uringo/ops"
)

// WriteFileAtomic gives the named file data as its content, all of it or nothing: whoever opens the file, at any time and after any crash,
// finds the old content or the new one, whole. When it has returned nil, the new one is on stable storage.
//
// It writes a new file in the same directory, syncs it, gives it the name with rename(2), and syncs the directory, where the file system
// can; in the ring, these are one submission (kernel 5.11). So the file has the permissions perm before umask, and its owner, other names
// and attributes are not those of the old one; a symbolic link of that name is replaced itself. An error means that the old content is
// still there, unless it came from the last step: then it is the new one, which may not survive a crash of the machine. After
// driver.ErrAbandoned it may be either, and the one may follow upon the other. A crash may leave the new file behind, whose name
// begins with .tmp- .
//
// A directory that the caller may search and write to, and not read, cannot be synced: there it is the whole file system (syncfs(2)), which
// takes the longer the more others have written, and whose errors may be theirs.
func WriteFileAtomic(ctx context.Context, name string, data []byte, perm FileMode) error {
	slash := strings.LastIndexByte(name, '/')
	dir, base := name[:slash+1], name[slash+1:]
	if dir == "" {
		dir = "."
	}
	switch base {
	case "", ".", "..":
		err := syscall.EISDIR
		if name == "" {
			err = syscall.ENOENT
		}
		return &PathError{Op: "open", Path: name, Err: err}
	}
	d, err := OpenDir(ctx, dir)
	if err != nil {
		return named(err, name)
	}
	err = d.writeAtomic(ctx, base, name, data, perm)
	_ = d.Close(context.WithoutCancel(ctx)) // which was only used for names
	return err
}

// WriteFileAtomic is the function [WriteFileAtomic] for a name in the directory.
func (d *Dir) WriteFileAtomic(ctx context.Context, name string, data []byte, perm FileMode) error {
	shown := d.join(name)
	switch one := single(name); {
	case one == "" && name != "..":
		return &PathError{Op: "open", Path: shown, Err: badName(name)}
	case one == "", one == ".", one != name:
		return &PathError{Op: "open", Path: shown, Err: syscall.EISDIR}
	}
	return d.writeAtomic(ctx, name, shown, data, perm)
}

func (d *Dir) writeAtomic(ctx context.Context, name, shown string, data []byte, perm FileMode) error {
	if !d.f.h.Acquire() { // until the new file has its name, or is gone
		return pathError("write", shown, ErrClosed)
	}
	defer d.f.h.Release()
	var f *File
	var temp string
	err := freshName(".tmp-", "", func(fresh string) (err error) {
		temp = fresh
		f, err = d.OpenFile(ctx, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, perm)
		return err
	})
	if err != nil {
		return pathError("write", shown, named(err, shown))
	}
	replace := d.replace
	switch {
	case d.blind:
		replace = d.replaceBlind
	case f.linksReplace(data):
		replace = d.replaceLinked
	}
	step, err := replace(ctx, f, temp, name, data)
	if err != nil && step != "sync" {
		// If it was renamed in spite of all, there is none of that name. It is no operation of d, which may be closing.
		_, _ = callAs(context.WithoutCancel(ctx), executor.CallerOf(ctx), d.f.as, Call, func() (struct{}, error) {
			return struct{}{}, ops.UnlinkatNow(d.f.h.FD, temp, 0)
		})
	}
	if step == "sync" && err == syscall.EINVAL {
		err = nil // not every file system has directories to sync
	}
	return pathError(step, shown, named(err, shown))
}

// replace gives the new file f, temp in d, its content and then the name, and closes it. With an error it says which step failed: "write",
// "rename", or "sync", of the directory.
func (d *Dir) replace(ctx context.Context, f *File, temp, name string, data []byte) (step string, err error) {
	if _, err = f.writeKept(ctx, data, 0); err == nil {
		err = f.SyncAll(ctx)
	}
	if cerr := f.Close(context.WithoutCancel(ctx)); err == nil {
		err = cerr
	}
	if err != nil {
		return "write", err
	}
	return d.place(ctx, temp, name)
}

// place gives temp the name, for good.
func (d *Dir) place(ctx context.Context, temp, name string) (step string, err error) {
	if err := d.rename(ctx, temp, name); err != nil {
		return "rename", err
	}
	return "sync", do(ctx, d.f, OpSync, ops.Fsync(d.f.h.FD)).Err
}

func (d *Dir) rename(ctx context.Context, temp, name string) error {
	return twoNames(ctx, OpRename, d, temp, d, name, func(old, new string) ops.Op[struct{}] {
		return ops.Renameat2(d.f.h.FD, old, d.f.h.FD, new, 0)
	})
}

// replaceBlind is replace in a directory that is open for names only, and cannot be synced. Local file systems are known to bring a file's
// name to the disk with an fsync of the file, but fsync(2) says not to rely on that; syncfs(2), by way of the new file, promises it.
func (d *Dir) replaceBlind(ctx context.Context, f *File, temp, name string, data []byte) (step string, err error) {
	defer f.Close(context.WithoutCancel(ctx)) // after the syncs, which would have told
	if _, err = f.writeKept(ctx, data, 0); err == nil {
		err = f.SyncAll(ctx)
	}
	if err != nil {
		return "write", err
	}
	if err := d.rename(ctx, temp, name); err != nil {
		return "rename", err
	}
	_, err = doCall(ctx, f, OpSync, func(fd int) (struct{}, error) {
		return struct{}{}, ignoringEINTR(func() error { return unix.Syncfs(fd) })
	})
	return "sync", err
}

// linksReplace reports whether the steps for f may be one chain in the ring: the file system keeps what a write with RWF_SYNC promises, as
// local ones do, and one operation takes all of the data.
func (f *File) linksReplace(data []byte) bool {
	for _, op := range []Operation{OpWrite, OpSync, OpRename} {
		if r := f.pinned(op); r != Auto && r != Ring {
			return false
		}
	}
	return f.h.Driver.Engine() == driver.Uring && f.known()&(traitRegular|traitRemote) == traitRegular && 0 < len(data) && len(data) <= ops.MaxTransfer
}

// replaceLinked is replace in one submission, for which every ring has room, and which the kernel works off on one thread.
//
// The write brings the data to stable storage itself, in place of an fsync behind it: behind a write that fails, in whatever respect, the
// kernel does not go on, while it lets the failure of an fsync pass, so that the driver would have to look at that before the rename. It lets
// that of a rename pass, too; but then only the directory is synced, which does no harm.
func (d *Dir) replaceLinked(ctx context.Context, f *File, temp, name string, data []byte) (step string, err error) {
	if ctx.Err() != nil {
		_ = f.Close(context.WithoutCancel(ctx)) // the error that counts is that of ctx
		return "write", driver.Canceled(ctx)
	}
	for i := range 2 { // for the rename and the sync
		if !d.f.h.Acquire() {
			if i > 0 {
				d.f.h.Release()
			}
			_ = f.Close(ctx) // the error that counts is ErrClosed
			return "write", ErrClosed
		}
	}
	f.h.Acquire() // nobody else can have closed it
	l := f.lend()

	var c driver.Chain
	o := ops.WriteAtFlags(f.h.FD, data, 0, unix.RWF_SYNC)
	o.As = f.whose()
	o.Flags |= ops.Async // on a file system that does not pass it on, the driver would wait for the disk
	o.Release = l.free
	write := driver.Link(&c, o)
	onDir := func(o ops.Op[struct{}]) ops.Op[struct{}] {
		o.Release, o.As = d.f.h.Free, d.f.whose()
		return o
	}
	rename := driver.Link(&c, onDir(ops.Renameat2(d.f.h.FD, temp, d.f.h.FD, name, 0)))
	sync := driver.HardLink(&c, onDir(ops.Fsync(d.f.h.FD)))
	if err = c.Submit(f.h.Driver); err != nil {
		step = "rename" // whose name is not valid
	}
	stop := context.AfterFunc(ctx, func() {
		write.Cancel()
		rename.Cancel()
		sync.Cancel()
	})
	defer stop()
	always := context.WithoutCancel(ctx)
	synced := executor.Await(always, sync).Err // the last one first: the others are in by then, mostly
	wrote, renamed := executor.Await(always, write), executor.Await(always, rename).Err
	written := wrote.Err
	if written == nil && wrote.N < len(data) {
		written = io.ErrShortWrite // which the driver does not call an error
	}
	for _, r := range []struct {
		step string
		h    *handle.Handle
		err  error
	}{{"write", &f.h, written}, {"rename", &d.f.h, renamed}, {"sync", &d.f.h, synced}} {
		if driver.IsCanceled(r.err) && ctx.Err() != nil {
			r.err = driver.Canceled(ctx)
		}
		if r.err = r.h.Settle(r.err, ErrClosed); r.err != nil && err == nil {
			step, err = r.step, r.err
		}
	}
	_ = l.end(always, written) // the data is the caller's, and must not stay with the kernel
	_ = f.Close(always)        // after the sync, which would have told
	if step == "rename" && (err == syscall.EINTR || err == syscall.EAGAIN || err == syscall.ECANCELED) {
		return d.place(ctx, temp, name) // a chain does not repeat what another member is behind whatever becomes of it
	}
	return step, err
}
