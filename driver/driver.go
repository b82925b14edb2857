package driver

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"uringo/internal/ring"
	"uringo/internal/stripe"
	"uringo/ops"
)

// What a submitter must know of the driver goroutine after it has put a request in the channel.
const (
	awake  uint32 = iota // it will look into the channel
	asleep               // it sits in the kernel, or is about to: it wants a wake-up
	dead                 // it is gone: the sender empties the channel itself
)

// intakeSize is the capacity of the request channel: enough that submitters rarely wait for the driver to come by.
const intakeSize = 1024

// A Guest is work that runs on the driver goroutine, between passes over the ring: the tasks of a thread-per-core executor.
type Guest interface {
	// Run runs what is ready. It may submit with [Driver.Issue].
	Run()
	// Ready reports whether Run has something to do, so that the driver does not sleep.
	Ready() bool
}

// A Survivor is a Guest with work that goes on when somebody has closed its driver: its operations fail from then on. Those who wait for
// them are no Batchers.
type Survivor interface {
	Guest

	// Over reports whether Run has nothing to do any more, for good. Poke has it asked again.
	Over() bool
}

// Driver owns one ring. All methods may be called from any goroutine unless they say otherwise.
type Driver struct {
	cfg    Config
	log    *zap.Logger
	engine Engine
	guest  Guest
	tid    int // of the driver's thread, if it is locked to one
	start  time.Time
	shared atomic.Pointer[BufferRing] // of Buffers

	// What others come to, the first three in send.go.
	intake   chan *Request
	status   atomic.Uint32
	sweeping sync.Mutex
	telling  atomic.Int32   // functions of users that were told something and have not returned
	spilled  pile[*Request] // messages that the channel had no room for, of those who must not wait
	late     pile[ring.CQE] // results of plain calls, posted by their goroutines
	woken    pile[*Request] // streams that can go on
	poke     Request        // a message without content
	routes   [routeCount]stripe.Counter
	spares   sync.Pool
	ending

	// Everything below belongs to the driver goroutine.
	ring   *ring.Ring
	pool   *ring.Pool
	cqes   []ring.CQE
	broken error
	ended  bool
	table
	chaining
	cancelling
	sleeping
	interrupted
	buffers  buffers
	files    files
	provided map[uint16]*BufferRing // by group
	people   map[uint16]*Personality

	// Of the present pass, and of all of them.
	flush   []Batcher
	taking  []*Request    // messages that spilled over, and are to be accepted yet
	until   func() bool   // while pumping: passes leave the guest alone, and what to wait for instead
	backoff time.Duration // of a busy kernel
	clock   int64         // nanoseconds since start, of a recent pass
	passes  uint64
	told    uint64 // requests whose waiter was told
	took    uint64 // requests that came over the channel
	stats   Stats
}

// Open starts a driver, which has to be closed. A system that refuses io_uring is an error with [Uring]; with [Auto] the driver works without, and
// tells its logger why. Too few descriptors (EMFILE, ENFILE) or too little memory (ENOMEM) are an error with both, but a user who may lock little
// memory gets a smaller ring. A Config with what cannot be is an error that names the field.
func Open(cfg Config) (*Driver, error) { return open(cfg, nil) }

// OpenGuest starts a driver whose goroutine also runs guest. It is locked to a thread, which makes the ring cheaper and lets
// it wait only in the kernel.
func OpenGuest(cfg Config, guest Guest) (*Driver, error) { return open(cfg, guest) }

func open(cfg Config, guest Guest) (*Driver, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	d := &Driver{
		cfg:        cfg,
		log:        cfg.Logger,
		guest:      guest,
		start:      time.Now(),
		intake:     make(chan *Request, intakeSize),
		ending:     ending{done: make(chan struct{}), after: make(chan struct{}, 1)},
		cqes:       make([]ring.CQE, 256),
		cancelling: cancelling{delayed: make(map[*Request]struct{}), cancelOut: make(map[uint64]uint64)},
		sleeping:   sleeping{load: scheduled},
		people:     make(map[uint16]*Personality),
	}
	d.poke.control = func() {}
	opened := make(chan error)
	go d.life(opened)
	if err := <-opened; err != nil {
		return nil, err
	}
	return d, nil
}

// life is the driver goroutine.
func (d *Driver) life(opened chan<- error) {
	if d.guest != nil {
		// For good: if this goroutine ended while locked, its thread would end and with it what the kernel has in hand.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer d.left.Store(true)
		d.tid = gettid()
	}
	if err := d.setup(); err != nil {
		opened <- err
		return
	}
	d.enlist()
	opened <- nil
	defer d.outlive()
	defer d.finish() // deferred, as run may have to end by Goexit
	d.run()
}

// setup opens the ring, on the goroutine that will own it.
func (d *Driver) setup() error {
	d.engine = d.cfg.Engine
	rc := d.cfg.ring(d.guest != nil)
	var err error
	if d.engine != Portable {
		d.ring, err = d.openRing(rc)
		if err != nil && (d.engine == Uring || !errors.Is(err, ring.ErrUnavailable)) {
			return fmt.Errorf("uringo: %w", err)
		}
		if err != nil {
			d.log.Warn("io_uring is not available, using goroutines and plain system calls", zap.Error(err))
			d.engine = Portable
		} else {
			d.engine = Uring
		}
	}
	if d.engine == Portable {
		rc.Kernel, rc.Locked = d.cfg.portable(), false
		if d.ring, err = ring.Open(rc); err != nil {
			return fmt.Errorf("uringo: %w", err)
		}
	}
	// A simulated kernel shows nothing until it is entered, and the portable engine needs the processor.
	d.open = d.engine == Uring && ring.Shows(d.cfg.kernel)
	d.spins = d.open && d.cfg.kernel == nil && d.cfg.Spin > 0
	d.pool = ring.NewPool(ops.Calls(), d.cfg.Calls, d.post)

	// Every issued operation has a place in the completion queue, cancellations and the wake-up too.
	n := int(d.ring.CQEntries())
	reserve := max(2, n/16)
	d.places = n - reserve
	d.most = max(1, d.places*3/4)
	d.mostWait = max(2, d.places-max(1, d.places/16))
	d.slots = make([]slot, 0, min(d.places, 256))
	d.free = make([]uint32, 0, cap(d.slots))
	d.log.Debug("driver open", zap.Stringer("engine", d.engine), zap.Uint32("entries", d.ring.SQEntries()),
		zap.Int("in_flight", d.places))
	return nil
}

// openRing opens a ring, a smaller one if the user may not lock enough memory for what was asked.
func (d *Driver) openRing(rc ring.Config) (*ring.Ring, error) {
	r, err := ring.Open(rc)
	asked := rc
	for errors.Is(err, syscall.ENOMEM) && rc.Shrink() {
		r, err = ring.Open(rc)
	}
	if errors.Is(err, syscall.ENOMEM) {
		r, err = ring.OpenInTime(rc)
	}
	if err == nil && rc.CQEntries != asked.CQEntries {
		d.log.Warn("little memory to lock (RLIMIT_MEMLOCK): smaller ring", zap.Uint32("entries", rc.Entries),
			zap.Uint32("asked", asked.Entries), zap.Uint32("completions", rc.CQEntries), zap.Uint32("completions_asked", asked.CQEntries))
	}
	return r, err
}

// pass is one round: take requests in, run the guest, enter the kernel, handle completions, tell those who wait.
func (d *Driver) pass() {
	if d.passes++; d.passes%16 == 0 {
		d.tick()
		if d.guest != nil {
			d.share()
		}
	}
	d.plugged, d.piece = 0, leastPiece
	told := d.told
	d.takeIn()
	d.reapCalls() // their message was among those
	d.armWoken()  // the same
	if d.guest != nil && d.until == nil {
		d.visiting = true
		d.guest.Run()
		if d.visiting = false; d.ended {
			return // under the guest, see Attend
		}
	}
	if d.broken != nil {
		d.passBroken()
		return
	}
	d.fill()
	switch {
	case d.drained():
	case !d.sleepy() || d.told != told: // somebody may have been waiting for just that, see Pump
		d.submit()
	case !d.dash():
		d.sleep()
	}
	d.reap()
	d.tell()
	d.ended = d.drained()
	if d.guest == nil && d.told-told >= manyTold {
		runtime.Gosched()
	}
}

// manyTold is of how many the next requests are waited for: to take in and submit a few at a time while another processor runs those who make
// them costs more than it gains.
const manyTold = 16

// passBroken is what is left of a pass when the ring is gone: every request fails. The guest's tasks may need that to end, so
// the driver serves them until it is closed.
func (d *Driver) passBroken() {
	d.tell()
	if d.asked || d.guest == nil {
		d.ended = true
	} else if !d.pressed() && !d.spilled.some.Load() {
		d.accept(<-d.intake)
	}
}

// Pump makes passes without running the guest until done says so. It is for a guest's code that must wait where its own task
// cannot yield. Driver goroutine only.
func (d *Driver) Pump(done func() bool) {
	outer := d.until
	d.until = done
	defer func() { d.until = outer }()
	if b, ok := d.guest.(Batcher); ok {
		d.inside(func(*Driver) { b.Flush() }) // what the guest holds back until the end of its run is due now
	}
	for !done() && !d.ended {
		d.inside((*Driver).pass)
	}
}

// Attend is Pump for a guest that waits for somebody else, who may wait for this driver in turn: for an answer, or for its end. So when somebody
// closes the driver, it ends under its guest.
func (d *Driver) Attend(done func() bool) {
	d.Pump(done)
	if d.ended && d.visiting && !d.within && !done() {
		d.finish()
	}
	for !done() {
		<-d.after
	}
}

// tick reads the clock. Doing so for every operation would cost more than many an operation.
func (d *Driver) tick() { d.clock = int64(time.Since(d.start)) }

// share lets other goroutines run, now and then. A goroutine that is locked to its thread begins a new turn whenever it gets the processor, so
// the Go runtime never finds that it has had too long a one, and while it and whoever works for it wake each other, each as the next to run,
// nobody else would where there is one processor.
func (d *Driver) share() {
	if d.clock-d.lastShare > int64(10*time.Millisecond) {
		d.lastShare = d.clock
		runtime.Gosched()
	}
}

// takeIn empties the channel, up to a bound so that completions are not starved by a flood of requests. What spilled over comes after what
// was in the channel by then, and before what those who sent it send next: until it is done with, they find that something has spilled.
func (d *Driver) takeIn() {
	spilled, some := d.spilled.borrow()
	if some { // from now on they are to be found
		if d.taking == nil {
			d.taking = spilled
		} else { // within another takeIn
			d.taking = append(slices.Clip(d.taking), spilled...)
		}
	}
	for range intakeSize {
		select {
		case r := <-d.intake:
			d.accept(r)
			continue
		default:
		}
		break
	}
	if some {
		for len(d.taking) > 0 {
			r := d.taking[0]
			d.taking = d.taking[1:]
			d.accept(r)
		}
		d.taking = nil
		d.spilled.giveBack(spilled)
	}
}

// accept takes one message: a request, or several linked together.
func (d *Driver) accept(r *Request) {
	n := 0
	defer func() {
		d.took += uint64(n)
		d.stats.batch(n)
		if r != nil { // a mishap: the rest is to be refused
			d.taking = append([]*Request{r}, d.taking...)
		}
	}()
	for r != nil {
		one := r
		r, one.Next = one.Next, nil
		if one.control != nil {
			one.control()
		} else {
			d.Issue(one)
			n++
		}
	}
}

// inRing is how many operations are in the ring, as opposed to the pool.
func (d *Driver) inRing() int { return d.issued - d.pooled }

// submit hands what is queued to the kernel without waiting. It asks for what ends meanwhile only if something else is under way.
func (d *Driver) submit() {
	d.plugged = 0
	if queued := d.ring.Queued(); d.inRing() > int(queued) {
		d.enter(d.ring.SubmitAndGetEvents())
	} else {
		d.enter(d.ring.Submit())
	}
}

// enter deals with the answer of the kernel. An error never ends an operation: what was queued stays queued.
func (d *Driver) enter(err error) {
	if len(d.uncut) > 0 {
		d.mend()
	}
	switch {
	case err == nil:
		d.backoff = 0
	case errors.Is(err, ring.ErrBusy):
		// Completions may be what the kernel wants us to take. If there are none, waiting for one could be for ever.
		d.stats.Busy++
		if d.reap() == 0 {
			d.backoff = min(max(2*d.backoff, 100*time.Microsecond), 10*time.Millisecond)
			time.Sleep(d.backoff)
		}
	default:
		d.fail(fmt.Errorf("%w: %w", ErrBroken, err))
	}
}

// reap handles the completions that are there and returns how many.
func (d *Driver) reap() int { return d.reapRing() + d.reapCalls() }

// reapRing handles those of the ring.
func (d *Driver) reapRing() int {
	total := 0
	for d.broken == nil {
		n := d.ring.Reap(d.cqes)
		for i := range d.cqes[:n] {
			d.complete(&d.cqes[i], false)
		}
		total += n
		if n < len(d.cqes) {
			break
		}
	}
	return total
}

// reapCalls handles the results of plain calls.
func (d *Driver) reapCalls() int {
	if d.pooled == 0 {
		return 0
	}
	return d.late.each(func(c *ring.CQE) { d.complete(c, true) })
}

// post takes the result of a plain call from the goroutine that made it.
func (d *Driver) post(c ring.CQE) {
	if d.late.put(c) { // else the message of the first is on its way
		d.Poke()
	}
}

// Poke makes the driver goroutine do a pass soon. It never waits, so the driver itself may call it, and tells nobody anything: the caller may
// hold a lock.
func (d *Driver) Poke() {
	if d.status.Load() != dead { // else there is nobody but a guest, who finds nothing in the channel
		select {
		case d.intake <- &d.poke:
		default: // a full channel keeps the driver awake
		}
	}
	d.rouse((*Driver).sweepElsewhere)
}

// FlushLater has b.Flush called at the end of this pass. Driver goroutine only, from a Waiter's Complete.
func (d *Driver) FlushLater(b Batcher) { d.flush = append(d.flush, b) }

// tell lets the batchers pass on what they collected.
func (d *Driver) tell() {
	if len(d.flush) == 0 {
		return
	}
	for i, b := range d.flush {
		if b != nil { // else it has been told, and made a mistake
			d.flush[i] = nil
			b.Flush()
		}
	}
	d.flush = d.flush[:0]
}

// Engine returns what performs the operations: Uring or Portable.
func (d *Driver) Engine() Engine { return d.engine }

// Spares is where an executor keeps what it performs operations on d with until the next wants it. A [Request] stays with one driver: that may
// come to a cancellation of an earlier use at any time.
func (d *Driver) Spares() *sync.Pool { return &d.spares }
