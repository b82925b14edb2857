// Package executor runs tasks: it decides where a task runs and how it waits for an operation.
//
//	err := executor.Start(ctx, func(ctx context.Context) error {
//		f, err := fs.Open(ctx, "hello.txt")
//		…
//	}, executor.WithExecutor(executor.Workers(4)))
//
// Inside a task, ctx is the task. Every function of fs and net takes it and waits in the way of the task's executor; the same
// code runs on all of them, and on a plain goroutine whose context carries a driver (driver.NewContext).
//
//	executor      a task is                                       for
//	Goroutines()  a goroutine                                     services: a task may block on anything
//	Pool(n)       a goroutine, at most n of them at once          bounded work
//	Workers(n)    a coroutine on one of n worker goroutines       throughput; tasks of one worker share data without locks
//	Local()       a coroutine on the driver's own goroutine       the lowest latency and cost
//
// # What a task may do
//
// A task of Goroutines or Pool may do what any goroutine may. A task of Workers or Local shares its goroutine with others:
//
//	                                             Workers                       Local
//	fs, net, Do, Await, Next, Join, Block        lets other tasks run          lets other tasks run
//	Sleep, Yield, Event, Group, Queue            lets other tasks run          lets other tasks run
//	Mutex, RWMutex, Semaphore                    lets other tasks run          lets other tasks run
//	Start, driver.Pending.Wait                   holds its worker              the driver goes on, other tasks do not run
//	a Go mutex, channel, time.Sleep, net call    holds its worker              holds the driver: no I/O completes
//	the same inside Block                        lets other tasks run          lets other tasks run
//	using ctx from another goroutine             works                         works
//	using ctx inside an iter.Pull of its own     works, holds its worker       works, other tasks do not run meanwhile
//	runtime.Goexit (t.Fatal)                     ends the task with ErrGoexit  ends the task with ErrGoexit
//	runtime.LockOSThread, then waiting           ends the process              ends the process
//
// A sync.Mutex that is locked for moments is fine everywhere, and tasks on several workers need one for what they share. One that is kept
// over a call which lets other tasks run is not: the next task of the worker that wants it stops the worker, and with it the task that
// would unlock it. A [Mutex] of this package may be kept, and a [Queue] is the channel that tasks may wait for; goroutines may have hold of the
// other end.
//
// Code inside an iter.Pull must not wait there for another task of the same worker, which cannot run meanwhile: Join and Group.Wait
// say [ErrNested] on Local, and on Workers wait until their context ends. So do, everywhere, locks that such a task holds and queues that wait for
// it: they do not know whom they wait for.
//
// The last row is Go's: a coroutine may not change its thread locking between switches, and the runtime ends the program
// ("OS thread locking must match locking at coroutine creation"). Nothing can catch it. Code that locks its thread belongs into
// [Block], or into a task of Goroutines.
//
// A task that holds its worker for longer than [WithStallAfter] allows is reported, with its stack, to the Logger of the driver's Config. By default
// there is none, and the tasks that wait for it stand still without a word:
//
//	log, _ := zap.NewDevelopment() // or driver.Slog(slog.Default().Handler())
//	err := executor.Start(ctx, root, executor.WithDriver(driver.Config{Logger: log}))
//
// # The end
//
// [Start] is structured: when the root task returns, the context of the remaining tasks is cancelled, their operations are
// cancelled and drained, and Start returns when all have ended. A task that outlives the one that started it is fine; one that
// outlives the root is not possible.
//
// So the end of Start's context cuts off what is under way. A service that is to finish that first gives Start a context that does not end,
// accepts under one that does, and waits for the rest as long as it likes: see [Group].
package executor
