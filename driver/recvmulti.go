package driver

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
	"uringo/ops"
)

// RecvMulti receives from the socket fd, as things arrive, into buffers of b, which is of the same driver. Each item is one piece of a
// stream or one datagram, cut to the size of a buffer; Next returns io.EOF at the end of a stream. The reader releases every item.
// While nothing arrives the socket holds no buffer. The stream holds at most a quarter of the buffers, and [StreamLimit], for its reader.
//
// flags are unix.MSG_*, without those that change what is counted or waited for (MSG_WAITALL, MSG_TRUNC, MSG_PEEK, MSG_OOB, MSG_ERRQUEUE,
// MSG_DONTWAIT): they are EINVAL. ended, if not nil, is called when the kernel has let go of the socket: on the driver goroutine, so it must
// not block. Multishot needs kernel 6.0; elsewhere it is one receive after the other. recv(2).
func RecvMulti(d *Driver, fd int, b *BufferRing, flags int, ended func()) *Stream[Chunk] {
	in := &receiver{b: b, fd: fd, flags: flags}
	s := newStream(d, in, b.limit, ended)
	in.s = s
	s.begin(ops.RecvGroup(fd, b.group, flags, true, false), in.begin(d))
	return &Stream[Chunk]{s, func(it item) Chunk { return it.chunk }}
}

// receiver is the source of a stream of chunks. Apart from begin and drained, it is the driver goroutine's own.
type receiver struct {
	b      *BufferRing
	s      *stream
	fd     int
	flags  int
	ends   bool  // an empty result is the end, and not an empty datagram
	bundle bool  // the kernel may fill several buffers at once
	picked Chunk // the buffer of a round without the kernel's ring
}

func (in *receiver) begin(d *Driver) error {
	const refused = unix.MSG_WAITALL | unix.MSG_TRUNC | unix.MSG_PEEK | unix.MSG_OOB | unix.MSG_ERRQUEUE | unix.MSG_DONTWAIT
	if in.flags&refused != 0 {
		return fmt.Errorf("uringo: RecvMulti with flags %#x: %w", in.flags&refused, syscall.EINVAL)
	}
	typ, err := unix.GetsockoptInt(in.fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return err
	}
	in.ends = typ == unix.SOCK_STREAM || typ == unix.SOCK_SEQPACKET
	if in.b.bytesOnly && typ != unix.SOCK_STREAM {
		return fmt.Errorf("uringo: RecvMulti of packets into incremental buffers, whose ends might cut them: %w", syscall.EINVAL)
	}
	in.bundle = typ == unix.SOCK_STREAM && in.b.bundles // packets must not run into each other
	return in.b.join(d, in.s)
}

// round names the group of buffers to the kernel, or picks one for it. A picked one does not wait for bytes: it would be lost for others
// meanwhile.
func (in *receiver) round(r *Request) (ops.Spec, hold) {
	for !in.b.await(r) {
		if in.b.kernel != nil {
			return ops.RecvGroup(in.fd, in.b.group, in.flags, !r.single, in.bundle && !r.single), goOn
		}
		if c, ok := in.b.pick(); ok {
			in.picked = c
			return ops.Recv(in.fd, c.mem, in.flags|unix.MSG_DONTWAIT).Spec, goOn
		}
	}
	return ops.Spec{}, starved
}

// arrived returns what a completion with n bytes put into its first buffer, and how to go on for the rest: with bundles there is one.
func (in *receiver) arrived(n int, flags uint32) (c Chunk, rest int, next uint32, ok bool) {
	if c = in.picked; c.home != nil {
		in.picked = Chunk{}
		c.mem = c.mem[:min(n, in.b.size)]
		return c, 0, 0, true
	}
	if flags&ring.CQEBuffer == 0 {
		return Chunk{}, 0, 0, false
	}
	id := uint16(flags >> ring.CQEBufferShift)
	c, rest, ok = in.b.took(id, n, flags&ring.CQEBufMore != 0)
	if !in.bundle || !ok {
		rest = 0
	}
	if rest > 0 {
		next = flags&^(0xffff<<ring.CQEBufferShift) | uint32(in.b.after(id))<<ring.CQEBufferShift
	}
	return c, rest, next, ok
}

func (in *receiver) items(s *stream, res int32, flags uint32) (end bool) {
	if res == 0 && in.ends {
		in.lost(flags)
		return true
	}
	for rest := int(res); ; {
		var c Chunk
		c, rest, flags, _ = in.arrived(rest, flags)
		touchArrived(c.mem)
		s.add(item{chunk: c})
		if rest == 0 {
			return false
		}
		s.d.stats.Bundled++
	}
}

func (in *receiver) lost(flags uint32) {
	if c, _, _, ok := in.arrived(0, flags); ok {
		c.Release()
	}
}

func (in *receiver) drop(it item) { it.chunk.Release() }

func (in *receiver) meaning(err error) (fate, bool) {
	if err == syscall.ENOBUFS {
		return hungry, false
	}
	return fatal, false
}

func (in *receiver) ended() {
	in.lost(0)
	in.b.leave()
}

func (in *receiver) drained() { in.b.forget(in.s) }
