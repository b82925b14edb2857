package fs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/fs"
	"uringo/internal/testenv"
)

// The variables of a process that writes a file again and again until it is killed: the file, and which of executors it does that on.
const (
	killedVar   = "URINGO_FS_TEST_FILE"
	killedOnVar = "URINGO_FS_TEST_EXECUTOR"
)

// TestAtomicCrash kills processes that replace a file, at random points: the file is always whole.
func TestAtomicCrash(t *testing.T) { // HAZARDS T21
	if os.Getenv(killedVar) != "" {
		t.Skip("for the parent")
	}
	rounds := 5
	switch {
	case testenv.Nightly():
		rounds = 100
	case testing.Short():
		rounds = 2
	}
	for _, engine := range testenv.Engines(t) {
		for i, e := range executors() {
			t.Run(fmt.Sprintf("%v/%v", engine, e), func(t *testing.T) {
				name := filepath.Join(t.TempDir(), "file")
				newest := uint64(0)
				for range rounds {
					killWriter(t, name, engine, i)
					b, err := os.ReadFile(name)
					if err != nil {
						t.Fatal(err)
					}
					version, ok := parseVersion(b)
					if !ok {
						t.Fatalf("a mix of %d bytes", len(b))
					}
					if version < newest {
						t.Fatalf("version %d after %d", version, newest)
					}
					newest = version
				}
				t.Logf("%d versions", newest)
				left, err := os.ReadDir(filepath.Dir(name))
				if err != nil || len(left) > rounds+1 {
					t.Errorf("%d files left, %v", len(left), err)
				}
			})
		}
	}
}

// killWriter starts a writer, and kills it a while after it has begun.
func killWriter(t *testing.T, name string, engine driver.Engine, on int) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestAtomicChild$")
	child.Env = testenv.Environ(killedVar+"="+name, fmt.Sprintf("%s=%d", killedOnVar, on), driver.EngineVar+"="+engine.String())
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil { // one version is there
		t.Errorf("the child said nothing: %v", err)
	}
	time.Sleep(time.Duration(rand.IntN(20_000)) * time.Microsecond)
	if err := child.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = child.Wait() // says that it was killed
}

// TestAtomicChild is the process that is killed.
func TestAtomicChild(t *testing.T) {
	name := os.Getenv(killedVar)
	if name == "" {
		t.Skip("for TestAtomicCrash")
	}
	on := 0
	if _, err := fmt.Sscan(os.Getenv(killedOnVar), &on); err != nil {
		t.Fatal(err)
	}
	version := uint64(0)
	if b, err := os.ReadFile(name); err == nil {
		version, _ = parseVersion(b)
	}
	err := executor.Start(t.Context(), func(ctx context.Context) error {
		for {
			version++
			if err := fs.WriteFileAtomic(ctx, name, makeVersion(version), 0o600); err != nil {
				return err
			}
			if _, err := os.Stdout.Write([]byte{'.'}); err != nil {
				return err
			}
		}
	}, executor.WithExecutor(executors()[on]))
	t.Fatal(err)
}

// TestAtomicPowerFailure has a file system lose, at random points, what it has not brought to its disk, while a file in it is replaced again and
// again. What is there afterwards is whole, and it is what the last call that succeeded wrote, or something newer.
func TestAtomicPowerFailure(t *testing.T) { // HAZARDS T21
	disk := newDisk(t)
	rounds := 1
	if testenv.Nightly() {
		rounds = 25
	}
	var begun, done uint64 // versions
	each(t, func(t *testing.T, ctx context.Context) {
		for _, linked := range []bool{true, false} {
			if !linked {
				defer fs.AllRemote()()
			}
			for range rounds {
				if !disk.mount(t) {
					return
				}
				name := disk.dir + "/file"
				writer := executor.Go(ctx, func(ctx context.Context) (struct{}, error) {
					for {
						begun++
						if err := fs.WriteFileAtomic(ctx, name, makeVersion(begun), 0o600); err != nil {
							return struct{}{}, err
						}
						done = begun
					}
				})
				if err := executor.Sleep(ctx, time.Duration(rand.IntN(40_000))*time.Microsecond); err != nil {
					t.Error(err)
				}
				disk.lose(t)
				if _, err := writer.Join(ctx); !errors.Is(err, unix.EIO) && !errors.Is(err, unix.EROFS) {
					t.Errorf("without a disk: %v", err)
				}
				disk.unmount(t)
				if !disk.mount(t) { // it recovers
					return
				}
				b, err := os.ReadFile(name)
				version, whole := parseVersion(b)
				if done == 0 && errors.Is(err, os.ErrNotExist) {
					whole = true
				}
				if !whole || version < done || version > begun {
					t.Errorf("linked %v: %d bytes, which are version %d: %v, %v; number %d was written for good, %d was begun",
						linked, len(b), version, whole, err, done, begun)
				}
				disk.unmount(t)
			}
		}
	})
	t.Logf("%d versions, the last of them for good is %d", begun, done)
}

// disk is a file system that can be had to lose what it has in memory alone.
type disk struct{ image, dir string }

func newDisk(t *testing.T) *disk {
	t.Helper()
	mkfs, err := exec.LookPath("mkfs.ext4")
	if err != nil {
		t.Skip("needs mkfs.ext4: not installed")
	}
	where := t.TempDir()
	d := &disk{image: where + "/image", dir: where + "/mounted"}
	if err := errors.Join(os.WriteFile(d.image, nil, 0o600), os.Truncate(d.image, 64<<20), os.Mkdir(d.dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mkfs, "-q", d.image).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := d.tryMount(); err != nil {
		t.Skipf("needs the right to mount an image: %s", out)
	}
	t.Cleanup(func() { _ = unix.Unmount(d.dir, unix.MNT_DETACH) }) // if the test did not come so far
	d.unmount(t)
	return d
}

// tryMount mounts without what ext4 does for programs that forget to sync what they rename.
func (d *disk) tryMount() ([]byte, error) {
	return exec.Command("mount", "-o", "loop,noauto_da_alloc", d.image, d.dir).CombinedOutput()
}

func (d *disk) mount(t *testing.T) bool {
	t.Helper()
	out, err := d.tryMount()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	return err == nil
}

func (d *disk) unmount(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		err := unix.Unmount(d.dir, 0)
		if err == nil {
			return
		}
		if err != unix.EBUSY || time.Now().After(deadline) { // the kernel may have a file for a moment longer
			t.Error(err)
			return
		}
	}
}

// lose ends the use of the disk, and what is not on it is lost.
func (d *disk) lose(t *testing.T) {
	t.Helper()
	const shutdown, withoutLog = 0x8004587d, 2 // EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH
	fd, err := unix.Open(d.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer unix.Close(fd)
	var there, here unix.Stat_t
	if err := errors.Join(unix.Fstat(fd, &there), unix.Stat(d.image, &here)); err != nil || there.Dev == here.Dev {
		t.Fatalf("not the file system of the test: %v", err) // and never another one
	}
	if err := unix.IoctlSetPointerInt(fd, shutdown, withoutLog); err != nil {
		t.Errorf("shutting the file system down: %v", err)
	}
}
