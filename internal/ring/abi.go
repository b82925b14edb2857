package ring

import (
	"slices"
	"strconv"
	"unsafe"

	sys "github.com/iceber/iouring-go/syscall"
)

// Op is an io_uring opcode (IORING_OP_*).
type Op uint8

// Opcodes that the ABI package knows, under the names of io_uring_enter(2).
const (
	OpNop           = Op(sys.IORING_OP_NOP)
	OpReadv         = Op(sys.IORING_OP_READV)
	OpWritev        = Op(sys.IORING_OP_WRITEV)
	OpFsync         = Op(sys.IORING_OP_FSYNC)
	OpReadFixed     = Op(sys.IORING_OP_READ_FIXED)
	OpWriteFixed    = Op(sys.IORING_OP_WRITE_FIXED)
	OpPollAdd       = Op(sys.IORING_OP_POLL_ADD)
	OpPollRemove    = Op(sys.IORING_OP_POLL_REMOVE)
	OpSyncFileRange = Op(sys.IORING_OP_SYNC_FILE_RANGE)
	OpSendmsg       = Op(sys.IORING_OP_SENDMSG)
	OpRecvmsg       = Op(sys.IORING_OP_RECVMSG)
	OpTimeout       = Op(sys.IORING_OP_TIMEOUT)
	OpTimeoutRemove = Op(sys.IORING_OP_TIMEOUT_REMOVE)
	OpAccept        = Op(sys.IORING_OP_ACCEPT)
	OpAsyncCancel   = Op(sys.IORING_OP_ASYNC_CANCEL)
	OpLinkTimeout   = Op(sys.IORING_OP_LINK_TIMEOUT)
	OpConnect       = Op(sys.IORING_OP_CONNECT)
	OpFallocate     = Op(sys.IORING_OP_FALLOCATE)
	OpOpenat        = Op(sys.IORING_OP_OPENAT)
	OpClose         = Op(sys.IORING_OP_CLOSE)
	OpFilesUpdate   = Op(sys.IORING_OP_FILES_UPDATE)
	OpStatx         = Op(sys.IORING_OP_STATX)
	OpRead          = Op(sys.IORING_OP_READ)
	OpWrite         = Op(sys.IORING_OP_WRITE)
	OpFadvise       = Op(sys.IORING_OP_FADVISE)
	OpMadvise       = Op(sys.IORING_OP_MADVISE)
	OpSend          = Op(sys.IORING_OP_SEND)
	OpRecv          = Op(sys.IORING_OP_RECV)
	OpOpenat2       = Op(sys.IORING_OP_OPENAT2)
	OpSplice        = Op(sys.IORING_OP_SPLICE)
	OpTee           = Op(sys.IORING_OP_TEE)
	OpShutdown      = Op(sys.IORING_OP_SHUTDOWN)
	OpRenameat      = Op(sys.IORING_OP_RENAMEAT)
	OpUnlinkat      = Op(sys.IORING_OP_UNLINKAT)
	OpMkdirat       = Op(sys.IORING_OP_MKDIRAT)
	OpSymlinkat     = Op(sys.IORING_OP_SYMLINKAT)
	OpLinkat        = Op(sys.IORING_OP_LINKAT)
	OpFsetxattr     = Op(sys.IORING_OP_FSETXATTR)
	OpSetxattr      = Op(sys.IORING_OP_SETXATTR)
	OpFgetxattr     = Op(sys.IORING_OP_FGETXATTR)
	OpGetxattr      = Op(sys.IORING_OP_GETXATTR)
	OpSocket        = Op(sys.IORING_OP_SOCKET)
	OpSendZC        = Op(sys.IORING_OP_SEND_ZC)
	OpSendmsgZC     = Op(sys.IORING_OP_SENDMSG_ZC)
)

// What the ABI package lacks, each with the kernel that brought it.
const (
	OpReadMultishot  Op = 49 // 6.7
	OpWaitid         Op = 50 // 6.7
	OpFixedFdInstall Op = 54 // 6.8
	OpFtruncate      Op = 55 // 6.9
	OpBind           Op = 56 // 6.11
	OpListen         Op = 57 // 6.11
	OpReadvFixed     Op = 60 // 6.15
	OpWritevFixed    Op = 61 // 6.15
	OpPipe           Op = 62 // 6.16

	// OpCount bounds the tables indexed by opcode.
	OpCount = 64
)

// OnName reports whether the descriptor of an entry is the directory where a name is looked up. Such an entry has no file in the kernel, and a
// cancellation by descriptor does not find it (io_uring_cancelation(7)).
func (op Op) OnName() bool {
	switch op {
	case OpOpenat, OpOpenat2, OpStatx, OpRenameat, OpUnlinkat, OpMkdirat, OpSymlinkat, OpLinkat:
		return true
	}
	return false
}

// SQE flags (io_uring_enter(2)).
const (
	SQEFixedFile          = sys.IOSQE_FLAGS_FIXED_FILE
	SQEDrain              = sys.IOSQE_FLAGS_IO_DRAIN
	SQELink               = sys.IOSQE_FLAGS_IO_LINK
	SQEHardlink           = sys.IOSQE_FLAGS_IO_HARDLINK
	SQEAsync              = sys.IOSQE_FLAGS_ASYNC
	SQEBufferSelect       = sys.IOSQE_FLAGS_BUFFER_SELECT
	SQECQESkip      uint8 = 1 << 6 // 5.17
)

// CQE flags.
const (
	CQEBuffer      uint32 = 1 << 0 // 5.7: the upper 16 bits are a provided buffer's id
	CQEMore        uint32 = 1 << 1 // 5.13: more completions of this request follow
	CQENotif       uint32 = 1 << 3 // 6.0: the zero-copy notification
	CQEBufMore     uint32 = 1 << 4 // 6.12: the provided buffer will be used further
	CQEBufferShift        = 16
)

// Set-up flags beyond bit 11.
const (
	setupSingleIssuer uint32 = 1 << 12 // 6.0
	setupDeferTaskrun uint32 = 1 << 13 // 6.1
	setupNoSQArray    uint32 = 1 << 16 // 6.6
)

// Feature bits beyond bit 7.
const (
	featExtArg   uint32 = 1 << 8  // 5.11: a timeout with enter
	featBundle   uint32 = 1 << 14 // 6.10: one receive may fill several provided buffers
	featMinWait  uint32 = 1 << 15 // 6.12: a wait may let completions gather for a while
	featNoIowait uint32 = 1 << 17 // 6.15: waiting need not count as iowait
)

// Ring flags that the kernel sets in the mapped ring.
const (
	sqCQOverflow = sys.IORING_SQ_CQ_OVERFLOW
	sqTaskrun    = uint32(1 << 2) // 5.19
)

// Flags of enter.
const (
	EnterGetEvents uint32 = 1 << 0
	EnterExtArg    uint32 = 1 << 3 // 5.11
	EnterNoIowait  uint32 = 1 << 7 // 6.15
)

// Register opcodes.
const (
	registerProbe        uint32 = 8  // 5.6
	registerRestrictions uint32 = 11 // 5.10
	registerEnableRings  uint32 = 12 // 5.10
	registerIowqMax      uint32 = 19 // 5.15
	registerPbufRing     uint32 = 22 // 5.19
	unregisterPbufRing   uint32 = 23 // 5.19
)

// Flags of the operations.
const (
	FsyncDatasync       = sys.IORING_FSYNC_DATASYNC
	TimeoutAbs          = sys.IORING_TIMEOUT_ABS
	TimeoutBoottime     = uint32(1 << 2) // 5.15
	TimeoutRealtime     = uint32(1 << 3) // 5.15
	TimeoutETimeSuccess = uint32(1 << 5) // 5.16: running out does not break the chain
	CancelAll           = uint32(1 << 0) // 5.19
	CancelFD            = uint32(1 << 1) // 5.19
	CancelAny           = uint32(1 << 2) // 5.19
	CancelFDFixed       = uint32(1 << 3) // 6.0: with CancelFD, FD is a direct descriptor
	CancelUserData      = uint32(1 << 4) // 6.6: match the user data, also beside other criteria
	CancelOp            = uint32(1 << 5) // 6.6: match the opcode, in Len
	NopInjectResult     = uint32(1 << 0) // 6.10: the CQE carries the entry's Len as its result
)

// Flags of the operations on sockets, in IoPrio.
const (
	AcceptMultishot   = uint16(1 << 0) // 5.19
	AcceptPollFirst   = uint16(1 << 2) // 6.10: wait for a connection before the first attempt
	RecvSendPollFirst = uint16(1 << 0) // 5.19: wait for readiness before the first attempt
	RecvMultishot     = uint16(1 << 1) // 6.0
	SendZCReportUsage = uint16(1 << 3) // 6.2: the notification says whether the data was copied
	RecvBundle        = uint16(1 << 4) // 6.10: fill several provided buffers
)

// providedInc, of a ring of provided buffers, says that what arrives takes only the part of a buffer that it needs. 6.12
const providedInc = uint16(1 << 1)

// NotifCopied says that, in the result of the notification. 6.2
const NotifCopied = uint32(1 << 31)

// SQE is one submission queue entry, with the kernel's layout (struct io_uring_sqe). Several fields are unions there; they
// have their commonest name here.
type SQE struct {
	Op          Op
	Flags       uint8
	IoPrio      uint16
	FD          int32
	Off         uint64 // also addr2
	Addr        uint64 // also splice_off_in
	Len         uint32
	OpFlags     uint32 // rw_flags, fsync_flags, open_flags, statx_flags, …
	UserData    uint64
	BufIndex    uint16 // also buf_group
	Personality uint16
	FileIndex   int32 // also splice_fd_in, addr_len
	Addr3       uint64
	_           uint64
}

// CQE is one completion queue entry, with the kernel's layout (struct io_uring_cqe).
type CQE struct {
	UserData uint64
	Res      int32 // the result, or a negative errno
	Flags    uint32
}

// Params is struct io_uring_params.
type Params = sys.IOURingParams

// WaitArg is struct io_uring_getevents_arg, the extended argument of enter (5.11).
type WaitArg struct {
	Sigmask     uint64
	SigmaskSize uint32
	MinWaitUsec uint32 // 6.12
	Timespec    uint64 // address of a Timespec
}

// Timespec is struct __kernel_timespec: 64-bit fields on every architecture.
type Timespec struct {
	Sec, Nsec int64
}

// Our view of the entries must have the size of the ABI package's.
const (
	_ = -(unsafe.Sizeof(SQE{}) - unsafe.Sizeof(sys.SubmissionQueueEntry64{}))
	_ = -(unsafe.Sizeof(sys.SubmissionQueueEntry64{}) - unsafe.Sizeof(SQE{}))
	_ = -(unsafe.Sizeof(CQE{}) - unsafe.Sizeof(sys.CompletionQueueEvent16{}))
	_ = -(unsafe.Sizeof(sys.CompletionQueueEvent16{}) - unsafe.Sizeof(CQE{}))
)

var opNames = [OpCount]string{
	OpNop: "nop", OpReadv: "readv", OpWritev: "writev", OpFsync: "fsync", OpReadFixed: "read_fixed",
	OpWriteFixed: "write_fixed", OpPollAdd: "poll_add", OpPollRemove: "poll_remove", OpSyncFileRange: "sync_file_range",
	OpSendmsg: "sendmsg", OpRecvmsg: "recvmsg", OpTimeout: "timeout", OpTimeoutRemove: "timeout_remove",
	OpAccept: "accept", OpAsyncCancel: "async_cancel", OpLinkTimeout: "link_timeout", OpConnect: "connect",
	OpFallocate: "fallocate", OpOpenat: "openat", OpClose: "close", OpFilesUpdate: "files_update", OpStatx: "statx",
	OpRead: "read", OpWrite: "write", OpFadvise: "fadvise", OpMadvise: "madvise", OpSend: "send", OpRecv: "recv",
	OpOpenat2: "openat2", OpSplice: "splice", OpTee: "tee", OpShutdown: "shutdown", OpRenameat: "renameat",
	OpUnlinkat: "unlinkat", OpMkdirat: "mkdirat", OpSymlinkat: "symlinkat", OpLinkat: "linkat",
	OpFsetxattr: "fsetxattr", OpSetxattr: "setxattr", OpFgetxattr: "fgetxattr", OpGetxattr: "getxattr",
	OpSocket: "socket", OpSendZC: "send_zc", OpSendmsgZC: "sendmsg_zc", OpReadMultishot: "read_multishot",
	OpWaitid: "waitid", OpFixedFdInstall: "fixed_fd_install", OpFtruncate: "ftruncate", OpBind: "bind",
	OpListen: "listen", OpReadvFixed: "readv_fixed", OpWritevFixed: "writev_fixed", OpPipe: "pipe",
}

// OpNamed is the inverse of Op.String.
func OpNamed(name string) (Op, bool) {
	i := slices.Index(opNames[:], name)
	return Op(i), i >= 0 && name != ""
}

// String returns the kernel's name of the opcode in lower case.
func (o Op) String() string {
	if int(o) < len(opNames) && opNames[o] != "" {
		return opNames[o]
	}
	return "opcode " + strconv.Itoa(int(o))
}
