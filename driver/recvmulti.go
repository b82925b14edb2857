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
	return in.stream(d, ops.RecvGroup(fd, b.group, flags, true, false), ended)
}

// RecvMultiDirect is [RecvMulti] from a stream socket in the table of d's ring, see [ops.Direct]. Kernel 6.0.
func RecvMultiDirect(d *Driver, place int, b *BufferRing, flags int, ended func()) *Stream[Chunk] {
	in := &receiver{b: b, fd: place, flags: flags, direct: ops.Direct}
	return in.stream(d, in.on(ops.RecvGroup(place, b.group, flags, true, false)), ended)
}

// RecvMsgMulti is [RecvMulti] for messages with what comes beside the data: each item is one that room takes apart. Buffers must be larger
// than room.Head(), and not [Incremental] ones. A message that is longer than what remains of a buffer loses its end, which its flags
// tell (unix.MSG_TRUNC). The reader owns the descriptors that come with a message; those of messages that nobody takes are closed.
// Multishot needs kernel 6.0; elsewhere it is one message after the other. recvmsg(2).
func RecvMsgMulti(d *Driver, fd int, b *BufferRing, room ops.Room, flags int, ended func()) *Stream[Chunk] {
	in := &receiver{b: b, fd: fd, flags: flags, msgs: ops.NewArrivals(fd, room, flags)}
	return in.stream(d, in.msgs.Many(b.group), ended)
}

// ReadMulti is [RecvMulti] for what is no socket and is not always ready: pipes and FIFOs, terminals, inotify(7), eventfd(2) and their like.
// Each item is what one read brings; Next returns io.EOF at the end. Regular files, directories and disks are EINVAL, and so are
// [Incremental] buffers for other things than pipes, whose pieces might not fit into what is left of one. Nobody else should read from fd
// meanwhile. Multishot needs kernel 6.7; elsewhere it is one read after the other. read(2).
func ReadMulti(d *Driver, fd int, b *BufferRing, ended func()) *Stream[Chunk] {
	in := &receiver{b: b, fd: fd, reads: true}
	return in.stream(d, ops.ReadGroup(fd, b.group, false), ended)
}

func (in *receiver) stream(d *Driver, first ops.Spec, ended func()) *Stream[Chunk] {
	in.s = newStream(d, in, in.b.limit, ended)
	in.s.begin(first, in.begin(d))
	return &Stream[Chunk]{in.s, func(it item) Chunk { return it.chunk }}
}

// receiver is the source of a stream of chunks. Apart from begin and drained, it is the driver goroutine's own.
type receiver struct {
	b      *BufferRing
	s      *stream
	fd     int
	flags  int
	reads  bool          // it is no socket
	asks   bool          // a round is to tell only that there is something to read,
	ready  bool          // and has done so
	direct uint8         // [ops.Direct], if fd is a place in the ring's table
	ends   bool          // an empty result is the end, and not an empty datagram
	packed bool          // but of a sequence of packets, not one that brings descriptors
	bundle bool          // the kernel may fill several buffers at once
	picked Chunk         // the buffer of a round without the kernel's ring
	msgs   *ops.Arrivals // of whole messages, or nil
}

func (in *receiver) begin(d *Driver) error {
	if in.reads {
		return in.beginReading(d)
	}
	const refused = unix.MSG_WAITALL | unix.MSG_TRUNC | unix.MSG_PEEK | unix.MSG_OOB | unix.MSG_ERRQUEUE | unix.MSG_DONTWAIT
	if in.flags&refused != 0 {
		return fmt.Errorf("uringo: RecvMulti with flags %#x: %w", in.flags&refused, syscall.EINVAL)
	}
	typ, err := unix.SOCK_STREAM, error(nil) // what is in the table, nobody but the ring can ask
	if in.direct == 0 {
		typ, err = unix.GetsockoptInt(in.fd, unix.SOL_SOCKET, unix.SO_TYPE)
	}
	if err != nil {
		return err
	}
	in.packed = typ == unix.SOCK_SEQPACKET
	in.ends = typ == unix.SOCK_STREAM || in.packed
	if in.b.bytesOnly && typ != unix.SOCK_STREAM {
		return fmt.Errorf("uringo: RecvMulti of packets into incremental buffers, whose ends might cut them: %w", syscall.EINVAL)
	}
	if in.msgs != nil && (in.b.bytesOnly || in.b.size <= in.msgs.Head()) {
		return fmt.Errorf("uringo: RecvMsgMulti into incremental buffers, or ones of no more than %d bytes: %w", in.msgs.Head(), syscall.EINVAL)
	}
	in.bundle = in.msgs == nil && typ == unix.SOCK_STREAM && in.b.bundles // packets must not run into each other
	return in.b.join(d, in.s)
}

func (in *receiver) beginReading(d *Driver) error {
	var st unix.Stat_t
	if err := unix.Fstat(in.fd, &st); err != nil {
		return err
	}
	typ := st.Mode & unix.S_IFMT
	switch typ {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFBLK:
		return fmt.Errorf("uringo: ReadMulti of a file that never makes anybody wait: %w", syscall.EINVAL)
	}
	if in.b.bytesOnly && typ != unix.S_IFIFO {
		return fmt.Errorf("uringo: ReadMulti of what is no pipe into incremental buffers: %w", syscall.EINVAL)
	}
	in.ends = true
	return in.b.join(d, in.s)
}

// on has an operation work on what is received from.
func (in *receiver) on(s ops.Spec) ops.Spec {
	s.Flags |= in.direct
	return s
}

// round names the group of buffers to the kernel, or picks one for it. A picked one does not wait for bytes: it would be lost for others
// meanwhile. As only sockets can be asked not to wait, others are asked first whether there is something.
func (in *receiver) round(r *Request) (ops.Spec, hold) {
	for !in.b.await(r) {
		switch {
		case in.b.kernel == nil && in.reads && !in.ready:
			in.asks = true
			return ops.PollAdd(in.fd, unix.POLLIN).Spec, goOn
		case in.b.kernel == nil:
		case in.reads:
			return ops.ReadGroup(in.fd, in.b.group, !r.single && in.s.d.ring.Supports(ring.OpReadMultishot)), goOn
		case in.msgs == nil:
			return in.on(ops.RecvGroup(in.fd, in.b.group, in.flags, !r.single, in.bundle && !r.single)), goOn
		case r.single:
			return in.msgs.Once(in.b.group, in.b.size), goOn
		default:
			return in.msgs.Many(in.b.group), goOn
		}
		if c, ok := in.b.pick(); ok {
			in.picked, in.ready = c, false
			switch {
			case in.msgs != nil:
				return in.msgs.Into(c.mem), goOn
			case in.reads:
				return ops.ReadAt(in.fd, c.mem, -1).Spec, goOn
			}
			return in.on(ops.Recv(in.fd, c.mem, in.flags|unix.MSG_DONTWAIT).Spec), goOn
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
	switch {
	case in.msgs != nil:
		return in.message(s, int(res), flags)
	case in.asks:
		in.asks, in.ready = false, true
		return false
	}
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

// message is items for a whole message.
func (in *receiver) message(s *stream, n int, flags uint32) (end bool) {
	picked := in.picked.home != nil
	c, _, _, ok := in.arrived(n, flags)
	switch {
	case ok && (picked || s.req.single):
		c.mem = in.msgs.Arrange(in.b.buffer(c.id), n)
	case s.req.single && n == 0 && flags&ring.CQEBuffer == 0: // for want of data the kernel took no buffer
		c = ChunkOf(in.msgs.Arrange(make([]byte, in.msgs.Head()), 0))
	}
	m := in.msgs.Parse(c.mem)
	if in.ends && len(m.Data()) == 0 && !(in.packed && len(m.OOB()) > 0) {
		in.drop(item{chunk: c})
		return true
	}
	touchArrived(c.mem)
	s.add(item{chunk: c})
	return false
}

func (in *receiver) lost(flags uint32) {
	if c, _, _, ok := in.arrived(0, flags); ok {
		c.Release()
	}
}

func (in *receiver) drop(it item) {
	if in.msgs != nil {
		in.msgs.Parse(it.chunk.mem).Discard()
	}
	it.chunk.Release()
}

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
