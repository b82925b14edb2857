package fs

import (
	"context"
	"math"
	"sync/atomic"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/handle"
	"uringo/internal/stripe"
	"uringo/internal/syscost"
	"uringo/ops"
)

// Operation is a kind of work for which a [Route] is chosen.
type Operation uint8

// The operations.
const (
	OpRead   Operation = iota // reading data; from a pipe and the like, which may wait, Auto is Ring and Inline is Call
	OpWrite                   // writing data; to a pipe and the like it is Ring mostly, whatever is pinned
	OpSync                    // SyncAll, SyncData, SyncFileRange
	OpStat                    // Stat, Lstat, Statx, SeekData, SeekHole
	OpAttr                    // Chmod, Chown, Chtimes, Truncate, Fallocate, Fadvise, Lock, extended attributes
	OpOpen                    // opening what exists
	OpCreate                  // opening with O_CREATE or O_TRUNC
	OpRemove                  // Remove, RemoveAll
	OpMkdir                   // Mkdir, MkdirAll
	OpRename                  // Rename
	OpLink                    // Symlink, Link, Mknod, Mkfifo
	OpList                    // ReadDir, Readlink
	OpCopy                    // CopyRange
	OpClose                   // Close
	operations
)

// Route is a way to perform an operation.
type Route uint8

const (
	// Auto is the fastest one that is known for the kind of operation and of file; ARCHITECTURE.md, Routes, tells how it is chosen.
	Auto Route = iota
	// Inline is a plain system call on the caller's own goroutine. It may hold that up, and with it the other tasks of a worker,
	// and it cannot be cancelled. At most 64 run at once; further ones take Call.
	Inline
	// Ring is io_uring, or what stands in for it.
	Ring
	// Call is a plain system call on a goroutine of the driver's pool, while the task waits.
	Call
)

// String returns the route's name.
func (r Route) String() string { return [...]string{"auto", "inline", "ring", "call"}[r] }

// table is what Auto means for files of a local file system. A file system in user space or behind a network always gets the ring,
// where waiting for it holds nobody up and can be cancelled.
//
// The first column is for callers that have a goroutine to themselves. There a plain call is as fast as package os, and io_uring is
// not: the kernel hands metadata and buffered writes of ext4 to its worker threads, at ten microseconds each. The others are for
// coroutines, which hold up their worker, or the driver itself, for as long as they are in the kernel: see brisk. A worker hands a call
// to another goroutine in five microseconds; the driver's thread, which has to be woken for the answer, in thirty, so there
// the kernel's own threads are the better ones.
//
// Reads are tried in the page cache first, on every route but Ring and Call: what is cached is there at the cost of a plain read,
// and what is not takes the ring and so blocks nobody. In the same way, coroutines try what they open in the cache of names, those of the
// driver's thread if system calls are cheap.
var table = [operations][4]Route{
	OpRead:   {Ring, Ring, Ring, Ring},
	OpWrite:  {Inline, brisk, briskOrRing, brisk},
	OpSync:   {Call, Call, Ring, Call},
	OpStat:   {Inline, brisk, briskOrRing, brisk},
	OpAttr:   {Inline, Call, Ring, Call},
	OpOpen:   {Inline, Call, Ring, Call},
	OpCreate: {Inline, brisk, briskOrRing, brisk},
	OpRemove: {Inline, brisk, briskOrRing, brisk},
	OpMkdir:  {Inline, brisk, briskOrRing, brisk},
	OpRename: {Inline, brisk, briskOrRing, brisk},
	OpLink:   {Inline, brisk, briskOrRing, brisk},
	OpList:   {Inline, Call, Call, Call},
	OpCopy:   {Inline, Call, Call, Call},
	OpClose:  {Inline, brisk, briskOrRing, brisk},
}

// pins are the choices of [Pin].
var pins [operations]atomic.Uint32

// Pin has the operations of one kind take one route from now on, everywhere in the program, and returns the one it replaces. Auto
// undoes it. It is for measuring, and for systems on which the choices of this package are wrong. What has no opcode in io_uring
// takes Call instead of Ring.
func Pin(op Operation, r Route) (old Route) { return Route(pins[op].Swap(uint32(r & 3))) }

// Pin is like the function [Pin] for one file, and precedes it.
func (f *File) Pin(op Operation, r Route) (old Route) {
	r = allowed(f.as, r)
	shift := 2 * op
	for {
		was := f.pins.Load()
		now := was&^(3<<shift) | uint32(r&3)<<shift
		if f.pins.CompareAndSwap(was, now) {
			return Route(was >> shift & 3)
		}
	}
}

func (f *File) pinned(op Operation) Route {
	if p := f.pins.Load(); p != 0 {
		if r := Route(p >> (2 * op) & 3); r != Auto {
			return r
		}
	}
	return Route(pins[op].Load())
}

// choose returns the route of an operation: pinned, or from the table.
func choose(c executor.Caller, op Operation, pinned Route, remote bool) Route {
	switch {
	case pinned != Auto:
		return pinned
	case remote:
		return Ring
	}
	return table[op][c.Ground()]
}

// instead returns the route of what is not done in place after all: there is no room, or such calls are slow.
func (r Route) instead() Route {
	switch r {
	case Inline, brisk:
		return Call
	case briskOrRing:
		return Ring
	}
	return r
}

// perform performs o by the given route.
func perform[T any](ctx context.Context, c executor.Caller, r Route, remote bool, o ops.Op[T]) ops.Result[T] {
	p := &pace[o.Kind.Code]
	if s, ok := p.enter(c, r); ok {
		defer p.leave(ctx, s, 0)
		return performDirect(ctx, s, o)
	}
	switch {
	case r.instead() == Call:
		o.Route = ops.RouteCall
	case remote:
		o.Flags |= ops.Async
	}
	o.Patient = handle.Stays(ctx)
	return executor.Do(ctx, o)
}

// performDirect is a function of its own for what its op costs: it moves to the heap.
//
//go:noinline
func performDirect[T any](ctx context.Context, s stay, o ops.Op[T]) ops.Result[T] {
	if ctx.Err() != nil {
		return o.Result(0, driver.Canceled(ctx))
	}
	count(ctx, s.lane, driver.RouteDirect)
	return ops.Run(&o)
}

// call is perform for what io_uring has no opcode for. fn holds whatever it needs until it returns, also when ctx has ended.
func call[T any](ctx context.Context, c executor.Caller, r Route, fn func() (T, error)) (T, error) {
	if r == Inline {
		if err := ctx.Err(); err != nil {
			var zero T
			return zero, driver.Canceled(ctx)
		}
		if lane, ok := inKernel.Enter(c.Lane()); ok {
			defer c.GiveWay(ctx, 0)
			defer inKernel.Leave(lane)
			count(ctx, lane, driver.RouteDirect)
			return fn()
		}
	}
	count(ctx, c.Lane(), driver.RouteCall)
	return executor.Block(ctx, fn)
}

// inKernel bounds the plain calls that run on their caller's goroutine: each may hold a thread while a disk is slow. Those that the table sends
// in place for coroutines are bounded by their workers, and do not count.
var inKernel = stripe.NewLimit(64)

// count tells the driver of an operation that it does not see.
func count(ctx context.Context, lane uint, r driver.Route) {
	if d, err := executor.DriverOf(ctx); err == nil {
		d.CountRoute(r, lane)
	}
}

// crowd counts the reads that coroutines have given to a ring and that the page cache might have answered. A plain call costs more than a
// ring's share of one call for many, so in company reads go to the ring even if the page cache may have them; a coroutine alone is better off
// with the plain call.
var crowd atomic.Int32

// company is how many reads it takes for that, leastCompany or more. On the driver's own thread so few of them are ahead. Workers have to hand
// them over and back, and meanwhile could make the calls themselves, so there it takes more. Where system calls are cheap, or without a ring,
// no number is enough.
func (f *File) company(ground executor.Ground) int32 {
	switch {
	case f.h.Driver.Engine() == driver.Portable || syscost.Cheap():
		return math.MaxInt32
	case ground == executor.DriverGround:
		return leastCompany
	case ground == executor.TeamGround: // the driver would make one after the other what they can make side by side
		return math.MaxInt32
	}
	return 16
}

const leastCompany = 4

// readers counts the coroutines that have had their share of plain calls, see executor.Caller. Those who had while one let them run are his
// company.
var readers atomic.Uint32
