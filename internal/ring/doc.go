// Package ring is the kernel ABI of io_uring and the engines behind one seam.
//
// A [Ring] owns the two queues: it lays entries into the submission queue, enters the kernel, and takes completions out of
// the completion queue. What it asks of the world is the [Kernel] interface, a handful of calls: set up, map, enter, register,
// close. Three things answer it:
//
//   - [Linux], io_uring itself;
//   - [NewPortable], goroutines and plain system calls with the same semantics, for systems that forbid io_uring;
//   - [NewSim], a seeded model that a test can make as hostile as it likes.
//
// The index arithmetic, overflow handling and wake-up protocol are therefore the same code on every engine.
//
// A Ring is not safe for concurrent use. One goroutine owns it from Open to Close; only [Ring.Wake] may be called by others.
// With [Config.Locked] the owner must also stay on one thread: the kernel binds such a ring to its creator
// (io_uring_setup(2), IORING_SETUP_SINGLE_ISSUER).
//
// This package is where unsafe lives: every address handed to the kernel is taken here, in ops or in buf.
package ring
