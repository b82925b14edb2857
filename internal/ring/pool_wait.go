package ring

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// poller waits for files to become ready, on behalf of any number of jobs. It is one epoll instance, which in turn sits in the
// scheduler's own: waiting holds one goroutine and no thread.
type poller struct {
	pool    *Pool
	fd      int
	file    *os.File // of fd
	conn    syscall.RawConn
	watches map[int32]*watch // under the pool's lock
	ended   chan struct{}
}

// watch is a descriptor that is waited for, or was. The epoll instance tells of it once (EPOLLONESHOT), and then must be told again.
type watch struct {
	waiters jobs
	known   bool   // to the epoll instance
	events  uint32 // what it was told to look for: all that is wanted, and maybe more
}

func newPoller(p *Pool) (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	file, err := pollable(fd, "epoll")
	if err != nil {
		return nil, err
	}
	conn, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	w := &poller{pool: p, fd: fd, file: file, conn: conn, watches: map[int32]*watch{}, ended: make(chan struct{})}
	go w.run()
	return w, nil
}

// close ends the poller. Nobody waits any more.
func (w *poller) close() {
	w.file.Close()
	<-w.ended
}

func (w *poller) run() {
	defer close(w.ended)
	var events [128]unix.EpollEvent
	for {
		n := 0
		err := w.conn.Read(func(fd uintptr) bool {
			for {
				var err error
				if n, err = unix.EpollWait(int(fd), events[:], 0); err != syscall.EINTR {
					return n != 0
				}
			}
		})
		if err != nil || n < 0 {
			return // closed
		}
		w.ready(events[:n])
	}
}

// ready puts the jobs that waited for these events back into the queue.
func (w *poller) ready(events []unix.EpollEvent) {
	p := w.pool
	var lost []*job
	p.mu.Lock()
	for i := range events {
		lost = append(lost, w.wake(events[i].Fd, events[i].Events)...)
	}
	p.mu.Unlock()
	p.abandon(lost)
}

func (w *poller) wake(fd int32, events uint32) (lost []*job) {
	t := w.watches[fd]
	if t == nil {
		return nil
	}
	for j := t.waiters.first; j != nil; {
		next := j.next
		if events&(uint32(uint16(j.events))|unix.EPOLLERR|unix.EPOLLHUP) != 0 {
			t.waiters.remove(j)
			w.pool.unlist(j)
			j.woken, j.amiss = true, events&uint32(uint16(j.events)) == 0
			w.pool.enqueue(j)
		}
		j = next
	}
	t.events = t.wanted()
	if t.waiters.first != nil && w.ctl(unix.EPOLL_CTL_MOD, fd, t.events) != 0 {
		return w.lose(fd, t)
	}
	return nil
}

// await leaves a running job waiting for events of fd. ECANCELED means that it must not, anything else that it cannot.
func (p *Pool) await(j *job, fd int32, events int16) syscall.Errno {
	p.mu.Lock()
	lost, errno := p.awaitLocked(j, fd, events)
	p.mu.Unlock()
	p.abandon(lost)
	return errno
}

func (p *Pool) awaitLocked(j *job, fd int32, events int16) (lost []*job, _ syscall.Errno) {
	if j.stop.Load() || p.closed.Load() {
		return nil, syscall.ECANCELED
	}
	if p.poller == nil {
		var err error
		if p.poller, err = newPoller(p); err != nil {
			return nil, syscall.ENOMEM
		}
	}
	w := p.poller
	t := w.watches[fd]
	if t == nil {
		t = new(watch)
		w.watches[fd] = t
	}
	lost, errno := w.watch(fd, t, t.events|uint32(uint16(events)))
	if errno != 0 {
		if t.waiters.first == nil {
			delete(w.watches, fd)
		}
		return lost, errno
	}
	j.fd, j.events = fd, events
	p.running.remove(j)
	t.waiters.push(j)
	p.list(j)
	return lost, 0
}

// watch tells the epoll instance what is wanted of a descriptor. If its number has come to mean another file since, then those who
// wait for the former one are lost: there is no name for it any more.
func (w *poller) watch(fd int32, t *watch, events uint32) (lost []*job, errno syscall.Errno) {
	t.events = events
	if t.known {
		errno = w.ctl(unix.EPOLL_CTL_MOD, fd, events)
		if errno == 0 {
			return nil, 0
		}
		lost = w.lose(fd, t)
		w.watches[fd] = t
	}
	errno = w.ctl(unix.EPOLL_CTL_ADD, fd, events)
	if errno == syscall.EEXIST {
		errno = w.ctl(unix.EPOLL_CTL_MOD, fd, events)
	}
	t.known = errno == 0
	return lost, errno
}

// lose gives up a watch, and returns who was waiting.
func (w *poller) lose(fd int32, t *watch) (lost []*job) {
	for j := t.waiters.first; j != nil; j = t.waiters.first {
		t.waiters.remove(j)
		w.pool.unlist(j)
		lost = append(lost, j)
	}
	t.known = false
	delete(w.watches, fd)
	return lost
}

// wanted returns the events that somebody waits for.
func (t *watch) wanted() (events uint32) {
	for j := t.waiters.first; j != nil; j = j.next {
		events |= uint32(uint16(j.events))
	}
	return events
}

func (w *poller) ctl(op int, fd int32, events uint32) syscall.Errno {
	err := unix.EpollCtl(w.fd, op, int(fd), &unix.EpollEvent{Events: events | unix.EPOLLONESHOT, Fd: fd})
	errno, _ := err.(syscall.Errno)
	return errno
}

// abandon completes jobs that nothing can wake any more. Their descriptor was closed; whoever took them for cancelled and began them again would
// have the next owner's.
func (p *Pool) abandon(lost []*job) {
	for _, j := range lost {
		p.begin(p.finish(j, -int32(syscall.EBADF)))
	}
}

// forget takes a waiting job back from whatever would wake it. The lock is held.
func (p *Pool) forget(j *job) {
	p.unlist(j)
	if j.timer != nil {
		j.timer.Stop()
		j.timer = nil
		return
	}
	w := p.poller
	t := w.watches[j.fd]
	t.waiters.remove(j)
	if t.waiters.first == nil {
		// The number may soon be another file's. If it is already, there is nothing to remove.
		_ = w.ctl(unix.EPOLL_CTL_DEL, j.fd, 0)
		delete(w.watches, j.fd)
	}
}

// list makes a waiting job known by its user data. The lock is held.
func (p *Pool) list(j *job) {
	j.same = p.waiting[j.e.UserData]
	p.waiting[j.e.UserData] = j
}

// unlist undoes list.
func (p *Pool) unlist(j *job) {
	data := j.e.UserData
	first := p.waiting[data]
	if first == j {
		if j.same == nil {
			delete(p.waiting, data)
		} else {
			p.waiting[data] = j.same
		}
		j.same = nil
		return
	}
	for first.same != j {
		first = first.same
	}
	first.same, j.same = j.same, nil
}

// ErrorPause is how long a job pauses whose descriptor stays in error without a call that tells of it, as one does with something in its
// queue of errors (recv(2), MSG_ERRQUEUE): epoll cannot be told to wait for nothing but readiness.
const ErrorPause = time.Millisecond

// MostVain is how often a job is woken for nothing before it pauses each time. Others may have been faster, but there is also readiness that is not
// about what the call wants: a socket has room when the queue of the peer that it sends to has none (unix(7)), and data where all
// has been peeked at (SO_PEEK_OFF, socket(7)).
const MostVain = 32

// pause is await for a time instead of a descriptor.
func (p *Pool) pause(j *job) syscall.Errno {
	p.mu.Lock()
	defer p.mu.Unlock()
	if j.stop.Load() || p.closed.Load() {
		return syscall.ECANCELED
	}
	p.running.remove(j)
	j.timer = time.AfterFunc(ErrorPause, func() { p.resume(j) })
	p.list(j)
	return 0
}

// resume ends a pause.
func (p *Pool) resume(j *job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if j.timer == nil {
		return // cancelled
	}
	p.unlist(j)
	j.timer, j.woken, j.amiss = nil, false, false
	p.enqueue(j)
}
