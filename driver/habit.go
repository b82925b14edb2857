package driver

// habit is what pays at some times and not at others, and which of the two it is now only shows when it is done: so the driver remembers how it
// went. The zero habit has never paid.
type habit struct {
	hope   int // how many failures until it is given up
	spared int // how often it was not done since
}

const (
	mostHope = 8  // what a habit that pays can have
	tryAgain = 61 // of so many times, one given up is tried once; a prime, or where every other time it would pay, it might always be the others' turn
)

// due reports whether to do it this time.
func (h *habit) due() bool {
	if h.hope > 0 {
		return true
	}
	h.spared++
	return h.spared%tryAgain == 0
}

// paid tells that it did, which outweighs so many failures.
func (h *habit) paid(failures int) { h.hope = min(mostHope, h.hope+failures) }

// failed tells that it did not.
func (h *habit) failed() { h.hope = max(0, h.hope-1) }
