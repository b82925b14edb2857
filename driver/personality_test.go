package driver_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/ring"
	"uringo/internal/testenv"
	"uringo/ops"
)

var (
	client = driver.Credentials{UID: 4711, GID: 4712, Groups: []uint32{4714, 4713}}
	other  = driver.Credentials{UID: 4721, GID: 4722}

	// The model of the kernel knows no personalities.
	actors = []way{onUring, onPortable, onLocked, onLockedPortable, onFaults, onPortableFaults}
)

// act registers a personality.
func (e *rig) act(d *driver.Driver, c driver.Credentials) *driver.Personality {
	e.Helper()
	p, err := d.RegisterPersonality(e.Context(), c)
	if err != nil {
		e.Fatal(err)
	}
	return p
}

// as gives an operation the rights of p.
func as[T any](p *driver.Personality, o ops.Op[T]) ops.Op[T] {
	o.As = p.Identity()
	return o
}

func byCall[T any](o ops.Op[T]) ops.Op[T] {
	o.Route = ops.RouteCall
	return o
}

// Operations are performed with the rights of a personality, by the ring and by plain calls, and others are not.
func TestPersonality(t *testing.T) { // FEATURES C12
	testenv.NeedsRoot(t)
	threads := testenv.Rights(t, fmt.Sprint(os.Getpid()))
	on(t, actors, func(e *rig) {
		d := e.open(driver.Config{})
		dir := testenv.Public(e.T)
		for name, who := range map[string][2]int{"root's": {0, 0}, "group's": {0, 4713}, "client's": {4711, 0}} {
			if err := errors.Join(os.WriteFile(filepath.Join(dir, name), []byte(name), 0o640), os.Chown(filepath.Join(dir, name), who[0], who[1])); err != nil {
				e.Fatal(err)
			}
		}
		fd := e.keep(unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0))
		p, q := e.act(d, client), e.act(d, other)
		for _, route := range []ops.Route{ops.RouteRing, ops.RouteCall} {
			for _, c := range []struct {
				who  *driver.Personality
				name string
				want error
			}{
				{p, "root's", syscall.EACCES}, {p, "group's", nil}, {p, "client's", nil},
				{q, "root's", syscall.EACCES}, {q, "group's", syscall.EACCES}, {q, "client's", syscall.EACCES},
				{nil, "root's", nil}, {nil, "group's", nil}, {nil, "client's", nil},
			} {
				o, buf := ops.Openat(fd, c.name, unix.O_RDONLY, 0), make([]byte, 16)
				if o.Route = route; c.who != nil {
					o.As = c.who.Identity()
				}
				r := do(e, d, o)
				if r.Err != c.want {
					e.Errorf("route %d: open %s: %v, want %v", route, c.name, r.Err, c.want)
				}
				if r.Err != nil {
					continue
				}
				read := ops.ReadAt(r.N, buf, 0)
				if read.Route = route; c.who != nil {
					read.As = c.who.Identity()
				}
				if n := must(e, d, read); string(buf[:n]) != c.name {
					e.Errorf("%s has %q", c.name, buf[:n])
				}
				must(e, d, ops.Close(r.N))
			}
			name := fmt.Sprint("made by ", route)
			mkdir := as(p, ops.Mkdirat(fd, name, 0o700))
			mkdir.Route = route
			must(e, d, mkdir)
			var st unix.Stat_t
			if err := unix.Stat(filepath.Join(dir, name), &st); err != nil || st.Uid != 4711 || st.Gid != 4712 {
				e.Errorf("%s is owned by %d:%d, %v", name, st.Uid, st.Gid, err)
			}
		}
		if err := p.Call(driver.NewContext(e.Context(), d), func() error {
			_, err := os.ReadFile(filepath.Join(dir, "root's"))
			return err
		}); !errors.Is(err, syscall.EACCES) {
			e.Errorf("called: %v", err)
		}
		if err := errors.Join(p.Close(e.Context()), p.Close(e.Context()), q.Close(e.Context())); err != nil {
			e.Error(err)
		}
	})
	testenv.SameRights(t, threads)
}

// Members of a chain have each its own rights.
func TestPersonalityChain(t *testing.T) {
	testenv.NeedsRoot(t)
	on(t, actors, func(e *rig) {
		d := e.open(driver.Config{})
		dir := testenv.Public(e.T)
		root, his := filepath.Join(dir, "root"), filepath.Join(dir, "his")
		if err := errors.Join(os.Mkdir(root, 0o755), os.Mkdir(his, 0o700), os.Chown(his, 4711, 4712)); err != nil {
			e.Fatal(err)
		}
		p := e.act(d, client)
		f := e.keep(unix.Open(filepath.Join(dir, "log"), unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600))
		for _, route := range []ops.Route{ops.RouteRing, ops.RouteCall} {
			var c driver.Chain
			step := func(o ops.Op[struct{}]) *driver.Pending[struct{}] {
				o.Route = route
				driver.Link(&c, ops.WriteAt(f, []byte("x"), 0))
				return driver.Link(&c, o)
			}
			a := step(ops.Mkdirat(unix.AT_FDCWD, root+"/a", 0o755))
			b := step(as(p, ops.Mkdirat(unix.AT_FDCWD, his+"/b", 0o755)))
			cc := step(ops.Unlinkat(unix.AT_FDCWD, root+"/a", unix.AT_REMOVEDIR))
			dd := step(as(p, ops.Unlinkat(unix.AT_FDCWD, his+"/b", unix.AT_REMOVEDIR)))
			bad := step(as(p, ops.Mkdirat(unix.AT_FDCWD, root+"/no", 0o755)))
			last := driver.Link(&c, ops.Nop())
			if err := c.Submit(d); err != nil {
				e.Fatal(err)
			}
			for i, r := range []*driver.Pending[struct{}]{a, b, cc, dd} {
				if err := result(e, r).Err; err != nil {
					e.Errorf("step %d: %v", i, err)
				}
			}
			if err := result(e, bad).Err; err != syscall.EACCES {
				e.Errorf("in root's directory: %v", err)
			}
			if err := result(e, last).Err; err != syscall.ECANCELED {
				e.Errorf("behind it: %v", err)
			}
		}
	})
}

// What has rights that are none is not performed, alone or in a chain, by the ring or by a call.
func TestPersonalityUnknown(t *testing.T) {
	testenv.NeedsRoot(t)
	on(t, actors, func(e *rig) {
		d, d2 := e.open(driver.Config{}), e.open(driver.Config{})
		dir := testenv.Public(e.T)
		closed := e.act(d, driver.Credentials{})
		if err := closed.Close(e.Context()); err != nil {
			e.Error(err)
		}
		e.act(d, driver.Credentials{}) // which has the number that d2's will have
		for i, p := range []*driver.Personality{nil, {}, closed, e.act(d2, driver.Credentials{})} {
			mkdir := func() ops.Op[struct{}] { return as(p, ops.Mkdirat(unix.AT_FDCWD, dir+"/x", 0o755)) }
			if err := do(e, d, mkdir()).Err; err != driver.ErrPersonality {
				e.Errorf("%d: %v", i, err)
			}
			if err := do(e, d, byCall(mkdir())).Err; err != driver.ErrPersonality {
				e.Errorf("%d, by a call: %v", i, err)
			}
			var c driver.Chain
			first := driver.Link(&c, ops.Nop())
			second, third := driver.Link(&c, mkdir()), driver.Link(&c, ops.Nop())
			if err := c.Submit(d); err != nil {
				e.Fatal(err)
			}
			if a, b, c := result(e, first).Err, result(e, second).Err, result(e, third).Err; a != nil || b != driver.ErrPersonality || c != syscall.ECANCELED {
				e.Errorf("%d, in a chain: %v, %v, %v", i, a, b, c)
			}
			if err := p.Call(driver.NewContext(e.Context(), d), func() error { e.Error("called"); return nil }); err != driver.ErrPersonality {
				e.Errorf("%d, called: %v", i, err)
			}
			o := mkdir()
			if err := ops.Run(&o).Err; err != syscall.EPERM {
				e.Errorf("%d, in place: %v", i, err)
			}
		}
		if _, err := os.Stat(dir + "/x"); !os.IsNotExist(err) {
			e.Errorf("it was made: %v", err)
		}
	})
}

// What has begun goes on when its personality is closed, and the end of the driver closes all of them.
func TestPersonalityCloses(t *testing.T) {
	testenv.NeedsRoot(t)
	on(t, actors, func(e *rig) {
		d := e.open(driver.Config{})
		p, q := e.act(d, client), e.act(d, other)
		from, to := e.pipe()
		read := driver.Submit(d, as(p, ops.ReadAt(from, make([]byte, 8), -1)))
		must(e, d, ops.Nop()) // by now the kernel has what came before
		pending(e, read)
		if err := p.Close(e.Context()); err != nil {
			e.Error(err)
		}
		if _, err := unix.Write(to, []byte("x")); err != nil {
			e.Error(err)
		}
		if r := result(e, read); r.N != 1 || r.Err != nil && r.Err != driver.ErrPersonality { // the latter if the kernel gave it back
			e.Errorf("read %d, %v", r.N, r.Err)
		}
		e.shut(d)
		if err := q.Call(driver.NewContext(e.Context(), d), func() error { e.Error("called"); return nil }); err != driver.ErrPersonality {
			e.Errorf("after the driver: %v", err)
		}
		if err := q.Close(e.Context()); err != nil {
			e.Error(err)
		}
		if p, err := d.RegisterPersonality(e.Context(), client); !errors.Is(err, driver.ErrClosed) {
			e.Errorf("registered %v, %v", p, err)
		}
	})
}

// registry is a kernel that counts personalities.
type registry struct {
	ring.Kernel
	mu         sync.Mutex
	in, out    int
	atRegister func()
}

func (k *registry) Register(fd int, op uint32, arg unsafe.Pointer, n uint32) (int, syscall.Errno) {
	if op == 9 && k.atRegister != nil {
		k.atRegister()
	}
	res, errno := k.Kernel.Register(fd, op, arg, n)
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case errno != 0:
	case op == 9:
		k.in++
	case op == 10:
		k.out++
	}
	return res, errno
}

// All that was registered is unregistered, at the latest with the ring.
func TestPersonalityBooks(t *testing.T) {
	testenv.NeedsRoot(t)
	on(t, engines, func(e *rig) {
		k := &registry{Kernel: ring.Linux()}
		if e.name == onPortable.name {
			k.Kernel = ring.NewPortable(ops.Calls(), 4)
		}
		cfg := driver.OnKernel(driver.Config{Engine: driver.Uring}, k)
		open := func() (*driver.Driver, error) { return driver.Open(cfg) }
		if e.name == onLocked.name {
			open = func() (*driver.Driver, error) { return driver.OpenGuest(cfg, idle{}) }
		}
		d := e.opened(open())
		for i := range 10 {
			if p := e.act(d, client); i%2 == 0 {
				if err := p.Close(e.Context()); err != nil {
					e.Error(err)
				}
			}
		}
		e.shut(d)
		if k.in != 10 || k.out != 10 {
			e.Errorf("%d were registered, %d unregistered", k.in, k.out)
		}
	})
}

// Two users and the process at once: nothing is anybody else's.
func TestPersonalityAtOnce(t *testing.T) {
	testenv.NeedsRoot(t)
	threads := testenv.Rights(t, fmt.Sprint(os.Getpid()))
	on(t, actors, func(e *rig) {
		d := e.open(driver.Config{})
		dir := testenv.Public(e.T)
		users := []struct {
			p   *driver.Personality
			uid uint32
		}{{e.act(d, client), 4711}, {e.act(d, other), 4721}, {nil, 0}}
		var all sync.WaitGroup
		for i := range 12 {
			all.Go(func() {
				u := users[i%len(users)]
				for k := range size(20, 2000) {
					name := fmt.Sprintf("%s/%d %d", dir, i, k)
					o := ops.Mkdirat(unix.AT_FDCWD, name, 0o700)
					if u.p != nil {
						o = as(u.p, o)
					}
					if k%2 == 0 {
						o = byCall(o)
					}
					if err := do(e, d, o).Err; err != nil {
						e.Error(err)
						return
					}
					var st unix.Stat_t
					if err := unix.Stat(name, &st); err != nil || st.Uid != u.uid {
						e.Errorf("%s is owned by %d, %v; want %d", name, st.Uid, err, u.uid)
					}
				}
			})
		}
		all.Wait()
	})
	testenv.SameRights(t, threads)
}

// Behind another operation the kernel may perform one on any of its threads, so while threads take rights, the driver links none there that needs its own.
func TestPersonalityStrays(t *testing.T) {
	testenv.NeedsRoot(t)
	on(t, []way{onUring}, func(e *rig) {
		d := e.open(driver.Config{})
		e.act(d, client)
		fd := e.file(nil)
		dir := testenv.Public(e.T)
		linked := func(head uint8, behind ops.Op[struct{}]) uint64 {
			before := d.Stats().Linked
			var c driver.Chain
			w := ops.WriteAt(fd, []byte("x"), 0)
			w.Flags |= head
			driver.Link(&c, w)
			made := driver.Link(&c, behind)
			if err := c.Submit(d); err != nil {
				e.Fatal(err)
			}
			r := result(e, made)
			if r.Err != nil {
				e.Error(r.Err)
			}
			if behind.Kind.Name == "socket" {
				e.keep(r.N, nil)
			}
			return d.Stats().Linked - before
		}
		unixSocket := func() int { return e.keep(unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)) }
		for name, behind := range map[string]func(i int) ops.Op[struct{}]{
			"mkdirat":   func(i int) ops.Op[struct{}] { return ops.Mkdirat(unix.AT_FDCWD, fmt.Sprint(dir, "/", i), 0o755) },
			"fallocate": func(int) ops.Op[struct{}] { return ops.Fallocate(fd, 0, 0, 1) },
			"ftruncate": func(int) ops.Op[struct{}] { return ops.Ftruncate(fd, 0) },
			"socket":    func(int) ops.Op[struct{}] { return ops.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0) },
			"connect": func(i int) ops.Op[struct{}] {
				to := &unix.SockaddrUnix{Name: fmt.Sprint(dir, "/to", i)}
				if err := unix.Bind(unixSocket(), to); err != nil {
					e.Fatal(err)
				}
				return ops.Connect(unixSocket(), to)
			},
		} {
			if n := linked(0, behind(0)); n != 0 {
				e.Errorf("%s: %d were linked", name, n)
			}
			if n := linked(ops.Async, behind(1)); n != 2 {
				e.Errorf("%s: %d were linked behind what the kernel's own threads begin", name, n)
			}
		}
	})
}

// Credentials that the process may not have, and such as nobody can have, are an error, and change nothing.
func TestPersonalityRefused(t *testing.T) {
	if os.Getenv("URINGO_UNPRIVILEGED") == "" && os.Geteuid() == 0 {
		apart(t, "URINGO_UNPRIVILEGED=1", func(out string, err error) {
			if err != nil || !strings.Contains(out, "--- PASS: TestPersonalityRefused") {
				t.Errorf("%v\n%s", err, out)
			}
		})
		return
	}
	if os.Geteuid() == 0 {
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setresgid(4712, 4712, 4712), syscall.Setresuid(4711, 4711, 4711)); err != nil {
			t.Fatal(err)
		}
	}
	uid, gid := uint32(os.Geteuid()), uint32(os.Getegid())
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	own := driver.Credentials{UID: uid, GID: gid}
	for _, g := range groups {
		own.Groups = append(own.Groups, uint32(g))
	}
	threads := testenv.Rights(t, fmt.Sprint(os.Getpid()))
	for _, w := range engines {
		if !engineWanted(t, w.engine) {
			continue
		}
		e := &rig{T: t, name: w.name}
		d := e.opened(w.make(e, driver.Config{Entries: 8, InFlight: 16}))
		for _, c := range []driver.Credentials{
			{UID: uid + 1, GID: gid, Groups: own.Groups}, {UID: uid, GID: gid + 1, Groups: own.Groups}, {UID: uid, GID: gid, Groups: append(own.Groups, 4799)},
		} {
			if p, err := d.RegisterPersonality(t.Context(), c); p != nil || !errors.Is(err, syscall.EPERM) {
				t.Errorf("%s: %+v: %v, %v", w.name, c, p, err)
			}
		}
		if p, err := d.RegisterPersonality(t.Context(), driver.Credentials{UID: ^uint32(0)}); p != nil || !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%s: the id that is none: %v, %v", w.name, p, err)
		}
		p := e.act(d, own) // what one is, one may be
		if r := do(e, d, as(p, ops.Openat(unix.AT_FDCWD, "/", unix.O_RDONLY, 0))); r.Err != nil {
			t.Errorf("%s: %v", w.name, r.Err)
		} else {
			_ = unix.Close(r.N)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if p, err := d.RegisterPersonality(ended, own); p != nil || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: with a context that has ended: %v, %v", w.name, p, err)
		}
		e.close()
	}
	testenv.SameRights(t, threads)
}

// apart runs the test in a process of its own.
func apart(t *testing.T, env string, look func(out string, err error)) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = testenv.Environ(env)
	out, err := cmd.CombinedOutput()
	look(string(out), err)
}

// A restricted ring takes them, too.
func TestPersonalityRestricted(t *testing.T) {
	testenv.NeedsRoot(t)
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{Restrict: driver.DataOnly()})
		dir := testenv.Public(e.T)
		p := e.act(d, client)
		must(e, d, as(p, ops.Mkdirat(unix.AT_FDCWD, dir+"/a", 0o700))) // by a plain call
		var st unix.Stat_t
		if err := unix.Stat(dir+"/a", &st); err != nil || st.Uid != client.UID {
			e.Errorf("it is owned by %d, %v", st.Uid, err)
		}
		if err := p.Close(e.Context()); err != nil {
			e.Error(err)
		}
	})
}

// A kernel without personalities says so.
func TestPersonalityUnsupported(t *testing.T) {
	testenv.NeedsRoot(t)
	on(t, []way{onSim}, func(e *rig) {
		d := e.open(driver.Config{})
		if p, err := d.RegisterPersonality(e.Context(), client); p != nil || !errors.Is(err, errors.ErrUnsupported) {
			e.Errorf("%v, %v", p, err)
		}
	})
}

// A driver's thread that cannot go back to the rights of the process ends that: it would go on as somebody else.
func TestPersonalityStuck(t *testing.T) {
	testenv.NeedsRoot(t)
	if !engineWanted(t, driver.Uring) {
		t.Skip("needs io_uring")
	}
	if os.Getenv("URINGO_STUCK") == "" {
		apart(t, "URINGO_STUCK=1", func(out string, err error) {
			if err == nil || !strings.Contains(out, "a thread cannot go back to the rights of the process") || strings.Contains(out, "went on") {
				t.Errorf("%v\n%s", err, out)
			}
		})
		return
	}
	k := &registry{Kernel: ring.Linux(), atRegister: func() {
		_ = unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &new([2]unix.CapUserData)[0])
	}}
	d, err := driver.OpenGuest(driver.OnKernel(driver.Config{Engine: driver.Uring}, k), idle{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.RegisterPersonality(t.Context(), client)
	t.Errorf("went on: %v", err)
}

// What a closing overtakes says so, whoever of driver and kernel finds out.
func TestPersonalityOvertaken(t *testing.T) {
	testenv.NeedsRoot(t)
	on(t, actors, func(e *rig) {
		d := e.open(driver.Config{})
		fd := e.file([]byte("x"))
		for range size(50, 500) {
			p := e.act(d, client)
			var all []*driver.Pending[[]byte]
			for range 8 {
				all = append(all, driver.Submit(d, as(p, ops.ReadAt(fd, make([]byte, 1), 0))))
			}
			var c driver.Chain
			first, second := driver.Link(&c, as(p, ops.ReadAt(fd, make([]byte, 1), 0))), driver.Link(&c, as(p, ops.ReadAt(fd, make([]byte, 1), 0)))
			if err := c.Submit(d); err != nil {
				e.Fatal(err)
			}
			if err := p.Close(e.Context()); err != nil {
				e.Error(err)
			}
			for i, r := range append(all, first) {
				if err := result(e, r).Err; err != nil && err != driver.ErrPersonality {
					e.Fatalf("read %d: %v", i, err)
				}
			}
			if err := result(e, second).Err; err != nil && err != driver.ErrPersonality && err != syscall.ECANCELED {
				e.Fatalf("the second of the chain: %v", err)
			}
		}
	})
}
