package testdir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"uringo/bench/peers/internal/job"
)

// Settle gives every measurement of a work the same start: what is to be read from the page cache is in it, and
// no dirty page of an earlier measurement is left for the device to write during this one.
func Settle(dir, work string) error {
	switch work {
	case job.Cached, job.Beside, job.SendFile:
		return warm(Cached(dir))
	case job.Copy:
		// The pages that it will be written to are those that this copy gives back, for the same reason as with StreamRead.
		if err := copyOnce(CopyTarget(dir), Cached(dir)); err != nil {
			return err
		}
		return os.Remove(CopyTarget(dir))
	case job.Write:
		if err := warm(Write(dir)); err != nil {
			return err
		}
		return flush(Write(dir))
	case job.StreamRead:
		// The pages that it will be read into are those that the cache gave back last. In a virtual machine the first use of others may
		// cost ten times what reading does, and it would be one contender's.
		if err := warm(Direct(dir)); err != nil {
			return err
		}
		return dropCache(Direct(dir))
	case job.WalkCold, job.FilesCold:
		return dropAll(dir)
	case job.WalkWarm:
		return filepath.WalkDir(Tree(dir), func(_ string, d fs.DirEntry, err error) error {
			if err == nil {
				_, err = d.Info()
			}
			return err
		})
	case job.FilesWarm:
		for i := range SmallFiles {
			if err := warm(SmallFile(dir, i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Impossible is the reason why a work cannot be measured by this user on this machine, or nil.
func Impossible(work string) error {
	switch work {
	case job.WalkCold, job.FilesCold:
		if os.Getuid() != 0 {
			return errors.New("only root may empty the kernel's caches")
		}
	case job.Beside:
		if os.Getuid() != 0 {
			return errors.New("only root may mount the slow file system")
		}
		if _, err := os.Stat("/dev/fuse"); err != nil {
			return fmt.Errorf("the slow file system needs FUSE: %w", err)
		}
	}
	return nil
}

// dropAll empties the kernel's caches of names, inodes and pages: what describes a file is a page of the device.
func dropAll(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil { // what is not written out stays
		return err
	}
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}

// Clean removes what a measurement left in the directory, also one that died halfway, and writes out what it wrote.
func Clean(dir, work string) error {
	switch work {
	case job.Write:
		return flush(Write(dir))
	case job.StreamWrite, job.StreamWriteDirect:
		if err := flush(Stream(dir)); err != nil {
			return err
		}
		return dropCache(Stream(dir))
	case job.Beside:
		err := unix.Unmount(Slow(dir), unix.MNT_DETACH)
		if err == unix.EINVAL { // it was not mounted, or is not any more
			err = nil
		}
		return err
	case job.Copy:
		return os.RemoveAll(CopyTarget(dir))
	case job.Small:
		if err := os.RemoveAll(Small(dir)); err != nil {
			return err
		}
		return makeSmall(dir)
	}
	return nil
}

func warm(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, f)
	return err
}

func copyOnce(to, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

func flush(name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
