package driver

import (
	"math/bits"

	"uringo/internal/ring"
)

// Stats is what a driver has done, as of one moment.
type Stats struct {
	Submitted uint64 // operations given to the kernel or to the pool of plain calls, repetitions included
	Completed uint64 // terminal completions
	Calls     uint64 // of the submitted, those performed as plain calls
	Linked    uint64 // of the submitted, those linked to others in the ring, see Chain
	Cancelled uint64 // operations whose cancellation was asked for
	Abandoned uint64 // operations whose caller was let go before their completion
	Repeated  uint64 // operations given to the kernel again, after EINTR, EAGAIN, or a cancellation nobody asked for
	Stale     uint64 // completions that matched no operation, dropped

	AbandonedDone uint64 // abandoned operations that the kernel has let go of since
	CancelAnswers uint64 // answers to cancellations

	Items   uint64 // what streams brought
	Bundled uint64 // of these, those that came in the completion of another, see Bundles
	Starved uint64 // times the kernel found no buffer for a stream

	Fixed      uint64 // of the submitted, those on registered memory
	Registered int    // bytes of memory registered with the ring

	Direct int // places of the table of direct descriptors that the kernel chose, or will choose for an operation on its way

	Enters    uint64 // calls of io_uring_enter
	Waits     uint64 // of these, calls that could block
	Spins     uint64 // times the driver was about to wait and news came within microseconds, so that it did not
	Parks     uint64 // times the driver goroutine parked, holding no thread
	Dozes     uint64 // times it did so although operations were in the ring
	Wakeups   uint64 // wake-ups of a driver that waited in the kernel
	Overflows uint64 // completion queue overflows seen
	Busy      uint64 // times the kernel refused work for now

	InFlight   int            // operations in the kernel or in the pool
	Queued     int            // operations waiting for a place; of a chain, the one whose turn it is
	InFlightBy map[string]int // InFlight by operation

	// Messages counts the messages with requests by their size: Messages[i] had from 2^(i-1)+1 to 2^i requests.
	Messages [12]uint64

	// Routes counts operations by the way they took, see Route.
	Routes map[string]uint64

	submittedBy, completedBy [ring.OpCount]uint64
}

func (s *Stats) submit(op ring.Op) {
	s.Submitted++
	s.submittedBy[op&(ring.OpCount-1)]++
}

func (s *Stats) complete(op ring.Op) {
	s.Completed++
	s.completedBy[op&(ring.OpCount-1)]++
}

func (s *Stats) batch(n int) {
	if n > 0 {
		s.Messages[min(bits.Len(uint(n-1)), len(s.Messages)-1)]++
	}
}

// Route is a way that an operation can take.
type Route int

// The routes.
const (
	RouteInline Route = iota // an attempt on the caller's own thread that could not block
	RouteDirect              // a plain system call on the caller's goroutine
	RouteRing                // the ring
	RouteCall                // a plain system call on the driver's pool
	routeCount
)

// String returns the name under which Stats.Routes counts.
func (r Route) String() string { return [...]string{"inline", "direct", "ring", "call"}[r] }

// CountRoute counts an operation that was performed in place, for Stats. Callers on different processors should have different lanes.
func (d *Driver) CountRoute(r Route, lane uint) { d.routes[r].Add(lane, 1) }

// Stats returns a snapshot. It asks the driver goroutine, so it costs a round trip.
func (d *Driver) Stats() Stats {
	var s Stats
	if d.OnDriver() {
		return d.snapshot()
	}
	if d.do(func() { s = d.snapshot() }) {
		return s
	}
	<-d.done
	d.closed.Lock()
	defer d.closed.Unlock()
	return d.closed.final
}

func (d *Driver) snapshot() Stats {
	s := d.stats
	s.Enters, s.Waits, s.Wakeups, s.Overflows = d.ring.Enters, d.ring.Waits, d.ring.Wakeups, d.ring.Overflows
	s.InFlight = d.issued
	s.Direct = d.files.used
	s.Queued = len(d.delayed)
	for i := range d.queues {
		s.Queued += d.queues[i].n
	}
	s.Queued += len(d.chains)
	s.InFlightBy = make(map[string]int)
	for op := range ring.OpCount {
		if n := s.submittedBy[op] - s.completedBy[op]; n > 0 {
			s.InFlightBy[ring.Op(op).String()] = int(n)
		}
	}
	s.Routes = make(map[string]uint64)
	for r := range d.routes {
		s.Routes[Route(r).String()] = uint64(d.routes[r].Load())
	}
	s.Routes[RouteRing.String()] += s.Submitted - s.Calls
	s.Routes[RouteCall.String()] += s.Calls
	return s
}
