package fs

import (
	"context"
	"io"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"uringo/executor"
)

// Lock locks the file for its caller alone, and waits for that until ctx ends. The file must be open for writing.
//
// Locks are advisory: they keep out who asks for one, and nobody else. They are of the kind that belongs to the open file (open file
// description locks, fcntl(2), kernel 3.15), so two Files of one name keep each other out, in one process as in two, while all users of
// one File share its lock. Locking a file that is locked in the other way changes the lock. [File.Close] gives it up, also for whoever has a
// copy of the descriptor, and so does the end of the process.
//
// Waiting is asking again, at most 50 ms apart: it holds neither thread nor worker, and ctx can end it, which F_OFD_SETLKW would not
// allow. It is not fair: who asks at the right moment gets the lock.
func (f *File) Lock(ctx context.Context) error { return f.lock(ctx, unix.F_WRLCK) }

// RLock is [File.Lock] for readers, who keep out only those that want the file for themselves. The file must be open for reading.
func (f *File) RLock(ctx context.Context) error { return f.lock(ctx, unix.F_RDLCK) }

// TryLock is [File.Lock] without waiting: it reports whether it got the lock.
func (f *File) TryLock(ctx context.Context) (bool, error) { return f.tryLock(ctx, unix.F_WRLCK) }

// TryRLock is [File.RLock] without waiting.
func (f *File) TryRLock(ctx context.Context) (bool, error) { return f.tryLock(ctx, unix.F_RDLCK) }

// Unlock gives the lock up. That there is none is no error. A ctx that has ended does not keep it from happening.
func (f *File) Unlock(ctx context.Context) error {
	_, err := f.tryLock(context.WithoutCancel(ctx), unix.F_UNLCK)
	return err
}

func (f *File) lock(ctx context.Context, kind int16) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		got, err := f.tryLock(ctx, kind)
		if got || err != nil {
			return err
		}
		if err := executor.Sleep(ctx, pause); err != nil {
			return f.wrap("lock", err)
		}
	}
}

func (f *File) tryLock(ctx context.Context, kind int16) (bool, error) {
	err := f.change(ctx, "lock", func(fd int) error {
		f.locks.Store(true)
		return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Whence: io.SeekStart})
	})
	if e, ok := err.(*PathError); ok && (e.Err == syscall.EAGAIN || e.Err == syscall.EACCES) {
		return false, nil
	}
	return err == nil, err
}

// unlocked is a File that is closed after its Close has returned.
type unlocked File

func (u *unlocked) Close() error {
	f := (*File)(u)
	f.leave()
	return f.h.Close()
}

// leave gives up the lock that a file may have before it is closed. The last close(2) would, too, but that may not be this one yet: when a
// thread of the kernel has done something with the file, it holds it for a moment longer.
func (f *File) leave() {
	if f.locks.Load() {
		_ = unix.FcntlFlock(uintptr(f.h.FD), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK, Whence: io.SeekStart}) // or else close(2) does
	}
}
