package ops

import "uringo/internal/ring"

// Calls returns the plain system calls behind the operations, for engines that cannot or should not use the ring.
func Calls() *ring.CallTable { return &calls }

var calls ring.CallTable
