package driver

import (
	"runtime"
	"runtime/metrics"
	"time"
)

// sleeping is what the driver knows of how it had better wait.
type sleeping struct {
	open      bool  // the kernel shows completions without being entered
	spins     bool  // see spin
	dashing   habit // submitting without waiting
	lingering habit // waiting for company
	spinning  habit // looking out for news
	doze      doze
	gaveWay   uint64            // told and took, as of the last giveWay
	longTurn  bool              // giving way took long, the last time
	lastShare int64             // the clock when others last had a turn, see share
	load      [3]metrics.Sample // see needed
}

// scheduled is what needed asks the Go runtime for.
var scheduled = [...]metrics.Sample{{Name: "/sched/goroutines/runnable:goroutines"}, {Name: "/sched/goroutines/running:goroutines"},
	{Name: "/sched/goroutines/not-in-go:goroutines"}}

// sleepy reports whether nothing can be done without news from the kernel or from the channel.
func (d *Driver) sleepy() bool {
	if d.closing.Load() && d.issued == 0 && len(d.cancelOut) == 0 {
		return false // the kernel need only take what is queued, and no news will come
	}
	return d.broken == nil && !d.pressed() && len(d.flush) == 0 && !d.fillable() && !d.spilled.some.Load()
}

// pressed reports whether somebody on this goroutine wants to go on: the guest, or who pumps. The message that brought it about may
// have been taken in already.
func (d *Driver) pressed() bool {
	if d.until != nil {
		return d.until()
	}
	return d.guest != nil && d.guest.Ready()
}

// sleep waits for news. With operations in the ring, or for a driver that is locked to its thread, it waits in the kernel:
// what was queued goes with the same call. Otherwise it parks on the channel and holds no thread.
func (d *Driver) sleep() {
	if d.guest == nil && d.inRing() == 0 && len(d.cancelOut) == 0 && d.ring.Queued() == 0 {
		d.lookAway()
		d.stats.Parks++
		r := <-d.intake
		d.tick()
		d.accept(r)
		d.linger()
		return
	}
	if d.giveWay() || d.guest == nil && d.nap() || d.spin() {
		return
	}
	// The order matters: say that we sleep, then look once more. A submitter does the opposite, so one of us sees the other.
	d.status.Store(asleep)
	select {
	case r := <-d.intake:
		d.status.Store(awake)
		d.accept(r)
		d.submit()
	default:
		err := d.ring.SubmitAndGather(uint32(d.inRing()), d.cfg.MinWait)
		d.status.Store(awake)
		d.tick() // it may have been long
		d.enter(err)
		d.slept(d.reapRing() > 0)
	}
}

// giveWay lets goroutines run that have something for the driver soon, and reports whether they had: whoever was just told a result and
// will submit the next operation, and the pool's. Where there is no other processor to run them they would otherwise wait until the Go
// runtime notices that this thread sits in the kernel, which can take it 10 ms.
func (d *Driver) giveWay() bool {
	if d.guest != nil {
		return d.giveThread()
	}
	news := d.told + d.took
	if d.pooled == 0 && news == d.gaveWay {
		return false
	}
	d.gaveWay = news
	if d.longTurn && d.ring.Queued() > 0 && d.submitFirst() {
		return true
	}
	// Every 61st time the scheduler looks first where it has just put us, and nobody else has run. It does not do so twice in a row.
	for range 2 {
		begin := time.Now()
		if runtime.Gosched(); len(d.intake) > 0 {
			return true
		}
		if d.longTurn = time.Since(begin) > longTurn; d.longTurn {
			break
		}
	}
	return false
}

// giveThread is giveWay for a goroutine that is locked to its thread, which changes threads twice for that: so it asks first whether
// anybody needs the processor.
func (d *Driver) giveThread() bool {
	for range 2 {
		if !d.needed() {
			return false
		}
		if d.ring.Queued() > 0 && d.submitFirst() {
			return true
		}
		if runtime.Gosched(); len(d.intake) > 0 {
			return true
		}
	}
	return false
}

// submitFirst submits what is queued before others run or the driver parks, as that may take its time, and somebody waits for this. It reports
// whether that has brought something: a busy kernel may have had completions taken.
func (d *Driver) submitFirst() bool {
	told := d.told
	d.submit()
	return d.told != told || !d.sleepy()
}

// needed reports whether goroutines wait for a processor and there is none for them. Who is in a system call may have one or not: where the driver
// waits for goroutines alone, that counts as one, as they may be what it waits for, and the Go runtime takes a while to find that a call waits.
func (d *Driver) needed() bool {
	metrics.Read(d.load[:])
	busy := d.load[1].Value.Uint64()
	if d.inRing() == 0 {
		busy += d.load[2].Value.Uint64()
	}
	return d.load[0].Value.Uint64() > 0 && busy >= uint64(runtime.GOMAXPROCS(0))
}

// longTurn is how long others run when they do more than to take a result and to ask for the next. Then nothing is to wait for them twice.
const longTurn = 100 * time.Microsecond

// spin looks out for news for about as long as to sleep in the kernel and be woken would take, and reports whether there is some. To be woken
// takes a processor's time of whoever does it, too: a peer on this machine, or a goroutine. But where news takes longer, looking out is lost
// time, so it is a habit that has to pay every third time.
func (d *Driver) spin() bool {
	if !d.spins || !d.spinning.due() {
		return false
	}
	told := d.told
	// A look takes longer than a few nanoseconds, but not by a clock that stands still meanwhile, see package synctest.
	for begin, looks := time.Now(), d.cfg.Spin/8; looks >= 0 && time.Since(begin) < d.cfg.Spin; looks-- {
		d.submit() // which enters the kernel only when something is queued, or it keeps something for us
		if d.ring.Ready() || d.told != told || len(d.intake) > 0 || !d.sleepy() {
			d.stats.Spins++
			d.spinning.paid(2)
			return true
		}
	}
	d.spinning.failed()
	return false
}

// linger lets other goroutines run before the driver acts on the request that woke it: the scheduler runs it next after the sender,
// and who is ready behind that one often wants to submit, too. One enter for all of them is worth a trip through the scheduler;
// for a single submitter it is not.
func (d *Driver) linger() {
	if !d.lingering.due() {
		return
	}
	runtime.Gosched()
	if len(d.intake) > 0 {
		d.lingering.paid(mostHope)
	} else {
		d.lingering.failed()
	}
}

// dash submits without waiting, if that promises something, and reports whether anything completed. Where operations complete at once, such as
// reads from the page cache, it saves what going to sleep costs: the agreement with submitters and the farewell to the Go scheduler. Where they
// do not, it costs a system call.
func (d *Driver) dash() bool {
	if d.ring.Queued() == 0 || !d.dashing.due() {
		return false
	}
	told := d.told
	d.submit()
	d.reap()
	if d.told == told {
		d.dashing.failed()
		return !d.sleepy()
	}
	d.dashing.paid(mostHope)
	return true
}
