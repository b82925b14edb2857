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
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/fs"
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

// TestSpliceNowhere ends the use of a connection, in several ways, to which is passed on what comes from one from which nothing comes, and to which
// somebody else waits to write: both learn of it, and what comes then is received.
func TestSpliceNowhere(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		for _, how := range []string{"Close", "Detach", "the half"} {
			for _, network := range []string{"tcp", "unixpacket"} {
				if err := spliceNowhere(t, ctx, how, network); err != nil {
					t.Errorf("%s, %s: %v", how, network, err)
				}
			}
		}
	})
}

func spliceNowhere(t *testing.T, ctx context.Context, how, network string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute) // instead of for ever
	defer cancel()
	from, src := connect(t, ctx, network)
	dst, to := connect(t, ctx, network)
	if from == nil || dst == nil {
		return nil
	}
	defer closeAll(t, ctx, from, src, to)
	splice := func() (int64, error) { return dst.Splice(ctx, src, -1) }
	write := dst.WriteAll
	end := func() error { return dst.Close(ctx) }
	switch how {
	case "Detach":
		end = func() error {
			fd, err := dst.Detach(ctx)
			if err == nil {
				err = unix.Close(fd)
			}
			return err
		}
	case "the half":
		in, _ := src.Split()
		other, out := dst.Split()
		defer other.Close(ctx)
		splice = func() (int64, error) { return out.Splice(ctx, in, -1) }
		write = out.WriteAll
		end = func() error { return out.Close(ctx) }
	}
	ended := func(what string, err error) error {
		if !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	}
	err := together(ctx, func(context.Context) error {
		n, err := splice()
		if n != 5 {
			return fmt.Errorf("Splice: %d bytes, %w", n, err)
		}
		return ended("Splice", err)
	}, func(ctx context.Context) error {
		if _, _, err := from.WriteAll(ctx, []byte("first")); err != nil {
			return err
		}
		if _, _, err := to.ReadFull(ctx, make([]byte, 5)); err != nil { // now Splice is on
			return err
		}
		return together(ctx, func(ctx context.Context) error {
			_, _, err := write(ctx, []byte("behind"))
			return ended("WriteAll", err)
		}, func(ctx context.Context) error {
			return errors.Join(executor.Sleep(ctx, time.Millisecond), end())
		})
	})
	if err != nil {
		return err
	}
	if n, err := splice(); n != 0 || !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("Splice afterwards: %d, %w", n, err)
	}
	if _, _, err := from.WriteAll(ctx, []byte("rest")); err != nil {
		return err
	}
	_, b, err := src.ReadFull(ctx, make([]byte, 4))
	return same(b, []byte("rest"), err)
}

// TestCopyLetsWrite writes to a connection to which is copied what comes from one from which nothing comes.
func TestCopyLetsWrite(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range []string{"tcp", "unix"} {
			from, src := ours(t, ctx, network)
			dst, to := ours(t, ctx, network)
			if from == nil || dst == nil {
				return
			}
			read := func(want string) error {
				b := make([]byte, len(want))
				_, err := io.ReadFull(to, b)
				return same(b, []byte(want), err)
			}
			err := together(ctx, func(context.Context) error {
				if n, err := io.Copy(dst, src); n != 10 || err != nil {
					return fmt.Errorf("Copy: %d, %w", n, err)
				}
				return nil
			}, func(context.Context) error {
				defer from.Close()
				if _, err := from.Write([]byte("first")); err != nil {
					return err
				}
				if err := read("first"); err != nil { // now it is on
					return err
				}
				if err := dst.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil { // instead of for ever
					return err
				}
				if _, err := dst.Write([]byte("beside")); err != nil {
					return err
				}
				if err := read("beside"); err != nil {
					return err
				}
				if _, err := from.Write([]byte("third")); err != nil {
					return err
				}
				return read("third")
			})
			if err != nil {
				t.Errorf("%s: %v", network, err)
			}
			for _, c := range []stdnet.Conn{src, dst, to} {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

func canceled(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
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
			short, cancel := context.WithTimeout(ctx, 10*time.Second)
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
