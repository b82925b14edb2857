package ring

import (
	"errors"
	"fmt"
	"syscall"

	"uringo/internal/rights"
)

// Register opcodes for credentials. Kernel 5.6.
const (
	registerPersonality   uint32 = 9
	unregisterPersonality uint32 = 10
)

// RegisterPersonality gives the credentials of the calling thread a number, by which entries say whose rights they are performed with
// ([SQE.Personality]). Owner only; a ring that is not Locked takes it from any thread, while the owner waits. Kernel 5.6.
func (r *Ring) RegisterPersonality() (uint16, error) {
	id, errno := r.k.Register(r.fd, registerPersonality, nil, 0)
	switch errno {
	case 0:
		return uint16(id), nil
	case syscall.EINVAL:
		return 0, fmt.Errorf("io_uring_register (personality, Linux 5.6): %w: %w", errors.ErrUnsupported, errno)
	}
	return 0, fmt.Errorf("io_uring_register (personality): %w", errno)
}

// UnregisterPersonality takes the number back. Entries that were submitted keep the credentials. Owner only. Kernel 5.6.
func (r *Ring) UnregisterPersonality(id uint16) error {
	if _, errno := r.k.Register(r.fd, unregisterPersonality, nil, uint32(id)); errno != 0 {
		return fmt.Errorf("io_uring_register (no more personality): %w", errno)
	}
	return nil
}

// people are those whose rights a pool's calls are made with, by number.
type people map[uint16]*rights.Rights

// Know has the pool make the calls of entries with this personality with the given rights. Like Start, it is for one goroutine.
func (p *Pool) Know(id uint16, r *rights.Rights) {
	if p.people == nil {
		p.people = people{}
	}
	p.people[id] = r
}

// Forget undoes Know. Entries that were started keep their rights.
func (p *Pool) Forget(id uint16) { delete(p.people, id) }

func (p people) know(id uint16) bool { return id == 0 || p[id] != nil }

// of returns the rights of an entry and of those linked behind it, one by one; nil if they are all the process's.
func (p people) of(e *SQE, rest []SQE) []*rights.Rights {
	some := e.Personality != 0
	for i := range rest {
		some = some || rest[i].Personality != 0
	}
	if !some {
		return nil
	}
	as := []*rights.Rights{p[e.Personality]}
	for i := range rest {
		as = append(as, p[rest[i].Personality])
	}
	return as
}

// performAs is perform with the rights of the entry.
func (p *Pool) performAs(j *job) (res int32, done bool) {
	if len(j.as) == 0 || j.as[0] == nil {
		return p.perform(j)
	}
	err := j.as[0].Do(func() { res, done = p.perform(j) }) // which may have been handed on then
	if err != nil {
		var errno syscall.Errno
		if !errors.As(err, &errno) {
			errno = syscall.EPERM
		}
		return -int32(errno), true
	}
	return res, done
}

// registerPersonality gives the calling thread's credentials a number, as the kernel does: from 1 on, and not one that was given before unless all were.
func (k *portable) registerPersonality() (int, syscall.Errno) {
	r, err := rights.Current()
	if err != nil {
		return -1, syscall.EPERM
	}
	for range 1<<16 - 1 {
		if k.person++; k.person == 0 {
			k.person = 1
		}
		if !k.pool.people.know(k.person) {
			k.pool.Know(k.person, r)
			return int(k.person), 0
		}
	}
	return -1, syscall.ENOMEM
}

func (k *portable) unregisterPersonality(id uint32) syscall.Errno {
	if id == 0 || id > 1<<16-1 || !k.pool.people.know(uint16(id)) {
		return syscall.EINVAL
	}
	k.pool.Forget(uint16(id))
	return 0
}
