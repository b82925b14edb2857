package ops

import (
	"golang.org/x/sys/unix"

	"uringo/buf"
	"uringo/internal/ring"
)

// Operations on buffers of package buf. The driver gives them the opcode for registered memory if the memory is registered; without it
// they are the plain ones. The buffer is pinned for as long as the kernel has it.

var (
	kindReadFixed = &Kind{Name: "read_fixed", Code: ring.OpRead, Breaks: true, Plugs: true, Fixed: ring.OpReadFixed, Writes: true, Bounded: true, Waits: true,
		NoWait: unix.RWF_NOWAIT}
	kindWriteFixed = &Kind{Name: "write_fixed", Code: ring.OpWrite, Breaks: true, Plugs: true, Fixed: ring.OpWriteFixed, Gives: true, Bounded: true,
		NoWait: unix.RWF_NOWAIT}
	kindReadvFixed = &Kind{Name: "readv_fixed", Code: ring.OpReadv, Breaks: true, Plugs: true, Fixed: ring.OpReadvFixed, Prepare: prepareVec, Writes: true,
		Bounded: true, Waits: true, NoWait: unix.RWF_NOWAIT}
	kindWritevFixed = &Kind{Name: "writev_fixed", Code: ring.OpWritev, Breaks: true, Plugs: true, Fixed: ring.OpWritevFixed, Prepare: prepareVec, Gives: true, Bounded: true,
		NoWait: unix.RWF_NOWAIT}

	// On sockets, which are non-blocking, there is something to wait for.
	kindRecvFixed = &Kind{Name: "recv_fixed", Code: ring.OpRead, Fixed: ring.OpReadFixed, Writes: true, Bounded: true, Waits: true,
		Ready: readyRecv}
	kindSendFixed = &Kind{Name: "send_fixed", Code: ring.OpWrite, Fixed: ring.OpWriteFixed, Gives: true, Bounded: true, Ready: readySend}
)

// ReadFixedAt is [ReadAt] into the view of b. An operation that is abandoned keeps b, which then goes back to its pool by itself. Kernel
// 5.6; registered 5.19.
func ReadFixedAt(fd int, b *buf.Fixed, off int64) Op[*buf.Fixed] {
	return fixed(kindReadFixed, fd, b, off)
}

// WriteFixedAt is [WriteAt] of the view of b; see [ReadFixedAt].
func WriteFixedAt(fd int, b *buf.Fixed, off int64) Op[*buf.Fixed] {
	return fixed(kindWriteFixed, fd, b, off)
}

// RecvFixed is [Recv] into the view of b; see [ReadFixedAt].
func RecvFixed(fd int, b *buf.Fixed) Op[*buf.Fixed] { return fixed(kindRecvFixed, fd, b, -1) }

// SendFixed is [Send] of the view of b; see [ReadFixedAt]. A broken connection is EPIPE and SIGPIPE, which Go ignores unless the program
// asks for it; flags may be unix.RWF_NOSIGNAL, which older kernels refuse with EOPNOTSUPP. Kernel 5.6; the flag 6.18.
func SendFixed(fd int, b *buf.Fixed, flags uint32) Op[*buf.Fixed] {
	o := fixed(kindSendFixed, fd, b, -1)
	o.opFlags = flags
	return o
}

func fixed(k *Kind, fd int, b *buf.Fixed, off int64) Op[*buf.Fixed] {
	if err := b.Usable(); err != nil {
		return Op[*buf.Fixed]{Spec: Spec{Kind: k, FD: int32(fd), aux: &invalid{err}}, Buf: b}
	}
	s := transfer(k, fd, b.Bytes(), off, 0)
	s.aux = b
	return Op[*buf.Fixed]{Spec: s, Buf: b}
}

// ReadIn is [ReadAt] into part, which is a part of b.Bytes(); see [ReadFixedAt]. Kernel 5.6; registered 5.19.
func ReadIn(fd int, b *buf.Fixed, part []byte, off int64) Op[[]byte] {
	return partOf(kindReadFixed, fd, b, part, off)
}

// WriteFrom is [WriteAt] of part, which is a part of b.Bytes(); see [ReadFixedAt]. Kernel 5.6; registered 5.19.
func WriteFrom(fd int, b *buf.Fixed, part []byte, off int64) Op[[]byte] {
	return partOf(kindWriteFixed, fd, b, part, off)
}

func partOf(k *Kind, fd int, b *buf.Fixed, part []byte, off int64) Op[[]byte] {
	s := transfer(k, fd, part, off, 0)
	if err := b.Usable(); err != nil {
		s.aux = &invalid{err}
	} else {
		s.aux = b
	}
	return Op[[]byte]{Spec: s, Buf: part}
}

// ReadvFixedAt is [ReadvAt] into the views of bs. It is one with registered memory if all of them are of one arena. Kernel 5.6;
// registered 6.15.
func ReadvFixedAt(fd int, bs []*buf.Fixed, off int64) Op[[]*buf.Fixed] {
	return vectoredFixed(kindReadvFixed, fd, bs, off)
}

// WritevFixedAt is [WritevAt] of the views of bs; see [ReadvFixedAt].
func WritevFixedAt(fd int, bs []*buf.Fixed, off int64) Op[[]*buf.Fixed] {
	return vectoredFixed(kindWritevFixed, fd, bs, off)
}

func vectoredFixed(k *Kind, fd int, bs []*buf.Fixed, off int64) Op[[]*buf.Fixed] {
	views := make([][]byte, len(bs))
	for i, b := range bs {
		if err := b.Usable(); err != nil {
			return Op[[]*buf.Fixed]{Spec: Spec{Kind: k, FD: int32(fd), aux: &invalid{err}}, Buf: bs}
		}
		views[i] = b.Bytes()
	}
	s := vectored(k, fd, views, off, 0).Spec
	s.aux.(*vec).fixed = bs
	return Op[[]*buf.Fixed]{Spec: s, Buf: bs}
}

// Pin pins the buffers of an operation with a Kind.Fixed, on behalf of the kernel. It is false, and none is pinned, if one of them was
// released.
func (s *Spec) Pin() bool {
	switch a := s.aux.(type) {
	case *buf.Fixed:
		return a.Pin()
	case *vec:
		for i, b := range a.fixed {
			if !b.Pin() {
				for _, b := range a.fixed[:i] {
					b.Unpin()
				}
				return false
			}
		}
	}
	return true
}

// Unpin undoes Pin. If the caller was let go and so lost the buffers, they are released in its name.
func (s *Spec) Unpin(lost bool) {
	switch a := s.aux.(type) {
	case *buf.Fixed:
		unpin(a, lost)
	case *vec:
		for _, b := range a.fixed {
			unpin(b, lost)
		}
	}
}

func unpin(b *buf.Fixed, lost bool) {
	b.Unpin()
	if lost {
		b.Abandon()
	}
}

// Arena returns the arena of the operation's memory, or nil if it has none or more than one.
func (s *Spec) Arena() *buf.Arena {
	switch a := s.aux.(type) {
	case *buf.Fixed:
		return a.Arena()
	case *vec:
		var of *buf.Arena
		for _, b := range a.fixed {
			if of != nil && b.Arena() != of {
				return nil
			}
			of = b.Arena()
		}
		return of
	}
	return nil
}
