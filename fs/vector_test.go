package fs_test

import (
	"bytes"
	"context"
	"io"
	"testing"
)

// TestManyEmptyBuffers has more empty buffers in front of the others than one operation takes buffers: they are not the end of the file.
func TestManyEmptyBuffers(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		f := openNew(t, ctx, []byte("content"))
		if f == nil {
			return
		}
		defer f.Close(ctx)
		bufs := make([][]byte, 3000)
		bufs[1500], bufs[2999] = make([]byte, 4), make([]byte, 3)
		read := func() string { return string(bufs[1500]) + string(bufs[2999]) }
		if n, back, err := f.ReadvAt(ctx, bufs, 0); n != 7 || err != nil || len(back) != 3000 || read() != "content" {
			t.Errorf("ReadvAt = %d, %v, %q", n, err, read())
		}
		copy(bufs[1500], "CONT")
		if n, back, err := f.WritevAt(ctx, bufs, 0); n != 7 || err != nil || len(back) != 3000 {
			t.Errorf("WritevAt = %d, %v", n, err)
		}
		clear(bufs[1500])
		if n, back, err := f.ReadvExactAt(ctx, bufs, 0); n != 7 || err != nil || len(back) != 3000 || read() != "CONTent" {
			t.Errorf("ReadvExactAt = %d, %v, %q", n, err, read())
		}
		if n, _, err := f.ReadvExactAt(ctx, bufs, 4); n != 3 || err != io.ErrUnexpectedEOF || !bytes.Equal(bufs[1500][:3], []byte("ent")) {
			t.Errorf("ReadvExactAt over the end = %d, %v", n, err)
		}
		copy(bufs[1500], "writ")
		if n, back, err := f.WritevAllAt(ctx, bufs, 7); n != 7 || err != nil || len(back) != 3000 {
			t.Errorf("WritevAllAt = %d, %v", n, err)
		}
	})
}
