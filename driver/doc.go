// Package driver is the actor that owns an io_uring. One goroutine sets the ring up, fills it, enters the kernel, reaps
// completions and closes it; nobody else touches it. Everybody else sends it requests over a channel.
//
// A service that has its own goroutines needs no other package for its I/O than this one and ops:
//
//	d, err := driver.Open(driver.Config{Logger: logger})
//	defer d.Close(ctx)
//	p := driver.Submit(d, ops.ReadAt(fd, buf, off))
//	r := <-p.Done() // r.N, r.Buf, r.Err
//
// # Ownership
//
// From Submit until its result is in, the memory of an operation belongs to the driver and the kernel. Nothing but the
// operation's own terminal completion ends that: not an error of io_uring_enter, not a cancelled context, not a channel that
// nobody reads, not shutdown. The one exception is made by [Config.CancelGrace]: a caller that gives up gets [ErrAbandoned]
// and no buffer, and the driver keeps the memory until the kernel lets go of it. Builds with -race enforce the rule: an access
// to a buffer in flight is reported as a data race.
//
// # Streams
//
// Operations that complete many times (multishot) are streams: [SubmitMulti] for connections, [RecvMulti] for what arrives on a socket and
// [ReadMulti] on a pipe, in buffers that streams share ([BufferRing]). A [Stream] goes on until somebody ends it, whatever the kernel makes of it;
// one that is not read rests, and holds a bounded number of items.
//
// # Where io_uring is forbidden
//
// With [Auto], a system that refuses io_uring gets the portable engine: the same driver over goroutines and plain system calls.
// [Driver.Engine] tells which one runs. The environment variable URINGO_ENGINE (auto, uring, portable) decides for every
// driver whose Config leaves the choice open.
package driver
