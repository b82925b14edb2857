package ring

import (
	"runtime"
	"syscall"
	"unsafe"
)

// rules are the restrictions of a ring (io_uring_register(2), IORING_REGISTER_RESTRICTIONS).
type rules struct {
	ops       [256]bool
	registers [256]bool
	allowed   uint8 // SQE flags
	required  uint8
}

func (r *rules) allow(e *SQE) bool {
	return r.ops[e.Op] && e.Flags&r.required == r.required && e.Flags&^(r.allowed|r.required) == 0
}

func (k *portable) Register(fd int, op uint32, arg unsafe.Pointer, n uint32) (int, syscall.Errno) {
	var errno syscall.Errno
	res := 0
	switch {
	case fd != portableFD || k.pool == nil:
		errno = syscall.EBADF
	case k.rules != nil && !k.disabled && (op > 255 || !k.rules.registers[op]):
		errno = syscall.EACCES
	case op == registerProbe:
		errno = k.probe(arg, n)
	case op == registerRestrictions:
		errno = k.restrict(arg, n)
	case op == registerEnableRings:
		errno = k.enable(arg, n)
	case op == registerPersonality && arg == nil && n == 0:
		res, errno = k.registerPersonality()
	case op == unregisterPersonality && arg == nil:
		errno = k.unregisterPersonality(n)
	default:
		errno = syscall.EINVAL
	}
	runtime.KeepAlive(arg)
	if errno != 0 {
		return -1, errno
	}
	return res, 0
}

// probe fills in struct io_uring_probe: a header of 16 bytes, and 8 bytes an opcode.
func (k *portable) probe(arg unsafe.Pointer, n uint32) syscall.Errno {
	type header struct {
		lastOp, opsLen uint8
		_              [14]byte
	}
	type op struct {
		op, _ uint8
		flags uint16
		_     uint32
	}
	const supported = 1 // IO_URING_OP_SUPPORTED
	switch {
	case n == 0 || n > 256:
		return syscall.EINVAL
	case arg == nil:
		return syscall.EFAULT
	}
	n = min(n, OpCount)
	h := (*header)(arg)
	h.lastOp, h.opsLen = OpCount-1, uint8(n)
	ops := unsafe.Slice((*op)(unsafe.Add(arg, unsafe.Sizeof(*h))), n)
	for i := range ops {
		ops[i] = op{op: uint8(i)}
		if k.pool.inTable(Op(i)) || itsOwn(Op(i)) {
			ops[i].flags = supported
		}
	}
	return 0
}

// restrict takes an array of struct io_uring_restriction. The rules count from when the ring is enabled.
func (k *portable) restrict(arg unsafe.Pointer, n uint32) syscall.Errno {
	type restriction struct {
		opcode uint16
		value  uint8
		_      [13]byte
	}
	const (
		registerOp       = 0
		sqeOp            = 1
		sqeFlagsAllowed  = 2
		sqeFlagsRequired = 3
		most             = 128
	)
	switch {
	case !k.disabled:
		return syscall.EBADFD
	case k.rules != nil:
		return syscall.EBUSY
	case arg == nil || n > most:
		return syscall.EINVAL
	}
	r := new(rules)
	for _, x := range unsafe.Slice((*restriction)(arg), n) {
		switch x.opcode {
		case registerOp:
			r.registers[x.value] = true
		case sqeOp:
			r.ops[x.value] = true
		case sqeFlagsAllowed:
			r.allowed = x.value
		case sqeFlagsRequired:
			r.required = x.value
		default:
			return syscall.EINVAL
		}
	}
	k.rules = r
	return 0
}

func (k *portable) enable(arg unsafe.Pointer, n uint32) syscall.Errno {
	switch {
	case arg != nil || n != 0:
		return syscall.EINVAL
	case !k.disabled:
		return syscall.EBADFD
	}
	k.disabled = false
	return 0
}
