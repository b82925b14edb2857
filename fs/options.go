package fs

import (
	"context"
	"os"

	"golang.org/x/sys/unix"
)

// OpenOptions say how to open a file, in words, and are checked before the kernel is asked. The zero value opens nothing: one of Read,
// Write and Append has to be set.
//
//	f, err := fs.OpenOptions{Write: true, CreateNew: true, Mode: 0o600}.Open(ctx, name)
type OpenOptions struct {
	Read      bool
	Write     bool
	Append    bool // write, and always at the end
	Truncate  bool // to nothing; needs Write
	Create    bool // if the file does not exist; needs Write or Append
	CreateNew bool // fail with ErrExist if it does; makes Create and Truncate superfluous; needs Write or Append

	// Unnamed makes a file without a name in the directory that is opened (O_TMPFILE, kernel 3.11): it is gone with its last
	// descriptor. Needs Write, and excludes the four above.
	Unnamed bool

	// Direct goes around the page cache (O_DIRECT); see [File.DirectIO] for what that asks of offsets and buffers.
	Direct bool

	// Mode is what a new file gets, before umask. Zero means 0666.
	Mode FileMode

	// Flags are further flags of open(2), such as unix.O_NOFOLLOW or O_DSYNC. None of those that a field stands for.
	Flags int
}

// Open opens the named file. Options that contradict each other are an error that is EINVAL, and says what is wrong. Kernel 5.6, open(2).
func (o OpenOptions) Open(ctx context.Context, name string) (*File, error) {
	flag, mode, err := o.flags()
	if err != nil {
		return nil, &PathError{Op: "open", Path: name, Err: err}
	}
	return OpenFile(ctx, name, flag, mode)
}

// OpenIn opens a file beneath a directory; see [Dir.OpenFile].
func (o OpenOptions) OpenIn(ctx context.Context, d *Dir, name string) (*File, error) {
	flag, mode, err := o.flags()
	if err != nil {
		return nil, d.wrap("open", name, err)
	}
	return d.OpenFile(ctx, name, flag, mode)
}

// owned are the flags that fields stand for.
const owned = unix.O_ACCMODE | unix.O_APPEND | unix.O_CREAT | unix.O_EXCL | unix.O_TRUNC | unix.O_DIRECT | unix.O_TMPFILE&^unix.O_DIRECTORY

func (o OpenOptions) flags() (flag int, mode FileMode, err error) {
	creates := o.Create || o.CreateNew
	switch {
	case o.Flags&owned != 0:
		return 0, 0, badArgument("Flags has a flag that is an option of its own")
	case !o.Read && !o.Write && !o.Append:
		return 0, 0, badArgument("none of Read, Write and Append")
	case o.Unnamed && (!o.Write || o.Append || creates || o.Truncate):
		return 0, 0, badArgument("Unnamed needs Write, and excludes Append, Create, CreateNew and Truncate")
	case creates && !o.Write && !o.Append:
		return 0, 0, badArgument("Create and CreateNew need Write or Append")
	case o.Truncate && !o.CreateNew && (!o.Write || o.Append):
		return 0, 0, badArgument("Truncate needs Write, without Append")
	case o.Mode&^(ModePerm|os.ModeSetuid|os.ModeSetgid|os.ModeSticky) != 0:
		return 0, 0, badArgument("Mode has more than permissions")
	}
	switch {
	case !o.Write && !o.Append:
		flag = unix.O_RDONLY
	case o.Read:
		flag = unix.O_RDWR
	default:
		flag = unix.O_WRONLY
	}
	if o.Append {
		flag |= unix.O_APPEND
	}
	switch {
	case o.Unnamed:
		flag |= unix.O_TMPFILE
	case o.CreateNew:
		flag |= unix.O_CREAT | unix.O_EXCL
	default:
		if o.Create {
			flag |= unix.O_CREAT
		}
		if o.Truncate {
			flag |= unix.O_TRUNC
		}
	}
	if o.Direct {
		flag |= unix.O_DIRECT
	}
	if mode = o.Mode; mode == 0 {
		mode = 0o666
	}
	return flag | o.Flags, mode, nil
}
