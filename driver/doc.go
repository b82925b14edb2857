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
// # Tuning
//
// The zero [Config] suits most programs. What to change when:
//
//	Logger             always, if anybody is to hear of a fallback, a smaller ring, a stalled task or a panic
//	InFlight           more than 11 thousand connections are to wait at a time, or Stats.Queued stays above zero
//	Entries, InFlight  smaller ones for many drivers in a process, or where little memory may be locked
//	Spin               longer for one request at a time, if a processor may be busy meanwhile; negative where none may
//	MinWait            50 to 100 µs for many direct reads on one thread, as on executor.Local, and nobody waits for a single one
//	Interrupt          other goroutines compute for milliseconds, and the slowest answer counts
//	Calls              more plain calls are to wait for slow disks at a time: what has no opcode, and all on the portable engine
//	WorkersBounded     more operations on files and names are to wait at a time in the kernel's own threads
//	WorkersUnbounded   the same for pipes, terminals and sockets
//	CancelGrace        who is cancelled must not wait for a kernel that does not answer, and can do without the buffer
//	Restrict           the ring is to do no more than a service needs
//
// # Where io_uring is forbidden
//
// With [Auto], a system that refuses io_uring gets the portable engine: the same driver over goroutines and plain system calls.
// [Driver.Engine] tells which one runs. The environment variable URINGO_ENGINE (auto, uring, portable) decides for every
// driver whose Config leaves the choice open.
package driver
