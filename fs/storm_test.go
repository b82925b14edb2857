package fs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	"uringo/fs"
	"uringo/internal/testenv"
)

// TestSignalStorm copies a file in every way while signals interrupt every thread all the time: every copy is one.
func TestSignalStorm(t *testing.T) { // HAZARDS T11
	size := 2 << 20
	if testenv.Nightly() {
		size = 100 << 20 // in ten ways, on each engine
	}
	want := pattern(size, 5)
	each(t, func(t *testing.T, ctx context.Context) {
		src := openNew(t, ctx, want)
		if src == nil {
			return
		}
		defer src.Close(ctx)
		end := testenv.Storm(t)
		for what, cp := range map[string]func(dst *fs.File) error{
			"CopyRange": func(dst *fs.File) error {
				n, _, err := dst.CopyRange(ctx, 0, src, 0, -1)
				return whole(n, size, err)
			},
			"streams": func(dst *fs.File) error {
				r, err1 := src.NewStreamReader(ctx, 0, fs.StreamOptions{BlockSize: 64 << 10, Depth: 4})
				w, err2 := dst.NewStreamWriter(ctx, 0, fs.StreamOptions{BlockSize: 64 << 10, Depth: 4})
				if err := errors.Join(err1, err2); err != nil {
					return err
				}
				n, err := io.Copy(w, r)
				return whole(n, size, errors.Join(err, w.Close(), r.Close()))
			},
			"blocks by the ring": func(dst *fs.File) error {
				was := src.Pin(fs.OpRead, fs.Ring)
				defer src.Pin(fs.OpRead, was)
				dst.Pin(fs.OpWrite, fs.Ring)
				const block = 64 << 10
				return goAll(ctx, 3, func(ctx context.Context, i int) error {
					b := make([]byte, block)
					for off := i * block; off < size; off += 3 * block {
						b := b[:min(block, size-off)]
						if n, _, err := src.ReadExactAt(ctx, b, int64(off)); n != len(b) || err != nil {
							return fmt.Errorf("read %d, %w", n, err)
						}
						if n, _, err := dst.WriteAllAt(ctx, b, int64(off)); n != len(b) || err != nil {
							return fmt.Errorf("wrote %d, %w", n, err)
						}
					}
					return nil
				})
			},
		} {
			dst := openNew(t, ctx, nil)
			if dst == nil {
				break
			}
			err := errors.Join(cp(dst), dst.SyncData(ctx), dst.Close(ctx))
			if got, rerr := os.ReadFile(dst.Name()); err != nil || rerr != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %v; the copy has %d bytes, %v", what, err, len(got), rerr)
			}
		}
		signals, _, _ := end()
		if signals == 0 {
			t.Error("there was no storm")
		}
	})
}

func whole(n int64, size int, err error) error {
	if err == nil && n != int64(size) {
		err = fmt.Errorf("%d of %d", n, size)
	}
	return err
}
