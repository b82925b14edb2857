package rights_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"uringo/internal/rights"
	"uringo/internal/testenv"
)

var client = &rights.Rights{UID: 4711, GID: 4712, Groups: []uint32{4712, 4713}}

// A thread has the rights while it is asked to, and then its own: nobody else gets them.
func TestDo(t *testing.T) {
	testenv.NeedsRoot(t)
	dir := testenv.Public(t)
	own := testenv.Rights(t, fmt.Sprint(unix.Getpid()))
	err := client.Do(func() {
		got := testenv.Rights(t, fmt.Sprint(unix.Gettid()))
		if want := "Uid 0 0 0 4711; Gid 0 0 0 4712; Groups 4712 4713; CapPrm "; !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "CapEff 0000000000000000") {
			t.Errorf("the thread is %s, want %s", got, want)
		}
		fd, err := unix.Open(filepath.Join(dir, "new"), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		if err != nil {
			t.Error(err)
			return
		}
		_ = unix.Close(fd)
	})
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "new"), &st); err != nil || st.Uid != 4711 || st.Gid != 4712 {
		t.Errorf("the file is owned by %d:%d, %v", st.Uid, st.Gid, err)
	}
	testenv.SameRights(t, own)
}

// Many at once, of two users, while others look who they are.
func TestDoAtOnce(t *testing.T) {
	testenv.NeedsRoot(t)
	own := testenv.Rights(t, fmt.Sprint(unix.Getpid()))
	users := []*rights.Rights{client, {UID: 4721, GID: 4722}}
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			who := users[i%2]
			for range 20 {
				err := who.Do(func() {
					if now, err := rights.Current(); err != nil || now.UID != who.UID || now.GID != who.GID || len(now.Groups) != len(who.Groups) {
						t.Errorf("%+v is %+v, %v", who, now, err)
					}
					var st unix.Stat_t
					_ = unix.Stat("/", &st) // something that lets the scheduler in
					runtime.Gosched()
				})
				if err != nil {
					t.Error(err)
				}
				if now, err := rights.Current(); err != nil || now.UID != 0 || now.GID != 0 {
					t.Errorf("outside it is %+v, %v", now, err)
				}
			}
		})
	}
	all.Wait()
	testenv.SameRights(t, own)
}

// A thread that cannot go back is not used any more.
func TestDoLost(t *testing.T) {
	testenv.NeedsRoot(t)
	own := testenv.Rights(t, fmt.Sprint(unix.Getpid()))
	for range 20 {
		err := client.Do(func() { // gives up what going back takes
			if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &new([2]unix.CapUserData)[0]); err != nil {
				t.Error(err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	testenv.SameRights(t, own)
}

// A panic is the caller's, and so is the end of a goroutine; the thread goes back all the same.
func TestDoPanics(t *testing.T) {
	testenv.NeedsRoot(t)
	own := testenv.Rights(t, fmt.Sprint(unix.Getpid()))
	func() {
		defer func() {
			if p := recover(); p != "oh" {
				t.Errorf("recovered %v", p)
			}
		}()
		_ = client.Do(func() { panic("oh") })
		t.Error("no panic")
	}()
	if err := client.Do(func() { runtime.Goexit() }); err == nil {
		t.Error("Goexit counts as a return")
	}
	testenv.SameRights(t, own)
}

func TestInvalid(t *testing.T) {
	for _, r := range []rights.Rights{{UID: ^uint32(0)}, {GID: ^uint32(0)}, {Groups: []uint32{^uint32(0)}}} {
		if err := r.Do(func() { t.Errorf("called as %+v", r) }); err != syscall.EINVAL {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if os.Geteuid() != 0 {
		for _, r := range []rights.Rights{{UID: uint32(os.Geteuid()) + 1, GID: uint32(os.Getegid())}, {UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()) + 1}} {
			if err := r.Do(func() { t.Errorf("called as %+v", r) }); err != syscall.EPERM {
				t.Errorf("%+v: %v", r, err)
			}
		}
	}
}

// What one is, one may be without privileges.
func TestOwn(t *testing.T) {
	now, err := rights.Current()
	if err != nil {
		t.Fatal(err)
	}
	called := false
	if err := now.Do(func() { called = true }); err != nil || !called {
		t.Errorf("called %v, %v", called, err)
	}
}
