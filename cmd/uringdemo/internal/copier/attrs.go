package copier

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// fileID says which file this is, whatever its name.
type fileID struct {
	dev, ino uint64
}

// attrs is what of a file's status the copy goes by: smaller than struct stat, of which a deep tree keeps many.
type attrs struct {
	id           fileID
	mode         uint32 // type and permissions
	nlink        uint32
	uid, gid     uint32
	rdev         uint64
	size         int64
	blocks       int64 // of 512 bytes
	atime, mtime time.Time
	ctime        time.Time
}

func attrsOf(fi os.FileInfo) attrs {
	s := fi.Sys().(*syscall.Stat_t)
	return attrs{
		id:     fileID{s.Dev, s.Ino},
		mode:   s.Mode,
		nlink:  uint32(s.Nlink),
		uid:    s.Uid,
		gid:    s.Gid,
		rdev:   s.Rdev,
		size:   s.Size,
		blocks: s.Blocks,
		atime:  time.Unix(s.Atim.Unix()),
		mtime:  time.Unix(s.Mtim.Unix()),
		ctime:  time.Unix(s.Ctim.Unix()),
	}
}

func (a *attrs) kind() uint32 { return a.mode & unix.S_IFMT }
func (a *attrs) perm() uint32 { return a.mode & 07777 }
func (a *attrs) isDir() bool  { return a.kind() == unix.S_IFDIR }

// sameContent reports whether nothing was written to the file between the two looks.
func (a *attrs) sameContent(b *attrs) bool {
	return a.id == b.id && a.size == b.size && a.mtime.Equal(b.mtime) && a.ctime.Equal(b.ctime)
}

// describe names a kind of file in a message.
func describe(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "a regular file"
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFLNK:
		return "a symbolic link"
	case unix.S_IFIFO:
		return "a FIFO"
	case unix.S_IFSOCK:
		return "a socket"
	case unix.S_IFCHR, unix.S_IFBLK:
		return "a device"
	}
	return "of an unknown kind"
}
