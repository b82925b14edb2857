package net

import (
	"errors"
	"io"
	stdnet "net"
	"os"
	"syscall"

	"uringo/driver"
)

// What callers need beside this package, under the names of the standard library.
type (
	Addr     = stdnet.Addr
	Error    = stdnet.Error
	OpError  = stdnet.OpError
	TCPAddr  = stdnet.TCPAddr
	UDPAddr  = stdnet.UDPAddr
	UnixAddr = stdnet.UnixAddr
)

// ErrClosed is the error of an operation on a closed connection or listener, and of one that Close ended.
var ErrClosed = stdnet.ErrClosed

// opError adds to err what was tried, once. call is the system call that a bare error number came from.
func opError(op, call, network string, source, addr Addr, err error) error {
	switch e := err.(type) {
	case nil:
		return nil
	case *OpError:
		return e
	}
	err = sysError(call, err)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return err
	}
	return &OpError{Op: op, Net: network, Source: source, Addr: addr, Err: err}
}

var errMissingAddress = errors.New("missing address")

// noDriver is the error of a call whose context carries no driver.
func noDriver(op, network string) error {
	return &OpError{Op: op, Net: network, Err: driver.ErrNoDriver}
}

// sysError names the system call that an error number came from.
func sysError(call string, err error) error {
	if e, ok := err.(syscall.Errno); ok {
		return os.NewSyscallError(call, e)
	}
	return err
}
