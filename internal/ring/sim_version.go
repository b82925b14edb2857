package ring

import (
	"fmt"

	sys "github.com/iceber/iouring-go/syscall"
)

// Version is a release of Linux, for the model to imitate. The zero value is the newest one that the model knows.
type Version uint16

// V returns the version major.minor.
func V(major, minor int) Version { return Version(major<<8 | minor) }

// newest is the release that the model imitates unless told otherwise.
var newest = V(6, 18)

// String returns the version as major.minor.
func (v Version) String() string { return fmt.Sprintf("%d.%d", v>>8, v&0xff) }

// What the model knows of the history of io_uring: which release brought which opcode, flag and feature.
type since[T comparable] []struct {
	what T
	in   Version
}

var opSince = since[Op]{
	{OpNop, V(5, 1)}, {OpReadv, V(5, 1)}, {OpWritev, V(5, 1)}, {OpFsync, V(5, 1)}, {OpReadFixed, V(5, 1)},
	{OpWriteFixed, V(5, 1)}, {OpPollAdd, V(5, 1)}, {OpPollRemove, V(5, 1)}, {OpSyncFileRange, V(5, 2)},
	{OpSendmsg, V(5, 3)}, {OpRecvmsg, V(5, 3)}, {OpTimeout, V(5, 4)}, {OpTimeoutRemove, V(5, 5)}, {OpAccept, V(5, 5)},
	{OpAsyncCancel, V(5, 5)}, {OpLinkTimeout, V(5, 5)}, {OpConnect, V(5, 5)}, {OpFallocate, V(5, 6)},
	{OpOpenat, V(5, 6)}, {OpClose, V(5, 6)}, {OpFilesUpdate, V(5, 6)}, {OpStatx, V(5, 6)}, {OpRead, V(5, 6)},
	{OpWrite, V(5, 6)}, {OpFadvise, V(5, 6)}, {OpMadvise, V(5, 6)}, {OpSend, V(5, 6)}, {OpRecv, V(5, 6)},
	{OpOpenat2, V(5, 6)}, {OpSplice, V(5, 7)}, {OpTee, V(5, 8)}, {OpShutdown, V(5, 11)}, {OpRenameat, V(5, 11)},
	{OpUnlinkat, V(5, 11)}, {OpMkdirat, V(5, 15)}, {OpSymlinkat, V(5, 15)}, {OpLinkat, V(5, 15)},
	{OpFsetxattr, V(5, 19)}, {OpSetxattr, V(5, 19)}, {OpFgetxattr, V(5, 19)}, {OpGetxattr, V(5, 19)},
	{OpSocket, V(5, 19)}, {OpSendZC, V(6, 0)}, {OpSendmsgZC, V(6, 1)}, {OpReadMultishot, V(6, 7)}, {OpWaitid, V(6, 7)},
	{OpFixedFdInstall, V(6, 8)}, {OpFtruncate, V(6, 9)}, {OpBind, V(6, 11)}, {OpListen, V(6, 11)},
	{OpReadvFixed, V(6, 15)}, {OpWritevFixed, V(6, 15)}, {OpPipe, V(6, 16)},
}

var setupSince = since[uint32]{
	{sys.IORING_SETUP_CQSIZE, V(5, 5)}, {sys.IORING_SETUP_CLAMP, V(5, 6)}, {sys.IORING_SETUP_R_DISABLED, V(5, 10)},
	{sys.IORING_SETUP_SUBMIT_ALL, V(5, 18)}, {sys.IORING_SETUP_COOP_TASKRUN, V(5, 19)},
	{sys.IORING_SETUP_TASKRUN_FLAG, V(5, 19)}, {setupSingleIssuer, V(6, 0)}, {setupDeferTaskrun, V(6, 1)},
	{setupNoSQArray, V(6, 6)},
}

var featureSince = since[uint32]{
	{sys.IORING_FEAT_SINGLE_MMAP, V(5, 4)}, {sys.IORING_FEAT_NODROP, V(5, 5)}, {sys.IORING_FEAT_SUBMIT_STABLE, V(5, 5)},
	{sys.IORING_FEAT_RW_CUR_POS, V(5, 6)}, {sys.IORING_FEAT_CUR_PERSONALITY, V(5, 6)}, {sys.IORING_FEAT_FAST_POLL, V(5, 7)},
	{sys.IORING_FEAT_POLL_32BITS, V(5, 9)}, {sys.IORING_FEAT_SQPOLL_NONFIXED, V(5, 11)}, {featExtArg, V(5, 11)},
	{1 << 9 /* NATIVE_WORKERS */, V(5, 12)}, {1 << 10 /* RSRC_TAGS */, V(5, 13)}, {featCQESkip, V(5, 17)},
	{1 << 12 /* LINKED_FILE */, V(5, 17)}, {1 << 13 /* REG_REG_RING */, V(6, 3)}, {1 << 14 /* RECVSEND_BUNDLE */, V(6, 10)},
	{featMinWait, V(6, 12)}, {1 << 16 /* RW_ATTR */, V(6, 14)}, {featNoIowait, V(6, 15)},
}

// flags returns the union of what the release has.
func flags(table since[uint32], v Version) (all uint32) {
	for _, f := range table {
		if f.in <= v {
			all |= f.what
		}
	}
	return all
}

// registerSince is when the kernel learned to register something, of what restrictions of rings name.
var registerSince = map[uint32]Version{
	registerFiles2: V(5, 13), registerBuffers2: V(5, 13), registerBuffersUpdate: V(5, 13),
	registerPbufRing: V(5, 19), unregisterPbufRing: V(5, 19), registerFileRange: V(6, 0),
}

// Smaller differences that the model shows.
var (
	sinceRestrictions  = V(5, 10)
	sinceIowqMax       = V(5, 15)
	sinceCQESkip       = V(5, 17)
	sinceCancelFlags   = V(5, 19)
	sinceNoBusy        = V(5, 19) // before: EBUSY while completions overflow
	sinceProvided      = V(5, 19) // rings of buffers, and multishot accept
	sincePollFirst     = V(5, 19) // of accept 6.10
	sinceRecvMultishot = V(6, 0)
	sinceReportUsage   = V(6, 2)
	sinceCancelOp      = V(6, 6)
	sinceNopInject     = V(6, 10)
	sinceAcceptPoll    = V(6, 10)
)
