package driver

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"go.uber.org/zap"

	"uringo/internal/ring"
	"uringo/ops"
)

// Engine says what performs operations.
type Engine int

const (
	// Auto is io_uring where the system offers it, else Portable.
	Auto Engine = iota
	// Uring is io_uring, or an error.
	Uring
	// Portable is goroutines and plain system calls with the same semantics.
	Portable
)

// String returns the name that the environment variable URINGO_ENGINE takes.
func (e Engine) String() string {
	switch e {
	case Auto:
		return "auto"
	case Uring:
		return "uring"
	case Portable:
		return "portable"
	}
	return fmt.Sprintf("engine %d", int(e))
}

// EngineVar is the environment variable that chooses the engine of drivers configured with Auto.
const EngineVar = "URINGO_ENGINE"

// ParseEngine is the inverse of Engine.String.
func ParseEngine(s string) (Engine, error) {
	for _, e := range []Engine{Auto, Uring, Portable} {
		if strings.EqualFold(s, e.String()) {
			return e, nil
		}
	}
	return 0, fmt.Errorf("uringo: unknown engine %q: want auto, uring or portable", s)
}

// Config configures a driver. The zero value works.
type Config struct {
	// Entries is the size of the submission queue, the largest batch that one enter hands over. Zero means 256, or InFlight
	// if that is less. It is rounded up to a power of two; the limit is 32768.
	Entries uint32

	// InFlight bounds the operations in the kernel at any time; further ones wait in a queue of the driver. It is also the
	// size of the completion queue, so completions never overflow, at 16 bytes each. Of operations that may wait for ever until
	// something comes, such as receiving, it takes three quarters: so many connections at a time can be idle. Of those that may wait
	// until something is taken, such as sending, it takes as many, and leaves one place of 16 to those that wait for neither. Zero means
	// 64 times Entries, which is 16384 by default. It is rounded up to a power of two, of which the driver keeps a sixteenth for itself; the
	// limit is 65536. It is not less than Entries.
	InFlight uint32

	// Engine chooses what performs operations. Zero means Auto.
	Engine Engine

	// MinWait lets completions gather: a driver that has to wait for the kernel goes on when everything in flight is done, or when
	// something is and this time has passed since it began to wait. Fewer waits cost less processor time for an operation, and each
	// operation, and each request that comes meanwhile, may take so much longer: for throughput at great depth, 50 microseconds say. Zero
	// means not to gather. At most a second; multiples of a microsecond. io_uring only, kernel 6.12, io_uring_enter(2) (min_wait_usec).
	MinWait time.Duration

	// Spin is how long a driver that has to wait for the kernel looks out for completions and requests before it sleeps, as long as more than
	// one of three such looks have found some. It takes processor time, up to this for every wait, and saves what it costs to sleep and to be
	// woken: the driver, and whoever wakes it. Zero means 15 microseconds, or none with MinWait; a negative time means none. At most a second.
	// io_uring only.
	Spin time.Duration

	// Interrupt has a completion interrupt the thread that submitted the operation. Without, it is late by up to a tick of the clock, 1 to 10 ms,
	// where a goroutine computes on that thread and makes no system call meanwhile. It costs an interrupt to another processor for most
	// completions: in a virtual machine a quarter to half of the rate of busy sockets. It is meant for services that compute for
	// milliseconds at a time and care for their slowest answers. io_uring only; drivers that run a guest, as those of Local, have no such
	// delay. io_uring_setup(2), IORING_SETUP_COOP_TASKRUN.
	Interrupt bool

	// Logger receives diagnostics: why io_uring is not used, that a ring is smaller than asked for, who holds up others, panics. Nil means
	// silence. [Slog] makes one for programs that log by package log/slog.
	Logger *zap.Logger

	// CancelGrace is how long a cancelled operation may take to end before its caller is let go with ErrAbandoned. Zero
	// means for ever: a cancelled operation always returns its own outcome and its buffer. Operations that are ops.Spec.Patient do so anyway.
	CancelGrace time.Duration

	// Calls bounds the goroutines that make plain system calls, for what the ring cannot do or does worse; each may hold a thread. Zero
	// means 16 times the number of CPUs, at least 64.
	Calls int

	// Restrict narrows what the ring may do, see [DataOnly], [FilesOnly], [SocketsOnly] and [OnlyOps]; what it excludes is done by plain system
	// calls. The zero value restricts nothing. Kernel 5.10.
	Restrict Restriction

	// WorkersBounded and WorkersUnbounded bound the kernel's own worker threads of this ring: for files, disks and names, and for what may
	// wait for ever, such as pipes and sockets. Zero means max(4, 2 × CPUs) and 64. The portable engine has none, see Calls. Kernel 5.15,
	// io_uring_register(2), IORING_REGISTER_IOWQ_MAX_WORKERS.
	WorkersBounded, WorkersUnbounded uint32

	kernel   ring.Kernel   // for tests: what stands behind the queues
	patience time.Duration // for tests: of Close, see closePatience
}

// OnKernel returns cfg with the given engine behind the ring. It exists for the tests of this module: the type is internal.
func OnKernel(cfg Config, k ring.Kernel) Config {
	cfg.kernel = k
	return cfg
}

// withDefaults validates cfg and fills in what is zero.
func (cfg Config) withDefaults() (Config, error) {
	if cfg.Entries == 0 {
		cfg.Entries = 256
		if cfg.InFlight > 0 {
			cfg.Entries = min(256, cfg.InFlight)
		}
	}
	if cfg.Entries > ring.MaxEntries {
		return cfg, fmt.Errorf("uringo: Config.Entries is %d, the limit is %d", cfg.Entries, ring.MaxEntries)
	}
	if cfg.InFlight == 0 {
		cfg.InFlight = min(64*cfg.Entries, 2*ring.MaxEntries)
	}
	if cfg.InFlight > 2*ring.MaxEntries {
		return cfg, fmt.Errorf("uringo: Config.InFlight is %d, the limit is %d", cfg.InFlight, 2*ring.MaxEntries)
	}
	if cfg.InFlight < cfg.Entries {
		return cfg, fmt.Errorf("uringo: Config.InFlight is %d, less than Entries, %d", cfg.InFlight, cfg.Entries)
	}
	cfg.Entries = max(cfg.Entries, 4) // an entry for the wake-up, one for cancellation, and some for work
	cfg.InFlight = max(cfg.InFlight, 16)
	if cfg.CancelGrace < 0 {
		return cfg, fmt.Errorf("uringo: Config.CancelGrace is negative: %v", cfg.CancelGrace)
	}
	if cfg.MinWait < 0 || cfg.MinWait > time.Second {
		return cfg, fmt.Errorf("uringo: Config.MinWait is %v: want at most a second", cfg.MinWait)
	}
	if cfg.Spin > time.Second {
		return cfg, fmt.Errorf("uringo: Config.Spin is %v: want at most a second", cfg.Spin)
	}
	if cfg.Spin == 0 && cfg.MinWait == 0 {
		cfg.Spin = 15 * time.Microsecond
	}
	if cfg.Calls < 0 {
		return cfg, fmt.Errorf("uringo: Config.Calls is negative: %d", cfg.Calls)
	}
	if cfg.Calls == 0 {
		cfg.Calls = max(64, 16*runtime.NumCPU())
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	if cfg.patience == 0 {
		cfg.patience = closePatience
	}
	switch cfg.Engine {
	case Auto:
		if s := os.Getenv(EngineVar); s != "" {
			e, err := ParseEngine(s)
			if err != nil {
				return cfg, fmt.Errorf("%w (in the environment variable %s)", err, EngineVar)
			}
			cfg.Engine = e
		}
	case Uring, Portable:
	default:
		return cfg, fmt.Errorf("uringo: Config.Engine is %d, which is no engine", int(cfg.Engine))
	}
	return cfg, nil
}

func (cfg Config) ring(locked bool) ring.Config {
	return ring.Config{
		Entries:       cfg.Entries,
		CQEntries:     cfg.InFlight,
		Locked:        locked,
		Interrupt:     cfg.Interrupt,
		IowqBounded:   cfg.WorkersBounded,
		IowqUnbounded: cfg.WorkersUnbounded,
		Allow:         cfg.Restrict.allowed(),
		AllowTables:   true,
		Kernel:        cfg.kernel,
	}
}

// portable returns the kernel of the portable engine.
func (cfg Config) portable() ring.Kernel { return ring.NewPortable(ops.Calls(), cfg.Calls) }
