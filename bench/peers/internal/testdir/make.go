package testdir

import (
	"bufio"
	"io"
	"math/rand/v2"
	"os"

	"golang.org/x/sys/unix"

	"uringo/bench/peers/internal/job"
)

// Make writes the files that the given works need.
func Make(dir string, works map[string]bool) error {
	big := []struct {
		name   string
		size   int64
		needed bool
	}{
		{Cached(dir), CachedSize, works[job.Cached] || works[job.Copy]},
		{Direct(dir), DirectSize, works[job.Direct]},
		{Write(dir), WriteSize, works[job.Write]},
	}
	for _, f := range big {
		if f.needed {
			if err := fill(f.name, f.size); err != nil {
				return err
			}
		}
	}
	if works[job.Direct] {
		if err := dropCache(Direct(dir)); err != nil {
			return err
		}
	}
	if works[job.Stat] {
		if err := fillStat(dir); err != nil {
			return err
		}
	}
	return os.Mkdir(Small(dir), 0o755)
}

// fill writes real data: reads of holes and of unwritten extents never reach the device.
func fill(name string, size int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	random := bufio.NewReaderSize(rand.NewChaCha8([32]byte{}), 1<<20)
	if _, err := io.CopyN(f, random, size); err != nil {
		return err
	}
	return f.Sync()
}

func fillStat(dir string) error {
	if err := os.Mkdir(statDir(dir), 0o755); err != nil {
		return err
	}
	for i := range StatFiles {
		if err := os.WriteFile(StatFile(dir, i), make([]byte, Block), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// dropCache keeps O_DIRECT reads from paying for a look at pages that writing the file left behind.
func dropCache(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}
