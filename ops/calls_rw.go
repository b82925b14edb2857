package ops

import (
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

// position is the offset that means the file's own position.
const position = ^uint64(0)

// mover makes the calls that move bytes one way, to or from one buffer or several.
type mover struct {
	here, at, flagged uintptr // read(2), pread(2), preadv2(2), or what corresponds
	poll              int16
	vec               bool
}

var (
	reader  = mover{unix.SYS_READ, oneAt(unix.SYS_PREAD64, unix.SYS_PREADV), unix.SYS_PREADV2, unix.POLLIN, false}
	writer  = mover{unix.SYS_WRITE, oneAt(unix.SYS_PWRITE64, unix.SYS_PWRITEV), unix.SYS_PWRITEV2, unix.POLLOUT, false}
	readerv = mover{unix.SYS_READV, unix.SYS_PREADV, unix.SYS_PREADV2, unix.POLLIN, true}
	writerv = mover{unix.SYS_WRITEV, unix.SYS_PWRITEV, unix.SYS_PWRITEV2, unix.POLLOUT, true}
)

func callRead(e *ring.SQE) int32   { return reader.do(e) }
func callWrite(e *ring.SQE) int32  { return writer.do(e) }
func callReadv(e *ring.SQE) int32  { return readerv.do(e) }
func callWritev(e *ring.SQE) int32 { return writerv.do(e) }
func tryRead(e *ring.SQE) int32    { return reader.try(e) }
func tryWrite(e *ring.SQE) int32   { return writer.try(e) }
func tryReadv(e *ring.SQE) int32   { return readerv.try(e) }
func tryWritev(e *ring.SQE) int32  { return writerv.try(e) }
func nowRead(e *ring.SQE) int32    { return reader.now(e) }
func nowWrite(e *ring.SQE) int32   { return writer.now(e) }
func nowReadv(e *ring.SQE) int32   { return readerv.now(e) }
func nowWritev(e *ring.SQE) int32  { return writerv.now(e) }

// move makes the one call that fits the offset and the flags.
func (m *mover) move(e *ring.SQE, off uint64, flags uint32) int32 {
	var r int32
	switch {
	case flags&unix.RWF_HIPRI != 0:
		return einval // rings of ours do not poll for completions
	case flags != 0 && m.vec:
		r = call(m.flagged, uintptr(e.FD), uintptr(e.Addr), uintptr(e.Len), offsetLow(off), offsetHigh(off), uintptr(flags))
	case flags != 0, off != position && !m.vec && !wide:
		r = m.moveOne(e, off, flags)
	case off != position:
		r = call(m.at, uintptr(e.FD), uintptr(e.Addr), uintptr(e.Len), offsetLow(off), offsetHigh(off), 0)
	default:
		if r = call(m.here, uintptr(e.FD), uintptr(e.Addr), uintptr(e.Len), 0, 0, 0); !m.vec {
			return r // write(2) asks the socket
		}
	}
	if r == 0 && m.poll == unix.POLLOUT {
		return sendNothing(e, flags)
	}
	return r
}

// sendNothing writes nothing to a socket: of those for packets that sends an empty one, with the ring and with write(2), but the calls that want a
// vector do not ask the socket.
func sendNothing(e *ring.SQE, flags uint32) int32 {
	how := uintptr(unix.MSG_NOSIGNAL)
	if flags&unix.RWF_NOWAIT != 0 {
		how |= unix.MSG_DONTWAIT
	}
	r := call(unix.SYS_SENDTO, uintptr(e.FD), 0, 0, how, 0, 0)
	if r == enotsock {
		return 0
	}
	return r
}

// oneAt chooses the call for one buffer at an offset. Where words have 32 bits, it is the one that wants a vector: pread(2) has the halves of the
// offset in registers that differ from processor to processor.
func oneAt(one, vector uintptr) uintptr {
	if wide {
		return one
	}
	return vector
}

// moveOne moves one buffer with a call that wants a vector.
func (m *mover) moveOne(e *ring.SQE, off uint64, flags uint32) int32 {
	trap := m.flagged
	if flags == 0 {
		trap = m.at // which older kernels know, and filters let pass
	}
	iov := struct{ base, len uintptr }{uintptr(e.Addr), uintptr(e.Len)}
	for {
		r, _, errno := syscall.Syscall6(trap, uintptr(e.FD), uintptr(unsafe.Pointer(&iov)), 1, offsetLow(off), offsetHigh(off),
			uintptr(flags))
		if errno == 0 {
			return int32(r)
		}
		if errno != syscall.EINTR {
			return -int32(errno)
		}
	}
}

// do moves bytes, and waits for them. Like the ring, and unlike pread(2), it ignores the offset where there are none, but see anyOffset.
func (m *mover) do(e *ring.SQE) int32 {
	r := m.move(e, e.Off, e.OpFlags)
	if r == espipe && e.Off != position && anyOffset(e) {
		r = m.move(e, position, e.OpFlags)
	}
	return r
}

// anyOffset reports whether the ring takes the entry's offset of a file without offsets. Of those, sockets take none but 0.
func anyOffset(e *ring.SQE) bool {
	if e.Off == 0 {
		return true
	}
	var st unix.Stat_t
	return unix.Fstat(int(e.FD), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK
}

// try moves bytes if that does not mean to wait for somebody else: for a pipe's other end, a peer, a terminal. Files with offsets
// have nobody to wait for, and are read and written as ever; waiting for the disk does not count.
func (m *mover) try(e *ring.SQE) int32 {
	if e.OpFlags&unix.RWF_NOWAIT != 0 {
		return m.do(e)
	}
	if e.Off != position {
		if r := m.move(e, e.Off, e.OpFlags); r != espipe || !anyOffset(e) {
			return r
		}
	} else if !hasPeer(e.FD) {
		return m.do(e)
	}
	return m.stream(e)
}

// now is try without waiting for the disk, or for what else a file waits for that says of itself that it is a regular one.
func (m *mover) now(e *ring.SQE) int32 {
	switch {
	case e.OpFlags&unix.RWF_NOWAIT != 0:
		return m.do(e)
	case e.Off != position || !hasPeer(e.FD):
		return eagain
	}
	return m.stream(e)
}

// stream is try for files without offsets.
func (m *mover) stream(e *ring.SQE) int32 {
	r := m.move(e, position, e.OpFlags|unix.RWF_NOWAIT)
	if r == enosys || r == eopnotsupp && e.OpFlags&^streamFlags == 0 {
		r = m.inTurn(e)
	}
	return r
}

// streamFlags are the flags that a file without offsets may know. What others are refused for need not be waited for.
const streamFlags = unix.RWF_DSYNC | unix.RWF_SYNC | unix.RWF_APPEND | unix.RWF_NOAPPEND | unix.RWF_NOSIGNAL

// hasPeer reports whether reading or writing the file may wait for somebody else.
func hasPeer(fd int32) bool {
	var st unix.Stat_t
	if unix.Fstat(int(fd), &st) != nil {
		return false // the call proper will say why
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFBLK:
		return false
	}
	return true
}

// turns let one request of ours at a time look whether a file is ready and use it, so that they do not take each other's bytes and
// then block. Against other processes nothing helps.
var turns [256]sync.Mutex

// atomicWrite is how much a pipe that polls as writable takes without blocking (PIPE_BUF, pipe(7)).
const atomicWrite = 4096

// inTurn moves bytes of a file that does not know RWF_NOWAIT: named FIFOs, terminals, inotify and others. It asks first whether
// the file is ready. Writes are cut short, as a longer one may block all the same.
func (m *mover) inTurn(e *ring.SQE) int32 {
	turn := &turns[uint32(e.FD)%uint32(len(turns))]
	turn.Lock()
	defer turn.Unlock()
	if r := pollNow(e.FD, m.poll); r < 0 {
		return r
	} else if r == 0 && !m.endUnsaid(e.FD) {
		return eagain
	}
	if m.poll == unix.POLLOUT {
		return m.writeShort(e)
	}
	return m.move(e, position, e.OpFlags)
}

// endUnsaid reports whether a file that does not poll as ready may be at its end all the same, and reading it does not wait: so is a FIFO that was
// opened with O_NONBLOCK and has not had a writer yet.
func (m *mover) endUnsaid(fd int32) bool {
	if m.poll != unix.POLLIN {
		return false
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_NONBLOCK != 0
}

// writeShort writes no more than what surely goes without blocking: everything, or else a part of the first buffer.
func (m *mover) writeShort(e *ring.SQE) int32 {
	part := *e
	if !m.vec {
		part.Len = min(e.Len, atomicWrite)
		return m.move(&part, position, e.OpFlags)
	}
	var first unix.Iovec
	var total uint64
	for _, v := range unsafe.Slice((*unix.Iovec)(pointer(&e.Addr)), e.Len) {
		if first.Len == 0 {
			first = v
		}
		total += uint64(v.Len)
	}
	if total <= atomicWrite {
		return m.move(e, position, e.OpFlags)
	}
	part.Addr = uint64(uintptr(unsafe.Pointer(first.Base)))
	part.Len = uint32(min(first.Len, atomicWrite))
	return writer.move(&part, position, e.OpFlags)
}
