package ring

import (
	"hash/crc64"
	"math"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// modelled lists the opcodes that the model performs itself.
var modelled = [OpCount]bool{
	OpNop: true, OpReadv: true, OpWritev: true, OpFsync: true, OpReadFixed: true, OpWriteFixed: true, OpSyncFileRange: true,
	OpTimeout: true, OpTimeoutRemove: true, OpAsyncCancel: true, OpLinkTimeout: true, OpFallocate: true, OpClose: true,
	OpRead: true, OpWrite: true, OpSend: true, OpRecv: true, OpFtruncate: true,
}

// simFileMax bounds a file of the model.
const simFileMax = 1 << 30

// checkOp is what the kernel finds wrong with the fields of an entry before it begins.
func (s *Sim) checkOp(e *SQE) syscall.Errno {
	switch e.Op {
	case OpAsyncCancel:
		known := uint32(0)
		if s.cfg.Version >= sinceCancelFlags {
			known |= CancelAll | CancelFD | CancelAny
		}
		if s.cfg.Version >= sinceCancelOp {
			known |= CancelUserData | CancelOp
		}
		if e.OpFlags&^known != 0 || e.OpFlags&(CancelFD|CancelOp) != 0 && e.OpFlags&CancelAny != 0 {
			return syscall.EINVAL
		}
	case OpTimeout, OpLinkTimeout:
		if e.Len != 1 {
			return syscall.EINVAL
		}
		if e.Addr == 0 {
			return syscall.EFAULT
		}
	case OpAccept:
		if e.IoPrio&AcceptMultishot != 0 && s.cfg.Version < sinceProvided || e.IoPrio&AcceptPollFirst != 0 && s.cfg.Version < sinceAcceptPoll {
			return syscall.EINVAL
		}
	case OpRecv, OpRecvmsg, OpSend, OpSendmsg:
		if e.IoPrio != 0 && s.cfg.Version < sincePollFirst {
			return syscall.EINVAL
		}
		if e.IoPrio&RecvMultishot != 0 &&
			(s.cfg.Version < sinceRecvMultishot || e.Flags&SQEBufferSelect == 0 || e.Op == OpRecv && e.Len != 0 || writes(e.Op)) {
			return syscall.EINVAL
		}
	case OpReadMultishot:
		if e.Flags&SQEBufferSelect == 0 || e.Addr != 0 || e.Len != 0 {
			return syscall.EINVAL
		}
	case OpSendZC, OpSendmsgZC:
		if e.IoPrio != 0 && s.cfg.Version < sinceReportUsage {
			return syscall.EINVAL
		}
	case OpNop:
		if e.OpFlags&^NopInjectResult != 0 && s.cfg.Version >= sinceNopInject {
			return syscall.EINVAL
		}
	}
	return 0
}

// onFile reports whether the entry works on one of the model's files.
func (s *Sim) onFile(e *SQE) bool {
	switch e.Op {
	case OpNop, OpTimeout, OpTimeoutRemove, OpAsyncCancel, OpLinkTimeout, OpClose:
		return false
	}
	return s.cfg.Files[e.FD] != nil
}

// perform does what the entry asks for. ready is false if it has to wait for its file.
func (s *Sim) perform(r *simReq) (res int32, ready bool) {
	e := &r.sqe
	if e.Op == OpNop {
		if e.OpFlags&NopInjectResult != 0 && s.cfg.Version >= sinceNopInject {
			return int32(e.Len), true
		}
		return 0, true
	}
	f := s.cfg.Files[e.FD]
	if f == nil && (isMultishot(e) || e.Flags&SQEBufferSelect != 0) {
		return s.performSocket(r)
	}
	if f == nil || !modelled[e.Op] {
		return s.performCall(e)
	}
	if s.onFile(e) && len(s.cfg.FailErrnos) > 0 && s.chance(s.cfg.Fails) {
		return -int32(s.cfg.FailErrnos[s.rng.IntN(len(s.cfg.FailErrnos))]), true
	}
	switch e.Op {
	case OpFsync, OpSyncFileRange:
		return 0, true
	case OpClose:
		delete(s.cfg.Files, e.FD)
		return 0, true
	case OpFallocate, OpFtruncate:
		size := e.Off
		if e.Op == OpFallocate {
			size += e.Addr
		}
		switch {
		case size > simFileMax:
			return -int32(syscall.EFBIG), true
		case e.Op == OpFtruncate:
			f.truncate(int64(size))
		case e.Len == 0: // no mode
			f.extend(int64(size))
		}
		return 0, true
	}
	return s.transfer(e, f)
}

// performCall is a plain call on a real descriptor.
func (s *Sim) performCall(e *SQE) (res int32, ready bool) {
	if s.cfg.Calls == nil || s.cfg.Calls[e.Op].Do == nil {
		return -int32(syscall.EBADF), true
	}
	call := &s.cfg.Calls[e.Op]
	if call.Try == nil {
		return call.Do(e), true
	}
	res = call.Try(e)
	return res, res != -int32(syscall.EAGAIN) || e.OpFlags&call.NoWait != 0
}

func writes(op Op) bool {
	return op == OpWrite || op == OpWritev || op == OpWriteFixed || op == OpSend
}

// transfer moves bytes between a file and the memory that the entry names.
func (s *Sim) transfer(e *SQE, f *SimFile) (res int32, ready bool) {
	bufs, errno := s.segments(e)
	if errno != 0 {
		return -int32(errno), true
	}
	off := int64(e.Off)
	switch {
	case e.Op == OpSend || e.Op == OpRecv:
		off = -1
	case off < -1:
		return -int32(syscall.EINVAL), true
	}
	if n := total(bufs); n > 1 && s.chance(s.cfg.Short) {
		bufs = head(bufs, 1+s.rng.IntN(n-1))
	}
	if writes(e.Op) {
		if off > simFileMax-int64(total(bufs)) {
			return -int32(syscall.EFBIG), true
		}
		return int32(f.write(bufs, off)), true
	}
	n, ready := f.read(bufs, off)
	return int32(n), ready
}

// segments returns the memory that a read or write names. It is overwritten by the next call.
func (s *Sim) segments(e *SQE) ([][]byte, syscall.Errno) {
	if e.Op != OpReadv && e.Op != OpWritev {
		if e.Addr == 0 && e.Len > 0 {
			return nil, syscall.EFAULT
		}
		s.bufs = append(s.bufs[:0], memory(e.Addr, int(e.Len)))
		return s.bufs, 0
	}
	if e.Len > 1024 {
		return nil, syscall.EINVAL
	}
	if e.Len == 0 {
		return nil, 0
	}
	raw := memory(e.Addr, int(e.Len)*int(unsafe.Sizeof(unix.Iovec{})))
	s.bufs = s.bufs[:0]
	for _, v := range unsafe.Slice((*unix.Iovec)(unsafe.Pointer(&raw[0])), e.Len) {
		s.bufs = append(s.bufs, unsafe.Slice(v.Base, v.Len))
	}
	return s.bufs, 0
}

// head cuts bufs to their first n bytes.
func head(bufs [][]byte, n int) [][]byte {
	for i, b := range bufs {
		if n <= len(b) {
			bufs[i] = b[:n]
			return bufs[:i+1]
		}
		n -= len(b)
	}
	return bufs
}

// performed ends a request, unless it goes on, or only tells its result if the kernel may need its memory for longer.
func (s *Sim) performed(r *simReq, res int32) {
	if s.goesOn(r, res) {
		return
	}
	if r.sqe.Op != OpSendZC && r.sqe.Op != OpSendmsgZC || r.link != nil || s.cfg.Delay == 0 {
		s.end(r, res)
		return
	}
	s.post(CQE{UserData: r.sqe.UserData, Res: res, Flags: CQEMore}, false)
	r.told, r.forced, r.res, r.flags = true, true, 0, CQENotif
	if r.sqe.IoPrio&SendZCReportUsage != 0 && s.chance(0.5) {
		r.res = math.MinInt32 // NotifCopied
	}
	r.sum = s.lent(&r.sqe)
	s.schedule(r, 1+s.rng.IntN(s.cfg.Delay))
}

// untouched sees that the memory of a request whose result is known was left alone until its end.
func (s *Sim) untouched(r *simReq) {
	if r.told && r.sum != s.lent(&r.sqe) {
		s.blame("the memory of a zero-copy send was written to before the notification")
	}
}

// lent is a checksum of the memory of a zero-copy send. The kernel has taken the message header by then, but the request keeps it as it was.
func (s *Sim) lent(e *SQE) (sum uint64) {
	if e.Op == OpSendZC {
		return crc64.Checksum(memory(e.Addr, int(e.Len)), simTable)
	}
	raw := memory(e.Addr, int(unsafe.Sizeof(unix.Msghdr{})))
	hdr := (*unix.Msghdr)(unsafe.Pointer(&raw[0]))
	for _, v := range unsafe.Slice(hdr.Iov, hdr.Iovlen) {
		sum = crc64.Update(sum, simTable, unsafe.Slice(v.Base, v.Len))
	}
	return sum
}

var simTable = crc64.MakeTable(crc64.ECMA)

// scribble fills the memory of a read with noise: it is the kernel's until the completion.
func (s *Sim) scribble(r *simReq) {
	if !s.onFile(&r.sqe) || writes(r.sqe.Op) {
		return
	}
	switch r.sqe.Op {
	case OpRead, OpReadv, OpReadFixed, OpRecv:
		bufs, _ := s.segments(&r.sqe)
		for _, b := range bufs {
			fill(b, 0xee)
		}
	}
}

// fellShort reports whether a transfer moved less than it was asked to, which breaks a chain.
func (s *Sim) fellShort(r *simReq, res int32) bool {
	if r.link == nil || res < 0 || r.forced {
		return false
	}
	switch r.sqe.Op {
	case OpRead, OpWrite, OpReadFixed, OpWriteFixed:
		return uint32(res) != r.sqe.Len
	case OpReadv, OpWritev:
		bufs, errno := s.segments(&r.sqe)
		return errno != 0 || int(res) != total(bufs)
	}
	return false
}

// harmless reports whether a negative result does not break a chain.
func (s *Sim) harmless(r *simReq, res int32) bool {
	return r.sqe.Op == OpTimeout && res == -int32(syscall.ETIME) && r.sqe.OpFlags&TimeoutETimeSuccess != 0
}

func (s *Sim) startTimeout(r *simReq) {
	s.setTimer(r)
	if r.counted = r.sqe.Off != 0; r.counted {
		r.count = s.posted + uint32(r.sqe.Off)
	}
	if r.when <= s.now() {
		s.settle(r, -int32(syscall.ETIME))
		return
	}
	r.state = simTimed
	s.timers = append(s.timers, r)
}

func (s *Sim) setTimer(r *simReq) {
	r.when = timespecAt(r.sqe.Addr)
	if r.sqe.OpFlags&TimeoutAbs == 0 {
		r.when += s.now()
		return
	}
	// Absolute times are those of the monotonic clock.
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err == nil {
		r.when += s.now() - time.Duration(ts.Nano())
	}
}

// watch lets a link timeout guard the request before it.
func (s *Sim) watch(g, r *simReq) {
	s.setTimer(g)
	g.state = simTimed
	g.guarding, r.guard = r, g
	s.timers = append(s.timers, g)
}

// fire ends the timeouts whose time has come, the earliest first, or whose count is reached.
func (s *Sim) fire() {
	for {
		var next *simReq
		for _, t := range s.timers {
			if t.counted && int32(s.posted-t.count) >= 0 {
				next = t
				break
			}
			if t.when <= s.now() && (next == nil || t.when < next.when) {
				next = t
			}
		}
		switch {
		case next == nil:
			return
		case next.sqe.Op == OpLinkTimeout:
			s.expire(next)
		case next.counted && int32(s.posted-next.count) >= 0:
			s.release(next)
			s.end(next, 0)
		default:
			s.release(next)
			s.end(next, -int32(syscall.ETIME))
		}
	}
}

// expire is a link timeout whose time has come: it cancels what it guards.
func (s *Sim) expire(g *simReq) {
	r := g.guarding
	s.release(g)
	r.guard, g.guarding = nil, nil
	g.forced, g.res = true, -int32(syscall.ETIME)
	if errno := s.cancel(r); errno != 0 {
		g.res = -int32(errno)
	}
}

// attemptCancel performs ASYNC_CANCEL and TIMEOUT_REMOVE and returns their result.
func (s *Sim) attemptCancel(c *simReq) int32 {
	e := &c.sqe
	if e.Op == OpTimeoutRemove {
		t := s.live[e.Addr]
		if t == nil || t.sqe.Op != OpTimeout || t.state != simTimed {
			return -int32(syscall.ENOENT)
		}
		s.release(t)
		s.end(t, -int32(syscall.ECANCELED))
		return 0
	}
	byFD, all := e.OpFlags&CancelFD != 0, e.OpFlags&(CancelAll|CancelAny) != 0
	if byFD && !s.isOpen(e.FD) {
		return -int32(syscall.EBADF)
	}
	if e.OpFlags&(CancelFD|CancelAny|CancelOp) == 0 {
		// By user data; there is one at most.
		errno := s.cancel(s.live[e.Addr])
		if all {
			if errno == syscall.ENOENT {
				return 0
			}
			return 1
		}
		return -int32(errno)
	}
	var found []*simReq
	for r := s.first; r != nil; r = r.next {
		if r != c && s.cancellable(r) && meant(e, &r.sqe) {
			found = append(found, r)
		}
	}
	n := int32(0)
	for _, r := range found {
		if !s.cancellable(r) {
			continue // went with one before
		}
		errno := s.cancel(r)
		if !all {
			return -int32(errno)
		}
		if errno != syscall.ENOENT {
			n++
		}
	}
	if !all {
		return -int32(syscall.ENOENT)
	}
	return n
}

// meant reports whether a cancellation by other things than user data alone means an entry.
func meant(c, e *SQE) bool {
	switch f := c.OpFlags; {
	case f&CancelAny != 0:
		return true
	case f&CancelFD != 0 && (e.FD != c.FD || e.Op == OpTimeout || e.Op.OnName()),
		f&CancelOp != 0 && uint32(e.Op) != c.Len,
		f&CancelUserData != 0 && e.UserData != c.Addr:
		return false
	}
	return true
}

func (s *Sim) isOpen(fd int32) bool {
	if s.cfg.Files[fd] != nil || s.cfg.Calls == nil {
		return s.cfg.Files[fd] != nil
	}
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

// cancellable reports whether a cancellation finds the request: neither its end is decided, nor does it still wait for its
// turn in a chain.
func (s *Sim) cancellable(r *simReq) bool {
	if r == nil || r.forced || r.sqe.Op == OpLinkTimeout {
		return false
	}
	return r.state == simScheduled || r.state == simParked || r.state == simTimed || r.state == simStuck
}

// cancel ends a request early, or does not: 0, ENOENT or EALREADY.
func (s *Sim) cancel(r *simReq) syscall.Errno {
	if !s.cancellable(r) {
		return syscall.ENOENT
	}
	was := r.state
	if was != simTimed && s.chance(s.cfg.Races) {
		if kind := s.rng.IntN(3); kind < 2 && was == simScheduled {
			// As good as over, or too late to stop it. It must not begin to wait, though.
			r.doomed = true
			return []syscall.Errno{syscall.ENOENT, syscall.EALREADY}[kind]
		}
		s.release(r)
		res := -int32(syscall.ECANCELED)
		if s.onFile(&r.sqe) {
			res = []int32{res, -int32(syscall.EINTR), -512}[s.rng.IntN(3)]
		}
		s.settle(r, res)
		return syscall.EALREADY
	}
	s.release(r)
	s.settle(r, -int32(syscall.ECANCELED))
	return 0
}
