package testenv

import (
	"syscall"
	"testing"
)

// PanicInside has what is called with the descriptor of raw panic, in every way that there is.
func PanicInside(t testing.TB, raw syscall.RawConn) {
	t.Helper()
	for what, use := range map[string]func(){
		"Control": func() { _ = raw.Control(func(uintptr) { panic("on purpose") }) },
		"Read":    func() { _ = raw.Read(func(uintptr) bool { panic("on purpose") }) },
		"Write":   func() { _ = raw.Write(func(uintptr) bool { panic("on purpose") }) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s did not pass the panic on", what)
				}
			}()
			use()
		}()
	}
}
