package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"uringo/cmd/uringdemo/internal/copier"
	"uringo/driver"
	"uringo/executor"
)

// options are what the command line says.
type options struct {
	copy     copier.Options
	sources  []string
	target   string
	executor executor.Executor
	driver   driver.Config
	verbose  bool
	json     bool
	progress bool
	version  bool
}

var errHelp = errors.New("help wanted")

// raw are flags whose text needs a second look.
type raw struct {
	executor, engine, method, verify, sparse string
	follow, followAll, noFollow              bool
}

func flags(o *options, r *raw) *pflag.FlagSet {
	f := pflag.NewFlagSet("uringdemo", pflag.ContinueOnError)
	f.SortFlags = false
	f.Usage = func() {} // that is for run to say
	c := &o.copy
	f.BoolVarP(&c.Recursive, "recursive", "r", false, "copy directories with all they contain; links, FIFOs and devices as such")
	f.BoolVarP(&c.Archive, "archive", "a", false, "the same, and keep owners, modes, times, attributes, ACLs and hard links")
	f.BoolVar(&c.Security, "security-xattrs", false, "with -a: also security.* and trusted.* attributes, as far as permitted")
	f.BoolVarP(&r.follow, "dereference-args", "H", false, "follow symbolic links named as sources (the default without -r and -a)")
	f.BoolVarP(&r.followAll, "dereference", "L", false, "the same; not with -r or -a, since links in trees are never followed")
	f.BoolVarP(&r.noFollow, "no-dereference", "P", false, "copy symbolic links as such (the default with -r and -a)")
	f.BoolVarP(&c.NoClobber, "no-clobber", "n", false, "leave existing files alone")
	f.BoolVarP(&c.Force, "force", "f", false, "replace existing files even if they may not be written to")
	f.StringVar(&r.sparse, "sparse", "auto", "auto keeps holes, never writes zeros in their place")
	f.StringVar(&r.method, "method", "auto", "how bytes travel: auto (reflink, else range), range (copy_file_range, else blocks), blocks (read and write)")
	f.BoolVar(&c.Sync, "fsync", true, "make every file and directory durable before it counts as copied")
	f.StringVar(&r.verify, "verify", "", "read copies back and compare their checksums: xxh64 or sha256")
	f.Lookup("verify").NoOptDefVal = string(copier.XXH64)
	f.IntVarP(&c.Jobs, "jobs", "j", 32, "entries in work at a time, and blocks of large files")
	f.StringVar(&r.executor, "executor", "workers", "goroutines, pool, workers or local; pool:N and workers:N say how many (64, and a worker for each of up to 4 processors)")
	f.StringVar(&r.engine, "engine", "auto", "auto, uring or portable")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "name every copy, with its checksum if it is verified; on standard error with --json")
	f.BoolVar(&o.json, "json", false, "print a summary as one JSON object, and nothing else on standard output")
	f.BoolVar(&o.progress, "progress", true, "show progress if standard error is a terminal, and not with -v")
	f.BoolVar(&o.version, "version", false, "print the version")
	return f
}

// parse reads the command line.
func parse(args []string) (*options, error) {
	o, r := new(options), new(raw)
	f := flags(o, r)
	if err := f.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			err = errHelp
		}
		return nil, err
	}
	if o.version {
		return o, nil
	}
	if err := r.resolve(o); err != nil {
		return nil, err
	}
	switch n := f.NArg(); n {
	case 0:
		return nil, errors.New("no source and no target")
	case 1:
		return nil, fmt.Errorf("no target for %s", f.Arg(0))
	default:
		o.sources, o.target = f.Args()[:n-1], f.Arg(n-1)
	}
	return o, nil
}

// resolve gives the flags their meaning.
func (r *raw) resolve(o *options) (err error) {
	c := &o.copy
	c.Recursive = c.Recursive || c.Archive
	c.Umask = umask()
	if c.Jobs < 1 {
		return fmt.Errorf("--jobs is %d: at least one is needed", c.Jobs)
	}
	if c.NoClobber && c.Force {
		return errors.New("--no-clobber and --force contradict each other")
	}
	if r.followAll && c.Recursive {
		return errors.New("-L is not for trees: links in them are never followed; -H follows those that are named")
	}
	if r.noFollow && (r.follow || r.followAll) {
		return errors.New("-P contradicts -H and -L")
	}
	c.Follow = r.follow || !c.Recursive && !r.noFollow

	switch r.sparse {
	case "auto":
	case "never":
		c.Dense = true
	default:
		return fmt.Errorf("unknown value of --sparse: %q: want auto or never", r.sparse)
	}
	if c.Method, err = copier.ParseMethod(r.method); err != nil {
		return err
	}
	if c.Verify, err = copier.ParseVerify(r.verify); err != nil {
		return err
	}
	if o.driver.Engine, err = driver.ParseEngine(r.engine); err != nil {
		return err
	}
	o.executor, err = parseExecutor(r.executor)
	return err
}

// parseExecutor reads NAME or NAME:N.
func parseExecutor(s string) (executor.Executor, error) {
	name, number, counted := strings.Cut(s, ":")
	n := 0
	if counted {
		var err error
		if n, err = strconv.Atoi(number); err != nil || n < 1 {
			return nil, fmt.Errorf("executor %q: want a positive number after the colon", s)
		}
	}
	switch {
	case name == "goroutines" && !counted:
		return executor.Goroutines(), nil
	case name == "local" && !counted:
		return executor.Local(), nil
	case name == "pool":
		return executor.Pool(orElse(n, 64)), nil
	case name == "workers":
		return executor.Workers(orElse(n, min(runtime.GOMAXPROCS(0), 4))), nil
	}
	return nil, fmt.Errorf("unknown executor %q: want goroutines, pool, workers or local", s)
}

func orElse(n, other int) int {
	if n > 0 {
		return n
	}
	return other
}

// umask returns the process's umask, if possible without changing it, as the system call would.
func umask() uint32 {
	status, err := os.ReadFile("/proc/self/status")
	if err == nil {
		for line := range strings.Lines(string(status)) {
			if rest, ok := strings.CutPrefix(line, "Umask:"); ok {
				if m, err := strconv.ParseUint(strings.TrimSpace(rest), 8, 32); err == nil {
					return uint32(m)
				}
			}
		}
	}
	// Without /proc, to ask is to change it for a moment, in which nothing is created yet.
	mask := syscall.Umask(077)
	syscall.Umask(mask)
	return uint32(mask)
}

func usage() string {
	return `Usage: uringdemo [flags] SOURCE TARGET
       uringdemo [flags] SOURCE... DIRECTORY

Copies files and trees through io_uring, as cp does, and safely: every file is
written under a temporary name and renamed when it is complete and on disk.

` + flags(new(options), new(raw)).FlagUsages() + `
Exit code: 0 all is well; 1 something was not copied; 2 all was copied, but
something changed meanwhile; 130 interrupted, complete files only; 141 nobody
reads what it prints.
`
}

// version says what was built.
func version() string {
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return "uringdemo, unknown version"
	}
	v := b.Main.Version
	for _, s := range b.Settings {
		if s.Key == "vcs.revision" && (v == "" || v == "(devel)") {
			v = s.Value
		}
	}
	return fmt.Sprintf("uringdemo %s, %s", v, b.GoVersion)
}
