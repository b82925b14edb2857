package executor

import (
	"context"
	"errors"
	"iter"
	"sync"

	"uringo/driver"
)

// The answers of a [Queue].
var (
	// ErrQueueClosed means that nothing more is put into the queue, and for who takes that nothing is left in it.
	ErrQueueClosed = errors.New("uringo: queue closed")
	// ErrQueueFull is the answer of TryPut when there is no room.
	ErrQueueFull = errors.New("uringo: queue full")
	// ErrQueueEmpty is the answer of TryTake when there is nothing.
	ErrQueueEmpty = errors.New("uringo: queue empty")
)

// Queue hands values from some tasks to others, first in, first out: what a channel is for goroutines. Tasks of every executor wait for it without
// holding their worker, and goroutines that are no tasks may put and take as well. Who waits is served in the order of asking, and no value is
// lost: what Put returned nil for is taken once, and what it returned an error for never.
type Queue[T any] struct {
	mu     sync.Mutex
	max    int
	vals   []T // a ring
	head   int
	n      int              // more than max only by what came back
	givers line[passage[T]] // while the queue is full
	takers line[passage[T]] // while it is empty
	closed bool
}

// passage is what came of somebody's wait: a value that went to or from him, or why none did.
type passage[T any] struct {
	v   T
	err error
}

// NewQueue returns a queue with room for n values that nobody has asked for yet. With none, Put waits until somebody takes. A negative n panics, as
// it does with make.
func NewQueue[T any](n int) *Queue[T] {
	if n < 0 {
		panic("uringo: NewQueue with room for less than nothing")
	}
	return &Queue[T]{max: n}
}

// Put waits until there is room for v, and puts it in. It returns [ErrQueueClosed] if the queue is closed before that, or the error of ctx if that
// ends.
func (q *Queue[T]) Put(ctx context.Context, v T) error {
	if ctx.Err() != nil {
		return driver.Canceled(ctx)
	}
	q.mu.Lock()
	if err := q.put(v); err != ErrQueueFull {
		q.mu.Unlock()
		CallerOf(ctx).GiveWay(ctx, 0)
		return err
	}
	_, err := q.wait(ctx, &q.givers, passage[T]{v: v})
	return err
}

// TryPut is Put without waiting: it returns [ErrQueueFull] instead. Anybody may call it, such as a callback.
func (q *Queue[T]) TryPut(v T) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.put(v)
}

// Take waits until there is a value, and takes it. It returns [ErrQueueClosed] when the queue is closed and empty, or the error of ctx if that ends
// before.
func (q *Queue[T]) Take(ctx context.Context) (v T, err error) {
	if ctx.Err() != nil {
		return v, driver.Canceled(ctx)
	}
	q.mu.Lock()
	if v, err = q.take(); err != ErrQueueEmpty {
		q.mu.Unlock()
		CallerOf(ctx).GiveWay(ctx, 0)
		return v, err
	}
	return q.wait(ctx, &q.takers, passage[T]{})
}

// TryTake is Take without waiting: it returns [ErrQueueEmpty] instead.
func (q *Queue[T]) TryTake() (T, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.take()
}

// All takes values until the queue is closed and empty, which ends the iteration, or ctx ends, which is its last error.
func (q *Queue[T]) All(ctx context.Context) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			v, err := q.Take(ctx)
			if err == ErrQueueClosed || !yield(v, err) || err != nil {
				return
			}
		}
	}
}

// Close says that nothing more comes: who waits to put something gets [ErrQueueClosed]. What is in the queue can still be taken. A second Close does
// nothing.
func (q *Queue[T]) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, l := range []*line[passage[T]]{&q.givers, &q.takers} {
		for w := l.pop(); w != nil; w = l.pop() {
			w.what.err = ErrQueueClosed
			w.over.Set()
		}
	}
}

// Len returns how many values are in the queue.
func (q *Queue[T]) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.n
}

// wait waits in a line. The lock is held, and released.
func (q *Queue[T]) wait(ctx context.Context, l *line[passage[T]], p passage[T]) (v T, err error) {
	w := &waiter[passage[T]]{what: p}
	err = l.wait(ctx, &q.mu, w, func(came bool) {
		if came && l == &q.takers && w.what.err == nil {
			q.back(w.what.v)
		}
	})
	if err != nil {
		return v, err
	}
	return w.what.v, w.what.err
}

// put is TryPut. The lock is held, as in all that follow.
func (q *Queue[T]) put(v T) error {
	if q.closed {
		return ErrQueueClosed
	}
	switch {
	case q.hand(v):
	case q.n >= q.max:
		return ErrQueueFull
	default:
		q.push(v)
	}
	return nil
}

// hand gives v to the taker who waits longest, and reports whether there was one.
func (q *Queue[T]) hand(v T) bool {
	w := q.takers.pop()
	if w == nil {
		return false
	}
	w.what.v = v
	w.over.Set()
	return true
}

// take is TryTake.
func (q *Queue[T]) take() (v T, err error) {
	var w *waiter[passage[T]]
	if q.n <= q.max {
		w = q.givers.pop()
	}
	switch {
	case q.n > 0:
		if v = q.pop(); w != nil {
			q.push(w.what.v)
		}
	case w != nil: // a queue without room
		v = w.what.v
	case q.closed:
		return v, ErrQueueClosed
	default:
		return v, ErrQueueEmpty
	}
	if w != nil {
		w.over.Set()
	}
	return v, nil
}

func (q *Queue[T]) push(v T) {
	q.grow()
	q.vals[(q.head+q.n)%len(q.vals)] = v
	q.n++
}

// back gives what came for a taker whom his executor has interrupted to the next, or leaves it where that will find it, room or not: who put it has
// been told that it will be taken.
func (q *Queue[T]) back(v T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.hand(v) {
		return
	}
	q.grow()
	q.head = (q.head + len(q.vals) - 1) % len(q.vals)
	q.vals[q.head] = v
	q.n++
}

// grow makes room for one more in the ring.
func (q *Queue[T]) grow() {
	if q.n == len(q.vals) {
		grown := make([]T, min(max(q.max, q.n+1), max(8, 2*q.n)))
		copy(grown[copy(grown, q.vals[q.head:]):], q.vals[:q.head])
		q.vals, q.head = grown, 0
	}
}

func (q *Queue[T]) pop() (v T) {
	v, q.vals[q.head] = q.vals[q.head], v // or what was taken would stay reachable
	q.head = (q.head + 1) % len(q.vals)
	q.n--
	return v
}
