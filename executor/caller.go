package executor

import (
	"context"
	"sync/atomic"
)

// Caller is who makes a call: all that matters to where its work is best done. Finding it out costs as much as a tenth of a quick system call,
// so a function does it once, see [CallerOf], and asks the Caller from then on. It is good for as long as that function runs.
type Caller struct {
	sharer *task // on a goroutine that others share, nil on one that the caller has to itself
}

// CallerOf returns who calls: the goroutine tells, and not whose context ctx is.
func CallerOf(ctx context.Context) Caller {
	if t, ok := ctx.(*task); ok && t.home != nil && t.here() {
		return Caller{t}
	}
	return callerBehind(ctx)
}

// callerBehind is CallerOf for whoever is not a coroutine with its own context.
func callerBehind(ctx context.Context) Caller {
	switch t := taskOf(ctx); {
	case t == nil:
	case t.home == nil && !t.scope.foreign && t.here():
		return Caller{} // a foreign runtime may run its tasks on one of ours
	case t.home != nil && t.here(), t.homeIsHere():
		return Caller{t}
	}
	return Caller{current()}
}

// Ground is what a caller holds up while it is in a system call.
type Ground uint8

const (
	OwnGround    Ground = iota // nobody: the caller has a goroutine to itself
	WorkerGround               // the other tasks of its worker, and nobody else goes on: there is one worker, or one processor
	DriverGround               // those of its runtime, and the driver: it runs on the driver's own thread, as tasks of Local do
	TeamGround                 // the other tasks of its worker, while other workers go on on other processors
)

// Ground returns what the caller would hold up.
func (c Caller) Ground() Ground {
	t := c.sharer
	if t == nil {
		return OwnGround
	}
	if t.local != nil {
		return DriverGround
	}
	if w, ok := t.home.(*worker); ok && w.team {
		return TeamGround
	}
	return WorkerGround
}

// MayBlock reports whether the caller may make a system call that can block for a moment: it does not share its goroutine with
// tasks that would wait for it.
func (c Caller) MayBlock() bool { return c.sharer == nil }

// Company returns how many tasks of the caller's worker had something to do when its present round began, the caller included: what they
// submit goes to the driver together. It is 1 for a caller that has a goroutine to itself.
func (c Caller) Company() int {
	if c.sharer == nil {
		return 1
	}
	return c.sharer.co.crew.turnout
}

// Lane returns a number that is the same for all tasks of a worker, and for others mostly another one. Who counts what happens on many
// processors takes it to choose one of several counters: a shared one would travel between their caches.
func (c Caller) Lane() uint {
	if c.sharer == nil {
		return lane()
	}
	return c.sharer.co.crew.lane
}

// crews counts those that were made, for their lanes.
var crews atomic.Uint32

// maxWorked is how much a task may do without waiting before others of its worker get their turn: operations, or as many pages of data.
const maxWorked = 64

// Spent accounts for an operation that the caller performed without waiting and that moved n bytes. It reports whether the caller has had
// its share and is to [StepBack]: a task whose operations all succeed at once would never wait, and the other tasks of its worker would
// starve. Who has a goroutine to itself is never told so.
func (c Caller) Spent(n int) bool {
	if c.sharer == nil {
		return false
	}
	w := c.sharer.co.crew
	if w.worked += 1 + n>>12; w.worked < maxWorked {
		return false
	}
	w.settle()
	return true
}

// GiveWay ends an operation that the caller performed without waiting, under ctx, and that moved n bytes: when the caller has had its share, see
// [Caller.Spent], it steps back, see [StepBack].
func (c Caller) GiveWay(ctx context.Context, n int) {
	if c.Spent(n) {
		StepBack(ctx)
	}
}

// StepBack lets the other tasks of the caller's worker run that have something to do, and those that come to have it before its turn comes. Of all who
// stepped back, only so many run between two looks at what has become ready as do no more together than one may by itself, see [Caller.Spent].
// It is for who is about to do much, again and again, such as to copy data that somebody takes as fast as it comes: the others' waiting does
// not depend on how many do. Who has a goroutine to itself lets others run, too. If ctx has ended, the next operation will say so.
func StepBack(ctx context.Context) { letOthersRun(ctx, (*task).stepBack) }

// homeIsHere reports whether the caller may be a coroutine inside the task, which holds its home like the task itself. The task may be one that is
// just being launched, and learns of its home.
func (t *task) homeIsHere() bool {
	l, ok := t.scope.rt.(*local)
	return ok && l.d.OnGuest()
}
