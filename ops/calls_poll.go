package ops

import (
	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

func callPoll(e *ring.SQE) int32 { return poll(e.FD, int16(e.OpFlags), -1) }

func tryPoll(e *ring.SQE) int32 {
	if e.Len != 0 {
		return einval // multishot and updates are the ring's alone
	}
	if r := pollNow(e.FD, int16(e.OpFlags)); r != 0 {
		return r
	}
	return eagain
}

func wantsPoll(e *ring.SQE) (int32, int16) { return e.FD, int16(e.OpFlags) }

// pollNow returns the events that fd is ready for, 0 if there are none, or a negative errno.
func pollNow(fd int32, events int16) int32 { return poll(fd, events, 0) }

func poll(fd int32, events int16, ms int) int32 {
	if fd < 0 {
		return ebadf // poll(2) skips those
	}
	fds := []unix.PollFd{{Fd: fd, Events: events}}
	for {
		_, err := unix.Poll(fds, ms)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return result(err)
		}
		if fds[0].Revents&unix.POLLNVAL != 0 {
			return ebadf
		}
		return int32(uint16(fds[0].Revents))
	}
}

func callSplice(e *ring.SQE) int32 { return splice(e, int(e.OpFlags)) }

func splice(e *ring.SQE, flags int) int32 {
	in, out := int64(e.Addr), int64(e.Off)
	for {
		var inOff, outOff *int64
		if in != -1 {
			inOff = &in
		}
		if out != -1 {
			outOff = &out
		}
		n, err := unix.Splice(int(e.FileIndex), inOff, int(e.FD), outOff, int(e.Len), flags)
		if err == nil {
			return int32(n)
		}
		if err != unix.EINTR {
			return result(err)
		}
	}
}

// trySplice splices if both ends are ready. The flag alone would not do: it is about the pipe, and not about the file at the other end.
func trySplice(e *ring.SQE) int32 {
	const known = unix.SPLICE_F_MOVE | unix.SPLICE_F_NONBLOCK | unix.SPLICE_F_MORE | unix.SPLICE_F_GIFT
	if e.Len == 0 || e.OpFlags&^known != 0 { // neither waits
		return callSplice(e)
	}
	for _, end := range [2]struct {
		fd     int32
		events int16
	}{{e.FileIndex, unix.POLLIN}, {e.FD, unix.POLLOUT}} {
		if r := pollNow(end.fd, end.events); r == 0 {
			return refusedSplice(e)
		} else if r < 0 {
			return r
		}
	}
	return splice(e, int(e.OpFlags)|unix.SPLICE_F_NONBLOCK)
}

// refusedSplice is EAGAIN for a splice that may be waited for: out of what is open for reading into what is open for writing, one of them a pipe, with
// offsets only where there are some. Else it is what is wrong, as there is nothing that would end the wait.
func refusedSplice(e *ring.SQE) int32 {
	from, err := unix.FcntlInt(uintptr(e.FileIndex), unix.F_GETFL, 0)
	if err != nil {
		return result(err)
	}
	to, err := unix.FcntlInt(uintptr(e.FD), unix.F_GETFL, 0)
	if err != nil {
		return result(err)
	}
	if from&unix.O_ACCMODE == unix.O_WRONLY || to&unix.O_ACCMODE == unix.O_RDONLY {
		return ebadf
	}
	var in, out unix.Stat_t
	if err := unix.Fstat(int(e.FileIndex), &in); err != nil {
		return result(err)
	}
	if err := unix.Fstat(int(e.FD), &out); err != nil {
		return result(err)
	}
	fromPipe, toPipe := in.Mode&unix.S_IFMT == unix.S_IFIFO, out.Mode&unix.S_IFMT == unix.S_IFIFO
	switch {
	case !fromPipe && !toPipe, fromPipe && toPipe && in.Ino == out.Ino && in.Dev == out.Dev:
		return einval
	case fromPipe && e.Addr != position, toPipe && e.Off != position:
		return espipe
	case !toPipe && to&unix.O_APPEND != 0, e.Addr != position && !seeks(e.FileIndex), e.Off != position && !seeks(e.FD):
		return einval
	}
	return eagain
}

// seeks reports whether a file has offsets.
func seeks(fd int32) bool {
	_, err := unix.Seek(int(fd), 0, unix.SEEK_CUR)
	return err == nil
}

// wantsSplice names the end that is not ready.
func wantsSplice(e *ring.SQE) (int32, int16) {
	if pollNow(e.FileIndex, unix.POLLIN) == 0 {
		return e.FileIndex, unix.POLLIN
	}
	return e.FD, unix.POLLOUT
}
