package testdir

import (
	"os"

	"golang.org/x/sys/unix"
)

// topDir is FS_TOPDIR_FL of linux/fs.h, by which ext4 puts directories apart from one another.
const topDir = 0x20000

// makeSmall makes the directory in which every measurement of small files has one of its own. Ext4 does not take an inode again for
// half a minute after a removal, and looks at all of those in the group of the directory for every file that is made: who came later in a run
// would pay for who came before, by a factor of ten. So the directories are in groups of their own, where the file system knows how.
func makeSmall(dir string) error {
	if err := os.Mkdir(Small(dir), 0o755); err != nil {
		return err
	}
	f, err := os.Open(Small(dir))
	if err != nil {
		return err
	}
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil {
		_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags|topDir)
	}
	return nil
}

// NewSmall makes an empty directory for small files. Whoever fills it removes it.
func NewSmall(dir string) (string, error) { return os.MkdirTemp(Small(dir), "") }
