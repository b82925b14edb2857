package testenv

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// NeedsRoot skips a test that acts as other users.
func NeedsRoot(t testing.TB) {
	t.Helper()
	now := Rights(t, fmt.Sprint(os.Getpid()))
	if os.Geteuid() != 0 || !strings.Contains(now, "CapEff") {
		t.Skipf("needs root, to act as others: running as uid %d", os.Geteuid())
	}
	const setgid, setuid = 6, 7
	var caps [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &caps[0]); err != nil {
		t.Fatal(err)
	}
	if caps[0].Effective>>setgid&3 != 3 {
		t.Skipf("needs CAP_SETGID and CAP_SETUID: has %s", now)
	}
}

// Public returns a directory that everybody may search and write to, also on the way there.
func Public(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "uringo-public-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Rights returns what a thread of the process may, or "" if there is none of that number.
func Rights(t testing.TB, tid string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/task/" + tid + "/status")
	if err != nil {
		return ""
	}
	var s []string
	for line := range strings.Lines(string(b)) {
		switch key, value, _ := strings.Cut(line, ":"); key {
		case "Uid", "Gid", "Groups", "CapPrm", "CapEff":
			s = append(s, key+" "+strings.Join(strings.Fields(value), " "))
		}
	}
	return strings.Join(s, "; ")
}

// SameRights sees that every thread of the process has these rights, those of [Rights]. One that is about to end has a moment for it.
func SameRights(t testing.TB, want string) {
	t.Helper()
	var other string
	for range 200 {
		other = ""
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			if now := Rights(t, task.Name()); now != "" && now != want {
				other = fmt.Sprintf("thread %s has %s, want %s", task.Name(), now, want)
			}
		}
		if other == "" {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Error(other)
}
