package executor

import (
	"container/list"
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
	n      int
	givers list.List // of *passage[T], while the queue is full
	takers list.List // of *passage[T], while it is empty
	closed bool
}

// passage is somebody's wait to put a value, or to take one.
type passage[T any] struct {
	v    T
	err  error
	over Event
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
		GiveWay(ctx, 0)
		return err
	}
	return q.wait(ctx, &q.givers, &passage[T]{v: v})
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
		GiveWay(ctx, 0)
		return v, err
	}
	p := new(passage[T])
	err = q.wait(ctx, &q.takers, p)
	return p.v, err
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
	for _, line := range []*list.List{&q.givers, &q.takers} {
		for line.Len() > 0 {
			next[T](line).end(ErrQueueClosed)
		}
	}
}

// Len returns how many values are in the queue.
func (q *Queue[T]) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.n
}

// wait waits in the line for what p is about. The lock is held, and released.
func (q *Queue[T]) wait(ctx context.Context, line *list.List, p *passage[T]) error {
	place := line.PushBack(p)
	q.mu.Unlock()
	err := p.over.Wait(ctx)
	if err == nil {
		return p.err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if p.over.IsSet() {
		return p.err // just now: it has happened, whatever ctx says
	}
	line.Remove(place)
	return err
}

// next takes who is first out of a line.
func next[T any](line *list.List) *passage[T] { return line.Remove(line.Front()).(*passage[T]) }

func (p *passage[T]) end(err error) {
	p.err = err
	p.over.Set()
}

// put is TryPut. The lock is held, as in all that follow.
func (q *Queue[T]) put(v T) error {
	switch {
	case q.closed:
		return ErrQueueClosed
	case q.takers.Len() > 0:
		p := next[T](&q.takers)
		p.v = v
		p.end(nil)
	case q.n < q.max:
		q.push(v)
	default:
		return ErrQueueFull
	}
	return nil
}

// take is TryTake.
func (q *Queue[T]) take() (v T, err error) {
	switch {
	case q.n > 0:
		v = q.pop()
		if q.givers.Len() > 0 {
			p := next[T](&q.givers)
			q.push(p.v)
			p.end(nil)
		}
	case q.givers.Len() > 0: // a queue without room
		p := next[T](&q.givers)
		v = p.v
		p.end(nil)
	case q.closed:
		err = ErrQueueClosed
	default:
		err = ErrQueueEmpty
	}
	return v, err
}

func (q *Queue[T]) push(v T) {
	if q.n == len(q.vals) {
		grown := make([]T, min(q.max, max(8, 2*q.n)))
		copy(grown[copy(grown, q.vals[q.head:]):], q.vals[:q.head])
		q.vals, q.head = grown, 0
	}
	q.vals[(q.head+q.n)%len(q.vals)] = v
	q.n++
}

func (q *Queue[T]) pop() (v T) {
	v, q.vals[q.head] = q.vals[q.head], v // or what was taken would stay reachable
	q.head = (q.head + 1) % len(q.vals)
	q.n--
	return v
}
