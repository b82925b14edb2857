package executor

import (
	"errors"
	"iter"

	"uringo/driver"
)

// berth is a place where one goroutine is parked. The switch is iter.Pull's, from goroutine to goroutine without the scheduler:
// both of its halves, next and yield, swap the caller with whoever is parked, and they take turns. Nothing in them cares which
// goroutine calls, so a task can hand over to the next ready one directly, in one switch; going by way of the home's own
// goroutine would take two.
type berth struct {
	next  func() (struct{}, bool)
	yield func(struct{}) bool // known once the berth's own goroutine has started
	out   bool                // next was called last: it is yield's turn
}

// swap parks the caller here and runs who was parked. It returns when somebody swaps the caller out again.
func (b *berth) swap() {
	if b.out = !b.out; b.out {
		b.next()
	} else {
		b.yield(struct{}{})
	}
}

// coroutine is a goroutine that runs tasks of one home, one after the other. It runs only while no other of the home does.
type coroutine struct {
	at      *berth // where it is parked
	own     berth  // the one it was born in, and must end in
	crew    *crew
	task    *task      // the next to run; nil while idle
	running *task      // what runs on it
	to      *coroutine // when resumed while idle: hand over to this one
	quit    bool       // when resumed while idle: end
	spent   bool       // a task called runtime.Goexit on it: it takes no other
}

// crew is the goroutines of one home: its own and its coroutines. Exactly one of them runs at a time, so they share the crew
// without locks.
type crew struct {
	ready   queue
	behind  queue // ready, and stepped back: see StepBack
	budget  int   // how many ready tasks may still run in this round
	worked  int   // what the running task has done since it was resumed, see Caller.Spent
	stepped int   // how many of those behind may still run in this round
	quota   int   // how much these may still do in this round
	late    bool  // the running task is one of them
	lane    uint  // see Caller.Lane
	pulse   pulse
	turnout int          // how many tasks could run when the round began
	home    *berth       // where the home's own goroutine is parked
	idle    []*coroutine // parked, without a task
	spent   []*coroutine // parked, for good
}

// enqueue makes t run in the next round.
func (c *crew) enqueue(t *task) {
	if !t.queued && !t.dead {
		t.queued = true
		c.ready.push(t)
	}
}

// some reports whether a task can run.
func (c *crew) some() bool { return c.ready.len()+c.behind.len() > 0 }

// fullRound is how much those behind may do in a round all together, as Spent counts it: whoever becomes ready meanwhile waits for that.
const fullRound = maxWorked

// runRound runs every task that is ready now, each until it waits, and then some of those behind. The home's own goroutine calls it.
func (c *crew) runRound() {
	c.budget = c.ready.len()
	c.stepped, c.quota = c.behind.len(), fullRound
	c.turnout = c.budget + c.stepped
	c.pass(nil)
	if len(c.spent) > 0 {
		c.dismiss(&c.spent)
	}
}

// pass lets the next ready task of the round run, or the home's own goroutine if there is none. me is the coroutine of the
// caller, nil for the home's own; pass returns when me is resumed.
func (c *crew) pass(me *coroutine) {
	if b := c.depart(me); b != nil {
		b.swap()
	}
}

// depart is the first half of pass: it books the caller out and returns the berth to swap with, or nil if the caller is next.
func (c *crew) depart(me *coroutine) *berth {
	c.pulse.turn()
	c.settle()
	c.late = false
	var to *coroutine
	if t := c.next(); t != nil {
		if to = t.co; to == nil {
			to = c.seat(t)
		}
		t.queued = false
	}
	if to == me {
		return nil
	}
	return c.book(me, to)
}

// settle books what the running task has done.
func (c *crew) settle() {
	if c.late {
		c.quota -= c.worked
	}
	c.worked = 0
}

// next takes the task out of its queue that is to run next in this round.
func (c *crew) next() *task {
	switch {
	case c.budget > 0 && c.ready.len() > 0:
		c.budget--
		return c.ready.pop()
	case c.stepped > 0 && c.quota > 0:
		c.stepped--
		c.late = true
		return c.behind.pop()
	}
	return nil
}

// seat gives a new task a coroutine.
func (c *crew) seat(t *task) *coroutine {
	if n := len(c.idle); n > 0 {
		t.co = c.idle[n-1]
		c.idle = c.idle[:n-1]
	} else {
		t.co = c.hire()
	}
	t.co.task = t
	return t.co
}

// hire makes a coroutine. It is made on the home's thread, locked or not, as it must be (see iter.Pull and runtime.LockOSThread).
func (c *crew) hire() *coroutine {
	co := &coroutine{crew: c}
	co.at = &co.own
	co.own.next, _ = iter.Pull(func(yield func(struct{}) bool) {
		co.own.yield = yield
		defer co.enlist()()
		co.serve()
	})
	return co
}

// book notes that me will be parked where to is now, and returns that berth. To and me may be nil, the home's own goroutine.
func (c *crew) book(me, to *coroutine) *berth {
	b := c.home
	if to != nil {
		b = to.at
	}
	if me != nil {
		me.at = b
	} else {
		c.home = b
	}
	return b
}

// errSpent is the panic of a coroutine that a task's runtime.Goexit has ended.
var errSpent = errors.New("uringo: coroutine ended")

// serve runs tasks until told to quit. A task that calls runtime.Goexit takes the coroutine along, but only when the home has time
// for that: Goexit runs deferred functions, and in this one the coroutine waits. By its panic iter.Pull then tells the home of
// something that can be recovered; of a Goexit it would make another one.
func (co *coroutine) serve() {
	returned := false
	defer func() {
		if !returned {
			co.spent = true
			co.serve()
			panic(errSpent)
		}
	}()
	c := co.crew
	for !co.quit {
		if t := co.task; t != nil {
			co.task, co.running = nil, t
			t.run()
		}
		co.running = nil
		if co.spent {
			c.spent = append(c.spent, co)
		} else {
			c.idle = append(c.idle, co)
		}
		c.pass(co)
		for co.to != nil { // still in that list
			to := co.to
			co.to = nil
			c.book(co, to).swap()
		}
	}
	returned = true
}

// dismiss ends the coroutines of one of the two lists. The caller is the home's own goroutine.
func (c *crew) dismiss(list *[]*coroutine) {
	parked := make(map[*berth]*coroutine, len(c.idle)+len(c.spent))
	for _, l := range [][]*coroutine{c.idle, c.spent} {
		for _, co := range l {
			parked[co.at] = co
		}
	}
	stay := (*list)[:0]
	for _, co := range *list {
		// The end of a coroutine resumes whoever is parked in its own berth, and that must be us. If another is there, it lets
		// us in and hands over to the one that is to end. One that has a task cannot do that: later.
		first := parked[&co.own]
		if first == nil {
			stay = append(stay, co)
			continue
		}
		if first != co {
			first.to = co
			parked[co.at] = first
		}
		delete(parked, &co.own)
		co.quit = true
		c.end(first)
	}
	clear((*list)[len(stay):])
	*list = stay
}

// end resumes a coroutine that is to end, or to hand over to one that is, and returns when that has ended.
func (c *crew) end(first *coroutine) {
	defer func() {
		if p := recover(); p != nil && p != any(errSpent) {
			panic(p)
		}
	}()
	c.book(nil, first).swap()
}

// dismissAll ends all coroutines. None of them has a task any more.
func (c *crew) dismissAll() {
	c.dismiss(&c.spent)
	c.dismiss(&c.idle)
}

// pause parks the running task until it is made ready again.
func (t *task) pause() { t.co.crew.pass(t.co) }

// yield lets the other ready tasks run first.
func (t *task) yield() {
	t.co.crew.enqueue(t)
	t.pause()
}

// stepBack is yield for a task that had, or is about to take, more than others: it runs after all that are ready in its round.
func (t *task) stepBack() {
	if !t.queued { // or else somebody has woken it
		t.queued = true
		t.co.crew.behind.push(t)
	}
	t.pause()
}

// queue is a first-in, first-out queue of tasks that grows and never shrinks.
type queue struct {
	buf        []*task // a power of two long
	head, tail uint
}

func (q *queue) len() int { return int(q.tail - q.head) }

func (q *queue) push(t *task) {
	if q.len() == len(q.buf) {
		q.grow()
	}
	q.buf[q.tail&uint(len(q.buf)-1)] = t
	q.tail++
}

func (q *queue) grow() {
	grown := make([]*task, max(64, 2*len(q.buf)))
	n := q.len()
	for i := range n {
		grown[i] = q.buf[(q.head+uint(i))&uint(len(q.buf)-1)]
	}
	q.buf, q.head, q.tail = grown, 0, uint(n)
}

func (q *queue) pop() *task {
	i := q.head & uint(len(q.buf)-1)
	t := q.buf[i]
	q.buf[i] = nil // the queue may have been very long once, and a task is not small
	q.head++
	return t
}

// outbox is a list of requests on their way to the driver.
type outbox struct{ head, tail *driver.Request }

func (o *outbox) add(r *driver.Request) {
	if o.tail == nil {
		o.head = r
	} else {
		o.tail.Next = r
	}
	o.tail = r
}

// pop takes the first request out, or returns nil.
func (o *outbox) pop() *driver.Request {
	r := o.head
	if r != nil {
		if o.head, r.Next = r.Next, nil; o.head == nil {
			o.tail = nil
		}
	}
	return r
}

// take empties the box and returns the list.
func (o *outbox) take() *driver.Request {
	r := o.head
	o.head, o.tail = nil, nil
	return r
}
