package driver

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"uringo/internal/ring"
	"uringo/ops"
)

// StreamLimit is how many items a [Stream] holds for its reader before the operation pauses. Streams into buffers of a small [BufferRing]
// hold less.
const StreamLimit = 64

// Stream is an operation that was submitted once and completes many times: what it brings is read with Next. Where the kernel cannot do
// that, one operation after the other gives the same.
//
// A reader that is slow makes the operation pause: with [StreamLimit] items waiting it is ended in the kernel, and submitted again when half of
// them have been taken. What the kernel completed by then waits, too; nothing is lost. Meanwhile connections wait in the listener's
// queue, and bytes in the socket's buffer and then with their sender.
//
// A Stream is ended by an error, by Cancel or by Close. One that nobody needs any more must be read to its end or closed: it keeps what it
// holds. Its methods may be called from any goroutine, and several may wait in Next.
type Stream[T any] struct {
	*stream
	of func(item) T
}

// item is one thing that a stream brought, or an error between two of them.
type item struct {
	n     int32
	chunk Chunk
	err   error
}

// SubmitMulti hands an operation of many completions to the driver and returns at once. The items are the operation's results: what
// they mean, and who has to give them back, the operation says.
func SubmitMulti(d *Driver, op ops.Multi) *Stream[int] {
	s := newStream(d, &multi{op}, StreamLimit, op.Ended)
	s.begin(op.Many, cmp.Or(op.Many.Invalid(), op.Once.Invalid()))
	return &Stream[int]{s, func(it item) int { return int(it.n) }}
}

// Next returns the next item, and waits for it. Every item belongs to the caller: a descriptor is theirs to close, a chunk to release.
//
// An error may stand between two items (a listener ran out of descriptors), and then the stream goes on: Err is nil. When the
// stream has ended, Next returns why, again and again, after all items: io.EOF at the end of a connection, syscall.ECANCELED after
// Cancel, ErrClosed with the driver. If ctx ends first, or has ended, Next returns its error and loses nothing.
//
// Next holds up its goroutine. Tasks call executor.Next.
func (s *Stream[T]) Next(ctx context.Context) (T, error) {
	if ctx.Err() != nil {
		var zero T
		return zero, Canceled(ctx) // also of a stream that always has something
	}
	for {
		if v, err, ok := s.Take(); ok {
			return v, err
		}
		if r := Submit(s.d, s.Ready()).Wait(ctx); r.Err != nil && s.Err() == nil {
			var zero T
			return zero, r.Err
		}
	}
}

// Take is Next without waiting: ok is false if there is nothing yet. It allocates nothing.
func (s *Stream[T]) Take() (value T, err error, ok bool) {
	it, ok := s.take()
	if !ok {
		return value, nil, false
	}
	if it.err != nil {
		return value, it.err, true
	}
	return s.of(it), nil, true
}

// Ready returns an operation that ends when Take has something, maybe: another reader may be first.
func (s *Stream[T]) Ready() ops.Op[struct{}] { return ops.Await(s.stream) }

// OnReady has f called whenever something was added to the stream, or it has ended; and at once if there is something already. It is for
// readers that do not wait in a task or goroutine of their own: f is called on the driver goroutine, where it must not block, and tells
// somebody to Take. There is one f, which stays.
func (s *Stream[T]) OnReady(f func()) {
	s.mu.Lock()
	s.onReady = f
	s.mu.Unlock()
	if s.something() {
		f()
	}
}

// Cancel asks for the end of the stream and returns at once. What has arrived by then can still be read.
func (s *Stream[T]) Cancel() { s.d.Cancel(&s.req, s.seq) }

// Discard is Cancel for a reader that wants nothing more: what has arrived, and what arrives until the end, is given back. Descriptors
// are closed. Next then waits for the end.
func (s *Stream[T]) Discard() {
	s.discard()
	s.Cancel()
}

// Close is Discard, and waits until the kernel has let go of the stream. If ctx ends first it returns its error.
func (s *Stream[T]) Close(ctx context.Context) error {
	s.Discard()
	for s.Err() == nil {
		if _, err := s.Next(ctx); err != nil && ctx.Err() != nil && s.Err() == nil {
			return err
		}
	}
	return nil
}

// Err returns why the stream has ended, which is the last thing that Next returns, or nil if it has not. Items may be left.
func (s *Stream[T]) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end
}

var errOtherDriver = errors.New("uringo: a stream of another driver")

// stream is a Stream as the driver sees it.
type stream struct {
	d       *Driver
	req     Request
	seq     Seq
	src     source
	onEnd   func() // may be nil
	limit   int
	readers list        // the requests of those who wait; the driver goroutine's
	crowded bool        // the latest item was one too many; the driver goroutine's
	news    atomic.Bool // take would succeed; changed under the lock

	mu       sync.Mutex
	items    []item
	head     int    // of items: those before it were taken
	end      error  // set when the operation has ended
	onReady  func() // may be nil
	dropping bool   // nobody wants items any more
	held     bool   // the operation waits for room among the items
}

func newStream(d *Driver, src source, limit int, onEnd func()) *stream {
	return &stream{d: d, src: src, limit: limit, onEnd: onEnd}
}

// begin submits the operation, unless it is invalid.
func (s *stream) begin(first ops.Spec, invalid error) {
	if invalid != nil {
		s.end = invalid
		s.tell()
		s.letGo()
		return
	}
	s.seq = s.req.Reset(&first, (*streamWaiter)(s))
	s.req.stream = s
	s.req.single = s.d.engine == Portable
	s.d.Send(&s.req)
}

// something reports whether take would succeed.
func (s *stream) something() bool { return s.news.Load() }

// tell sets what something reports. The caller has the lock.
func (s *stream) tell() {
	if now := s.head < len(s.items) || s.end != nil; now != s.news.Load() {
		s.news.Store(now)
	}
}

// take returns the first item, or the end as an item that stays.
func (s *stream) take() (it item, ok bool) {
	if !s.something() {
		return it, false
	}
	s.mu.Lock()
	if s.head == len(s.items) {
		it.err = s.end
		s.mu.Unlock()
		return it, it.err != nil
	}
	it = s.items[s.head]
	s.items[s.head] = item{}
	if s.head++; s.head == len(s.items) {
		s.items, s.head = s.items[:0], 0
	}
	left := len(s.items) - s.head
	goOn := s.held && left <= s.limit/2
	if goOn {
		s.held = false
	}
	drained := left == 0 && s.end != nil
	s.tell()
	s.mu.Unlock()
	if goOn {
		s.d.wake(&s.req)
	}
	if drained {
		s.src.drained()
	}
	return it, true
}

// add is push for what the kernel brought.
func (s *stream) add(it item) {
	s.d.stats.Items++
	s.push(it)
}

// push adds an item, or gives it back if nobody will come for it. Beyond the limit, where the kernel was faster than its cancellation,
// items are copied out of the buffers that streams share.
func (s *stream) push(it item) {
	s.mu.Lock()
	if s.dropping {
		s.mu.Unlock()
		s.drop(it)
		return
	}
	n := len(s.items)
	if it.err != nil && n > s.head && s.items[n-1].err == it.err {
		s.mu.Unlock() // told already
		return
	}
	if n-s.head >= s.limit {
		it.chunk = ChunkOf(it.chunk.Own())
	}
	if n == cap(s.items) && s.head > 0 {
		n = copy(s.items, s.items[s.head:])
		clear(s.items[n:])
		s.items, s.head = s.items[:n], 0
	}
	s.items = append(s.items, it)
	s.crowded = len(s.items)-s.head >= s.limit
	s.tell()
	onReady := s.onReady
	s.mu.Unlock()
	if r := s.readers.pop(); r != nil {
		s.d.deliver(r, 0, nil)
	}
	if onReady != nil {
		s.d.tellUser(onReady)
	}
}

func (s *stream) drop(it item) {
	if it.err == nil {
		s.src.drop(it)
	}
}

func (s *stream) full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.items)-s.head >= s.limit
}

// holdBack is full, and has take wake the operation up.
func (s *stream) holdBack() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = len(s.items)-s.head >= s.limit
	return s.held
}

// detach copies all items out of the buffers that streams share.
func (s *stream) detach() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.items[s.head:] {
		it := &s.items[s.head+i]
		it.chunk = ChunkOf(it.chunk.Own())
	}
}

// discard drops all items, and those to come.
func (s *stream) discard() {
	s.mu.Lock()
	s.dropping = true
	items := s.items[s.head:]
	s.items, s.head, s.held = nil, 0, false
	drained := s.end != nil
	s.tell()
	s.mu.Unlock()
	for _, it := range items {
		s.drop(it)
	}
	if drained {
		s.src.drained()
	}
}

// streamWaiter is a stream as a [Waiter]: users, to whom Stream shows the methods of its stream, are not to tell it of an end.
type streamWaiter stream

func (w *streamWaiter) Complete(r *Request) {
	s := (*stream)(w)
	_, err := r.Outcome()
	abandoned := r.Abandoned()
	defer s.over(err, abandoned) // whatever becomes of those who are told
	if !abandoned {
		s.src.ended()
		s.letGo()
	}
}

// over notes the end, and tells readers.
func (s *stream) over(err error, abandoned bool) {
	s.mu.Lock()
	s.end = err
	s.tell()
	if abandoned {
		s.dropping = true // what the kernel completes from now on is nobody's
	}
	drained := s.head == len(s.items)
	onReady := s.onReady
	s.mu.Unlock()
	if drained {
		s.src.drained()
	}
	defer s.tellReaders()
	if onReady != nil {
		s.d.tellUser(onReady)
	}
}

// tellReaders tells all who wait, the rest also if one of them makes a mistake.
func (s *stream) tellReaders() {
	if r := s.readers.pop(); r != nil {
		defer s.tellReaders()
		s.d.deliver(r, 0, nil)
	}
}

// letGo tells the maker that the kernel has nothing of the stream any more.
func (s *stream) letGo() {
	if s.onEnd != nil {
		s.d.tellUser(s.onEnd)
	}
}

// abandoned takes over the last completion of an operation that was abandoned: nobody wants it.
func (s *stream) abandoned(c *ring.CQE, polled bool) {
	if c.Res < 0 || polled {
		s.src.lost(c.Flags)
	} else {
		s.src.items(s, c.Res, c.Flags) // nobody wants items any more
	}
	s.src.ended()
	s.letGo()
}

// multi is the source of a stream whose items are bare results.
type multi struct{ op ops.Multi }

func (m *multi) round(r *Request) (ops.Spec, hold) {
	if r.single {
		return m.op.Once, goOn
	}
	return m.op.Many, goOn
}

func (m *multi) items(s *stream, res int32, _ uint32) (end bool) {
	s.add(item{n: res})
	return false
}

func (m *multi) lost(uint32)  {}
func (m *multi) drop(it item) { m.op.Once.Discard(it.n) }
func (m *multi) ended()       {}
func (m *multi) drained()     {}

func (m *multi) meaning(err error) (fate, bool) {
	if m.op.Passing != nil {
		if pass, silent := m.op.Passing(err); pass {
			return passing, silent
		}
	}
	return fatal, false
}
