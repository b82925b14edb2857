package ops

import "uringo/internal/ring"

// Identity is whose rights an operation is performed with: see Personality in package driver, which makes them.
type Identity struct {
	// ID is the number by which the driver's ring knows it.
	ID uint16
}

// Judged reports whether it depends on the rights of whoever performs the operation what becomes of it: it looks up the name of a file or a
// socket, makes a socket, sends ancillary data, or changes how long a file is. Reading and writing are judged when the file is opened,
// but for the set-id bits, which a write takes away where the rights do not suffice to keep them.
func (s *Spec) Judged() bool {
	switch s.aux.(type) {
	case *cpath, *howPath, *sockaddr:
		return true
	}
	switch s.Kind.Code {
	case ring.OpSocket, ring.OpSendmsg, ring.OpSendmsgZC, ring.OpFallocate, ring.OpFtruncate:
		return true
	}
	return false
}
