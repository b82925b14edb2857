// Package rights has a thread act as another user towards files, and then as before.
//
// A thread takes the ids that file systems look at (setfsuid(2), setfsgid(2), setgroups(2)) and puts away its capabilities (capset(2)). The
// others it keeps: so the other user can neither signal the process nor trace it, and going back takes nothing that the thread does not have
// still. The Go runtime makes no threads from one that is locked to a goroutine, so the rights do not spread.
package rights

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Rights are those of a user without capabilities, also if that is root.
type Rights struct {
	UID, GID uint32
	Groups   []uint32 // in order
}

// none is what the kernel takes for no id.
const none = ^uint32(0)

var errGoexit = errors.New("uringo: runtime.Goexit was called under other rights")

// Do calls fn on a thread that has the rights, and waits for it. With an error, fn was not called, or called runtime.Goexit. A thread that
// cannot go back is never used again.
func (r *Rights) Do(fn func()) error {
	err := errGoexit
	var mishap any
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { mishap = recover() }()
		err = r.apart(fn)
	}()
	<-done
	if mishap != nil {
		panic(mishap)
	}
	return err
}

// apart is Do on the calling goroutine, which is to end then: perhaps its thread has to.
func (r *Rights) apart(fn func()) error {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		defer runtime.UnlockOSThread()
		return r.Do(fn) // on another thread, while this one is held: the first of the process cannot be thrown away
	}
	own, err := r.take()
	defer func() {
		if own.restore() == nil {
			runtime.UnlockOSThread()
		}
	}()
	if err == nil {
		fn()
	}
	return err
}

// Here is Do on the calling thread, to which its goroutine is locked for good. If the thread cannot go back, the process ends: all that it
// would do from then on would be done as somebody else.
func (r *Rights) Here(fn func()) error {
	own, err := r.take()
	defer func() {
		if lost := own.restore(); lost != nil {
			go panic(fmt.Sprintf("uringo: a thread cannot go back to the rights of the process: %v", lost))
			select {}
		}
	}()
	if err == nil {
		fn()
	}
	return err
}

// Current returns the rights of the calling thread, but for its capabilities.
func Current() (*Rights, error) {
	s, err := current()
	if err != nil {
		return nil, err
	}
	return &Rights{s.uid, s.gid, s.groups}, nil
}

var taken atomic.Bool

// Taken reports whether a thread of the process has ever had other rights.
func Taken() bool { return taken.Load() }

// take gives the calling thread the rights. What it returns has to be restored, also after an error.
func (r *Rights) take() (own *state, err error) {
	if own, err = current(); err != nil {
		return nil, err
	}
	if r.UID == none || r.GID == none || slices.Contains(r.Groups, none) {
		return own, syscall.EINVAL
	}
	taken.Store(true)
	other := state{r.UID, r.GID, r.Groups, own.caps}
	for i := range other.caps {
		other.caps[i].Effective = 0
	}
	return own, other.set()
}

// state is what a thread has of its own.
type state struct {
	uid, gid uint32
	groups   []uint32
	caps     [2]unix.CapUserData
}

func current() (*state, error) {
	s := new(state)
	var err error
	if s.uid, err = id(unix.SetfsuidRetUid, none); err != nil {
		return nil, err
	}
	if s.gid, err = id(unix.SetfsgidRetGid, none); err != nil {
		return nil, err
	}
	if s.groups, err = groups(); err != nil {
		return nil, err
	}
	return s, unix.Capget(header(), &s.caps[0])
}

// restore gives the calling thread back what it had.
func (s *state) restore() error {
	if s == nil {
		return nil // nothing was taken
	}
	if err := unix.Capset(header(), &s.caps[0]); err != nil { // those that the rest takes
		return err
	}
	return s.set()
}

// set gives the calling thread this state.
func (s *state) set() error {
	now, err := groups()
	if err != nil {
		return err
	}
	if !slices.Equal(now, s.groups) { // else it takes no capability
		list := make([]int, len(s.groups))
		for i, g := range s.groups {
			list[i] = int(g)
		}
		if err := unix.Setgroups(list); err != nil {
			return err
		}
	}
	if err := become(unix.SetfsgidRetGid, s.gid); err != nil {
		return err
	}
	if err := become(unix.SetfsuidRetUid, s.uid); err != nil { // which changes capabilities, too
		return err
	}
	return unix.Capset(header(), &s.caps[0])
}

func groups() ([]uint32, error) {
	list, err := unix.Getgroups()
	var gs []uint32
	for _, g := range list {
		gs = append(gs, uint32(g))
	}
	slices.Sort(gs)
	return gs, err
}

// id sets one of the calling thread's ids, or none, and returns what it was.
func id(set func(int) (int, error), to uint32) (uint32, error) {
	was, err := set(int(int32(to)))
	return uint32(was), err
}

// become is id with an error: the calls have none to tell.
func become(set func(int) (int, error), to uint32) error {
	if _, err := id(set, to); err != nil {
		return err
	}
	now, err := id(set, none)
	if err == nil && now != to {
		err = syscall.EPERM
	}
	return err
}

func header() *unix.CapUserHeader {
	return &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
}
