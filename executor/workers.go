package executor

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"uringo/driver"
)

// Workers returns an executor whose tasks are coroutines on n worker goroutines. Each worker is a single-threaded runtime: its
// tasks never run at the same time, so they share data without locks. What the tasks of a worker submit goes to the driver in
// one message, and completions come back in batches. With n < 1, Start fails.
func Workers(n int) Executor { return workersExecutor(n) }

type workersExecutor int

func (n workersExecutor) String() string { return fmt.Sprintf("workers(%d)", int(n)) }

func (n workersExecutor) Open(cfg driver.Config) (Runtime, error) {
	if n < 1 {
		return nil, fmt.Errorf("uringo: Workers(%d): at least one worker is needed", int(n))
	}
	d, err := driver.Open(cfg)
	if err != nil {
		return nil, err
	}
	rt := &workers{d: d, all: make([]*worker, n)}
	team := n > 1 && runtime.GOMAXPROCS(0) > 1
	for i := range rt.all {
		w := &worker{d: d, team: team, bell: make(chan struct{}, 1), gone: make(chan struct{})}
		w.crew.lane = uint(crews.Add(1))
		rt.all[i] = w
		go w.live()
	}
	return rt, nil
}

type workers struct {
	d    *driver.Driver
	all  []*worker
	turn atomic.Uint64
}

func (rt *workers) Driver() *driver.Driver { return rt.d }

// Spawn and Wait are for foreign runtimes' tasks; ours are adopted.
func (rt *workers) Spawn(run func()) error     { go run(); return nil }
func (rt *workers) Wait(ready <-chan struct{}) { <-ready }

func (rt *workers) adopt(t *task, near *task) {
	var w *worker
	if near != nil {
		w = near.home.(*worker)
	} else {
		w = rt.all[(rt.turn.Add(1)-1)%uint64(len(rt.all))]
	}
	t.home = w
	t.waiter = (*workerWaiter)(t)
	t.launched.Store(true)
	w.wake(t)
}

func (rt *workers) Close(ctx context.Context) error {
	for _, w := range rt.all {
		w.mu.Lock()
		w.closing = true
		w.mu.Unlock()
		w.ring()
	}
	for _, w := range rt.all {
		<-w.gone
	}
	return rt.d.Close(ctx)
}

func (rt *workers) pulses() []*pulse {
	all := make([]*pulse, len(rt.all))
	for i, w := range rt.all {
		all[i] = &w.crew.pulse
	}
	return all
}

// worker runs the coroutines of its tasks.
type worker struct {
	d    *driver.Driver
	bell chan struct{} // rung when there is something for the worker; capacity 1
	gone chan struct{} // closed when the worker has ended
	team bool          // there are others, and processors for them

	// The worker goroutine's own.
	crew crew

	// out is what the tasks submitted since the last message to the driver. Others than the worker may flush it.
	outMu sync.Mutex
	out   outbox

	// batch is the driver goroutine's own: tasks whose operations ended in this pass.
	batch struct{ head, tail *task }

	mu      sync.Mutex
	done    struct{ head, tail *task } // operations that ended
	woken   []*task                    // woken by somebody
	spare   []*task
	closing bool
}

// live is the worker goroutine.
func (w *worker) live() {
	for {
		w.gather()
		if !w.crew.some() {
			if w.quit() {
				break
			}
			<-w.bell
			continue
		}
		w.crew.pulse.begin()
		w.crew.runRound()
		w.crew.pulse.end()
		w.flush()
	}
	w.crew.dismissAll()
	close(w.gone)
}

func (w *worker) quit() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closing && len(w.woken) == 0 && w.done.head == nil
}

// gather moves what others left for the worker into its run queue.
func (w *worker) gather() {
	w.mu.Lock()
	done := w.done.head
	w.done.head, w.done.tail = nil, nil
	woken := w.woken
	w.woken = w.spare[:0]
	w.mu.Unlock()
	for t := done; t != nil; {
		next := t.next
		t.next = nil
		t.req.End()
		w.crew.enqueue(t)
		t = next
	}
	for i, t := range woken {
		woken[i] = nil
		if t.opSeq != 0 && t.Over() {
			w.d.Cancel(t.req, t.opSeq)
		}
		w.crew.enqueue(t)
	}
	w.spare = woken
}

func (w *worker) ring() {
	select {
	case w.bell <- struct{}{}:
	default:
	}
}

func (w *worker) submit(r *driver.Request) {
	w.outMu.Lock()
	w.out.add(r)
	w.outMu.Unlock()
}

func (w *worker) flush() {
	w.outMu.Lock()
	r := w.out.take()
	w.outMu.Unlock()
	if r != nil {
		w.d.Send(r)
	}
}

func (w *worker) wake(t *task) {
	w.mu.Lock()
	w.woken = append(w.woken, t)
	w.mu.Unlock()
	w.ring()
}

// workerWaiter is how a task of a worker learns that its operation ended.
type workerWaiter task

// Complete runs on the driver goroutine.
func (wt *workerWaiter) Complete(*driver.Request) {
	t := (*task)(wt)
	w := t.home.(*worker)
	if w.batch.tail == nil {
		w.batch.head = t
		w.d.FlushLater(w)
	} else {
		w.batch.tail.next = t
	}
	w.batch.tail = t
}

// Flush runs on the driver goroutine: the batch changes hands.
func (w *worker) Flush() {
	w.mu.Lock()
	if w.done.tail == nil {
		w.done.head = w.batch.head
	} else {
		w.done.tail.next = w.batch.head
	}
	w.done.tail = w.batch.tail
	w.mu.Unlock()
	w.batch.head, w.batch.tail = nil, nil
	w.ring()
}
