// Package slowfs is a file system with one file, of which every read takes as long as one from a bad network does. It is served by a
// process of its own, whose time is not the contender's.
package slowfs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	// Name is that of the file.
	Name = "file"
	// Size is how long it is.
	Size = 1 << 30
	// Delay is how long a read takes.
	Delay = 50 * time.Millisecond

	// ServeFlag is the first argument of a process that serves; where to mount is the second.
	ServeFlag = "-serve-slow"
)

// Start mounts the file system at dir, served by a new process of this very program, until stop is called.
func Start(ctx context.Context, dir string) (stop func(), err error) {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", ServeFlag, dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := startAside(cmd); err != nil {
		return nil, err
	}
	stop = func() {
		_ = in.Close()
		_ = cmd.Wait() // the measurement is over, and whoever asked for it looks after the mount
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "up\n" {
		stop()
		return nil, fmt.Errorf("the slow file system said %q: %w", line, err)
	}
	return stop, nil
}

// startAside starts cmd where it takes as little as can be from this process, as a server on another machine would: on the processors that this
// process may not use, if there are any, and with what others leave of those that it gets. Root may.
func startAside(cmd *exec.Cmd) (err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var mine unix.CPUSet
	if err := unix.SchedGetaffinity(0, &mine); err != nil {
		return fmt.Errorf("read affinity: %w", err)
	}
	defer func() { err = errors.Join(err, unix.SchedSetaffinity(0, &mine)) }()
	if err := unix.SchedSetaffinity(0, allBut(mine)); err != nil && err != unix.EINVAL { // which says that there are no others
		return fmt.Errorf("set affinity: %w", err)
	}
	const leastOfAll = 19
	was, err := unix.Getpriority(unix.PRIO_PROCESS, 0) // 20 less the nice value, as the system call has it
	if err != nil {
		return fmt.Errorf("read priority: %w", err)
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, leastOfAll); err != nil {
		return fmt.Errorf("set priority: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Setpriority(unix.PRIO_PROCESS, 0, 20-was)) }()
	return cmd.Start()
}

func allBut(some unix.CPUSet) *unix.CPUSet {
	var others unix.CPUSet
	for cpu := range len(others) * 64 {
		if !some.IsSet(cpu) {
			others.Set(cpu)
		}
	}
	return &others
}

// Serve serves until in ends.
func Serve(dir string, in io.Reader, out io.Writer) error {
	server, err := fs.Mount(dir, &root{}, &fs.Options{MountOptions: fuse.MountOptions{
		FsName:              "slow",
		Name:                "slow",
		DirectMountStrict:   true,
		MaxBackground:       1 << 12,
		CongestionThreshold: 1 << 12,
		ExtraCapabilities:   fuse.CAP_ASYNC_DIO,
	}})
	if err != nil {
		return err
	}
	if _, err := io.WriteString(out, "up\n"); err != nil {
		return errors.Join(err, server.Unmount())
	}
	_, err = io.Copy(io.Discard, in)
	return errors.Join(err, server.Unmount())
}

type root struct{ fs.Inode }

// OnAdd implements fs.NodeOnAdder.
func (r *root) OnAdd(ctx context.Context) {
	r.AddChild(Name, r.NewPersistentInode(ctx, &file{}, fs.StableAttr{}), false)
}

type file struct{ fs.Inode }

// Getattr implements fs.NodeGetattrer.
func (*file) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size = 0o444, Size
	return 0
}

// Open implements fs.NodeOpener.
func (*file) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

// Read implements fs.NodeReader.
func (*file) Read(ctx context.Context, _ fs.FileHandle, b []byte, _ int64) (fuse.ReadResult, syscall.Errno) {
	late := time.NewTimer(Delay)
	defer late.Stop()
	select {
	case <-late.C:
		return fuse.ReadResultData(b), 0
	case <-ctx.Done(): // the kernel says that nobody waits any more
		return nil, syscall.EINTR
	}
}
