package net

import (
	"bytes"
	"context"
	"io"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/ops"
)

// The kernel's request of an iteration would not end with a socket for datagrams that is shut down for receiving, which is ready for ever and has
// nothing. So CloseRead ends the request, and the iteration receives what had arrived by then one by one.

// follow has CloseRead end a stream: now, if it was called already.
func (s *socket) follow(in *inbox, str *driver.Stream[driver.Chunk]) {
	in.mu.Lock()
	in.stream = str
	in.mu.Unlock()
	if s.shutPackets() {
		str.Cancel()
	}
}

// hasten ends the stream of an iteration over datagrams.
func (s *socket) hasten() {
	in := s.inbox.Load()
	if in == nil || !s.shutPackets() {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.stream != nil {
		in.stream.Cancel()
	}
}

// shutPackets reports whether s is a socket for datagrams that is shut down for receiving.
func (s *socket) shutPackets() bool { return s.net.typ == unix.SOCK_DGRAM && s.noMore.Load() }

// hastened reports whether a stream ended with err because of CloseRead.
func (s *socket) hastened(err error) bool {
	return err == syscall.ECANCELED && s.shutPackets() && !s.h.Closing()
}

// rest receives one of the datagrams that a socket has left after CloseRead, with what room is for. Behind the last one is io.EOF.
func (s *socket) rest(ctx context.Context, room ops.Room) (Received, error) {
	if !s.h.Acquire() {
		return Received{}, ErrClosed
	}
	b := relayBuffers.Get().(*[]byte)
	var n int
	var err error
	got := *b
	if room == (ops.Room{}) {
		n, err = onRing(ctx, ops.Recv(s.h.FD, got, unix.MSG_DONTWAIT), s.h.Free)
		got = got[:max(n, 0)]
	} else {
		a := ops.NewArrivals(s.h.FD, room, 0)
		n, err = onRing(ctx, ops.Op[struct{}]{Spec: a.Into(got)}, s.h.Free)
		if err == nil {
			got = a.Arrange(got, n)
		}
	}
	if err = s.h.Settle(err, ErrClosed); err != nil {
		if err == syscall.EAGAIN {
			err = io.EOF
		}
		recycle(&relayBuffers, b, err)
		return Received{}, err
	}
	m := Received{driver.ChunkOf(bytes.Clone(got)), room, s.net}
	relayBuffers.Put(b)
	return m, nil
}
