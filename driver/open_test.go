package driver_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/ring"
	"uringo/ops"
)

func TestConfigIsChecked(t *testing.T) {
	t.Setenv(driver.EngineVar, "")
	for field, cfg := range map[string]driver.Config{
		"Config.Entries":     {Entries: 32769},
		"Config.InFlight":    {InFlight: 65537},
		"Config.InFlight is": {Entries: 512, InFlight: 511},
		"Config.CancelGrace": {CancelGrace: -1},
		"Config.Calls":       {Calls: -1},
		"Config.Engine":      {Engine: 3},
	} {
		if d, err := driver.Open(cfg); d != nil || err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%+v: %v", cfg, err)
		}
		if d, err := driver.OpenGuest(cfg, idle{}); d != nil || err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

// setups records the flags of rings.
type setups struct {
	ring.Kernel
	flags uint32
}

func (k *setups) Setup(entries uint32, p *ring.Params) (int, error) {
	k.flags = p.Flags
	return k.Kernel.Setup(entries, p)
}

// TestInterrupt finds out whether the kernel is asked to interrupt threads.
func TestInterrupt(t *testing.T) {
	const coop = 1 << 8
	for _, interrupt := range []bool{false, true} {
		k := &setups{Kernel: ring.NewSim(ring.SimConfig{})}
		d, err := driver.Open(driver.OnKernel(driver.Config{Engine: driver.Uring, Interrupt: interrupt}, k))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if got := k.flags&coop == 0; got != interrupt {
			t.Errorf("Interrupt %v: flags %#x", interrupt, k.flags)
		}
	}
}

func TestConfigBounds(t *testing.T) {
	on(t, engines, func(e *rig) {
		for _, cfg := range []driver.Config{
			{}, {Entries: 1}, {Entries: 2, InFlight: 2}, {Entries: 3, InFlight: 5}, {Entries: 100, InFlight: 100}, {InFlight: 256}, {InFlight: 1}, {InFlight: 100},
			{Entries: 300, InFlight: 1000, Calls: 1, WorkersBounded: 1, WorkersUnbounded: 1}, {Entries: 1024, InFlight: 65536},
		} {
			d := e.open(cfg)
			r, w := e.pipe()
			// As many as it takes in, and some more.
			var reads []*driver.Pending[[]byte]
			for range 150 {
				reads = append(reads, driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1)))
			}
			// Reads may wait for ever, but they never take all the places.
			must(e, d, ops.Nop())
			e.write(w, make([]byte, len(reads)))
			for _, p := range reads {
				if r := result(e, p); r.N != 1 || r.Err != nil {
					e.Errorf("%+v: %+v", cfg, r)
				}
			}
			e.shut(d)
		}
	})
}

func TestEngineNames(t *testing.T) {
	for _, engine := range []driver.Engine{driver.Auto, driver.Uring, driver.Portable} {
		for _, name := range []string{engine.String(), strings.ToUpper(engine.String())} {
			if got, err := driver.ParseEngine(name); got != engine || err != nil {
				t.Errorf("%q: %v, %v", name, got, err)
			}
		}
	}
	if s := driver.Engine(7).String(); s != "engine 7" {
		t.Errorf("%q", s)
	}
	if _, err := driver.ParseEngine("epoll"); err == nil || !strings.Contains(err.Error(), "epoll") {
		t.Errorf("%v", err)
	}
}

// The environment decides where the configuration leaves it open.
func TestEngineVariable(t *testing.T) {
	on(t, []way{onPortable}, func(e *rig) {
		e.Setenv(driver.EngineVar, "Portable")
		if d := e.opened(driver.Open(driver.Config{})); d.Engine() != driver.Portable {
			e.Errorf("engine %v", d.Engine())
		}
		e.Setenv(driver.EngineVar, "auto")
		e.opened(driver.Open(driver.Config{}))
		e.Setenv(driver.EngineVar, "epoll")
		if _, err := driver.Open(driver.Config{}); err == nil || !strings.Contains(err.Error(), driver.EngineVar) {
			e.Errorf("%v", err)
		}
		if d := e.opened(driver.Open(driver.Config{Engine: driver.Portable})); d.Engine() != driver.Portable {
			e.Errorf("engine %v", d.Engine())
		}
	})
	on(t, []way{onUring}, func(e *rig) {
		e.Setenv(driver.EngineVar, "portable")
		if d := e.open(driver.Config{}); d.Engine() != driver.Uring {
			e.Errorf("engine %v", d.Engine())
		}
	})
}

// refusing is a kernel whose setup fails, for a number of times.
type refusing struct {
	ring.Kernel
	errno syscall.Errno
	times int
	calls int
}

func (k *refusing) Setup(entries uint32, p *ring.Params) (int, error) {
	if k.calls++; k.calls <= k.times {
		return -1, k.errno
	}
	return k.Kernel.Setup(entries, p)
}

// Where io_uring is not offered, Auto does without and says so, once; Uring does not. Running out of something is an error for both.
func TestSetupRefused(t *testing.T) {
	const always = 1 << 30
	opens := map[string]func(driver.Config) (*driver.Driver, error){
		"open":       driver.Open,
		"open guest": func(cfg driver.Config) (*driver.Driver, error) { return driver.OpenGuest(cfg, idle{}) },
	}
	for _, errno := range []syscall.Errno{syscall.EPERM, syscall.ENOSYS, syscall.EACCES, syscall.EOPNOTSUPP, syscall.EINVAL} {
		for how, open := range opens {
			on(t, []way{{fmt.Sprintf("%v, %s", errno, how), driver.Auto, nil}}, func(e *rig) {
				e.Setenv(driver.EngineVar, "")
				core, logs := observer.New(zapcore.InfoLevel)
				k := &refusing{ring.Linux(), errno, always, 0}
				d := e.opened(open(driver.OnKernel(driver.Config{Logger: zap.New(core)}, k)))
				if d.Engine() != driver.Portable {
					e.Errorf("engine %v", d.Engine())
				}
				if errno != syscall.EINVAL && k.calls != 1 {
					e.Errorf("asked %d times", k.calls)
				}
				newMix(e, d).play(4, 20)
				e.shut(d)
				if logs.Len() != 1 || logs.All()[0].Level != zapcore.WarnLevel || !strings.Contains(fmt.Sprint(logs.All()[0].ContextMap()), errno.Error()) {
					e.Errorf("log: %v", logs.All())
				}
				_, err := open(driver.OnKernel(driver.Config{Engine: driver.Uring}, &refusing{ring.Linux(), errno, always, 0}))
				if !errors.Is(err, errno) {
					e.Errorf("required: %v", err)
				}
			})
		}
	}
	for errno, limit := range map[syscall.Errno]string{syscall.EMFILE: "RLIMIT_NOFILE", syscall.ENFILE: "RLIMIT_NOFILE", syscall.ENOMEM: "RLIMIT_MEMLOCK"} {
		on(t, []way{{errno.Error(), driver.Auto, nil}}, func(e *rig) {
			e.Setenv(driver.EngineVar, "")
			e.together(4, func(i int) {
				engine, how := []driver.Engine{driver.Auto, driver.Uring}[i%2], []string{"open", "open guest"}[i/2]
				d, err := opens[how](driver.OnKernel(driver.Config{Engine: engine}, &refusing{ring.Linux(), errno, always, 0}))
				if d != nil || !errors.Is(err, errno) || !strings.Contains(err.Error(), limit) {
					e.Errorf("%v, %s: %v", engine, how, err)
				}
			})
		})
	}
}

// A kernel that knows some of the flags gets on with these.
func TestSetupLadder(t *testing.T) {
	for times := range 4 {
		for _, locked := range []bool{false, true} {
			on(t, []way{{fmt.Sprintf("%d refused, locked: %v", times, locked), driver.Uring, nil}}, func(e *rig) {
				open := driver.Open
				if locked {
					open = func(cfg driver.Config) (*driver.Driver, error) { return driver.OpenGuest(cfg, idle{}) }
				}
				d, err := open(driver.OnKernel(driver.Config{Engine: driver.Uring}, &refusing{ring.Linux(), syscall.EINVAL, times, 0}))
				if err != nil && times == 3 {
					return // there were not so many flags to give up
				}
				newMix(e, e.opened(d, err)).play(4, 20)
			})
		}
	}
}

// Whatever fails while a driver is set up, nothing is left of it.
func TestSetupUnwinds(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.EMFILE, syscall.EPERM} {
		on(t, []way{{errno.Error(), driver.Auto, nil}}, func(e *rig) {
			for call := 1; ; call++ {
				sim := ring.NewSim(ring.SimConfig{FailCall: call, FailErrno: errno})
				d, err := driver.Open(driver.OnKernel(driver.Config{Engine: driver.Uring, Entries: 4}, sim))
				if err == nil {
					e.opened(d, err)
					if call < 5 {
						e.Errorf("nothing failed at call %d", call)
					}
					return
				}
				if s := sim.Stats(); s.FDs != 0 || s.Maps != 0 || s.Wakes != 0 || sim.Err() != nil {
					e.Errorf("call %d: left: %+v, %v", call, s, sim.Err())
				}
				if !errors.Is(err, errno) {
					e.Errorf("call %d: %v", call, err)
				}
				if call > 50 {
					e.Fatal("it fails for ever")
				}
			}
		})
	}
}

// At the limit of descriptors a driver cannot be opened, and says why. It does not quietly become another one.
func TestNoDescriptors(t *testing.T) {
	on(t, []way{onUring}, func(e *rig) {
		e.open(driver.Config{}) // or there is no io_uring, and this is not about that
		var old unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			e.Fatal(err)
		}
		null, err := os.Open("/dev/null")
		if err != nil {
			e.Fatal(err)
		}
		defer null.Close()
		// The next free number is beyond the limit, and the one after as well.
		for room := range uint64(2) {
			next := uint64(e.keep(unix.Dup(int(null.Fd()))))
			limit := unix.Rlimit{Cur: next + 1 + room, Max: old.Max}
			if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
				e.Fatal(err)
			}
			_, errUring := driver.Open(driver.Config{Engine: driver.Uring})
			e.Setenv(driver.EngineVar, "")
			_, errAuto := driver.Open(driver.Config{})
			if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
				e.Fatal(err)
			}
			for _, err := range []error{errUring, errAuto} {
				if !errors.Is(err, syscall.EMFILE) {
					e.Errorf("room for %d: %v", room, err)
				}
			}
		}
		e.eventually("descriptors are there again", func() bool {
			d, err := driver.Open(driver.Config{Engine: driver.Uring})
			if err != nil {
				return false
			}
			e.opened(d, err)
			return true
		})
	})
}

// The log of a driver's ordinary life is empty.
func TestNothingToLog(t *testing.T) {
	on(t, []way{onUring, onPortable, onLocked}, func(e *rig) {
		core, logs := observer.New(zapcore.InfoLevel)
		d := e.open(driver.Config{Logger: zap.New(core), CancelGrace: time.Minute})
		newMix(e, d).play(4, 50)
		e.shut(d)
		if logs.FilterMessageSnippet("smaller ring").Len() > 0 {
			e.Skip("needs more memory to lock")
		}
		if logs.Len() != 0 {
			e.Errorf("%v", logs.All())
		}
	})
}

// Strange completions are counted and logged, and reach nobody.
func TestStaleCompletions(t *testing.T) {
	on(t, []way{{"sim", driver.Auto, nil}}, func(e *rig) {
		e.stale = true
		core, logs := observer.New(zapcore.WarnLevel)
		d := e.opened(e.model(ring.SimConfig{Calls: ops.Calls(), Bogus: 0.3, Delay: 2}, driver.Config{Logger: zap.New(core), Entries: 4}))
		newMix(e, d).play(4, 100)
		e.shut(d)
		s := d.Stats()
		if s.Stale == 0 || int(s.Stale) != logs.FilterMessage("completion of no operation").Len() {
			e.Errorf("%d strange, %d logged", s.Stale, logs.Len())
		}
	})
}
