package driver

import (
	"io"
	"os"
	"time"

	"go.uber.org/zap"
)

// To sleep in the kernel holds a thread, and who wakes the driver pays for it with a system call and the start of that thread. Where all that is in
// the ring takes its time, such as a connection that may come, or a file system that is stuck, it is requests that end one sleep after the other:
// there the driver had better park on their channel. Somebody else has to look out for completions then: the Go runtime's poller, by way of an
// eventfd. A completion that takes this way is late by a goroutine more, so the driver remembers what ended its sleeps.
type doze struct {
	news *os.File      // where the kernel counts completions, while it is to; nil until there is a reason for it
	gone chan struct{} // of who reads it: closed at the end of that; nil if nobody does
	none bool          // this kernel, or this ring, has no such thing
	hope int           // how many sleeps in a row were ended by requests, up to dozeHope
}

// dozeHope is after how many sleeps that requests have ended the driver dozes.
const dozeHope = 8

// nap is a sleep without a thread, and reports false if the driver had better sleep in the kernel.
func (d *Driver) nap() bool {
	if d.doze.hope < dozeHope || !d.watched() {
		return false
	}
	if d.submitFirst() {
		return true
	}
	if d.ring.Queued() > 0 {
		return false // the kernel has not taken it all, and may ask for patience: to wait in there is to offer it again
	}
	// The order matters, as in sleep: have completions announced, then look once more.
	d.ring.Announce(true)
	if d.ring.Ready() {
		d.ring.Announce(false)
		return true
	}
	d.stats.Dozes++
	r := <-d.intake
	d.ring.Announce(false)
	d.tick()
	d.slept(r == &d.poke && d.ring.Ready())
	d.accept(r)
	d.linger()
	return true
}

// slept learns from a sleep, whether a completion in the ring has ended it; of plain calls, messages tell.
func (d *Driver) slept(completed bool) {
	if completed {
		d.doze.hope = 0
	} else {
		d.doze.hope = min(d.doze.hope+1, dozeHope)
	}
}

// watched reports whether somebody looks out for completions that are announced.
func (d *Driver) watched() bool {
	z := &d.doze
	switch {
	case z.gone != nil:
		return true
	case z.none || !d.open || d.cfg.MinWait > 0:
		return false
	}
	var err error
	if z.news == nil {
		z.news, err = d.ring.OpenNews()
	} else {
		err = z.news.SetReadDeadline(time.Time{})
	}
	if err != nil {
		d.log.Debug("the driver waits for completions in the kernel only", zap.Error(err))
		z.none = true
		return false
	}
	z.gone = make(chan struct{})
	go d.watch(z.news, z.gone)
	return true
}

// watch tells the driver of what is announced, until lookAway or unwatch.
func (d *Driver) watch(news io.Reader, gone chan<- struct{}) {
	defer close(gone)
	var count [8]byte
	for {
		if _, err := io.ReadFull(news, count[:]); err != nil {
			return
		}
		d.Poke()
	}
}

// lookAway ends the watch for as long as nothing is in the ring. In a bubble of package synctest no time would pass while somebody waits for a file.
func (d *Driver) lookAway() {
	z := &d.doze
	if z.gone == nil || z.news.SetReadDeadline(time.Unix(1, 0)) != nil {
		return
	}
	<-z.gone
	z.gone = nil
}

// unwatch ends what watched has begun, for good.
func (d *Driver) unwatch() error {
	z := &d.doze
	if z.news == nil {
		return nil
	}
	err := z.news.Close()
	if z.gone != nil {
		<-z.gone
	}
	return err
}
