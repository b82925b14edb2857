package ring

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// fails reports whether a result breaks the chain behind its entry: an error does, and a transfer of less than was asked for.
//
// (Linux forgets this for a failed fsync, sync_file_range, fallocate and ftruncate: what is linked behind them goes on. That is not
// what io_uring_enter(2) says, and nothing to imitate.)
func fails(e *SQE, res int32) bool {
	if res < 0 {
		return !(e.Op == OpTimeout && res == -int32(syscall.ETIME) && e.OpFlags&TimeoutETimeSuccess != 0)
	}
	switch e.Op {
	case OpRead, OpWrite, OpReadFixed, OpWriteFixed, OpSplice, OpTee:
		return uint32(res) != e.Len
	case OpReadv, OpWritev:
		return uint64(res) != vecLen(e)
	case OpSend, OpRecv, OpSendmsg, OpRecvmsg:
		// Only what was told to transfer all of it counts as short.
		return e.OpFlags&unix.MSG_WAITALL != 0 && (e.Op == OpSend || e.Op == OpRecv) && uint32(res) != e.Len
	}
	return false
}

// vecLen returns how many bytes the vector of a readv or writev has.
func vecLen(e *SQE) (n uint64) {
	for _, v := range at[unix.Iovec](&e.Addr, int(e.Len)) {
		n += uint64(v.Len)
	}
	return n
}
