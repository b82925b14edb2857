package copier

import (
	"context"
	"crypto/rand"

	"golang.org/x/sys/unix"

	"uringo/fs"
)

// tempPrefix begins the names of unfinished files. What a crash leaves can be found, and removed, by it.
const tempPrefix = ".uringdemo-"

// tempName returns a name that nothing else has, or can guess to take first.
func tempName() string { return tempPrefix + rand.Text() }

// A temp is what will be an entry of dir, under a name of its own until it is complete.
type temp struct {
	dir  *fs.Dir
	name string
	file *fs.File // nil if it is no regular file
}

// discard removes what was not published, if it exists. It works after ctx has ended: that may be why it is called.
func (t *temp) discard(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	if t.file != nil {
		_ = t.file.Close(ctx) // its content is of no interest any more
	}
	if t.name != "" {
		_ = t.dir.Remove(ctx, t.name) // the error that led here matters more
	}
}

// close closes the file, which is the last chance of some file systems to say that they lost data.
func (t *temp) close(ctx context.Context) error {
	f := t.file
	t.file = nil
	return f.Close(context.WithoutCancel(ctx))
}

// publish gives it its final name, in place of what has that now, or with noClobber only if nothing has.
func (t *temp) publish(ctx context.Context, name string, noClobber bool) error {
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
