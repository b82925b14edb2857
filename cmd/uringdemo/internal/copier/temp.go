package copier

import (
	"context"
	"crypto/rand"
	"os"

	"golang.org/x/sys/unix"

	"uringo/fs"
)

// tempPrefix begins the names of unfinished files. What a crash leaves can be found, and removed, by it.
const tempPrefix = ".uringdemo-"

// tempName returns a name that nothing else has, or can guess to take first.
func tempName() string { return tempPrefix + rand.Text() }

// A temp is what will be an entry of dir, under a name of its own until it is complete.
//
// Where names can only be added, it could not get another one, nor go away. There a regular file has no name until it is complete
// (O_TMPFILE), and everything else has its final one from the start.
type temp struct {
	dir   *fs.Dir
	name  string
	file  *fs.File // nil if it is no regular file
	final bool     // name is the final one
}

// newTemp prepares what will be the copy of an entry.
func newTemp(e *entry) *temp {
	if e.adds {
		return &temp{dir: e.ddir, name: e.dst.name, final: true}
	}
	return &temp{dir: e.ddir, name: tempName()}
}

// open creates a regular file.
func (t *temp) open(ctx context.Context, mode os.FileMode) (err error) {
	name, flags := t.name, os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW
	if t.final {
		name, flags = ".", unix.O_TMPFILE
	}
	t.file, err = t.dir.OpenFile(ctx, name, os.O_RDWR|flags, mode)
	return err
}

// discard removes what was not published, if it exists. It works after ctx has ended: that may be why it is called.
func (t *temp) discard(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	if t.file != nil {
		_ = t.file.Close(ctx) // its content is of no interest any more
	}
	if t.name != "" && !t.final {
		_ = t.dir.Remove(ctx, t.name) // the error that led here matters more
	}
}

// close closes the file, which is the last chance of some file systems to say that they lost data. One without a name gets that first.
func (t *temp) close(ctx context.Context) error {
	if t.final {
		return nil
	}
	return t.closeFile(ctx)
}

func (t *temp) closeFile(ctx context.Context) error {
	f := t.file
	t.file = nil
	return f.Close(context.WithoutCancel(ctx))
}

// publish gives it its final name, in place of what has that now, or with noClobber only if nothing has.
func (t *temp) publish(ctx context.Context, name string, noClobber bool) error {
	if t.final {
		return t.settle(ctx, noClobber)
	}
	var flags uint
	if noClobber {
		flags = unix.RENAME_NOREPLACE
	}
	err := t.dir.Rename(ctx, t.name, t.dir, name, flags)
	if noClobber && is(err, unix.EINVAL, unix.ENOSYS) {
		// A file system without the flag: link fails where a file exists, and keeps the promise as well.
		if err = t.dir.Link(ctx, t.name, t.dir, name); err == nil {
			err = t.dir.Remove(ctx, t.name)
		}
	}
	if noClobber && is(err, unix.EEXIST) {
		return errSkip
	}
	if err == nil {
		t.name = ""
	}
	return err
}

// refused is what an error of making t means: where it has its final name from the start, that somebody else has it is what publish would find.
func (t *temp) refused(err error, noClobber bool) error {
	if t.final && noClobber && is(err, unix.EEXIST) {
		return errSkip
	}
	return err
}

// settle gives a file without a name the one that it is to have.
func (t *temp) settle(ctx context.Context, noClobber bool) error {
	if t.file == nil {
		return nil
	}
	if err := t.dir.LinkFile(ctx, t.file, t.name); err != nil {
		return t.refused(err, noClobber)
	}
	return t.closeFile(ctx)
}
