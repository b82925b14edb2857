package driver

import (
	"fmt"
	"strings"

	"uringo/internal/ring"
)

// A Restriction names the operations that a driver's ring may perform, and nobody can widen it while the ring lives: what is not among them
// is refused by the kernel, whoever got hold of the ring's descriptor. The driver makes plain system calls instead, so everything
// works as before, and what a seccomp filter says of those calls holds. The zero Restriction restricts nothing.
//
// Besides them the ring cancels, reads, which its wake-up takes, and registers personalities, which are what the thread may that does so, buffers and
// places for files. It does nothing else: no buffers or messages of other rings. Kernels before 5.10 cannot restrict a ring, so there Auto
// takes the portable engine, and Uring is an error. io_uring_register(2), IORING_REGISTER_RESTRICTIONS.
type Restriction struct {
	on  bool
	ops uint64 // a bit for each opcode
}

// What the sets have in common: data to and from descriptors that the process has, and waiting.
var dataOps = []ring.Op{ring.OpNop, ring.OpPollAdd, ring.OpPollRemove, ring.OpTimeout, ring.OpTimeoutRemove, ring.OpLinkTimeout,
	ring.OpRead, ring.OpReadv, ring.OpReadFixed, ring.OpReadvFixed, ring.OpReadMultishot,
	ring.OpWrite, ring.OpWritev, ring.OpWriteFixed, ring.OpWritevFixed,
	ring.OpSplice, ring.OpTee, ring.OpClose, ring.OpFixedFdInstall}

var syncOps = []ring.Op{ring.OpFsync, ring.OpSyncFileRange, ring.OpFallocate, ring.OpFtruncate, ring.OpFadvise}

var trafficOps = []ring.Op{ring.OpAccept, ring.OpSend, ring.OpSendmsg, ring.OpSendZC, ring.OpSendmsgZC, ring.OpRecv, ring.OpRecvmsg, ring.OpShutdown}

// DataOnly allows what is done with open descriptors: reading, writing, syncing, receiving, sending, accepting, closing. Whatever names a
// file or makes a socket is a plain system call. A datagram may still be sent to any address, as with sendmsg(2).
func DataOnly() Restriction { return allow(dataOps, syncOps, trafficOps) }

// FilesOnly allows what is done with files and their names, and no operation on sockets but reading and writing.
func FilesOnly() Restriction {
	return allow(dataOps, syncOps, []ring.Op{ring.OpOpenat, ring.OpOpenat2, ring.OpStatx, ring.OpRenameat, ring.OpUnlinkat, ring.OpMkdirat,
		ring.OpSymlinkat, ring.OpLinkat, ring.OpFsetxattr, ring.OpSetxattr, ring.OpFgetxattr, ring.OpGetxattr, ring.OpPipe})
}

// SocketsOnly allows what is done with sockets, and with files that are open. Names of files are for plain system calls.
func SocketsOnly() Restriction {
	return allow(dataOps, trafficOps, []ring.Op{ring.OpSocket, ring.OpBind, ring.OpListen, ring.OpConnect})
}

// OnlyOps allows the operations with the given names, which are those of io_uring_enter(2) in whatever case, with or without the prefix
// IORING_OP_.
func OnlyOps(names ...string) (Restriction, error) {
	r := Restriction{on: true}
	for _, name := range names {
		op, ok := ring.OpNamed(strings.TrimPrefix(strings.ToLower(name), "ioring_op_"))
		if !ok {
			return Restriction{}, fmt.Errorf("uringo: no operation of the ring is named %q", name)
		}
		r.ops |= 1 << op
	}
	return r, nil
}

func allow(sets ...[]ring.Op) Restriction {
	r := Restriction{on: true}
	for _, set := range sets {
		for _, op := range set {
			r.ops |= 1 << op
		}
	}
	return r
}

// Ops returns the names of the operations that r allows, in the kernel's order, and nil if it restricts nothing.
func (r Restriction) Ops() []string {
	var names []string
	for _, op := range r.allowed() {
		names = append(names, op.String())
	}
	return names
}

// allowed returns nil if r restricts nothing.
func (r Restriction) allowed() []ring.Op {
	if !r.on {
		return nil
	}
	allowed := []ring.Op{}
	for op := range ring.Op(ring.OpCount) {
		if r.ops>>op&1 != 0 {
			allowed = append(allowed, op)
		}
	}
	return allowed
}
