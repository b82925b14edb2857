package ring_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

// failing is a kernel of which one call of set-up fails. It tells which calls there were.
type failing struct {
	ring.Kernel
	at    int // from 1
	errno syscall.Errno
	calls []string
}

func (k *failing) next(name string) bool {
	k.calls = append(k.calls, name)
	return len(k.calls) == k.at
}

func (k *failing) Setup(entries uint32, p *ring.Params) (int, error) {
	if k.next("io_uring_setup") {
		return -1, k.errno
	}
	return k.Kernel.Setup(entries, p)
}

func (k *failing) Map(fd int, offset uint64, size int) ([]byte, error) {
	if k.next("mmap") {
		return nil, k.errno
	}
	return k.Kernel.Map(fd, offset, size)
}

func (k *failing) Register(fd int, op uint32, arg unsafe.Pointer, n uint32) (int, syscall.Errno) {
	if k.next("io_uring_register") {
		return -1, k.errno
	}
	return k.Kernel.Register(fd, op, arg, n)
}

func (k *failing) OpenWake() (int, error) {
	if k.next("eventfd2") {
		return -1, os.NewSyscallError("eventfd2", k.errno)
	}
	return k.Kernel.OpenWake()
}

// withoutFeatures is a kernel that lacks some features.
type withoutFeatures struct {
	ring.Kernel
	features uint32
}

func (k withoutFeatures) Setup(entries uint32, p *ring.Params) (int, error) {
	fd, err := k.Kernel.Setup(entries, p)
	p.Features &^= k.features
	return fd, err
}

// belongings counts what a process holds of rings: descriptors, and mappings of rings.
func belongings(t *testing.T) (fds, maps int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	mapped, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries), bytes.Count(mapped, []byte("[io_uring]"))
}

// TestSetupUnwinds lets every call of set-up fail in turn, with every errno that may come. The error names the call, and
// nothing is left open.
func TestSetupUnwinds(t *testing.T) {
	const singleMmap = 1 // IORING_FEAT_SINGLE_MMAP
	errnos := []syscall.Errno{syscall.EPERM, syscall.ENOSYS, syscall.EOPNOTSUPP, syscall.EINVAL, syscall.EACCES, syscall.EMFILE,
		syscall.ENFILE, syscall.ENOMEM, syscall.EAGAIN, syscall.EFAULT}
	kernels := map[string]func() (ring.Kernel, *ring.Sim){
		"linux":                 func() (ring.Kernel, *ring.Sim) { return ring.Linux(), nil },
		"linux, three mappings": func() (ring.Kernel, *ring.Sim) { return withoutFeatures{ring.Linux(), singleMmap}, nil },
		"sim": func() (ring.Kernel, *ring.Sim) {
			s := ring.NewSim(ring.SimConfig{})
			return s, s
		},
		"sim, three mappings": func() (ring.Kernel, *ring.Sim) {
			s := ring.NewSim(ring.SimConfig{HideFeatures: singleMmap, HideSetup: 1 << 16})
			return s, s
		},
	}
	for name, kernel := range kernels {
		for _, allow := range [][]ring.Op{nil, {ring.OpNop}} {
			t.Run(fmt.Sprintf("%s, allow %v", name, allow), func(t *testing.T) {
				k, _ := kernel()
				all := &failing{Kernel: k}
				r, err := ring.Open(ring.Config{Kernel: all, Allow: allow})
				if ring.Unavailable(err) {
					t.Skipf("needs io_uring: %v, running %s", err, release())
				}
				if err != nil {
					t.Fatal(err)
				}
				if err := r.Close(); err != nil {
					t.Fatal(err)
				}
				if n := len(all.calls); n < 5 {
					t.Fatalf("set-up made %v only", all.calls)
				}
				for at, call := range all.calls {
					for _, errno := range errnos {
						k, sim := kernel()
						tryUnwind(t, k, sim, allow, at+1, call, errno)
					}
				}
			})
		}
	}
}

func tryUnwind(t *testing.T, k ring.Kernel, sim *ring.Sim, allow []ring.Op, at int, call string, errno syscall.Errno) {
	t.Helper()
	fds, maps := belongings(t)
	f := &failing{Kernel: k, at: at, errno: errno}
	r, err := ring.Open(ring.Config{Kernel: f, Allow: allow})
	switch {
	case err == nil && errno == syscall.EINVAL:
		// Something that not every kernel has: a set-up flag, or the limit of workers. The ring does without.
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	case err == nil:
		t.Errorf("%s (call %d): the ring opens in spite of %v", call, at, errno)
		r.Close()
	case !errors.Is(err, errno) || !strings.Contains(err.Error(), call):
		t.Errorf("%s (call %d): %v, does not name the call and %v", call, at, err, errno)
	case errors.Is(err, ring.ErrUnavailable) && (errno == syscall.EMFILE || errno == syscall.ENFILE || errno == syscall.ENOMEM):
		t.Errorf("%s (call %d): %v: %v is no reason to do without io_uring", call, at, err, errno)
	}
	if f, m := belongings(t); f != fds || m != maps {
		t.Errorf("%s (call %d) with %v: %d descriptors and %d mappings left over", call, at, errno, f-fds, m-maps)
	}
	if sim != nil {
		if st := sim.Stats(); st.FDs != 0 || st.Maps != 0 || st.Wakes != 0 {
			t.Errorf("%s (call %d) with %v: left over: %+v", call, at, errno, st)
		}
		if err := sim.Err(); err != nil {
			t.Errorf("%s (call %d) with %v: %v", call, at, errno, err)
		}
	}
}

// TestSimFailsCall checks that the model's own way to fail a call of set-up unwinds as well.
func TestSimFailsCall(t *testing.T) {
	whole := ring.NewSim(ring.SimConfig{})
	r, err := ring.Open(ring.Config{Kernel: whole})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for call := 1; call <= whole.Stats().Calls; call++ {
		s := ring.NewSim(ring.SimConfig{FailCall: call, FailErrno: syscall.ENOMEM})
		if _, err := ring.Open(ring.Config{Kernel: s}); !errors.Is(err, syscall.ENOMEM) {
			t.Errorf("call %d: %v", call, err)
		}
		if st := s.Stats(); st.FDs != 0 || st.Maps != 0 || st.Wakes != 0 {
			t.Errorf("call %d: left over: %+v", call, st)
		}
	}
}

// refusing is a kernel whose every set-up fails.
type refusing struct {
	ring.Kernel
	errno syscall.Errno
	tries int
}

func (k *refusing) Setup(uint32, *ring.Params) (int, error) {
	k.tries++
	return -1, k.errno
}

// TestSetupErrors checks which errors mean that the system has no io_uring, and which that it is out of something.
func TestSetupErrors(t *testing.T) {
	for _, c := range []struct {
		errno       syscall.Errno
		unavailable bool
		words       string
	}{
		{syscall.EPERM, true, "kernel.io_uring_disabled"},
		{syscall.ENOSYS, true, "not in this kernel"},
		{syscall.EOPNOTSUPP, true, "refuses"},
		{syscall.EINVAL, true, "refuses"},
		{syscall.EACCES, true, "security module"},
		{syscall.EMFILE, false, "RLIMIT_NOFILE"},
		{syscall.ENFILE, false, ""},
		{syscall.ENOMEM, false, "RLIMIT_MEMLOCK"},
		{syscall.EINTR, false, ""},
	} {
		k := &refusing{Kernel: ring.Linux(), errno: c.errno}
		_, err := ring.Open(ring.Config{Kernel: k})
		if !errors.Is(err, c.errno) || errors.Is(err, ring.ErrUnavailable) != c.unavailable || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%v: %v", c.errno, err)
		}
		if (k.tries > 1) != (c.errno == syscall.EINVAL) {
			t.Errorf("%v: set up %d times", c.errno, k.tries)
		}
	}
}

// TestDescriptorLimit runs out of descriptors for real.
func TestDescriptorLimit(t *testing.T) {
	if r, err := ring.Open(ring.Config{Entries: 2}); err == nil {
		r.Close()
	} else if ring.Unavailable(err) {
		t.Skipf("needs io_uring: %v, running %s", err, release())
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	probe, err := unix.Dup(0) // the lowest free number
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(probe)
	for spare, call := range []string{"io_uring_setup", "eventfd2"} {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(probe + spare), Max: limit.Max}); err != nil {
			t.Fatal(err)
		}
		_, err = ring.Open(ring.Config{Entries: 2})
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
		if !errors.Is(err, syscall.EMFILE) || errors.Is(err, ring.ErrUnavailable) || !strings.Contains(err.Error(), call) {
			t.Errorf("%d descriptors to spare: %v", spare, err)
		}
	}
}

// ladder records the flags of every set-up.
type ladder struct {
	ring.Kernel
	tried []uint32
}

func (k *ladder) Setup(entries uint32, p *ring.Params) (int, error) {
	k.tried = append(k.tried, p.Flags)
	return k.Kernel.Setup(entries, p)
}

// TestSetupLadder opens rings on kernels of every age: flags that the kernel lacks are given up, and only those.
func TestSetupLadder(t *testing.T) {
	const (
		base      = 1<<3 | 1<<4 // CQSIZE, CLAMP
		disabled  = 1 << 6
		submitAll = 1 << 7
		coop      = 1<<8 | 1<<9 // with the flag that tells of what is kept
		deferred  = 1<<12 | 1<<13
		noArray   = 1 << 16
	)
	for _, c := range []struct {
		version ring.Version
		flags   uint32
		coop    uint32 // besides, if the kernel is not to interrupt
		locked  uint32 // besides
	}{
		{ring.V(5, 6), 0, 0, 0},
		{ring.V(5, 10), 0, 0, 0},
		{ring.V(5, 15), 0, 0, 0},
		{ring.V(5, 18), submitAll, 0, 0},
		{ring.V(5, 19), submitAll, coop, 0},
		{ring.V(6, 0), submitAll, coop, 0},
		{ring.V(6, 1), submitAll, coop, deferred},
		{ring.V(6, 5), submitAll, coop, deferred},
		{ring.V(6, 6), submitAll | noArray, coop, deferred},
		{ring.V(6, 18), submitAll | noArray, coop, deferred},
	} {
		for kind := range 4 {
			locked, interrupt := kind&1 != 0, kind&2 != 0
			for _, allow := range [][]ring.Op{nil, {ring.OpNop, ring.OpSendZC}} {
				t.Run(fmt.Sprintf("%v, locked %v, interrupt %v, allow %v", c.version, locked, interrupt, allow), func(t *testing.T) {
					lockThread(t)
					sim := ring.NewSim(ring.SimConfig{Version: c.version})
					k := &ladder{Kernel: sim}
					r, err := ring.Open(ring.Config{Kernel: k, Entries: 8, Locked: locked, Interrupt: interrupt, Allow: allow, AllowTables: locked})
					if allow != nil && c.version < ring.V(5, 10) {
						if !errors.Is(err, ring.ErrUnavailable) {
							t.Fatalf("restrictions before 5.10: %v", err)
						}
						return
					}
					if err != nil {
						t.Fatal(err)
					}
					want := c.flags | base
					if locked {
						want |= c.locked
					}
					if locked || !interrupt {
						want |= c.coop
					}
					if allow != nil {
						want |= disabled
					}
					if got := k.tried[len(k.tried)-1]; got != want {
						t.Errorf("flags %#x, want %#x; tried %#x", got, want, k.tried)
					}
					e := r.Next()
					e.UserData = 7
					if err := r.SubmitAndWait(0); err != nil {
						t.Fatal(err)
					}
					var out [1]ring.CQE
					if n := r.Reap(out[:]); n != 1 || out[0].UserData != 7 {
						t.Errorf("%d completions, %+v", n, out)
					}
					if err := errors.Join(r.Close(), sim.Err()); err != nil {
						t.Error(err)
					}
				})
			}
		}
	}
}

// TestTooOld checks the words about kernels that are older than the ring's needs.
func TestTooOld(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  ring.SimConfig
	}{
		{"5.1", ring.SimConfig{Version: ring.V(5, 1)}},
		{"5.5", ring.SimConfig{Version: ring.V(5, 5)}},
		{"completions may be dropped", ring.SimConfig{HideFeatures: 1 << 1}},
	} {
		s := ring.NewSim(c.cfg)
		if _, err := ring.Open(ring.Config{Kernel: s}); !errors.Is(err, ring.ErrUnavailable) {
			t.Errorf("%s: %v", c.name, err)
		}
		if st := s.Stats(); st.FDs != 0 || st.Maps != 0 || st.Wakes != 0 {
			t.Errorf("%s: left over: %+v", c.name, st)
		}
	}
}

// TestSupports compares what the ring says about opcodes with the history of kernels.
func TestSupports(t *testing.T) {
	for _, c := range []struct {
		version ring.Version
		has     []ring.Op
		lacks   []ring.Op
	}{
		{ring.V(5, 6), []ring.Op{ring.OpRead, ring.OpFallocate}, []ring.Op{ring.OpFtruncate}},
		{ring.V(6, 8), []ring.Op{ring.OpRead, ring.OpFallocate}, []ring.Op{ring.OpFtruncate}},
		{ring.V(6, 9), []ring.Op{ring.OpRead, ring.OpFtruncate}, []ring.Op{ring.OpSend}},
	} {
		r, err := ring.Open(ring.Config{Kernel: ring.NewSim(ring.SimConfig{Version: c.version, HideOps: []ring.Op{ring.OpSend}})})
		if err != nil {
			t.Fatal(err)
		}
		for _, op := range c.has {
			if !r.Supports(op) {
				t.Errorf("%v lacks %v", c.version, op)
			}
		}
		for _, op := range append(c.lacks, ring.OpSend) {
			if r.Supports(op) {
				t.Errorf("%v has %v", c.version, op)
			}
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestSizes checks the limits of the queues.
func TestSizes(t *testing.T) {
	for _, c := range []struct{ entries, cq, wantSQ, wantCQ uint32 }{
		{0, 0, 256, 4096},
		{1, 0, 2, 32},
		{1, 1, 2, 2},
		{5, 3, 8, 8},
		{8, 100, 8, 128},
		{ring.MaxEntries, 0, ring.MaxEntries, ring.MaxCQEntries},
		{2, 1 << 31, 2, ring.MaxCQEntries},
		{2, 1<<32 - 1, 2, ring.MaxCQEntries},
	} {
		for _, k := range []ring.Kernel{ring.NewSim(ring.SimConfig{}), ring.Linux()} {
			r, err := ring.Open(ring.Config{Kernel: k, Entries: c.entries, CQEntries: c.cq})
			if err != nil {
				if ring.Unavailable(err) {
					continue
				}
				t.Fatal(err)
			}
			if sq, cq := r.SQEntries(), r.CQEntries(); sq != c.wantSQ || cq != c.wantCQ {
				t.Errorf("%d and %d asked for on %T, got %d and %d", c.entries, c.cq, k, sq, cq)
			}
			if r.Next() == nil {
				t.Errorf("no room in a queue of %d", r.SQEntries())
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := ring.Open(ring.Config{Entries: ring.MaxEntries + 1}); err == nil || errors.Is(err, ring.ErrUnavailable) {
		t.Errorf("too many entries: %v", err)
	}
	if _, err := ring.Open(ring.Config{Allow: []ring.Op{200}}); err == nil || errors.Is(err, ring.ErrUnavailable) {
		t.Errorf("an opcode that does not exist: %v", err)
	}
}
