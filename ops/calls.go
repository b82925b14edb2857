package ops

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

// Calls returns the plain system calls behind the operations, for engines that cannot or should not use the ring. They read the
// entry alone, as the kernel does, and answer as the ring would: where the two differ, the ring's way is imitated.
func Calls() *ring.CallTable { return &calls }

var calls = ring.CallTable{
	ring.OpNop: {Do: callNop},

	ring.OpRead:       {Do: callRead, Try: tryRead, Now: nowRead, Poll: unix.POLLIN, End: endRead, NoWait: unix.RWF_NOWAIT},
	ring.OpWrite:      {Do: callWrite, Try: tryWrite, Now: nowWrite, Poll: unix.POLLOUT, NoWait: unix.RWF_NOWAIT},
	ring.OpReadv:      {Do: callReadv, Try: tryReadv, Now: nowReadv, Poll: unix.POLLIN, End: endReadv, NoWait: unix.RWF_NOWAIT},
	ring.OpWritev:     {Do: callWritev, Try: tryWritev, Now: nowWritev, Poll: unix.POLLOUT, NoWait: unix.RWF_NOWAIT},
	ring.OpReadFixed:  {Do: callRead, Try: tryRead, Poll: unix.POLLIN, End: endRead, NoWait: unix.RWF_NOWAIT},
	ring.OpWriteFixed: {Do: callWrite, Try: tryWrite, Poll: unix.POLLOUT, NoWait: unix.RWF_NOWAIT},
	ring.OpPollAdd:    {Do: callPoll, Try: tryPoll, Wants: wantsPoll},
	ring.OpSplice:     {Do: callSplice, Try: trySplice, Wants: wantsSplice, NoWait: unix.SPLICE_F_NONBLOCK},

	ring.OpOpenat:  {Do: callOpenat, Drop: dropFD},
	ring.OpOpenat2: {Do: callOpenat2, Drop: dropFD},
	ring.OpClose:   {Do: callClose},

	ring.OpSocket:   {Do: callSocket, Drop: dropFD},
	ring.OpConnect:  {Do: callConnect, Try: tryConnect, Now: tryConnect, Wants: wantsConnect},
	ring.OpAccept:   {Do: callAccept, Try: tryAccept, Now: tryAccept, Poll: unix.POLLIN, End: endAccept, Drop: dropFD},
	ring.OpShutdown: {Do: callShutdown},
	ring.OpRecv:     {Do: callRecv, Try: tryRecv, Now: tryRecv, Wants: wantsRecv, End: endRecv, NoWait: dontWait},
	ring.OpSend:     {Do: callSend, Try: trySend, Now: trySend, Poll: unix.POLLOUT, NoWait: dontWait},
	ring.OpSendZC:   {Do: callSend, Try: trySend, Now: trySend, Poll: unix.POLLOUT, NoWait: dontWait},
	ring.OpRecvmsg:  {Do: callRecvmsg, Try: tryRecvmsg, Now: tryRecvmsg, Wants: wantsRecv, End: endRecvmsg, NoWait: dontWait, Drop: dropMsg},
	ring.OpSendmsg:  {Do: callSendmsg, Try: trySendmsg, Now: trySendmsg, Poll: unix.POLLOUT, NoWait: dontWait},

	ring.OpSendmsgZC: {Do: callSendmsg, Try: trySendmsg, Now: trySendmsg, Poll: unix.POLLOUT, NoWait: dontWait},

	ring.OpFsync:         {Do: callFsync},
	ring.OpSyncFileRange: {Do: callSyncFileRange},
	ring.OpFallocate:     {Do: callFallocate},
	ring.OpFtruncate:     {Do: callFtruncate},
	ring.OpFadvise:       {Do: callFadvise},

	ring.OpStatx:     {Do: callStatx},
	ring.OpFsetxattr: {Do: callFsetxattr},
	ring.OpSetxattr:  {Do: callSetxattr},
	ring.OpFgetxattr: {Do: callFgetxattr},
	ring.OpGetxattr:  {Do: callGetxattr},

	ring.OpMkdirat:   {Do: callMkdirat},
	ring.OpUnlinkat:  {Do: callUnlinkat},
	ring.OpRenameat:  {Do: callRenameat},
	ring.OpSymlinkat: {Do: callSymlinkat},
	ring.OpLinkat:    {Do: callLinkat},
}

// wide says that a register holds 64 bits, as the fields of entries do: addresses fit in any case, and offsets then.
const wide = unsafe.Sizeof(uintptr(0)) == 8

// The result of a call that fails, as the kernel writes it.
const (
	eagain      = -int32(syscall.EAGAIN)
	ealready    = -int32(syscall.EALREADY)
	ebadf       = -int32(syscall.EBADF)
	einprogress = -int32(syscall.EINPROGRESS)
	einval      = -int32(syscall.EINVAL)
	enotsock    = -int32(syscall.ENOTSOCK)
	enosys      = -int32(syscall.ENOSYS)
	eopnotsupp  = -int32(syscall.EOPNOTSUPP)
	espipe      = -int32(syscall.ESPIPE)
)

// call makes a system call, again if a signal interrupts it. The addresses come from an entry, whose memory its owner keeps in place.
func call(trap, a, b, c, d, e, f uintptr) int32 {
	for {
		r, _, errno := syscall.Syscall6(trap, a, b, c, d, e, f)
		if errno == 0 {
			return int32(r)
		}
		if errno != syscall.EINTR {
			return -int32(errno)
		}
	}
}

// pointer returns the address in a field of an entry, for the few calls that must look at the memory themselves.
func pointer(addr *uint64) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(addr)) }

// result turns the error of a call into the kernel's form of it.
func result(err error) int32 {
	if err == nil {
		return 0
	}
	if errno, ok := err.(syscall.Errno); ok {
		return -int32(errno)
	}
	return einval
}

// uninterrupted repeats f for as long as signals interrupt it.
func uninterrupted(f func() error) int32 {
	for {
		if r := result(f()); r != -int32(syscall.EINTR) {
			return r
		}
	}
}

func callNop(e *ring.SQE) int32 {
	if e.OpFlags&ring.NopInjectResult != 0 {
		return int32(e.Len)
	}
	return 0
}

// dropFD closes a descriptor whose number nobody will learn.
func dropFD(_ *ring.SQE, res int32) { discardFD(nil, res) }
