package net_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	stdnet "net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/fs"
	"uringo/internal/ring"
	"uringo/internal/testenv"
	"uringo/net"
)

// noise returns n bytes of which no two stretches are alike. They are the same each time, and not to be changed.
func noise(n int) []byte { return allNoise()[:n:n] }

var allNoise = sync.OnceValue(func() []byte {
	b := make([]byte, 8<<20)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
})

// sizes for what moves through pipes and chunks.
var sizes = []int{0, 1, 65537, 2<<20 + 17}

// readAll receives until the end.
func readAll(ctx context.Context, c *net.Conn) ([]byte, error) {
	var all []byte
	b := make([]byte, 100_000)
	for {
		n, rest, err := c.Read(ctx, b)
		all = append(all, b[:n]...)
		b = rest
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}

func writeAll(ctx context.Context, c *net.Conn, b []byte) error {
	_, _, err := c.WriteAll(ctx, b)
	if err == nil {
		err = c.CloseWrite()
	}
	return err
}

func same(got, want []byte, err error) error {
	if err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("got %d bytes of %d, %v", len(got), len(want), err)
	}
	return nil
}

// Everything, and exactly n bytes, of every size, between sockets of all kinds.
func TestSplice(t *testing.T) { // M19, C14
	each(t, func(t *testing.T, ctx context.Context) {
		for _, networks := range [][2]string{{"tcp", "tcp"}, {"tcp", "unix"}, {"unix", "tcp"}, {"unixpacket", "tcp"}} {
			for _, size := range sizes {
				if networks[0] == "unixpacket" && size > 65537 {
					continue
				}
				if err := spliceOnce(t, ctx, networks, size); err != nil {
					t.Errorf("%v, %d bytes: %v", networks, size, err)
				}
			}
		}
	})
}

func spliceOnce(t *testing.T, ctx context.Context, networks [2]string, size int) error {
	from, src := connect(t, ctx, networks[0])
	dst, to := connect(t, ctx, networks[1])
	if from == nil || dst == nil {
		return errors.New("not connected")
	}
	defer closeAll(t, ctx, from, src, dst, to)
	want := noise(size)
	part := int64(size / 3)
	return together(ctx, func(ctx context.Context) error {
		return writeAll(ctx, from, want)
	}, func(ctx context.Context) error {
		defer dst.CloseWrite() // also when something went wrong
		n, err := dst.Splice(ctx, src, part)
		if n != part || err != nil {
			return fmt.Errorf("a part of %d: %d, %w", part, n, err)
		}
		n, err = dst.Splice(ctx, src, -1)
		if n != int64(size)-part || err != nil {
			return fmt.Errorf("the rest: %d, %w", n, err)
		}
		if n, err = dst.Splice(ctx, src, 10); n != 0 || err != nil {
			return fmt.Errorf("after the end: %d, %w", n, err)
		}
		return nil
	}, func(ctx context.Context) error {
		got, err := readAll(ctx, to)
		return same(got, want, err)
	})
}

// What could not be sent is received by the next who asks; nothing is received twice.
func TestSpliceLosesNothing(t *testing.T) { // C6
	each(t, func(t *testing.T, ctx context.Context) {
		from, src := connect(t, ctx, "tcp")
		dst, to := connect(t, ctx, "unix")
		if from == nil || dst == nil {
			return
		}
		defer closeAll(t, ctx, from, src, dst, to)
		want := noise(8 << 20) // more than all buffers hold
		err := together(ctx, func(ctx context.Context) error {
			return writeAll(ctx, from, want)
		}, func(ctx context.Context) error {
			short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			defer cancel()
			n, err := dst.Splice(short, src, -1) // nobody reads
			if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("nobody reads: %d, %v", n, err)
			}
			first := make([]byte, n)
			if _, _, err := to.ReadFull(ctx, first); err != nil {
				return err
			}
			rest, err := readAll(ctx, src)
			return same(append(first, rest...), want, err)
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// A peer that is gone ends a transfer in either direction, and closing ends one that waits.
func TestSpliceEnds(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		from, src := connect(t, ctx, "tcp")
		dst, to := connect(t, ctx, "tcp")
		if from == nil || dst == nil {
			return
		}
		defer closeAll(t, ctx, from, src, to)
		if n, err := dst.Splice(canceled(ctx), src, -1); n != 0 || !errors.Is(err, context.Canceled) {
			t.Errorf("with a context that has ended: %d, %v", n, err)
		}
		err := together(ctx, func(ctx context.Context) error {
			n, err := dst.Splice(ctx, src, -1)
			if n != 0 || !errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("closed meanwhile: %d, %v", n, err)
			}
			return nil
		}, func(ctx context.Context) error {
			if err := executor.Sleep(ctx, 20*time.Millisecond); err != nil {
				return err
			}
			closeAll(t, ctx, dst)
			_, _, err := from.WriteAll(ctx, []byte("finds no way"))
			return err
		})
		if err != nil {
			t.Error(err)
		}
		b := make([]byte, 12)
		if _, b, err = src.ReadFull(ctx, b); string(b) != "finds no way" || err != nil {
			t.Errorf("what was not sent: %q, %v", b, err)
		}
	})
}

func canceled(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

// Both directions, with the ends in either order.
func TestProxy(t *testing.T) { // M19
	each(t, func(t *testing.T, ctx context.Context) {
		for i, networks := range [][2]string{{"tcp", "tcp"}, {"unix", "tcp"}, {"tcp", "unix"}, {"unixpacket", "unix"}} {
			left, a := connect(t, ctx, networks[0])
			b, right := connect(t, ctx, networks[1])
			if left == nil || b == nil {
				return
			}
			if i%2 == 1 { // the end of the second is the first to come
				left, a, b, right = right, b, a, left
			}
			there, back := noise(1<<20+3), noise(2<<20+5)
			if networks[0] == "unixpacket" {
				there, back = noise(1003), noise(2005) // each is a packet
			}
			err := together(ctx, func(ctx context.Context) error {
				toB, toA, err := net.Proxy(ctx, a, b)
				if toB != int64(len(there)) || toA != int64(len(back)) || err != nil {
					return fmt.Errorf("Proxy: %d of %d, %d of %d, %w", toB, len(there), toA, len(back), err)
				}
				return nil
			}, func(ctx context.Context) error {
				return writeAll(ctx, left, there)
			}, func(ctx context.Context) error {
				got, err := readAll(ctx, right) // it has ended, and the other direction has not begun
				if err := same(got, there, err); err != nil {
					return err
				}
				return writeAll(ctx, right, back)
			}, func(ctx context.Context) error {
				got, err := readAll(ctx, left)
				return same(got, back, err)
			})
			if err != nil {
				t.Errorf("%v: %v", networks, err)
			}
			closeAll(t, ctx, left, a, b, right)
		}
	})
}

// A reset ends both directions at once, and so does the context.
func TestProxyFails(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		for _, how := range []string{"reset", "cancel"} {
			left, a := connect(t, ctx, "tcp")
			b, right := connect(t, ctx, "tcp")
			if left == nil || b == nil {
				return
			}
			err := together(ctx, func(ctx context.Context) error {
				limit, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
				defer cancel()
				if how == "reset" {
					limit = ctx
				}
				_, _, err := net.Proxy(limit, a, b)
				if err == nil {
					return errors.New("no error")
				}
				return nil
			}, func(ctx context.Context) error {
				if how != "reset" {
					return nil
				}
				if _, _, err := left.WriteAll(ctx, []byte("x")); err != nil {
					return err
				}
				if _, _, err := right.ReadFull(ctx, make([]byte, 1)); err != nil {
					return err
				}
				if err := left.SetLinger(0); err != nil {
					return err
				}
				return left.Close(ctx)
			})
			if err != nil {
				t.Errorf("%s: %v", how, err)
			}
			closeAll(t, ctx, a, b, right)
			if how != "reset" {
				closeAll(t, ctx, left)
			}
		}
	})
}

// Connections that wait to be passed on have no pipe, however many they are.
func TestProxyIdle(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		net.ClosePipes()
		before := pipeEnds(t) // the process's own
		left, a := connect(t, ctx, "tcp")
		b, right := connect(t, ctx, "tcp")
		if left == nil || b == nil {
			return
		}
		defer closeAll(t, ctx, left, a, b, right)
		err := together(ctx, func(ctx context.Context) error {
			_, _, err := net.Proxy(ctx, a, b)
			return err
		}, func(ctx context.Context) error {
			defer right.CloseWrite()
			defer left.CloseWrite()
			for range 3 {
				if _, _, err := left.WriteAll(ctx, []byte("ping")); err != nil {
					return err
				}
				if _, _, err := right.ReadFull(ctx, make([]byte, 4)); err != nil {
					return err
				}
				for tries := 0; ; tries++ { // until it waits again
					net.ClosePipes()
					now := pipeEnds(t)
					if now == before {
						break
					}
					if tries == 1000 {
						return fmt.Errorf("%d ends of pipes are open, and %d before", now, before)
					}
					if err := executor.Sleep(ctx, 5*time.Millisecond); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func pipeEnds(t *testing.T) (n int) {
	for _, what := range testenv.Descriptors(t) {
		if strings.HasPrefix(what, "pipe:") {
			n++
		}
	}
	return n
}

// A reader that is slow gets everything.
func TestSpliceSlowReader(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		from, src := connect(t, ctx, "tcp")
		dst, to := connect(t, ctx, "tcp")
		if from == nil || dst == nil {
			return
		}
		defer closeAll(t, ctx, from, src, dst, to)
		if err := errors.Join(to.SetReadBuffer(16<<10), dst.SetWriteBuffer(16<<10)); err != nil {
			t.Error(err)
		}
		want := noise(1<<20 + 1)
		err := together(ctx, func(ctx context.Context) error {
			return writeAll(ctx, from, want)
		}, func(ctx context.Context) error {
			defer dst.CloseWrite()
			n, err := dst.Splice(ctx, src, -1)
			if n != int64(len(want)) || err != nil {
				return fmt.Errorf("%d, %w", n, err)
			}
			return nil
		}, func(ctx context.Context) error {
			for off := 0; ; {
				n, b, err := to.Read(ctx, make([]byte, 37_001))
				if err == io.EOF && off == len(want) {
					return nil
				}
				if err := same(b[:n], want[off:min(off+n, len(want))], err); err != nil {
					return err
				}
				off += n
				if err := executor.Sleep(ctx, time.Millisecond); err != nil {
					return err
				}
			}
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// Files of every size and kind, from any offset, to sockets of every kind.
func TestSendFile(t *testing.T) { // C14
	dir := t.TempDir()
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range []string{"tcp", "unix"} {
			for _, size := range sizes {
				if err := sendOnce(t, ctx, network, dir, size); err != nil {
					t.Errorf("%s, %d bytes: %v", network, size, err)
				}
			}
		}
	})
}

func sendOnce(t *testing.T, ctx context.Context, network, dir string, size int) error {
	name := filepath.Join(dir, fmt.Sprint(size))
	want := noise(size)
	if err := os.WriteFile(name, want, 0o600); err != nil {
		return err
	}
	ours, err := fs.Open(ctx, name)
	if err != nil {
		return err
	}
	defer ours.Close(ctx)
	if err := ours.SyncAll(ctx); err == nil && size > 1<<20 {
		_ = ours.Fadvise(ctx, 0, 0, unix.FADV_DONTNEED) // the ring has something to fetch
	}
	theirs, err := os.Open(name)
	if err != nil {
		return err
	}
	defer theirs.Close()
	c, s := connect(t, ctx, network)
	if c == nil {
		return errors.New("not connected")
	}
	defer closeAll(t, ctx, c, s)
	off := int64(size / 3)
	part := int64(size / 5)
	return together(ctx, func(ctx context.Context) error {
		if n, err := c.SendFile(ctx, ours, off, -1); n != int64(size)-off || err != nil {
			return fmt.Errorf("from %d: %d, %w", off, n, err)
		}
		if n, err := c.SendFile(ctx, theirs, 0, part); n != part || err != nil {
			return fmt.Errorf("%d bytes: %d, %w", part, n, err)
		}
		if n, err := c.SendFile(ctx, ours, int64(size)-part, part+100); n != part || err != nil {
			return fmt.Errorf("past the end: %d, %w", n, err)
		}
		return c.CloseWrite()
	}, func(ctx context.Context) error {
		got, err := readAll(ctx, s)
		return same(got, bytes.Join([][]byte{want[off:], want[:part], want[int64(size)-part:]}, nil), err)
	})
}

// TestSendFileHole sends a file of which the page cache lacks something in the middle: the ring fetches that, and no thread waits for it.
func TestSendFileHole(t *testing.T) {
	for _, e := range executors() {
		t.Run(e.String(), func(t *testing.T) {
			if testenv.Engines(t)[0] != driver.Uring {
				t.Skip("needs io_uring")
			}
			var splices atomic.Int64
			watch := ring.FaultConfig{Match: func(e *ring.SQE) bool {
				if e.Op == ring.OpSplice {
					splices.Add(1)
				}
				return false
			}}
			cfg := driver.OnKernel(driver.Config{Engine: driver.Uring}, ring.NewFaults(ring.Linux(), 1, watch))
			run(t, e, cfg, func(t *testing.T, ctx context.Context) { sendHole(t, ctx, &splices) })
		})
	}
}

func sendHole(t *testing.T, ctx context.Context, splices *atomic.Int64) {
	const size = 2 << 20
	want := noise(size)
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, want, 0o600); err != nil {
		t.Error(err)
		return
	}
	f, err := fs.Open(ctx, name)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close(ctx)
	if err := f.SyncAll(ctx); err != nil {
		t.Error(err)
	}
	whole := func() bool {
		var st unix.Cachestat_t
		err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{Len: size}, &st, 0)
		return err != nil || st.Cache >= uint64(size/os.Getpagesize())
	}
	for _, hole := range []bool{false, true} {
		if hole {
			err := errors.Join(f.Fadvise(ctx, 0, 0, unix.FADV_DONTNEED), f.Fadvise(ctx, 0, 0, unix.FADV_RANDOM)) // which has nothing read ahead
			page := make([]byte, os.Getpagesize())
			for off := 0; off < size && err == nil; off += len(page) {
				if off < 600<<10 || off >= 700<<10 {
					_, _, err = f.ReadAt(ctx, page, int64(off))
				}
			}
			if err != nil {
				t.Error(err)
			}
			if whole() {
				t.Log("needs cachestat(2) (6.5), and a file system that forgets")
				return
			}
		}
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		before := splices.Load()
		err := together(ctx, func(ctx context.Context) error {
			if n, err := c.SendFile(ctx, f, 0, -1); n != size || err != nil {
				return fmt.Errorf("%d, %w", n, err)
			}
			return c.CloseWrite()
		}, func(ctx context.Context) error {
			got, err := readAll(ctx, s)
			return same(got, want, err)
		})
		if err != nil {
			t.Error(err)
		}
		closeAll(t, ctx, c, s)
		if n := splices.Load() - before; (n > 0) != hole && (hole || whole()) { // unless somebody emptied the cache
			t.Errorf("with a hole: %v; %d splices", hole, n)
		}
	}
}

// What is no regular file, or makes its content up as it is read, is read and written.
func TestSendFileByHand(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer closeAll(t, ctx, c, s)
		f, err := os.Open("/proc/self/limits")
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		want, err := os.ReadFile(f.Name())
		if err != nil {
			t.Error(err)
			return
		}
		err = together(ctx, func(ctx context.Context) error {
			n, err := c.SendFile(ctx, f, 0, -1)
			if n != int64(len(want)) || err != nil {
				return fmt.Errorf("%d of %d, %w", n, len(want), err)
			}
			return c.CloseWrite()
		}, func(ctx context.Context) error {
			got, err := readAll(ctx, s)
			return same(got, want, err)
		})
		if err != nil {
			t.Error(err)
		}
		dir, err := os.Open(os.TempDir())
		if err != nil {
			t.Error(err)
			return
		}
		defer dir.Close()
		if n, err := s.SendFile(ctx, dir, 0, -1); n != 0 || err == nil {
			t.Errorf("a directory: %d, %v", n, err)
		}
		if n, err := s.SendFile(ctx, f, -1, -1); n != 0 || err == nil {
			t.Errorf("a negative offset: %d, %v", n, err)
		}
		f.Close()
		if n, err := s.SendFile(ctx, f, 0, -1); n != 0 || err == nil {
			t.Errorf("a closed file: %d, %v", n, err)
		}
	})
}

// A reader that stalls holds its sender up until the context ends, and nobody else.
func TestSendFileCancelled(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, noise(8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, ctx context.Context) {
		f, err := fs.Open(ctx, name)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close(ctx)
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer closeAll(t, ctx, c, s)
		limit, cancel := context.WithTimeout(ctx, 150*time.Millisecond)
		defer cancel()
		n, err := c.SendFile(limit, f, 0, -1)
		if n == 0 || n == 8<<20 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%d, %v", n, err)
		}
		// What arrives is what was counted.
		err = together(ctx, func(ctx context.Context) error {
			return c.CloseWrite()
		}, func(ctx context.Context) error {
			got, err := readAll(ctx, s)
			if int64(len(got)) != n {
				err = errors.Join(err, fmt.Errorf("%d arrived", len(got)))
			}
			return err
		})
		if err != nil {
			t.Errorf("of %d bytes sent: %v", n, err)
		}
	})
}

// io.Copy finds both ways, in the shapes of the standard library, and says what it says there.
func TestCopyBetweenNetConns(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	file := noise(300_000)
	if err := os.WriteFile(name, file, 0o600); err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, ctx context.Context) {
		f, err := os.Open(name)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		d, err := driver.FromContext(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		g, err := fs.Open(ctx, name)
		if err != nil {
			t.Error(err)
			return
		}
		defer g.Close(ctx)
		from, src := ours(t, ctx, "tcp")
		dst, to := ours(t, ctx, "tcp")
		if from == nil || dst == nil {
			return
		}
		want := bytes.Join([][]byte{file[1000:2000], file[2000:], file[10:], file[:5], []byte("plain")}, nil)
		err = together(ctx, func(context.Context) error {
			if _, err := f.Seek(1000, io.SeekStart); err != nil {
				return err
			}
			for _, r := range []io.Reader{io.LimitReader(f, 1000), f, g.NewReader(driver.NewContext(context.Background(), d), 10),
				io.LimitReader(g.NewReader(driver.NewContext(context.Background(), d), 0), 5), bytes.NewReader([]byte("plain"))} {
				if _, err := io.Copy(from, r); err != nil {
					return err
				}
			}
			return from.(interface{ CloseWrite() error }).CloseWrite()
		}, func(context.Context) error {
			if n, err := io.CopyN(dst, src, 100); n != 100 || err != nil {
				return fmt.Errorf("CopyN: %d, %w", n, err)
			}
			if n, err := io.Copy(dst, src); n != int64(len(want))-100 || err != nil {
				return fmt.Errorf("Copy: %d, %w", n, err)
			}
			return dst.(interface{ CloseWrite() error }).CloseWrite()
		}, func(context.Context) error {
			var got bytes.Buffer
			_, err := io.Copy(&got, to)
			return same(got.Bytes(), want, err)
		})
		if err != nil {
			t.Error(err)
		}
		if err := src.SetReadDeadline(time.Unix(1, 0)); err != nil {
			t.Error(err)
		}
		_, err = io.Copy(dst, src)
		var timeout stdnet.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("past the deadline: %v", err)
		}
		for _, c := range []stdnet.Conn{from, src, dst, to} {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestSpliceDatagrams sends on a part of a datagram. What is left of it is received next.
func TestSpliceDatagrams(t *testing.T) { // N1
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range []string{"udp", "unixgram"} {
			p := listenPacket(t, ctx, network)
			if p == nil {
				return
			}
			local := net.Addr(nil)
			if network == "unixgram" {
				local = &net.UnixAddr{Name: p.LocalAddr().String() + "2", Net: network}
				defer os.Remove(local.String())
			}
			src, err := (&net.Dialer{LocalAddr: local}).Dial(ctx, network, p.LocalAddr().String())
			if err != nil {
				t.Error(err)
				return
			}
			dst, end := connect(t, ctx, "pair")
			if dst == nil {
				return
			}
			if _, _, err := p.SendTo(ctx, []byte("datagram"), src.LocalAddr()); err != nil {
				t.Error(err)
			}
			if n, err := dst.Splice(ctx, src, 4); n != 4 || err != nil {
				t.Errorf("%s: Splice = %d, %v", network, n, err)
			}
			if n, b, err := end.Read(ctx, make([]byte, 10)); err != nil || string(b[:n]) != "data" {
				t.Errorf("%s: %q, %v", network, b[:n], err)
			}
			short, cancel := context.WithTimeout(ctx, time.Second)
			if n, b, err := src.Read(short, make([]byte, 10)); err != nil || string(b[:n]) != "gram" {
				t.Errorf("%s: the rest: %q, %v", network, b[:n], err)
			}
			cancel()
			closeAll(t, ctx, src, dst, end)
			if err := p.Close(ctx); err != nil {
				t.Error(err)
			}
		}
	})
}
