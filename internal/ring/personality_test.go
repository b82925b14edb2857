package ring_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"uringo/internal/rights"
	"uringo/internal/ring"
	"uringo/internal/testenv"
	"uringo/ops"
)

// systems are the kernels that know personalities.
func systems() map[string]func() ring.Config {
	return map[string]func() ring.Config{
		"linux":    func() ring.Config { return ring.Config{Entries: 8} },
		"portable": func() ring.Config { return ring.Config{Entries: 8, Kernel: ring.NewPortable(ops.Calls(), 4)} },
	}
}

// Entries name whose rights they have, by a number that the ring gave to a thread's: also several in a chain, and none by a number that was taken back.
func TestPersonalities(t *testing.T) {
	testenv.NeedsRoot(t)
	for name, config := range systems() {
		t.Run(name, func(t *testing.T) {
			r, err := ring.Open(config())
			if errors.Is(err, ring.ErrUnavailable) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			dir := testenv.Public(t)
			var ids []uint16
			for i := range uint32(3) {
				who := rights.Rights{UID: 4711 + i, GID: 4721 + i}
				err := who.Do(func() {
					id, err := r.RegisterPersonality()
					if err != nil || id == 0 {
						t.Errorf("registered %d, %v", id, err)
					}
					ids = append(ids, id)
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			mkdir := func(name string, id uint16, flags uint8) ring.SQE {
				o := ops.Mkdirat(unix.AT_FDCWD, filepath.Join(dir, name), 0o700)
				var e ring.SQE
				o.Prepare(&e)
				e.Personality, e.Flags = id, flags
				t.Cleanup(func() { runtime.KeepAlive(o) }) // it has the path
				return e
			}
			b := batch{r: r}
			b.all(t, []ring.SQE{mkdir("a", ids[0], 0), mkdir("b", ids[1], ring.SQELink), mkdir("c", 0, ring.SQELink), mkdir("d", ids[2], 0)})
			if len(b.got) != 4 {
				t.Errorf("%d completions of 4", len(b.got))
			}
			for _, c := range b.got {
				if c.Res != 0 {
					t.Errorf("%+v", c)
				}
			}
			for name, want := range map[string]uint32{"a": 4711, "b": 4712, "c": 0, "d": 4713} {
				var st unix.Stat_t
				if err := unix.Stat(filepath.Join(dir, name), &st); err != nil || st.Uid != want {
					t.Errorf("%s is owned by %d, %v", name, st.Uid, err)
				}
			}
			if err := r.UnregisterPersonality(ids[1]); err != nil {
				t.Error(err)
			}
			for _, id := range []uint16{ids[1], 999, 0} {
				if err := r.UnregisterPersonality(id); !errors.Is(err, syscall.EINVAL) {
					t.Errorf("unregister %d: %v", id, err)
				}
				if id != 0 {
					if got := one(t, r, mkdir("no", id, 0)); got != -int32(syscall.EINVAL) {
						t.Errorf("as %d: %d", id, got)
					}
				}
			}
			if _, err := os.Stat(filepath.Join(dir, "no")); !os.IsNotExist(err) {
				t.Errorf("it was made: %v", err)
			}
			if got := one(t, r, mkdir("e", ids[2], 0)); got != 0 {
				t.Errorf("one that is left: %d", got)
			}
		})
	}
}
