package executor

import "iter"

// coroutine is a goroutine that runs tasks, one after the other, only while its home resumes it. The switch is iter.Pull's: from
// goroutine to goroutine without the scheduler.
type coroutine struct {
	task   *task // what it runs
	resume func() (struct{}, bool)
	stop   func()
	yield  func(struct{}) bool
}

// newCoroutine must be called under the thread locking under which the coroutine will be resumed.
func newCoroutine() *coroutine {
	c := new(coroutine)
	c.resume, c.stop = iter.Pull(c.loop)
	return c
}

func (c *coroutine) loop(yield func(struct{}) bool) {
	c.yield = yield
	for {
		c.task.run()
		c.task = nil
		if !yield(struct{}{}) {
			return
		}
	}
}

// crew is the coroutines of one home. Ended tasks leave theirs for the next task.
type crew struct{ idle []*coroutine }

// run resumes t and returns when it waits or has ended.
func (c *crew) run(t *task) {
	if t.co == nil {
		if n := len(c.idle); n > 0 {
			t.co = c.idle[n-1]
			c.idle = c.idle[:n-1]
		} else {
			t.co = newCoroutine()
		}
		t.co.task = t
	}
	co := t.co
	co.resume()
	if co.task == nil {
		c.idle = append(c.idle, co)
	}
}

// dismiss ends the idle coroutines.
func (c *crew) dismiss() {
	for _, co := range c.idle {
		co.stop()
	}
	c.idle = nil
}

// queue is a first-in, first-out queue of tasks that grows and never shrinks.
type queue struct {
	buf        []*task // a power of two long
	head, tail uint
}

func (q *queue) len() int { return int(q.tail - q.head) }

func (q *queue) push(t *task) {
	if q.len() == len(q.buf) {
		grown := make([]*task, max(64, 2*len(q.buf)))
		n := q.len()
		for i := range n {
			grown[i] = q.buf[(q.head+uint(i))&uint(len(q.buf)-1)]
		}
		q.buf, q.head, q.tail = grown, 0, uint(n)
	}
	q.buf[q.tail&uint(len(q.buf)-1)] = t
	q.tail++
}

func (q *queue) pop() *task {
	i := q.head & uint(len(q.buf)-1)
	t := q.buf[i]
	q.buf[i] = nil
	q.head++
	return t
}
