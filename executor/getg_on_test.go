//go:build (amd64 || arm64) && !purego

package executor_test

const pureGo = false
