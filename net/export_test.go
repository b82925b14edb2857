package net

// ErrReceiving is the error of receiving while an iteration is on.
var ErrReceiving = errReceiving

// ClosePipes closes the pipes that are kept for the next user.
func ClosePipes() {
	for {
		select {
		case p := <-pipes:
			p.close()
		default:
			return
		}
	}
}

// ForgetOldSignals has the kernel asked again whether it knows RWF_NOSIGNAL, and reports whether it was taken not to.
func ForgetOldSignals() bool { return oldSignals.Swap(false) }

// ForgetResidents has the kernel asked again what the page cache has of a file.
func ForgetResidents() {
	for i := range residents {
		residents[i].Store(nil)
	}
}
