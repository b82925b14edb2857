package executor

import (
	"context"
	"sync"
	"sync/atomic"

	"uringo/driver"
)

// Local returns an executor whose tasks are coroutines on the driver goroutine itself, thread-per-core: they write their
// operations straight into the ring. Requests from other goroutines still come over the driver's channel.
func Local() Executor { return localExecutor{} }

type localExecutor struct{}

func (localExecutor) String() string { return "local" }

func (localExecutor) Open(cfg driver.Config) (Runtime, error) {
	l := &local{gone: make(chan struct{})}
	l.crew.lane = uint(crews.Add(1))
	d, err := driver.OpenGuest(cfg, l)
	if err != nil {
		return nil, err
	}
	l.d = d
	return l, nil
}

// local is the runtime, the home of its tasks and the guest of the driver in one.
type local struct {
	d *driver.Driver

	// The driver goroutine's own.
	crew crew
	out  outbox // submitted in this round

	mu      sync.Mutex
	mail    atomic.Bool // woken is not empty, or closing is set
	woken   []*task
	spare   []*task
	closing bool
	over    bool          // the coroutines have ended; the driver goroutine's
	gone    chan struct{} // closed then
}

func (l *local) Driver() *driver.Driver     { return l.d }
func (l *local) Spawn(run func()) error     { go run(); return nil }
func (l *local) Wait(ready <-chan struct{}) { <-ready }
func (l *local) pulses() []*pulse           { return []*pulse{&l.crew.pulse} }

func (l *local) adopt(t *task, _ *task) {
	t.home = l
	t.local = l
	t.waiter = (*localWaiter)(t)
	t.launched.Store(true)
	l.wake(t)
}

func (l *local) Close(ctx context.Context) error {
	// Idle coroutines end where they were made.
	l.mu.Lock()
	l.closing = true
	l.mail.Store(true)
	l.mu.Unlock()
	l.d.Poke()
	<-l.gone
	return l.d.Close(ctx)
}

// Run runs what is ready, once.
func (l *local) Run() {
	if l.mail.Load() {
		l.gather()
	}
	if l.crew.some() {
		l.crew.pulse.begin()
		l.crew.runRound()
		l.crew.pulse.end()
	}
	l.Flush()
}

// Flush gives the driver what was submitted.
func (l *local) Flush() {
	for r := l.out.pop(); r != nil; r = l.out.pop() {
		l.d.Issue(r)
	}
}

// Ready reports whether a task can run.
func (l *local) Ready() bool { return l.crew.some() || l.mail.Load() }

// Over reports whether the runtime was closed: its tasks live on when somebody has closed no more than the driver.
func (l *local) Over() bool { return l.over }

func (l *local) gather() {
	l.mu.Lock()
	woken := l.woken
	l.woken = l.spare[:0]
	l.mail.Store(false)
	closing := l.closing
	l.mu.Unlock()
	for i, t := range woken {
		woken[i] = nil
		if t.opSeq != 0 && t.Over() {
			l.d.CancelNow(t.req, t.opSeq)
		}
		l.crew.enqueue(t)
	}
	l.spare = woken
	if closing && !l.over {
		l.crew.dismissAll()
		l.over = true
		close(l.gone)
	}
}

// submit leaves the request for the end of the round, where the driver's own goroutine issues it: on one stack, not on all of them.
func (l *local) submit(r *driver.Request) { l.out.add(r) }

func (l *local) flush() {}

// alone reports whether the running task is the only one that has had anything to do in this round.
func (l *local) alone() bool {
	return l.crew.turnout == 1 && !l.crew.some() && l.out.head == nil && !l.mail.Load()
}

// rush submits the request of a task that is alone. If it ends at once, the task goes on without a trip to the driver's own goroutine and
// back, which would cost as much as the operation. Now and then it makes the trip all the same, see Driver.Rush.
func (l *local) rush(t *task, r *driver.Request) {
	if l.d.Rush(r) && l.crew.ready.len() == 1 {
		l.crew.ready.pop() // the task itself
		t.queued = false
	}
}

func (l *local) wake(t *task) {
	l.mu.Lock()
	l.woken = append(l.woken, t)
	l.mail.Store(true)
	l.mu.Unlock()
	l.d.Poke()
}

// localWaiter is how a task of Local learns that its operation ended.
type localWaiter task

// Complete runs on the driver goroutine, which is the task's own.
func (lt *localWaiter) Complete(*driver.Request) {
	t := (*task)(lt)
	t.req.End()
	t.co.crew.enqueue(t)
}
