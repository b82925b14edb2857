package ring

import (
	"encoding/binary"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The model's multishot requests, and its rings of provided buffers.

// simProvided is a ring of provided buffers as the kernel sees it.
type simProvided struct {
	entries []providedBuffer
	head    uint16
}

// registerProvided adds a ring of provided buffers.
func (s *Sim) registerProvided(arg unsafe.Pointer) syscall.Errno {
	reg := (*providedRing)(arg)
	if reg.addr == 0 || reg.entries == 0 || reg.entries > MaxProvided || reg.entries&(reg.entries-1) != 0 || reg.flags != 0 {
		return syscall.EINVAL
	}
	if s.provided[reg.group] != nil {
		return syscall.EEXIST
	}
	s.provided[reg.group] = &simProvided{entries: unsafe.Slice(*(**providedBuffer)(unsafe.Pointer(&reg.addr)), reg.entries)}
	return 0
}

// unregisterProvided removes one.
func (s *Sim) unregisterProvided(arg unsafe.Pointer) syscall.Errno {
	group := (*providedRing)(arg).group
	if s.provided[group] == nil {
		return syscall.ENOENT
	}
	for r := s.first; r != nil; r = r.next {
		if r.sqe.Flags&SQEBufferSelect != 0 && r.sqe.BufIndex == group {
			s.blame("the buffers of group %d are unregistered with a request in flight", group)
		}
	}
	delete(s.provided, group)
	return 0
}

// next returns the first buffer that is there, or nil.
func (p *simProvided) next() *providedBuffer {
	word := atomic.LoadUint32((*uint32)(unsafe.Pointer(&p.entries[0].id)))
	if tail := (*[2]uint16)(unsafe.Pointer(&word))[1]; p.head == tail {
		return nil
	}
	return &p.entries[p.head&uint16(len(p.entries)-1)]
}

// isMultishot reports whether a request goes on after its first result.
func isMultishot(e *SQE) bool {
	return e.Op == OpReadMultishot || e.Op == OpAccept && e.IoPrio&AcceptMultishot != 0 ||
		(e.Op == OpRecv || e.Op == OpRecvmsg) && e.IoPrio&RecvMultishot != 0
}

// performSocket performs what the call table knows only without multishot and provided buffers.
func (s *Sim) performSocket(r *simReq) (res int32, ready bool) {
	e := r.sqe
	e.IoPrio, e.Flags = 0, 0
	var b *providedBuffer
	if r.sqe.Flags&SQEBufferSelect != 0 {
		p := s.provided[e.BufIndex]
		if p == nil {
			return -int32(syscall.ENOBUFS), true
		}
		if b = p.next(); b == nil {
			// Whether there is something to receive, the kernel asks first.
			if res, ready := s.performCall(&SQE{Op: OpPollAdd, FD: e.FD, OpFlags: 1 /* POLLIN */}); !ready || res < 0 {
				return res, ready
			}
			return -int32(syscall.ENOBUFS), true
		}
		switch e.Op {
		case OpRecv:
			e.Addr, e.Len = b.addr, b.len
		case OpRead, OpReadMultishot:
			e.Op, e.Addr, e.Len = OpRead, b.addr, b.len
		}
	}
	if e.Op == OpRecvmsg {
		res, ready = s.performMessage(r, &e, memory(b.addr, int(b.len)))
	} else {
		res, ready = s.performCall(&e)
	}
	if b != nil && ready && res >= 0 {
		r.flags = CQEBuffer | uint32(b.id)<<CQEBufferShift
		s.provided[r.sqe.BufIndex].head++
	}
	return res, ready
}

// performMessage receives a message into a provided buffer.
func (s *Sim) performMessage(r *simReq, e *SQE, b []byte) (res int32, ready bool) {
	theirs := *(**unix.Msghdr)(unsafe.Pointer(&e.Addr))
	r.hdr, r.iov = *theirs, unix.Iovec{}
	hdr, iov, head := &r.hdr, &r.iov, 0
	if isMultishot(&r.sqe) {
		name := recvmsgHeader + int(theirs.Namelen)
		if head = name + int(theirs.Controllen); len(b) < head {
			return -int32(syscall.EFAULT), true
		}
		hdr.Name, hdr.Control = unsafe.SliceData(b[recvmsgHeader:]), unsafe.SliceData(b[name:])
		iov.SetLen(len(b) - head)
	} else {
		iov.SetLen(min(len(b), int(theirs.Iov.Len)))
	}
	iov.Base = unsafe.SliceData(b[head:])
	hdr.Iov = iov
	hdr.SetIovlen(1)
	e.Addr = uint64(uintptr(unsafe.Pointer(hdr)))
	res, ready = s.performCall(e)
	switch {
	case !ready || res < 0:
	case isMultishot(&r.sqe):
		for i, v := range [...]uint32{hdr.Namelen, uint32(hdr.Controllen), uint32(res), uint32(hdr.Flags)} {
			binary.NativeEndian.PutUint32(b[4*i:], v)
		}
		r.empty = res == 0
		res += int32(head)
	default:
		theirs.Namelen, theirs.Controllen, theirs.Flags = hdr.Namelen, hdr.Controllen, hdr.Flags
	}
	return res, ready
}

// recvmsgHeader is the size of struct io_uring_recvmsg_out.
const recvmsgHeader = 16

// goesOn posts a result of a multishot request that others will follow. The kernel ends one when it likes, and when it has to.
func (s *Sim) goesOn(r *simReq, res int32) bool {
	switch {
	case !isMultishot(&r.sqe), res < 0, res == 0 && (r.sqe.Op == OpRecv || r.sqe.Op == OpReadMultishot), r.empty, r.doomed, s.cfg.Delay > 0 && s.chance(0.05):
		return false
	}
	s.post(CQE{UserData: r.sqe.UserData, Res: res, Flags: r.flags | CQEMore}, false)
	r.flags = 0
	if s.cfg.Delay > 0 && s.chance(0.5) {
		s.schedule(r, 1+s.rng.IntN(s.cfg.Delay))
	} else {
		r.state = simParked
		s.parked = append(s.parked, r)
	}
	return true
}
