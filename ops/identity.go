package ops

// Identity is whose rights an operation is performed with: see Personality in package driver, which makes them.
type Identity struct {
	// ID is the number by which the driver's ring knows it.
	ID uint16
}
