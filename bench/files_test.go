package bench

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	block    = 4096
	fileSize = 256 << 20
)

// newFile makes a file of real data for one benchmark: reads of holes would never reach the device.
func newFile(b *testing.B) string {
	b.Helper()
	name := filepath.Join(b.TempDir(), "file")
	f, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if _, err := io.CopyN(f, rand.NewChaCha8([32]byte{}), fileSize); err != nil {
		b.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	return name
}

// needDevice skips where files live in memory: there, O_DIRECT says nothing about a device.
func needDevice(b *testing.B, name string) {
	b.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(name, &st); err != nil {
		b.Fatal(err)
	}
	if t := uint32(st.Type); t == unix.TMPFS_MAGIC || t == unix.RAMFS_MAGIC {
		b.Skipf("O_DIRECT needs a file system on a device, %s is in memory: set TMPDIR", name)
	}
}

// A traffic is a buffer and a sequence of random offsets for every task. A buffer goes to the kernel and comes back,
// so a task puts what came back in place of what it gave.
type traffic struct {
	buffers [][]byte
	random  []*rand.Rand
}

// newTraffic takes the buffers from whole pages, as O_DIRECT wants them aligned.
func newTraffic(tasks int) (*traffic, error) {
	mem, err := unix.Mmap(-1, 0, tasks*block, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("buffers: %w", err)
	}
	t := new(traffic)
	for i := range tasks {
		t.buffers = append(t.buffers, mem[i*block:(i+1)*block])
		t.random = append(t.random, rand.New(rand.NewPCG(uint64(i), 1)))
	}
	return t, nil
}

func (t *traffic) offset(task int) int64 { return t.random[task].Int64N(fileSize/block) * block }
