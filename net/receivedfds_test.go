package net_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/executor"
	"uringo/net"
	"uringo/ops"
)

// TestReceivesDescriptors receives descriptors: those of messages that the body takes are its own, and those of others are closed, wherever
// the messages are when the socket is closed.
func TestReceivesDescriptors(t *testing.T) { // HAZARDS T6
	each(t, func(t *testing.T, ctx context.Context) {
		const bufs = 4
		ring := bufferRing(t, ctx, bufs, 2048)
		for _, network := range []string{"pair", "unixgram"} {
			passed, err := os.Open(os.DevNull)
			if err != nil {
				t.Error(err)
				return
			}
			fds := []int{int(passed.Fd()), int(passed.Fd())}
			var send func(i int) error
			var receives func(ctx context.Context) iter.Seq2[net.Received, error]
			var recv, peek func(ctx context.Context, m *net.Message) error
			var shut func() error
			if network == "pair" {
				c, s := connect(t, ctx, network)
				if c == nil {
					return
				}
				send = func(i int) error {
					_, err := c.SendMsg(ctx, &net.Message{Bufs: [][]byte{{byte(i)}}, OOB: net.Rights(fds...)})
					return err
				}
				receives = func(ctx context.Context) iter.Seq2[net.Received, error] { return s.ReceivesMsg(ctx, ring) }
				recv, peek = s.RecvMsg, s.PeekMsg
				shut = func() error { return errors.Join(c.Close(ctx), s.Close(ctx)) }
			} else {
				a, b := packetPair(t, ctx, network)
				if a == nil {
					return
				}
				send = func(i int) error {
					_, err := a.SendMsg(ctx, &net.Message{Bufs: [][]byte{{byte(i)}}, OOB: net.Rights(fds...), Addr: b.LocalAddr()})
					return err
				}
				receives = func(ctx context.Context) iter.Seq2[net.Received, error] { return b.Receives(ctx, ring) }
				recv, peek = b.RecvMsg, b.PeekMsg
				shut = func() error { return errors.Join(a.Close(ctx), b.Close(ctx)) }
			}
			for i := range 8 {
				if err := send(i); err != nil {
					t.Errorf("%s: %v", network, err)
				}
			}
			own := func(i int, data []byte, fds []int, err error) {
				if err != nil || len(data) != 1 || int(data[0]) != i || len(fds) != 2 {
					t.Errorf("%s: message %d: %v, %d descriptors, %v", network, i, data, len(fds), err)
				}
				for _, fd := range fds {
					if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
						t.Errorf("%s: descriptor %d: %#x, %v", network, fd, flags, err)
					}
					unix.Close(fd)
				}
			}
			i := 0
			for m, err := range receives(ctx) {
				if err != nil {
					t.Errorf("%s: %v", network, err)
					break
				}
				c, err := m.Control()
				own(i, m.Bytes(), c.FDs, err)
				m.Release()
				if i++; i == 2 {
					break
				}
			}
			for _, f := range []func(context.Context, *net.Message) error{peek, recv} {
				m := net.Message{Bufs: [][]byte{make([]byte, 5)}, OOB: make([]byte, net.RightsSpace(2))}
				err := f(ctx, &m)
				fds, e := m.FDs()
				own(2, m.Bufs[0][:m.N], fds, errors.Join(err, e))
			}
			m := net.Message{Bufs: [][]byte{make([]byte, 5)}} // no room
			if err := recv(ctx, &m); err != nil || m.N != 1 || m.Bufs[0][0] != 3 || !m.ControlTruncated() {
				t.Errorf("%s: %+v, %v", network, m, err)
			}
			for m, err := range receives(ctx) {
				c, e := m.Control()
				own(4, m.Bytes(), c.FDs, errors.Join(err, e))
				m.Release()
				break
			}
			if err := shut(); err != nil { // with three left, in the socket or beside it
				t.Errorf("%s: %v", network, err)
			}
			passed.Close()
			allFree(t, ring, bufs)
		}
	})
}

// TestReceivesPidfds receives messages that each bring a descriptor of the sender's process, and drops them in every way there is.
func TestReceivesPidfds(t *testing.T) { // HAZARDS T6
	const passPidfd = 76 // SO_PASSPIDFD, kernel 6.5
	each(t, func(t *testing.T, ctx context.Context) {
		space := unix.CmsgSpace(4)
		for what, drop := range map[string]func(s *net.Conn) error{
			"Close": func(s *net.Conn) error { return nil },
			"Read": func(s *net.Conn) error {
				_, _, err := s.Read(ctx, make([]byte, 10))
				return err
			},
			"RecvMsg without room": func(s *net.Conn) error {
				m := net.Message{Bufs: [][]byte{make([]byte, 10)}}
				return s.RecvMsg(ctx, &m)
			},
			"PeekMsg": func(s *net.Conn) error {
				m := net.Message{Bufs: [][]byte{make([]byte, 10)}, OOB: make([]byte, space)}
				if err := s.PeekMsg(ctx, &m); err != nil {
					return err
				}
				msgs, err := unix.ParseSocketControlMessage(m.OOB[:m.OOBN])
				if err != nil || len(msgs) != 1 {
					return fmt.Errorf("%d control messages, %w", len(msgs), err)
				}
				for _, fd := range ops.Descriptors(&msgs[0]) {
					if err := unix.Close(fd); err != nil {
						return err
					}
				}
				return nil
			},
		} {
			c, s := connect(t, ctx, "unixpacket")
			if c == nil {
				return
			}
			raw, _ := s.SyscallConn()
			var err error
			_ = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, passPidfd, 1) })
			if err != nil {
				closeAll(t, ctx, c, s)
				t.Skip("no SO_PASSPIDFD: ", err)
			}
			for range 4 {
				if _, _, err := c.Write(ctx, []byte("hello")); err != nil {
					t.Error(err)
				}
			}
			for m, err := range s.ReceivesMsg(ctx, nil) {
				if msgs, _ := unix.ParseSocketControlMessage(m.OOB()); err != nil || len(msgs) != 1 || len(ops.Descriptors(&msgs[0])) != 1 {
					t.Errorf("%s: %d control messages, %v", what, len(msgs), err)
				} else {
					unix.Close(ops.Descriptors(&msgs[0])[0])
				}
				m.Release()
				break
			}
			if err := drop(s); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			closeAll(t, ctx, c, s)
		}
	})
}

// TestReceivesDropped drops sockets without closing them, with messages left over: the descriptors in those are closed.
func TestReceivesDropped(t *testing.T) { // HAZARDS T6
	each(t, func(t *testing.T, ctx context.Context) {
		a, b := packetPair(t, ctx, "unixgram")
		if a == nil {
			return
		}
		defer a.Close(ctx)
		func() {
			for range 4 {
				m := net.Message{Bufs: [][]byte{[]byte("x")}, OOB: net.Rights(0), Addr: b.LocalAddr()}
				if _, err := a.SendMsg(ctx, &m); err != nil {
					t.Error(err)
				}
			}
			for m, err := range b.Receives(ctx, nil) {
				if err != nil {
					t.Error(err)
					break
				}
				c, err := m.Control()
				if err != nil || len(c.FDs) != 1 {
					t.Errorf("%+v, %v", c, err)
				}
				for _, fd := range c.FDs {
					unix.Close(fd)
				}
				m.Release()
				_ = executor.Sleep(ctx, 5*time.Millisecond) // so that the stream has the rest
				break
			}
		}() // and descriptors that are left, the end of the test finds
	})
}

// TestPeekMsgBesideRecvMsg looks at a message with descriptors that an iteration has left over, while another task takes it, closes them, and opens
// other files, which get their numbers: who looks has the files of the message all the same, or comes too late for it.
func TestPeekMsgBesideRecvMsg(t *testing.T) { // HAZARDS T6
	each(t, func(t *testing.T, ctx context.Context) {
		const rights = 100
		ring := bufferRing(t, ctx, 8, 4096)
		c, s := connect(t, ctx, "pair")
		if ring == nil || c == nil {
			return
		}
		defer closeAll(t, ctx, c, s)
		passed, err := os.Open(os.DevNull)
		if err != nil {
			t.Error(err)
			return
		}
		defer passed.Close()
		other, err := os.Open("/dev/zero")
		if err != nil {
			t.Error(err)
			return
		}
		defer other.Close()
		fds := make([]int, rights)
		for i := range fds {
			fds[i] = int(passed.Fd())
		}
		get := func(ctx context.Context, f func(context.Context, *net.Message) error) error {
			m := net.Message{Bufs: [][]byte{make([]byte, 1)}, OOB: make([]byte, net.RightsSpace(rights))}
			if err := f(ctx, &m); err != nil {
				return err
			}
			got, err := m.FDs()
			if len(got) != rights || m.ControlTruncated() {
				err = errors.Join(err, fmt.Errorf("%d descriptors, %#x", len(got), m.Flags))
			}
			return errors.Join(err, closeAllOf(passed, got))
		}
		for range share(t, 160, 20_000) {
			for range 2 {
				if _, err := c.SendMsg(ctx, &net.Message{Bufs: [][]byte{{1}}, OOB: net.Rights(fds...)}); err != nil {
					t.Error(err)
					return
				}
			}
			for m, err := range s.ReceivesMsg(ctx, ring) {
				c, e := m.Control()
				if err = errors.Join(err, e, closeAllOf(passed, c.FDs)); err != nil {
					t.Error(err)
				}
				m.Release()
				break
			}
			var decoys []int
			late, end := context.WithCancel(ctx)
			err := together(ctx, func(ctx context.Context) error {
				short, cancel := context.WithCancel(ctx)
				defer cancel()
				defer context.AfterFunc(late, cancel)()
				if err := get(short, s.PeekMsg); !errors.Is(err, context.Canceled) {
					return err
				}
				return nil
			}, func(ctx context.Context) error {
				defer end() // who looks now finds nothing
				err := get(ctx, s.RecvMsg)
				for range rights {
					fd, e := unix.FcntlInt(other.Fd(), unix.F_DUPFD_CLOEXEC, 0)
					if e != nil {
						return errors.Join(err, e)
					}
					decoys = append(decoys, fd)
				}
				return err
			})
			for _, fd := range decoys {
				unix.Close(fd)
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
}

// closeAllOf closes descriptors, which are to be of the file f.
func closeAllOf(f *os.File, fds []int) error {
	var want, got unix.Stat_t
	err := unix.Fstat(int(f.Fd()), &want)
	for _, fd := range fds {
		switch e := unix.Fstat(fd, &got); {
		case e != nil:
			err = errors.Join(err, e)
		case got.Ino != want.Ino || got.Dev != want.Dev:
			err = errors.Join(err, fmt.Errorf("descriptor %d is of another file", fd))
		}
		err = errors.Join(err, unix.Close(fd))
	}
	return err
}
