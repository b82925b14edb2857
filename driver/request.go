package driver

import (
	"uringo/internal/ring"
	"uringo/ops"
)

// A Waiter is told when a request has ended. Complete is called once per request, on the driver goroutine (or, for a driver
// that is closed, on another, such as the sender's). It must not block and must not call back into the driver, but for
// [Driver.FlushLater]. Afterwards the request belongs to whoever made it, unless [Request.Abandoned] says that it stays with the driver.
type Waiter interface {
	Complete(*Request)
}

// A Batcher is a Waiter that collects completions. It asks for a Flush with [Driver.FlushLater].
type Batcher interface {
	// Flush is called on the driver goroutine at the end of the pass in which FlushLater was called. It must not block.
	Flush()
}

// Request is one operation on its way through the driver. Most programs use [Submit] or a package above; a Request is for
// executors, which keep one for each task and so allocate nothing.
//
// A Request is used again and again, with one driver: Reset, send, wait for Complete, and from the start. Its fields have one owner at a time.
type Request struct {
	// The first three cache lines are all that an operation without incidents touches.
	spec   ops.Spec
	waiter Waiter
	err    error    // the outcome: the driver's until Complete
	n      int      // the same
	Next   *Request // links requests that are sent in one message; the maker's until sent, then the driver's
	seq    Seq      // the current use; the maker's
	cur    Seq      // the use in the driver's hands, 0 if none; the driver's
	cancel Seq      // a use to be cancelled; the driver's
	slot   uint32

	state    state
	attempts uint8
	vain     uint8    // how often the descriptor was ready, one time after the other, and the operation refused; the driver's
	hit      bool     // somebody else's cancellation may have found it; the driver's
	shut     bool     // cancelled by the end of the driver; the driver's
	ended    bool     // the maker's, see End
	hungUp   bool     // the descriptor was when it was last ready; the driver's
	ready    uint32   // events of the descriptor to wait for before the operation is tried again; the driver's
	hasEarly bool     // the result is in, and the memory still the kernel's (zero copy); the driver's
	pausing  bool     // a stream that is being ended for a while; the driver's
	single   bool     // a stream without multishot
	early    int32    // that result
	prev     *Request // in the driver's queues, with Next
	stream   *stream  // whose operation it is, or nil
	chain    *chain   // of which it is a member, or nil; its maker's until sent, then the driver's
	done     int      // what earlier parts of a member's transfer moved; the driver's, as the next two
	res      int32    // what the kernel said of a member, while others of the segment are out
	unsent   bool     // the kernel took only what is before it
	control  func()   // instead of an operation: to be called on the driver goroutine
	touch    toucher  // race builds only
}

type state uint8

const (
	stateIdle      state = iota // with its maker, or in the channel
	stateQueued                 // in a queue of the driver
	stateDelayed                // waiting for a retry, or for a reader
	stateParked                 // waits for a stream
	stateLinked                 // waits for its turn in a chain, or for others of its segment
	stateIssued                 // its entry is written: the kernel owns its memory
	stateAbandoned              // issued, and nobody waits for it any more
)

// Seq names one use of a Request, so that a late cancellation does not hit the next.
type Seq uint32

// Reset prepares the request for an operation whose end w will be told of, and names this use of it. The request must not be in
// use.
func (r *Request) Reset(spec *ops.Spec, w Waiter) Seq { return r.reset(spec, w, nil) }

// reset is Reset for an operation that runs behind another in a chain.
func (r *Request) reset(spec *ops.Spec, w Waiter, behind *toucher) Seq {
	r.spec = *spec
	r.waiter = w
	r.ended = false
	if r.seq++; r.seq == 0 {
		r.seq = 1
	}
	r.touch.handOver(&r.spec, behind)
	return r.seq
}

// Withdraw takes back a request that was reset and will not be sent.
func (r *Request) Withdraw() { r.touch.takeBack() }

// Successor returns a request to use instead of r, which was abandoned. It goes on with r's numbers, so that whoever still knows one
// of them means r.
func (r *Request) Successor() *Request { return &Request{seq: r.seq} }

// End notes that the request has ended, and Ended reports it, for makers that are told in one place and look in another. The driver
// does not use it.
func (r *Request) End() { r.ended = true }

// Ended reports whether End was called since Reset.
func (r *Request) Ended() bool { return r.ended }

// Abandoned reports whether the driver keeps the request: its maker must not touch it again.
func (r *Request) Abandoned() bool { return r.err == ErrAbandoned }

// Outcome returns what the operation returned. A cancelled operation that did not run says ECANCELED.
func (r *Request) Outcome() (n int, err error) { return r.n, r.err }

// op returns the opcode, for counting.
func (r *Request) op() ring.Op { return r.spec.Kind.Code }

// list is a queue of requests, linked through themselves so that any one can be taken out.
type list struct {
	head, tail *Request
	n          int
}

func (l *list) push(r *Request) {
	r.Next, r.prev = nil, l.tail
	if l.tail != nil {
		l.tail.Next = r
	} else {
		l.head = r
	}
	l.tail = r
	l.n++
}

func (l *list) remove(r *Request) {
	if r.prev != nil {
		r.prev.Next = r.Next
	} else {
		l.head = r.Next
	}
	if r.Next != nil {
		r.Next.prev = r.prev
	} else {
		l.tail = r.prev
	}
	r.Next, r.prev = nil, nil
	l.n--
}

func (l *list) pop() *Request {
	r := l.head
	if r != nil {
		l.remove(r)
	}
	return r
}
