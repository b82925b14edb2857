// Package net is network connections as the standard library's net has them, performed through io_uring or, where that is faster, by
// plain system calls that do not wait.
//
//	l, err := net.Listen(ctx, "tcp", "localhost:7777")
//	if err != nil {
//		return err
//	}
//	defer l.Close(ctx)
//	for c, err := range l.Accepts(ctx) {
//		if err != nil {
//			log.Print(err) // too many open files, maybe; if it is no error of the moment, it was the last
//			continue
//		}
//		executor.Go(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, serve(ctx, c) })
//	}
//
// # Buffers
//
// A buffer given to a call belongs to the kernel until the call returns, and the call hands the same slice back, on errors too. It
// is nil only with an error that wraps driver.ErrAbandoned: then the caller was let go while the kernel still had it. Mind the
// scope: n, buf, err := in an inner block makes a new buf.
//
// # Contexts
//
// ctx is the task: a task of package executor, or any context made by driver.NewContext. When it ends, the operation is cancelled
// and the call returns what became of it: bytes that were received, or a connection that was accepted, are delivered and not lost.
// If nothing was, the error matches context.Canceled or context.DeadlineExceeded (and os.ErrDeadlineExceeded), and the next call
// finds everything that arrives. A context with a deadline is this package's deadline; the adapters below have those of the
// standard library.
//
// # Errors
//
// Errors are those of the standard library: *[OpError] with the same operations, io.EOF bare, and errors.Is works with [ErrClosed] and
// with the numbers of package syscall. The error of a call that was cancelled matches what ended ctx, too (context.Cause): where that may be
// the error of another call, as in an errgroup, ask for context.Canceled first.
//
// # Connections
//
// [Conn] has one peer: a stream (TCP, Unix), Unix sequential packets, or datagrams as [Dial] makes them. [PacketConn] is for datagrams from and
// to anybody (UDP, Unix). All methods of both may be called
// from several tasks at once, also of several runtimes. Close ends the operations in flight, wherever they are, and waits for them, so that
// the kernel cannot reuse the number of the descriptor under one of them. What is dropped without Close is closed in the background, at some time.
//
// [Conn.Split] divides a connection into halves for two tasks, each of which closes its own.
//
// [Listener.Accepts], [Conn.Receives] and [PacketConn.Receives] are iterators over what comes, for range: one request of the ring serves a
// whole iteration, and connections that wait share their buffers.
//
// [RingConn] is a connection without a descriptor: its socket is in the ring's own table. [Listener.AcceptRing], [Listener.RingAccepts],
// [Dialer.DialRing] and [Conn.IntoRing] make one, and [RingConn.Install] makes an ordinary one of it.
//
// # The standard library's shapes
//
// [Conn.NetConn], [Listener.NetListener] and [PacketConn.NetPacketConn] return values for net/http, crypto/tls and whatever else takes
// the interfaces of the standard library. They need no context: they carry their driver, and work from any goroutine. A [Dialer]
// that names its driver dials such connections for libraries that bring contexts of their own.
//
// The name clashes with the standard library's. Where both are needed, import that one as stdnet; much of what one wants from it is
// here under the same name.
package net
