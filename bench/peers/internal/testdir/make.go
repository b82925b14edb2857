package testdir

import (
	"bufio"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"

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
		{Cached(dir), CachedSize, anyOf(works, job.Cached, job.Copy, job.Beside, job.SendFile)},
		{Direct(dir), DirectSize, anyOf(works, job.Direct, job.Flood, job.StreamRead, job.StreamReadDirect)},
		{Stream(dir), DirectSize, anyOf(works, job.StreamWrite, job.StreamWriteDirect)},
		{Write(dir), WriteSize, works[job.Write]},
	}
	for _, f := range big {
		if f.needed {
			if err := fill(f.name, f.size); err != nil {
				return err
			}
		}
	}
	for _, f := range []string{Direct(dir), Stream(dir)} {
		if err := dropCache(f); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if anyOf(works, job.WalkCold, job.WalkWarm) {
		if err := fillTree(dir); err != nil {
			return err
		}
	}
	if anyOf(works, job.FilesCold, job.FilesWarm) {
		if err := fillSmall(dir); err != nil {
			return err
		}
	}
	if works[job.Beside] {
		if err := os.Mkdir(Slow(dir), 0o755); err != nil {
			return err
		}
	}
	if works[job.Stat] {
		if err := fillStat(dir); err != nil {
			return err
		}
	}
	return makeSmall(dir)
}

func anyOf(works map[string]bool, some ...string) bool {
	return slices.ContainsFunc(some, func(work string) bool { return works[work] })
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

// fillTree makes the tree to walk.
func fillTree(dir string) error {
	for i := range treeTops * treeDirs {
		in := filepath.Join(Tree(dir), strconv.Itoa(i/treeDirs), strconv.Itoa(i%treeDirs))
		if err := os.MkdirAll(in, 0o755); err != nil {
			return err
		}
		for j := range treeEach {
			if err := os.WriteFile(filepath.Join(in, strconv.Itoa(j)), nil, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// fillSmall makes the small files.
func fillSmall(dir string) error {
	random := rand.NewChaCha8([32]byte{1})
	b := make([]byte, Block)
	for i := range SmallFiles {
		_, _ = random.Read(b) // which never fails
		name := SmallFile(dir, i)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, b, 0o644); err != nil {
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
