package peer

import (
	"context"
	"io"
	"os"

	"uringo/bench/peers/internal/job"
	"uringo/bench/peers/internal/meter"
	"uringo/bench/peers/internal/testdir"
)

// goOS is the standard library with a goroutine per task: the peer that a Go program has without any library. It
// copies as one does with it, by io.Copy, which hands the whole copy to the kernel.
func goOS() Contender {
	return Contender{Name: "os", Works: map[string]Measure{
		job.Cached: randomIO(osRuntime{}),
		job.Direct: randomIO(osRuntime{}),
		job.Write:  randomIO(osRuntime{}),
		job.Stat:   warmStat(osRuntime{}),
		job.Small:  smallFiles(osRuntime{}),
		job.Copy:   ioCopy,
	}}
}

// goOSBlocks copies with os.File the way the product does, block by block: the difference between the two is the
// library's, the difference between this and io.Copy is copy_file_range's.
func goOSBlocks() Contender {
	return Contender{Name: "os-blocks", Works: map[string]Measure{job.Copy: blockCopy(osRuntime{})}}
}

type osRuntime struct{ goroutines }

func (osRuntime) open(_ context.Context, name string, flag int) (blockFile, error) {
	f, err := os.OpenFile(name, flag, 0o644)
	return osFile{f}, err
}

func (osRuntime) stat(_ context.Context, name string) error {
	_, err := os.Stat(name)
	return err
}

func (osRuntime) writeFile(_ context.Context, name string, data []byte) error {
	return os.WriteFile(name, data, 0o644)
}

func (osRuntime) readFile(_ context.Context, name string) error {
	_, err := os.ReadFile(name)
	return err
}

func (osRuntime) remove(_ context.Context, name string) error { return os.Remove(name) }

type osFile struct{ f *os.File }

func (f osFile) readAt(_ context.Context, b []byte, off int64) (int, error) {
	return f.f.ReadAt(b, off)
}
func (f osFile) writeAt(_ context.Context, b []byte, off int64) (int, error) {
	return f.f.WriteAt(b, off)
}
func (f osFile) close(context.Context) error { return f.f.Close() }

func ioCopy(_ context.Context, j job.Job) ([]job.Sample, error) {
	s, err := meter.Whole(j.Work, testdir.CachedSize>>20, func() error {
		src, err := os.Open(testdir.Cached(j.Dir))
		if err != nil {
			return err
		}
		defer src.Close()
		dst, err := os.Create(testdir.CopyTarget(j.Dir))
		if err != nil {
			return err
		}
		_, err = io.Copy(dst, src)
		return firstError(err, dst.Close())
	})
	return []job.Sample{s}, err
}
